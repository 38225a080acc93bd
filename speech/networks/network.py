"""The base class of the acoustic models."""

import tensorflow as tf

from speech.layers.basic import NO_DROPOUT, Dropout, Initializers
from speech.layers.cross_replica import ALONE, Replicas
from speech.networks.config import NetworkConfig


class Network(tf.Module):
    """An acoustic model: features -> logits of a softmax, which the CTC loss is computed from.

    registry.build makes one. A subclass creates its variables in the constructor, sets `layers`,
    and implements `__call__`.

    Attributes:
        config: name and sizes.
        layers: names of the layers, first to last; each is the prefix of its variables' names.
        moving_updates: pairs of a moving average and its new value, which a call with training=True
            computes. The caller has to assign them.
        intermediate_logits: logits of layers before the last, float32 [batch, outputs, classes]
            each, which a call sets. Training also lowers their loss.
    """

    # tf.Module walks all attributes for variables; a call must not change what it finds.
    _TF_MODULE_IGNORED_PROPERTIES = frozenset(
        {*tf.Module._TF_MODULE_IGNORED_PROPERTIES, "moving_updates", "intermediate_logits"}
    )

    def __init__(
        self, config: NetworkConfig, random_seed: int, on_tpu: bool, replicas: Replicas = ALONE
    ) -> None:
        """
        Args:
            config: name and sizes.
            random_seed: decides the initial values.
            on_tpu: whether to compute in the form that is fastest on a TPU, with the same variables
                and numbers.
            replicas: those that train the network together.
        """
        super().__init__()
        self.config = config
        self.layers: list[str] = []
        self.moving_updates: list[tuple[tf.Variable, tf.Tensor]] = []
        self.intermediate_logits: list[tf.Tensor] = []
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
        """Computes the logits of a batch of utterances.

        Args:
            features: float32 [batch, frames, bins], padded.
            feature_length: int32 [batch], real frames.
            dropout: applied to the outputs of the non-recurrent layers.
            compute_dtype: type of the matrix products and convolutions.
            training: whether to normalise by the batch's statistics and set `moving_updates`.

        Returns:
            Logits, float32 [batch, outputs, classes], and their lengths, int32 [batch]. The classes
            are the labels, then the phones; see `log_probabilities`.
        """
        raise NotImplementedError

    def forward_flops(self, outputs: int) -> float:
        """Returns the multiplications and additions for an utterance with this number of outputs.

        Only those of the kernels count, not those of activations and normalisation.
        """
        kernels = [each for each in self.trainable_variables if "kernel" in each.name]
        return 2.0 * outputs * sum(each.shape.num_elements() for each in kernels)


def log_probabilities(logits: tf.Tensor, labels: int) -> tf.Tensor:
    """Returns the log-probabilities of a network's logits.

    Args:
        logits: float32 [batch, outputs, classes].
        labels: number of classes of the labels; the phones' follow, if there are any, and have a
            softmax of their own.

    Returns:
        natural logarithms, float32 [batch, outputs, classes].
    """
    if logits.shape[-1] == labels:
        return tf.nn.log_softmax(logits)
    parts = logits[..., :labels], logits[..., labels:]
    return tf.concat([tf.nn.log_softmax(part) for part in parts], axis=-1)
