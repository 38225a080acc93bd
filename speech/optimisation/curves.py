"""TensorBoard's curves of a training."""

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

# Steps between two points of a curve.
SUMMARY_STEPS = 50


def write(writer: Any, step: tf.Tensor, curves: Mapping[str, tf.Tensor]) -> None:
    """Writes a step's values, if it is one of the curves' points.

    Args:
        writer: of tf.summary.
        step: int64 scalar, the steps before.
        curves: see step.Step.
    """
    with writer.as_default(), tf.summary.record_if(tf.equal(step % SUMMARY_STEPS, 0)):
        for name, value in curves.items():
            tf.summary.scalar(name, value, step=step)
