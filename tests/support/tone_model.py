"""A model that recognises tones as letters, with weights by hand: its outputs are predictable."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from speech.features.front_end import NONE, FrontEnd, mel_filters
from speech.networks import registry
from speech.networks.config import ModelConfig, NetworkConfig, TrainingConfig, save_config
from utils import ENGLISH

# Letter -> mel filter of its tone.
TONES = {"a": 1, "b": 2, "c": 4, "t": 6, " ": 7}
FRONT_END = FrontEnd(mel_filters=8, normalisation=NONE)
# The context of the default network.
NETWORK = NetworkConfig.of(
    8, ENGLISH.size, "deep_speech_lstm", context_size=19, dense_unit_size=8, recurrent_unit_size=8
)

LETTER_SECONDS, GAP_SECONDS = 0.1, 0.05
LOUDNESS = 1000  # after pre-emphasis
# A filter's log energy is above it for its own tone, and below it for the others.
THRESHOLD = 15.0


def write_tone_model(folder: Path) -> ModelConfig:
    """Writes a streaming network with a unit per mel filter in each layer."""
    config = ModelConfig(FRONT_END, ENGLISH, NETWORK, TrainingConfig())
    values: dict[str, Any] = {
        each.name.partition(":")[0]: np.zeros(each.shape, np.float32)
        for each in registry.build(NETWORK).variables
    }
    values["global_step"] = np.int64(1)
    # The middle frame of the window, relative to the threshold.
    values["dense_0/kernel"].reshape(19, 8, 8)[9] = np.eye(8)
    values["dense_0/bias"][:] = -THRESHOLD
    for name in ("dense_1", "dense_2"):
        values[f"{name}/kernel"][:] = np.eye(8)
    # Gates i, f, g, o: the input passes, no state is kept.
    values["lstm/kernel"][0, :, 16:24] = np.eye(8)
    values["lstm/bias"][0] = np.repeat([10, -10, 0, 10], 8)
    values["dense_3/kernel"][:] = 10 * np.eye(8)
    for letter, unit in TONES.items():
        values["output/kernel"][unit, ENGLISH.characters.index(letter)] = 2
    values["output/bias"][ENGLISH.blank] = 8
    folder.mkdir(parents=True)
    tf.raw_ops.SaveV2(
        prefix=str(folder / "model.ckpt-1"),
        tensor_names=list(values),
        shape_and_slices=[""] * len(values),
        tensors=list(values.values()),
    )
    (folder / "checkpoint").write_text('model_checkpoint_path: "model.ckpt-1"\n')
    save_config(str(folder), config)
    return config


def tones(text: str) -> npt.NDArray[np.int16]:
    """Returns the tones of a text, int16 [samples] at 16000 Hz."""
    gap = np.zeros(round(GAP_SECONDS * 16000))
    return np.concatenate([part for each in text for part in (tone(each), gap)]).astype(np.int16)


def tone(letters: str) -> npt.NDArray[np.float64]:
    """Returns the simultaneous tones of letters, the first one loudest, [samples]."""
    filters = mel_filters(FRONT_END).toarray()  # [mel filters, frequencies]
    at = np.arange(round(LETTER_SECONDS * 16000)) / 16000
    sound = np.zeros(len(at))
    for number, letter in enumerate(letters):
        frequency = filters[TONES[letter]].argmax() * 16000 / FRONT_END.fft_size
        emphasis = abs(1 - FRONT_END.pre_emphasis * np.exp(-2j * np.pi * frequency / 16000))
        sound += LOUDNESS / emphasis * 0.8**number * np.sin(2 * np.pi * frequency * at)
    return sound


def silence(seconds: float) -> npt.NDArray[np.int16]:
    return np.zeros(round(seconds * 16000), np.int16)
