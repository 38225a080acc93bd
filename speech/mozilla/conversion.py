"""DeepSpeech's variables -> the variables and the config of a model directory.

The network is deepspeech_training/train.py's create_model, `deep_speech_lstm` here. Its kernels
and biases are taken as they are but for the LSTM's, whose gates have another order.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

import constants
from speech.features.front_end import deepspeech
from speech.mozilla.foreign_model import BYTES, ForeignModel, Frames
from speech.networks.config import ModelConfig, NetworkConfig, TrainingConfig
from utils import UTF_8, Alphabet, UserError

# Our layer -> theirs. Their layer_4 is the LSTM.
LAYERS = {
    "dense_0": "layer_1",
    "dense_1": "layer_2",
    "dense_2": "layer_3",
    "dense_3": "layer_5",
    "output": "layer_6",
}
LSTM = "cudnn_lstm/rnn/multi_rnn_cell/cell_0/cudnn_compatible_lstm_cell"
LSTM_KERNEL, LSTM_BIAS = f"{LSTM}/kernel", f"{LSTM}/bias"

COEFFICIENTS = 26  # values of a frame
CONTEXT_SIZE = 19  # frames: 9 on each side
LAYER_NORM_EPSILON = 1e-12  # of tf.contrib.layers.layer_norm

# Logit of byte 0, for which DeepSpeech has no label: e to it is 0.
IMPOSSIBLE = -100.0


def config_of(model: ForeignModel, alphabet: Alphabet | None) -> ModelConfig:
    """Returns the config of the model directory for a model.

    Args:
        alphabet: None: that of the file.

    Raises:
        UserError: the model has something that can't be imported; the message names it.
    """
    _check(model)
    if alphabet is not None and model.alphabet not in (None, alphabet):
        raise UserError(
            f"{model.path} contains another alphabet than --alphabet: leave that flag out."
        )
    alphabet = model.alphabet or alphabet
    if alphabet is None:
        raise UserError(
            f"{model.path} contains no alphabet: give the one it was trained with, as in "
            "--alphabet=alphabet.txt (or --alphabet=utf-8 for --bytes_output_mode)."
        )
    classes = model.values["layer_6/bias"].shape[0]
    expected = len(BYTES) + 1 if alphabet == UTF_8 else alphabet.size
    if classes != expected:
        raise UserError(
            f"{model.path} has {classes} classes, but the alphabet gives {expected}, with the "
            "blank: give the --alphabet that it was trained with."
        )
    return config(
        model.frames,
        alphabet,
        dense_units=model.values["layer_1/bias"].shape[0],
        recurrent_units=model.values[LSTM_BIAS].shape[0] // 4,
        layer_norm="layer_1/LayerNorm/gamma" in model.values,
        layer_norm_epsilon=model.layer_norm_epsilon or LAYER_NORM_EPSILON,
    )


def config(
    frames: Frames, alphabet: Alphabet, dense_units: int, recurrent_units: int, **norm: Any
) -> ModelConfig:
    """Returns the config of a model of DeepSpeech.

    Args:
        norm: the sizes layer_norm and layer_norm_epsilon.
    """
    front_end = deepspeech(
        frames.sample_rate, frames.window_milliseconds / 1000, frames.step_milliseconds / 1000
    )
    network = NetworkConfig.of(
        front_end.bins,
        alphabet.size,
        "deep_speech_lstm",
        context_size=CONTEXT_SIZE,
        stride_size=1,
        dense_unit_size=dense_units,
        recurrent_unit_size=recurrent_units,
        **norm,
    )
    return ModelConfig(front_end, alphabet, network, TrainingConfig())


def _check(model: ForeignModel) -> None:
    """Raises a UserError that names what of the model can't be imported."""
    needed = [f"{layer}/{kind}" for layer in LAYERS.values() for kind in ("weights", "bias")]
    missing = [name for name in (*needed, LSTM_KERNEL, LSTM_BIAS) if name not in model.values]
    if missing:
        raise UserError(
            f"{model.path} has no variable {missing[0]}: it is no model of DeepSpeech 0.6 to 0.9 "
            "or Coqui STT."
        )
    if model.relu_clip not in (None, constants.RELU_CLIP):
        raise UserError(
            f"{model.path} was trained with --relu_clip={model.relu_clip:g}: only "
            f"{constants.RELU_CLIP:g} can be imported."
        )
    inputs = model.values["layer_1/weights"].shape[0]
    if inputs != CONTEXT_SIZE * COEFFICIENTS:
        raise UserError(
            f"{model.path} reads {inputs} values at a time: only models of {COEFFICIENTS} "
            f"coefficients and a context of {CONTEXT_SIZE // 2} frames on either side, "
            f"{CONTEXT_SIZE * COEFFICIENTS} values, can be imported."
        )


def variables_of(model: ForeignModel, config: ModelConfig) -> dict[str, np.ndarray]:
    """Returns the variables of our network, name -> float32 array."""
    theirs, ours = model.values, {}
    for layer, source in LAYERS.items():
        ours[f"{layer}/kernel"] = theirs[f"{source}/weights"]
        ours[f"{layer}/bias"] = theirs[f"{source}/bias"]
        if config.network.layer_norm and layer != "output":
            ours[f"{layer}/scale"] = theirs[f"{source}/LayerNorm/gamma"]
            ours[f"{layer}/offset"] = theirs[f"{source}/LayerNorm/beta"]
    if config.alphabet == UTF_8:
        ours["output/kernel"] = np.pad(ours["output/kernel"], ((0, 0), (1, 0)))
        ours["output/bias"] = np.pad(ours["output/bias"], (1, 0), constant_values=IMPOSSIBLE)
    kernel, units = theirs[LSTM_KERNEL], config.network.recurrent_unit_size
    ours["lstm/kernel"] = _gates(kernel[:-units])
    ours["lstm/recurrent_kernel"] = _gates(kernel[-units:])
    ours["lstm/bias"] = _gates(theirs[LSTM_BIAS])
    return {name: np.asarray(value, np.float32) for name, value in ours.items()}


def _gates(array: np.ndarray) -> np.ndarray:
    """Reorders the gates of an LSTM [..., 4 units] from TensorFlow's i, c, f, o to i, f, c, o."""
    update, candidate, forget, output = np.split(array, 4, axis=-1)
    return np.concatenate([update, forget, candidate, output], axis=-1)[np.newaxis]


def table(model: ForeignModel, ours: Mapping[str, np.ndarray]) -> list[tuple[str, str, str]]:
    """Returns (their variable, our variable, shape) for each variable, in the network's order."""
    source_of = {"kernel": "weights", "scale": "LayerNorm/gamma", "offset": "LayerNorm/beta"}
    rows = []
    for name, value in ours.items():
        layer, kind = name.split("/")
        theirs = f"{LAYERS.get(layer)}/{source_of.get(kind, kind)}"
        if layer == "lstm":
            theirs = LSTM_BIAS if kind == "bias" else LSTM_KERNEL
        rows.append((theirs, name, " x ".join(map(str, value.shape))))
    return rows
