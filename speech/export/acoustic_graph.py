"""A model's network as exported graphs have it: log-probabilities of features or of samples."""

import tensorflow as tf

from speech.features import graph as graph_features
from speech.layers import recurrence
from speech.networks import registry
from speech.networks.config import ModelConfig
from utils import UserError

Tensors = tuple[tf.Tensor, ...]


class AcousticGraph(tf.Module):
    """A network that computes in float32, whatever it was trained in."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.network = registry.build(config.network)
        self._front_end, self._statistics = config.front_end, config.statistics

    @property
    def carries_state(self) -> bool:
        """Whether there is `stream`."""
        return registry.carries_state(self.network.config)

    def of_features(self, features: tf.Tensor, feature_length: tf.Tensor) -> Tensors:
        """Log-probabilities of a batch.

        Args:
            features: float32 [batch, frames, bins] as features.extract gives them: what is
                normalised over a corpus is normalised here.
            feature_length: int32 [batch], real frames.

        Returns:
            natural logarithms float32 [batch, outputs, labels], and their lengths int32 [batch].
        """
        with recurrence.forward_only():
            logits, output_length = self.network(self._normalised(features), feature_length)
        return tf.nn.log_softmax(logits), output_length

    def of_samples(self, samples: tf.Tensor, sample_length: tf.Tensor) -> Tensors:
        """The same of float32 [batch, samples] at int16 scale; sample_length: int32 [batch]."""
        return self.of_features(
            *graph_features.extract(samples, sample_length, self._front_end, tf.float64)
        )

    def stream(
        self, features: tf.Tensor, padding: tf.Tensor, *state: tf.Tensor
    ) -> tuple[tf.Tensor, ...]:
        """Log-probabilities of a piece of each utterance of a batch.

        Args:
            features: float32 [batch, frames, bins] as `of_features`, all real, for the windows of
                one output or more, see DeepSpeechLstm.stream.
            padding: int32 [2], frames of zeros in front of and behind these.
            state: behind the piece before, as `initial_state` has it.

        Returns:
            natural logarithms float32 [batch, outputs, labels], and the state behind this piece.
        """
        # Not tf.pad, which forgets the shape when its numbers aren't constant.
        batch, bins = tf.shape(features)[0], features.shape[2]
        front, behind = (tf.zeros([batch, each, bins]) for each in tf.unstack(padding))
        windows = tf.concat([front, self._normalised(features), behind], axis=1)
        with recurrence.forward_only(in_blocks=False):
            logits, state = self.network.stream(windows, state)
        return tf.nn.log_softmax(logits), *state

    def initial_state(self, batch: int) -> Tensors:
        """In front of an utterance's first piece."""
        return tuple(self.network.initial_state(batch))

    def _normalised(self, features: tf.Tensor) -> tf.Tensor:
        if self._statistics is None:
            return features
        mean, deviation = self._statistics.mean, self._statistics.deviation
        return (features - tf.constant(mean)) / tf.constant(deviation)


def restored(config: ModelConfig, checkpoint: str) -> AcousticGraph:
    """Returns the graph with a checkpoint's variables.

    Shapes are compared before there is memory for them: a config with a wrong size may ask for any.

    Raises:
        UserError: the checkpoint can't be read, or is one of another network.
    """
    try:
        reader = tf.train.load_checkpoint(checkpoint)
        shapes = reader.get_variable_to_shape_map()
        for variable in registry.sketch(config.network).variables:
            name, wanted = _name(variable), variable.shape.as_list()
            if shapes.get(name) != wanted:
                raise ValueError(f"{name} has the shape {shapes.get(name)} instead of {wanted}")
        graph = AcousticGraph(config)
        for variable in graph.network.variables:
            variable.assign(reader.get_tensor(_name(variable)))
    except (tf.errors.OpError, RuntimeError, ValueError, IndexError) as error:
        raise UserError(
            f"The checkpoint {checkpoint} can't be read as a model of its config.json: {error}. "
            "Take another one (--checkpoint)."
        ) from None
    return graph


def _name(variable: tf.Variable) -> str:
    """Returns a variable's name in checkpoints."""
    return str(variable.name.partition(":")[0])
