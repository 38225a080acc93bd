"""Writes model directories of small networks with random values."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from speech.features.front_end import CORPUS, FrontEnd
from speech.features.normalisation import Statistics
from speech.networks import registry
from speech.networks.config import ModelConfig, NetworkConfig, TrainingConfig, save_config
from utils import ENGLISH, Alphabet

STEP = 7

TINY: dict[str, dict[str, Any]] = {
    "deep_speech_1": {"conv_channels": (2, 3), "context_size": 5, "recurrent_unit_size": 8},
    "deep_speech_lstm": {"context_size": 5, "dense_unit_size": 48, "recurrent_unit_size": 32},
    "conv_gru": {"conv_channels": (6,), "context_size": 5, "recurrent_unit_size": 8},
}


def write_model(
    folder: Path,
    name: str = "deep_speech_1",
    largest_shift: float = 0.3,
    alphabet: Alphabet = ENGLISH,
    **front_end: Any,
) -> ModelConfig:
    """Writes a model directory with one checkpoint; the default front end has 8 mel filters.

    Args:
        largest_shift: maximum addition to the initial weights. With a large one, and features that
            aren't normalised, units saturate at any input.
    """
    config = tiny_config(name, alphabet, **front_end)
    network = registry.build(config.network)
    values = {"global_step": np.int64(STEP)}
    for number, variable in enumerate(network.variables):
        rng = np.random.default_rng(number)
        shift = rng.uniform(0, largest_shift, variable.shape).astype(np.float32)
        values[variable.name.partition(":")[0]] = variable.numpy() + shift
    folder.mkdir(parents=True)
    tf.raw_ops.SaveV2(
        prefix=str(folder / f"model.ckpt-{STEP}"),
        tensor_names=list(values),
        shape_and_slices=[""] * len(values),
        tensors=list(values.values()),
    )
    (folder / "checkpoint").write_text(f'model_checkpoint_path: "model.ckpt-{STEP}"\n')
    save_config(str(folder), config)
    return config


def tiny_config(
    name: str = "deep_speech_1", alphabet: Alphabet = ENGLISH, **front_end: Any
) -> ModelConfig:
    settings = FrontEnd(**{"mel_filters": 8, **front_end})
    statistics = None
    if settings.normalisation == CORPUS:
        rng = np.random.default_rng(0)
        numbers = rng.uniform(2, 4, [2, settings.bins]).tolist()
        statistics = Statistics(tuple(numbers[0]), tuple(numbers[1]))
    network = NetworkConfig.of(settings.bins, alphabet.size, name, **TINY[name])
    return ModelConfig(settings, alphabet, network, TrainingConfig(), statistics)


def noise(samples: int) -> npt.NDArray[np.int16]:
    """Returns bursts of noise, [samples] at 16000 Hz."""
    rng = np.random.default_rng(samples)
    loudness = 1 + np.sin(np.arange(samples) / 700)
    return np.asarray(rng.normal(size=samples) * loudness * 2000, np.int16)
