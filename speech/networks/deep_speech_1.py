"""The default network: Deep Speech (arXiv 1412.5567) with convolutions instead of dense layers.

features -> convolutions over time and frequency -> bidirectional recurrent layer -> dense layer
"""

import tensorflow as tf

import constants
from speech.layers.basic import NO_DROPOUT, Dropout, variable
from speech.layers.convolutions import convolutions, strided, taps_of
from speech.layers.cross_replica import ALONE, Replicas
from speech.layers.rnn import bidirectional_rnn
from speech.networks.config import NetworkConfig
from speech.networks.network import Network


class DeepSpeech1(Network):
    """Convolutions over time x frequency, a bidirectional clipped-ReLU RNN, a dense layer.

    The convolutions' kernels are [context, frequencies, channels in, channels out]. Padding never
    reaches a real frame: an utterance's logits are the same alone, in a batch, and with any amount
    of padding.
    """

    def __init__(
        self,
        config: NetworkConfig,
        random_seed: int,
        on_tpu: bool,
        replicas: Replicas = ALONE,
    ) -> None:
        super().__init__(config, random_seed, on_tpu, replicas)
        self.convolutions = []
        bins, channels = config.bins, 1
        for layer, channels_out in enumerate(config.conv_channels):
            kernels = constants.CONV_FREQUENCY_KERNELS
            frequencies = kernels[min(layer, len(kernels) - 1)]
            shape = [config.context_size, frequencies, channels, channels_out]
            self.convolutions.append(
                (
                    variable(f"conv_{layer}/kernel", shape, self._initializers.he()),
                    variable(f"conv_{layer}/bias", [channels_out], tf.zeros),
                )
            )
            bins, channels = strided(bins), channels_out
        inputs, units = bins * channels, config.recurrent_unit_size
        self.rnn_kernel = variable(
            "rnn/kernel", [2, inputs, units], self._initializers.each(2, "he_normal")
        )
        self.rnn_recurrent_kernel = variable(
            "rnn/recurrent_kernel", [2, units, units], self._initializers.each(2, "orthogonal")
        )
        self.rnn_bias = variable("rnn/bias", [2, units], tf.zeros)
        self.output_kernel = variable(
            "output/kernel", [units, config.labels], self._initializers.glorot()
        )
        self.output_bias = variable("output/bias", [config.labels], tf.zeros)
        convolutional = [f"conv_{layer}" for layer in range(len(self.convolutions))]
        self.layers = [*convolutional, "rnn", "output"]

    def __call__(
        self,
        features: tf.Tensor,
        feature_length: tf.Tensor,
        dropout: Dropout = NO_DROPOUT,
        compute_dtype: tf.DType = tf.float32,
        training: bool = False,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        output_length = self.config.output_frames(feature_length)  # [batch]
        # check_tpu.py estimates a step part by part, as the scopes name them.
        with tf.name_scope("convolutions"):
            hidden = convolutions(
                tf.cast(features, compute_dtype),
                feature_length,
                self.convolutions,
                self.config.stride_size,
                self._on_tpu,
            )  # [batch, outputs, bins * channels]
            hidden = dropout(hidden)
        with tf.name_scope("recurrent"):
            hidden = bidirectional_rnn(
                hidden,
                output_length,
                self.rnn_kernel,
                self.rnn_recurrent_kernel,
                self.rnn_bias,
                compute_dtype,
            )  # [outputs, batch, units]
            hidden = tf.cast(dropout(hidden), compute_dtype)
        with tf.name_scope("output"):
            logits = tf.einsum("obu,uc->obc", hidden, tf.cast(self.output_kernel, compute_dtype))
            logits = tf.transpose(tf.cast(logits, tf.float32) + self.output_bias, [1, 0, 2])
        # logits: [batch, outputs, classes]
        return logits, output_length

    def forward_flops(self, outputs: int) -> float:
        """See Network; a kernel's taps that reach beyond the bins don't count."""
        flops, bins = 0.0, self.config.bins
        for kernel, _ in self.convolutions:
            context, frequencies, channels_in, channels_out = kernel.shape
            taps = float(taps_of(bins, frequencies).sum())
            flops += 2 * outputs * context * channels_in * channels_out * taps
            bins = strided(bins)
        for kernel in (self.rnn_kernel, self.rnn_recurrent_kernel, self.output_kernel):
            flops += 2 * outputs * kernel.shape.num_elements()
        return flops
