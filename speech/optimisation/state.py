"""The variables of a training beside the network's: the optimiser's, and the state of its steps.

Every checkpoint has them.
"""

from typing import Any

import tensorflow as tf

from speech.networks.network import Network
from speech.optimisation.adam import Adam, assign, name_of, state_variable

STEP = "global_step"
LOSS = "last_step/loss"
BAD_STEPS = "bad_steps/count"
LATEST_BAD_STEP = "bad_steps/latest"


class TrainingState(tf.Module):
    """The variables of a training.

    Attributes:
        step: int64 scalar, the steps so far.
        optimiser: of the network's trainable variables.
        saved: name in a checkpoint -> variable, the network's too.
    """

    def __init__(self, network: Network, step: Any = None) -> None:
        """step: the graph's global step, if there is one."""
        super().__init__()
        self.step = state_variable(STEP, [], tf.int64) if step is None else step
        self.optimiser = Adam(network.trainable_variables)
        self._loss = state_variable(LOSS, [], tf.float32)
        self._bad_steps = state_variable(BAD_STEPS, [], tf.int32)
        self._latest_bad_step = state_variable(LATEST_BAD_STEP, [], tf.int32)
        own = (self.step, self._loss, self._bad_steps, self._latest_bad_step)
        named = {name_of(each): each for each in (*network.variables, *own)}
        self.saved: dict[str, Any] = {**named, **self.optimiser.saved}

    @property
    def of_steps(self) -> list[Any]:
        """The variables that describe the last step: step, loss, bad steps, latest bad step."""
        return [self.step, self._loss, self._bad_steps, self._latest_bad_step]

    def count_step(self, step: tf.Tensor, loss: tf.Tensor, finite: tf.Tensor) -> list[tf.Operation]:
        """Takes a step into account; returns its operations.

        Args:
            step: int64 scalar, the steps before this one.
            loss: float32 scalar, finite.
            finite: bool scalar; False counts the step as skipped.
        """
        bad_steps, latest = self._bad_steps.read_value(), self._latest_bad_step.read_value()
        with tf.control_dependencies([step, bad_steps, latest]):
            return [
                assign(self.step, step + 1),
                assign(self._loss, loss),
                assign(self._bad_steps, bad_steps + tf.cast(tf.logical_not(finite), tf.int32)),
                assign(
                    self._latest_bad_step, tf.where(finite, latest, tf.cast(step, tf.int32) + 1)
                ),
            ]
