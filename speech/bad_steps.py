"""Steps whose loss or gradient isn't finite: they are skipped, counted, and named.

The count is a variable, saved with the network, so that it goes on where training goes on.
"""

from collections.abc import Callable
from typing import Any

import tensorflow as tf
from absl import logging

from utils import UserError

COUNT = "bad_steps"
LATEST = "latest_bad_step"


def counting(finite: tf.Tensor, step: tf.Tensor) -> tf.Operation:
    """Counts a step that isn't finite, on whatever device trains.

    Args:
        finite: bool scalar.
        step: int64 scalar, the steps before this one.
    """
    count, latest = (
        tf.Variable(
            0,
            trainable=False,
            name=name,
            dtype=tf.int32,
            # All replicas count alike.
            aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
        )
        for name in (COUNT, LATEST)
    )
    bad = tf.cast(tf.logical_not(finite), tf.int32)
    return tf.group(
        count.assign_add(bad), latest.assign(tf.where(finite, latest, tf.cast(step, tf.int32) + 1))
    )


def variables() -> list[tf.Variable]:
    """Count and latest step in the graph that `counting` was built in."""
    found = {each.op.name: each for each in tf.compat.v1.global_variables()}
    return [found[COUNT], found[LATEST]]


class BadStepHook(tf.estimator.SessionRunHook):
    """Names the utterances of a skipped step; ends training when there are too many."""

    def __init__(self, most: int, utterances_of: Callable[[int], list[str]]) -> None:
        """
        Args:
            most: steps that may be skipped in all of the training.
            utterances_of: ids of a step's utterances.
        """
        self._most = most
        self._utterances_of = utterances_of
        self._known: int | None = None

    def begin(self) -> None:
        self._variables = variables()

    def after_create_session(self, session: Any, coord: Any) -> None:
        self._known, _ = session.run(self._variables)

    def after_run(self, run_context: Any, run_values: Any) -> None:
        count, step = run_context.session.run(self._variables)
        if count == self._known:
            return
        self._known = count
        told = (
            f"The loss or gradient of step {step} isn't finite: it is skipped. Its utterances: "
            f"{', '.join(self._utterances_of(step))}."
        )
        if count <= self._most:
            logging.warning("%s", told)
            return
        raise UserError(
            f"{told} That makes {count} such steps, more than --max_bad_steps={self._most}. "
            "Listen to these recordings, lower --learning_rate or --clip_gradients, or raise "
            "--max_bad_steps; then run the same command again."
        )
