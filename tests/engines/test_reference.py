"""Losses against those of TensorFlow 2.15's TPUEstimator, from its own first checkpoint.

compatibility/estimator has that checkpoint and the losses of 20 steps for each network, made when
the model_fn contained the step, with AdamOptimizer. The engine of jax is compared without dropout,
since XLA draws other masks than TensorFlow.
"""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_shards import random_utterances, write_shards
from tiny_training import BINS, KINDS, train

from speech.engines.devices import PJRT
from speech.engines.engine import StepState
from speech.features.front_end import FrontEnd
from speech.networks.config import ModelConfig, NetworkConfig, TrainingConfig
from utils import ENGLISH

STORED = Path(__file__).parents[1] / "compatibility" / "estimator"
FRAMES = [40, 62, 55, 71, 48, 66, 59, 44, 80, 51]
SIZES: dict[str, dict[str, Any]] = {
    "deep_speech_1": {"conv_channels": (2, 3), "recurrent_unit_size": 8},
    "deep_speech_lstm": {"dense_unit_size": 12, "recurrent_unit_size": 8},
    "conv_gru": {"conv_channels": (6,), "recurrent_unit_size": 8},
}
TRAINING = TrainingConfig(
    *(4, 10), learning_rate=1e-2, warmup_steps=5, clip_gradients=10.0, dropout=0.1, random_seed=1
)


@pytest.mark.parametrize("network", SIZES)
@pytest.mark.parametrize("kind", KINDS)
def test_losses_are_those_of_tpu_estimator(tmp_path: Path, network: str, kind: str) -> None:
    stored, training = "losses.json", TRAINING
    if kind == PJRT:
        stored, training = "losses_without_dropout.json", replace(TRAINING, dropout=0.0)
    sizes = NetworkConfig.of(BINS, ENGLISH.size, network, context_size=5, **SIZES[network])
    config = ModelConfig(FrontEnd(mel_filters=BINS), ENGLISH, sizes, training)
    shards = write_shards(tmp_path, random_utterances(FRAMES, BINS), bins=BINS, longest=(80, 12))
    shutil.copytree(STORED / network, tmp_path / "model")
    losses: list[float] = []

    def on_step(step: StepState) -> None:
        assert step.loss is not None
        losses.append(step.loss)

    train(tmp_path / "model", shards, 20, training, on_step, static=True, kind=kind, config=config)
    expected = json.loads((STORED / network / stored).read_text())
    assert len(expected) == 20 and expected[-1] < 0.8 * expected[0]
    # Each processor adds up in an order of its own, and training multiplies the difference.
    np.testing.assert_allclose(losses[:10], expected[:10], rtol=1e-5)
    np.testing.assert_allclose(losses, expected, rtol=1e-4)
