"""The training step as one core of a TPU runs it, lowered by TensorFlow.

The engine of jax runs it, and check.py compiles it. It wraps the same step as model.py's model_fn.
"""

from typing import Any

import tensorflow as tf

from speech.layers.cross_replica import XlaReplicas
from speech.networks import registry
from speech.networks.config import ModelConfig, NetworkConfig
from speech.optimisation.reported_step import ReportedStep
from speech.optimisation.state import TrainingState
from speech.optimisation.step import Tensors
from speech.text.lexicon import ROOM
from speech.tpu.lowering import Lowered, lower


class StepProgram:
    """The training step of a core, for a number of cores that take it together.

    Attributes:
        network: what is trained.
        state: the variables, whose values here are those that a new model starts with.
    """

    def __init__(
        self, config: ModelConfig, cores: int, on_tpu: bool, described: bool = False
    ) -> None:
        """
        Args:
            cores: of all hosts.
            on_tpu: whether they are a TPU's, and not those of a CPU that stands in for one.
            described: whether the step returns what step_description.describe prints.
        """
        self._on_tpu = on_tpu
        replicas = XlaReplicas(cores)
        self.network = registry.build(config.network, config.training.random_seed, on_tpu, replicas)
        self.state = TrainingState(self.network)
        self._reported = ReportedStep(
            self.network, self.state, config.training, replicas, described
        )

    def lower(self, features: Any, labels: Any) -> Lowered:
        """Lowers the step for batches of these shapes, see `core_batch`."""
        number = tf.TensorSpec([1], tf.float32)
        specs = (features, labels, number, number)
        return lower(self._take, self.state.saved, specs, self._on_tpu)

    def _take(
        self, features: Tensors, labels: Tensors, scale: tf.Tensor, wish: tf.Tensor
    ) -> dict[str, Any]:
        """Takes the step; scale, wish: float32 [1], since a core's part of a batch has an axis."""
        return self._reported.take(features, labels, scale[0], wish[0])


def core_batch(
    utterances: int, frames: int, network: NetworkConfig, labels: int
) -> tuple[Any, Any]:
    """Returns features and labels of a core, as optimisation/step.py has them, of tf.TensorSpec.

    Args:
        utterances: of the core.
        frames: length that utterances are padded to.
        network: that takes the step.
        labels: length that transcripts are padded to.
    """
    features = {
        "features": tf.TensorSpec([utterances, frames, network.bins], tf.float32),
        "feature_length": tf.TensorSpec([utterances], tf.int32),
    }
    label = {
        "label": tf.TensorSpec([utterances, labels], tf.int32),
        "label_length": tf.TensorSpec([utterances], tf.int32),
        "weight": tf.TensorSpec([utterances], tf.float32),
    }
    if network.phones:
        label["phone"] = tf.TensorSpec([utterances, ROOM * labels], tf.int32)
        label["phone_length"] = tf.TensorSpec([utterances], tf.int32)
    return features, label
