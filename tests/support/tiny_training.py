"""Trains a tiny model on the CPU by any engine, on shards of random features."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf
from tiny_shards import random_utterances, write_shards

import model
from speech.engines import checkpoints, choice
from speech.engines.devices import EAGER, ESTIMATOR, PJRT, Device
from speech.engines.engine import (
    Callbacks,
    Engine,
    InitialValues,
    InputFn,
    Predictor,
    RunSettings,
    StepState,
)
from speech.engines.stopping import Stopping
from speech.engines.strategies import find_distribution
from speech.features.front_end import FrontEnd
from speech.input_pipeline.batching import Batching
from speech.input_pipeline.evaluation_input import evaluation_input_fn
from speech.input_pipeline.training_input import TrainingInput, training_input_fn
from speech.networks.config import ModelConfig, NetworkConfig, TrainingConfig
from speech.shards.shard_set import ShardSet
from speech.text.lexicon import Lexicon
from utils import ENGLISH

# The engines, for tests over all of them.
KINDS = [EAGER, pytest.param(ESTIMATOR, marks=pytest.mark.estimator), PJRT]

# The variables of NETWORK, as checkpoints name them.
VARIABLES = {
    *("conv_0/kernel", "conv_0/bias", "conv_1/kernel", "conv_1/bias"),
    *("rnn/kernel", "rnn/recurrent_kernel", "rnn/bias", "output/kernel", "output/bias"),
}

Array = npt.NDArray[np.float32]

BINS = 8
NETWORK = NetworkConfig.of(
    bins=BINS, labels=ENGLISH.size, conv_channels=(2, 3), recurrent_unit_size=8, context_size=5
)
TRAINING = TrainingConfig(train_batch_size=2, learning_rate=1e-2, dropout=0.0)


def model_config(training: TrainingConfig = TRAINING) -> ModelConfig:
    return ModelConfig(FrontEnd(mel_filters=BINS), ENGLISH, NETWORK, training)


def tiny_shards(folder: Path, frames: list[int]) -> ShardSet:
    return write_shards(folder, random_utterances(frames, BINS), bins=BINS)


def run_settings(folder: Path, training: TrainingConfig, eval_batch_size: int = 4) -> RunSettings:
    return RunSettings(
        str(folder),
        train_batch_size=training.train_batch_size,
        eval_batch_size=eval_batch_size,
        iterations_per_loop=1,  # a stop that is requested during a step ends training with it
    )


def device_of(kind: str, cores: int = 1) -> Device:
    """Returns what an engine finds on a CPU; skips the test if the engine isn't installed."""
    if kind == PJRT:
        import host_devices

        return Device(kind, cores=cores, jax_cores=host_devices.cores(cores))
    return Device(kind, distribution=find_distribution(None) if kind == EAGER else None)


def engine_in(
    folder: Path,
    training: TrainingConfig = TRAINING,
    kind: str = EAGER,
    described: bool = False,
    config: ModelConfig | None = None,
    initial_values: InitialValues | None = None,
    cores: int = 1,
) -> Engine:
    """Returns an engine on the CPU for a model directory; cores: those that the CPU plays."""
    folder.mkdir(exist_ok=True)
    return choice.make_engine(
        device_of(kind, cores),
        config or model_config(training),
        run_settings(folder, training),
        model.model_fn_builder,
        initial_values,
        described=described,
    )


def batches(
    shards: ShardSet,
    training: TrainingConfig = TRAINING,
    static: bool = False,
    start_step: int = 0,
    lexicon: Lexicon | None = None,
) -> InputFn:
    batching = Batching(training.train_batch_size, static)
    return training_input_fn(
        TrainingInput(shards, batching, 1, start_step, shuffle_buffer_size=8, lexicon=lexicon)
    )


def train(
    folder: Path,
    shards: ShardSet,
    steps: int,
    training: TrainingConfig = TRAINING,
    on_step: Callable[[StepState], None] = lambda state: None,
    static: bool | None = None,
    lexicon: Lexicon | None = None,
    **settings: Any,
) -> Engine:
    """Trains up to step `steps`; returns the engine.

    Args:
        static: whether batches have one shape; None: if the engine needs that.
        settings: of `engine_in`.
    """
    trained = engine_in(folder, training, **settings)
    input_fn = batches(
        shards,
        training,
        settings.get("kind") == PJRT if static is None else static,
        checkpoints.latest_step(str(folder)),
        lexicon,
    )
    trained.train(input_fn, steps, 1.0, Callbacks(Stopping(), on_step))
    return trained


def predictions(
    engine: Predictor, folder: Path, shards: ShardSet, static: bool = False
) -> list[dict[str, Any]]:
    """Returns the outputs for every utterance, computed with the latest checkpoint."""
    input_fn = evaluation_input_fn(shards, Batching(4, static), True)
    checkpoint = checkpoints.find_checkpoint(str(folder), checkpoints.LATEST)
    return [
        {name: values[row] for name, values in batch.items()}
        for batch in engine.predict(input_fn, checkpoint)
        for row in range(len(batch["output_length"]))
    ]


def curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Returns (step, value) of every curve in TensorBoard's files."""
    found: dict[str, list[tuple[int, float]]] = {}
    for path in sorted(folder.glob("events.out.tfevents.*")):
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            for value in event.summary.value:
                if value.HasField("tensor"):
                    number = float(tf.make_ndarray(value.tensor))
                    found.setdefault(value.tag, []).append((event.step, number))
    return found


def checkpointed(folder: Path) -> dict[str, Array]:
    """Reads every variable of the latest checkpoint."""
    reader = tf.train.load_checkpoint(str(folder))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}
