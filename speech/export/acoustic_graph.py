"""A model's network for export: computes log-probabilities of features or of samples."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from speech.features import graph as graph_features
from speech.layers import recurrence
from speech.networks import registry
from speech.networks.config import ModelConfig
from speech.networks.network import log_probabilities
from utils import UserError

Tensors = tuple[tf.Tensor, ...]


class AcousticGraph(tf.Module):
    """A network that computes in float32, whatever precision it was trained in."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.network = registry.build(config.network)
        self._front_end, self._statistics = config.front_end, config.statistics

    @property
    def carries_state(self) -> bool:
        """Whether the network has `stream`."""
        return registry.carries_state(self.network.config)

    def of_features(self, features: tf.Tensor, feature_length: tf.Tensor) -> Tensors:
        """Computes the log-probabilities of a batch of features.

        Args:
            features: float32 [batch, frames, bins] as front_end.extract returns them; those that
                are normalised over a corpus are normalised here.
            feature_length: int32 [batch], frames without padding.

        Returns:
            natural logarithms float32 [batch, outputs, classes], and their lengths int32 [batch].
        """
        with recurrence.forward_only():
            logits, output_length = self.network(self._normalise(features), feature_length)
        return log_probabilities(logits, self.network.config.labels), output_length

    def of_samples(self, samples: tf.Tensor, sample_length: tf.Tensor) -> Tensors:
        """Computes the log-probabilities of a batch of samples.

        Args:
            samples: float32 [batch, samples] at int16 scale and the front end's rate.
            sample_length: int32 [batch], samples without padding.

        Returns:
            see `of_features`.
        """
        return self.of_features(
            *graph_features.extract(samples, sample_length, self._front_end, tf.float64)
        )

    def stream(
        self, features: tf.Tensor, padding: tf.Tensor, *state: tf.Tensor
    ) -> tuple[tf.Tensor, ...]:
        """Computes the log-probabilities of a piece of each utterance of a batch.

        Args:
            features: float32 [batch, frames, bins] as for `of_features`, without padding, for the
                windows of at least one output; see DeepSpeechLstm.stream.
            padding: int32 [2], number of frames of zeros before and after these.
            state: after the previous piece; `initial_state` for the first one.

        Returns:
            natural logarithms float32 [batch, outputs, classes], and the state after this piece.
        """
        # Not tf.pad, which loses the shape when its numbers aren't constant.
        batch, bins = tf.shape(features)[0], features.shape[2]
        before, after = (tf.zeros([batch, each, bins]) for each in tf.unstack(padding))
        windows = tf.concat([before, self._normalise(features), after], axis=1)
        with recurrence.forward_only(in_blocks=False):
            logits, state = self.network.stream(windows, state)
        return tf.nn.log_softmax(logits), *state

    def initial_state(self, batch: int) -> Tensors:
        """Returns the state before an utterance's first piece; batch: number of utterances."""
        return tuple(self.network.initial_state(batch))

    def _normalise(self, features: tf.Tensor) -> tf.Tensor:
        if self._statistics is None:
            return features
        mean, deviation = self._statistics.mean, self._statistics.deviation
        return (features - tf.constant(mean)) / tf.constant(deviation)


def restore(config: ModelConfig, checkpoint: str) -> AcousticGraph:
    """Returns the graph with a checkpoint's variables.

    Shapes are compared before memory is allocated: with a wrong config it might be any amount.

    Raises:
        UserError: the checkpoint can't be read, or belongs to another network.
    """
    try:
        reader = tf.train.load_checkpoint(checkpoint)
        shapes = reader.get_variable_to_shape_map()
        for variable in registry.sketch(config.network).variables:
            name, wanted = _name(variable), variable.shape.as_list()
            if shapes.get(name) != wanted:
                raise ValueError(f"{name} has the shape {shapes.get(name)} instead of {wanted}")
        return with_values(config, reader.get_tensor)
    except (tf.errors.OpError, RuntimeError, ValueError, IndexError) as error:
        raise UserError(
            f"The checkpoint {checkpoint} can't be read as a model of its config.json: {error}. "
            "Choose another one (--checkpoint)."
        ) from None


def with_values(config: ModelConfig, value_of: Callable[[str], np.ndarray]) -> AcousticGraph:
    """Returns the graph with other values of its variables.

    Args:
        value_of: returns the value of a variable, by its name in checkpoints.
    """
    graph = AcousticGraph(config)
    for variable in graph.network.variables:
        variable.assign(value_of(_name(variable)))
    return graph


def _name(variable: tf.Variable) -> str:
    """Returns a variable's name in checkpoints."""
    return str(variable.name.partition(":")[0])
