"""The base class of all acoustic models."""

import tensorflow as tf

from speech.layers.basic import NO_DROPOUT, Dropout, Initializers
from speech.networks.config import NetworkConfig


class Network(tf.Module):
    """What all networks have; see speech.networks.build.

    Attributes:
        layers: first to last, each the prefix of the names of its variables.
        moving_updates: (variable, new value) of the moving averages that a call with training=True
            computes. They change only when whoever trains assigns them.
    """

    # A module's variables stand in the order of its attributes, and a call is to leave it as it is.
    _TF_MODULE_IGNORED_PROPERTIES = frozenset(
        {*tf.Module._TF_MODULE_IGNORED_PROPERTIES, "moving_updates"}
    )

    def __init__(self, config: NetworkConfig, random_seed: int, on_tpu: bool) -> None:
        """on_tpu: computes as a TPU does it fastest; the same variables, the same numbers."""
        super().__init__()
        self.config = config
        self.layers: list[str] = []
        self.moving_updates: list[tuple[tf.Variable, tf.Tensor]] = []
        self._on_tpu = on_tpu
        self._initializers = Initializers(random_seed)

    def __call__(
        self,
        features: tf.Tensor,
        feature_length: tf.Tensor,
        dropout: Dropout = NO_DROPOUT,
        compute_dtype: tf.DType = tf.float32,
        training: bool = False,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Logits of a batch of utterances.

        Args:
            features: float32 [batch, frames, bins], padded.
            feature_length: int32 [batch], real frames.
            dropout: falls on the outputs of the non-recurrent layers.
            compute_dtype: of the matrix products and convolutions.
            training: whether what behaves otherwise in training does so.

        Returns:
            logits float32 [batch, outputs, labels] and their lengths int32 [batch].
        """
        raise NotImplementedError

    def forward_flops(self, outputs: int) -> float:
        """Multiplications and additions that an utterance of so many outputs asks for.

        Those of the kernels; activations and norms don't count.
        """
        kernels = [each for each in self.trainable_variables if "kernel" in each.name]
        return 2.0 * outputs * sum(each.shape.num_elements() for each in kernels)
