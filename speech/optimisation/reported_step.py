"""A training step with what an engine without tf.estimator reads of it on the host."""

from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from speech.layers.cross_replica import Replicas
from speech.networks.config import TrainingConfig
from speech.networks.network import Network
from speech.optimisation.state import TrainingState
from speech.optimisation.step import Tensors, training_step
from speech.optimisation.step_description import described_values


@dataclass(frozen=True)
class ReportedStep:
    """Takes steps of a network and reports them.

    Attributes:
        described: whether the report has what step_description.describe prints.
    """

    network: Network
    state: TrainingState
    config: TrainingConfig
    replicas: Replicas
    described: bool

    def take(
        self, features: Tensors, labels: Tensors, scale: tf.Tensor, wish: tf.Tensor
    ) -> dict[str, Any]:
        """Takes a step.

        Args:
            features, labels: see step.training_step.
            scale: float32 scalar, the factor on the learning rate.
            wish: float32 scalar, 1 if this replica's process wants to stop.

        Returns:
            The step's number and curves, see step.Step; "state", the values of
            TrainingState.of_steps after it; "described", see step_description.described_values, or
            empty; "wishes", the sum of all replicas' wishes.
        """
        step = training_step(
            self.network, self.state, self.config, features, labels, scale, self.replicas
        )
        described = described_values(step, features, labels) if self.described else []
        (wishes,) = self.replicas.total([tf.identity(wish)])  # a tensor on the replica's device
        with tf.control_dependencies([step.update]):
            state = [each.read_value() for each in self.state.of_steps]
        return {
            "number": step.number,
            "curves": step.curves,
            "state": state,
            "described": described,
            "wishes": wishes,
        }
