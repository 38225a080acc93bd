"""What a step leaves behind beside the network: variables that a checkpoint holds too.

So whoever reads a checkpoint, or a session between two steps, knows what the last step was like.
"""

from dataclasses import dataclass
from typing import Any

import tensorflow as tf

LOSS = "last_step/loss"
BAD_STEPS = "bad_steps/count"
LATEST_BAD_STEP = "bad_steps/latest"


@dataclass(frozen=True)
class StepState:
    """The network's state behind a step."""

    step: int
    loss: float | None  # of the step; None: it or a gradient wasn't finite, the step was skipped
    bad_steps: int  # skipped so far
    latest_bad_step: int  # the last one of them; 0 if there was none


def updated(step: tf.Tensor, loss: tf.Tensor, finite: tf.Tensor) -> tf.Operation:
    """Takes a step into account, on whatever device trains.

    Args:
        step: int64 scalar, the steps before this one.
        loss: float32 scalar, finite.
        finite: bool scalar; a step that isn't is counted as skipped.
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
        lambda: tf.zeros([], dtype),  # a function, as TPUEstimator's loop asks for
        name=name,
        trainable=False,
        aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,  # all of them hold the same
    )


class StepReader:
    """Reads the state in the graph that it was built in."""

    def __init__(self) -> None:
        found = {each.op.name: each for each in tf.compat.v1.global_variables()}
        self._variables = [
            tf.compat.v1.train.get_global_step(),
            *(found[name] for name in (LOSS, BAD_STEPS, LATEST_BAD_STEP)),
        ]

    def read(self, session: Any) -> StepState:
        """The state between two steps; session: one without hooks."""
        step, loss, bad_steps, latest = session.run(self._variables)
        skipped = bool(bad_steps) and latest == step
        return StepState(int(step), None if skipped else float(loss), int(bad_steps), int(latest))
