"""The learning rate's schedules, as a number and as a tensor."""

import math

import pytest
import tensorflow as tf

from speech.networks.config import SCHEDULES, TrainingConfig
from speech.optimisation.learning_rate import learning_rate_at, learning_rate_tensor

EXPONENTIAL = TrainingConfig(
    learning_rate=3e-4, learning_rate_decay_factor=0.5, steps_per_epoch=7, train_steps=700
)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("warmup_steps", [0, 10])
def test_number_and_tensor_are_equal(schedule: str, warmup_steps: int) -> None:
    training = TrainingConfig(
        learning_rate=3e-4,
        learning_rate_schedule=schedule,
        learning_rate_decay_factor=0.5,
        steps_per_epoch=7,
        train_steps=70,
        warmup_steps=warmup_steps,
    )
    for step in (0, 1, 6, 7, 9, 10, 13, 14, 35, 69, 70, 100):
        tensor = learning_rate_tensor(training, tf.constant(step, tf.float32))
        assert tensor.dtype == tf.float32 and tensor.shape == []
        expected = learning_rate_at(training, step)
        assert float(tensor) == pytest.approx(expected, rel=1e-4, abs=1e-10)


@pytest.mark.parametrize("step", [0, 1, 6, 7, 13, 14, 70])
def test_exponential_falls_after_every_epoch(step: int) -> None:
    assert learning_rate_at(EXPONENTIAL, step) == pytest.approx(3e-4 * 0.5 ** (step // 7))


def test_cosine_falls_to_0_at_the_last_step() -> None:
    training = TrainingConfig(
        learning_rate=1.0, learning_rate_schedule="cosine", warmup_steps=10, train_steps=110
    )
    rates = [learning_rate_at(training, step) for step in (0, 4, 9, 10, 60, 85, 110, 200)]
    quarter = 0.5 * (1 + math.cos(0.75 * math.pi))
    assert rates == pytest.approx([0.1, 0.5, 1.0, 1.0, 0.5, quarter, 0.0, 0.0])
