"""The state that a training step leaves beside the network, in variables of every checkpoint.

An engine reads them between two steps.
"""

from typing import Any

import tensorflow as tf

from speech.engines.engine import StepState

LOSS = "last_step/loss"
BAD_STEPS = "bad_steps/count"
LATEST_BAD_STEP = "bad_steps/latest"


def update(step: tf.Tensor, loss: tf.Tensor, finite: tf.Tensor) -> tf.Operation:
    """Makes the variables, and an operation that takes a step into account.

    Args:
        step: int64 scalar, the steps before this one.
        loss: float32 scalar, finite.
        finite: bool scalar; False counts the step as skipped.
    """
    last_loss = _variable(LOSS, tf.float32)
    count, latest = _variable(BAD_STEPS, tf.int32), _variable(LATEST_BAD_STEP, tf.int32)
    return tf.group(
        last_loss.assign(loss),
        count.assign_add(tf.cast(tf.logical_not(finite), tf.int32)),
        latest.assign(tf.where(finite, latest, tf.cast(step, tf.int32) + 1)),
    )


def _variable(name: str, dtype: tf.DType) -> tf.Variable:
    return tf.Variable(
        lambda: tf.zeros([], dtype),  # a function, as TPUEstimator's loop requires
        name=name,
        trainable=False,
        aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,  # all replicas hold the same
    )


class StepReader:
    """Reads the state in the graph that it was made in."""

    def __init__(self) -> None:
        found = {each.op.name: each for each in tf.compat.v1.global_variables()}
        self._variables = [
            tf.compat.v1.train.get_global_step(),
            *(found[name] for name in (LOSS, BAD_STEPS, LATEST_BAD_STEP)),
        ]

    def read(self, session: Any) -> StepState:
        """Reads the state between two steps; session: one without hooks."""
        step, loss, bad_steps, latest = session.run(self._variables)
        skipped = bool(bad_steps) and latest == step
        return StepState(int(step), None if skipped else float(loss), int(bad_steps), int(latest))
