"""The schedule of the learning rate, as a number and as a tensor."""

import math

import tensorflow as tf

from speech.networks.config import TrainingConfig


def learning_rate_at(training: TrainingConfig, step: int) -> float:
    """Returns the learning rate of the step after `step` steps."""
    rate = training.learning_rate
    if training.learning_rate_schedule == "exponential":
        rate *= training.learning_rate_decay_factor ** (step // training.steps_per_epoch)
    elif training.learning_rate_schedule == "cosine":
        # arXiv 1608.03983, equation 5, without restarts.
        share = max(step - training.warmup_steps, 0) / _cosine_steps(training)
        rate *= 0.5 * (1.0 + math.cos(math.pi * min(share, 1.0)))
    if training.warmup_steps:
        rate *= min((step + 1.0) / training.warmup_steps, 1.0)
    return rate


def learning_rate_tensor(training: TrainingConfig, step: tf.Tensor) -> tf.Tensor:
    """Returns `learning_rate_at` as a float32 scalar; step: a float32 scalar."""
    rate = tf.constant(training.learning_rate)
    if training.learning_rate_schedule == "exponential":
        rate *= training.learning_rate_decay_factor ** (step // float(training.steps_per_epoch))
    elif training.learning_rate_schedule == "cosine":
        share = tf.maximum(step - float(training.warmup_steps), 0.0) / _cosine_steps(training)
        rate *= 0.5 * (1.0 + tf.cos(math.pi * tf.minimum(share, 1.0)))
    if training.warmup_steps:
        rate *= tf.minimum((step + 1.0) / training.warmup_steps, 1.0)
    return rate


def _cosine_steps(training: TrainingConfig) -> int:
    return max(training.train_steps - training.warmup_steps, 1)
