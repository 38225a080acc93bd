"""Hey Jetson's networks (github.com/bricewalker/Hey-Jetson, Speech.ipynb, models 8 and 7).

features -> convolutions over time -> bidirectional GRUs -> dense layer

Batch normalisation follows each convolution and each GRU.
"""

import tensorflow as tf

from speech.layers.basic import NO_DROPOUT, BatchNorm, Dense, Dropout, variable
from speech.layers.convolutions import zero_padding
from speech.layers.cross_replica import ALONE, Replicas
from speech.layers.rnn import gru
from speech.layers.windows import centred
from speech.networks.config import NetworkConfig
from speech.networks.network import Network


class ConvGru(Network):
    """Convolutions over time with ReLUs, bidirectional GRUs, a linear layer (model 8).

    Differences from the source: its convolution leaves out the first and last outputs, whose
    kernels reach beyond the utterance; its GRUs have a ReLU in place of tanh, and one bias instead
    of cuDNN's two.
    """

    def __init__(
        self, config: NetworkConfig, random_seed: int, on_tpu: bool, replicas: Replicas = ALONE
    ) -> None:
        super().__init__(config, random_seed, on_tpu, replicas)
        draw, units = self._initializers, config.recurrent_unit_size
        self.convolutions, self.grus = [], []
        inputs = config.bins
        for layer, channels in enumerate(config.conv_channels):
            name, shape = f"conv_{layer}", [config.context_size, inputs, channels]
            kernel = variable(f"{name}/kernel", shape, draw.glorot())
            bias = variable(f"{name}/bias", [channels], tf.zeros)
            self.convolutions.append((kernel, bias, BatchNorm(name, channels, replicas)))
            inputs = channels
        for layer in range(config.recurrent_layers):
            name, wide = f"gru_{layer}", 3 * units
            kernels = (
                variable(f"{name}/kernel", [2, inputs, wide], draw.each(2, "glorot_uniform")),
                variable(f"{name}/recurrent_kernel", [2, units, wide], draw.each(2, "orthogonal")),
                variable(f"{name}/bias", [2, 2, wide], tf.zeros),
            )
            self.grus.append((kernels, BatchNorm(name, 2 * units, replicas)))
            inputs = 2 * units
        self.output = Dense("output", inputs, config.labels, draw.glorot())
        convolutional = [f"conv_{layer}" for layer in range(len(self.convolutions))]
        self.layers = [*convolutional, *(f"gru_{n}" for n in range(len(self.grus))), "output"]

    def _reach(self, layer: int) -> tuple[int, list[int]]:
        """Returns the dilation of a convolution, and the numbers of zeros before and after frames.

        Args:
            layer: number of the convolution, from 0.
        """
        return 1, centred(self.config.context_size)

    def __call__(
        self,
        features: tf.Tensor,
        feature_length: tf.Tensor,
        dropout: Dropout = NO_DROPOUT,
        compute_dtype: tf.DType = tf.float32,
        training: bool = False,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        output_length = self.config.output_frames(feature_length)  # [batch]
        self.moving_updates = []

        def normalise(norm: BatchNorm, values: tf.Tensor) -> tf.Tensor:
            values, updates = norm(values, output_length, training)
            self.moving_updates += updates
            return values

        hidden, length, stride = features, feature_length, self.config.stride_size
        with tf.name_scope("convolutions"):
            for layer, (kernel, bias, norm) in enumerate(self.convolutions):
                dilation, zeros = self._reach(layer)
                hidden = tf.cast(zero_padding(hidden, length), compute_dtype)
                hidden = tf.pad(hidden, [[0, 0], zeros, [0, 0]])
                kernel = tf.cast(kernel, compute_dtype)
                hidden = tf.nn.conv1d(hidden, kernel, stride, "VALID", dilations=dilation)
                hidden = tf.nn.relu(hidden + tf.cast(bias, compute_dtype))
                hidden = dropout(normalise(norm, hidden))  # [batch, outputs, channels]
                length, stride = output_length, 1
        with tf.name_scope("recurrent"):
            for kernels, norm in self.grus:
                both, _ = gru(hidden, output_length, *kernels, compute_dtype)
                hidden = normalise(norm, tf.concat(tf.unstack(both), axis=2))
                # [batch, outputs, 2 * units]
        with tf.name_scope("output"):
            return tf.cast(self.output(hidden, compute_dtype), tf.float32), output_length


class ConvGruDilated(ConvGru):
    """A ConvGru of causal convolutions, each with twice the dilation of the last (model 7)."""

    def _reach(self, layer: int) -> tuple[int, list[int]]:
        dilation = 2**layer
        return dilation, [(self.config.context_size - 1) * dilation, 0]
