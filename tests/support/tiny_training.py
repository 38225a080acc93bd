"""Trains a tiny model with TPUEstimator on the CPU, on shards of random features."""

import functools
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tiny_shards import random_utterances, write_shards

import model
from speech.engines import tpu_estimator
from speech.engines.devices import Device
from speech.engines.engine import RunSettings
from speech.engines.tpu_estimator import TpuEstimatorEngine
from speech.features.front_end import FrontEnd
from speech.input_pipeline.batching import Batching
from speech.input_pipeline.evaluation_input import evaluation_input_fn
from speech.input_pipeline.training_input import TrainingInput, training_input_fn
from speech.networks.config import ModelConfig, NetworkConfig, TrainingConfig
from speech.shards.shard_set import ShardSet
from utils import ENGLISH

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


def build(
    folder: Path,
    training: TrainingConfig = TRAINING,
    eval_batch_size: int = 4,
    described: bool = False,
) -> Any:
    """Builds a TPUEstimator on the CPU."""
    folder.mkdir(exist_ok=True)
    model_fn = model.model_fn_builder(model_config(training), str(folder), described=described)
    return tpu_estimator.build(model_fn, run_settings(folder, training, eval_batch_size), Device())


def engine_in(folder: Path, training: TrainingConfig = TRAINING) -> TpuEstimatorEngine:
    """Returns the engine of a TPUEstimator on the CPU."""
    folder.mkdir(exist_ok=True)
    model_fn_at = functools.partial(model.model_fn_builder, model_config(training), str(folder))
    return TpuEstimatorEngine(model_fn_at, run_settings(folder, training), Device())


def run_settings(folder: Path, training: TrainingConfig, eval_batch_size: int = 4) -> RunSettings:
    return RunSettings(
        str(folder), train_batch_size=training.train_batch_size, eval_batch_size=eval_batch_size
    )


def train(
    folder: Path,
    shards: ShardSet,
    steps: int,
    training: TrainingConfig = TRAINING,
    described: bool = False,
) -> Any:
    """Trains for `steps` steps; returns the estimator."""
    trained = build(folder, training, described=described)
    batching = Batching(training.train_batch_size, static=False)
    input_fn = training_input_fn(TrainingInput(shards, batching, 1, shuffle_buffer_size=8))
    trained.train(input_fn, max_steps=steps)
    return trained


def predictions(trained: Any, shards: ShardSet, static: bool = False) -> list[dict[str, Any]]:
    input_fn = evaluation_input_fn(shards, Batching(4, static), True)
    return list(trained.predict(input_fn))


def checkpointed(folder: Path) -> dict[str, Array]:
    """Reads every variable of the latest checkpoint."""
    reader = tf.train.load_checkpoint(str(folder))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}
