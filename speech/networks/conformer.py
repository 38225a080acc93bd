"""Conformer (Gulati et al., arXiv 2005.08100) with a CTC output.

features -> convolutions over time and frequency -> blocks of feed-forward layers, self-attention
and convolution over time -> dense layer
"""

import tensorflow as tf

import constants
from speech.layers.attention import SelfAttention
from speech.layers.basic import NO_DROPOUT, Dense, Dropout, Initializers, LayerNorm, variable
from speech.layers.convolutions import strided, zero_padding
from speech.layers.cross_replica import ALONE, Replicas
from speech.layers.windows import centred
from speech.networks.config import NetworkConfig
from speech.networks.network import Network, log_probabilities

EXPANSION = 4  # units of a feed-forward layer, in units of a frame's
NORM_EPSILON = 1e-5
KERNEL = 3  # bins, and frames at least, of a convolution before the blocks


class Conformer(Network):
    """Strided convolutions, Conformer blocks, a linear layer.

    Differences from the source: positions are rotary, and the convolution is followed by layer
    normalisation, so that an utterance's logits are the same in every batch. The logits of the
    middle block are trained too, and the next block sees what they are (arXiv 2102.03216 and
    2104.02724). With a lexicon there are logits of phones after those of the letters.
    """

    def __init__(
        self, config: NetworkConfig, random_seed: int, on_tpu: bool, replicas: Replicas = ALONE
    ) -> None:
        super().__init__(config, random_seed, on_tpu, replicas)
        draw, units = self._initializers, config.dense_unit_size
        self.front = Front("front", config, draw)
        names = [f"block_{number}" for number in range(config.blocks)]
        self.blocks = [
            Block(name, units, config.attention_heads, config.context_size, draw) for name in names
        ]
        self.outputs = [Dense("output", units, config.labels, draw.glorot())]
        if config.phones:
            classes = config.classes - config.labels
            self.outputs.append(Dense("phones", units, classes, draw.glorot()))
        self.condition = Dense("condition", config.classes, units, draw.glorot())
        phones = ["phones"] * bool(config.phones)
        self.layers = ["front", *names, "output", *phones, "condition"]

    def __call__(
        self,
        features: tf.Tensor,
        feature_length: tf.Tensor,
        dropout: Dropout = NO_DROPOUT,
        compute_dtype: tf.DType = tf.float32,
        training: bool = False,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        output_length = self.config.output_frames(feature_length)  # [batch]
        with tf.name_scope("front"):
            hidden = dropout(self.front(features, feature_length, compute_dtype))
            # hidden: [batch, outputs, units]

        def compute(blocks: list[Block], hidden: tf.Tensor, length: tf.Tensor) -> tf.Tensor:
            for block in blocks:
                hidden = block(hidden, length, dropout, compute_dtype)
            return hidden

        middle = len(self.blocks) // 2
        with tf.name_scope("blocks"):
            hidden = compute(self.blocks[:middle], hidden, output_length)
        with tf.name_scope("output"):
            logits = self._logits(hidden, compute_dtype)
            found = tf.exp(log_probabilities(logits, self.config.labels))
            hidden += self.condition(found, compute_dtype)
            self.intermediate_logits = [logits]
        with tf.name_scope("blocks"):
            hidden = compute(self.blocks[middle:], hidden, output_length)
        with tf.name_scope("output"):
            return self._logits(hidden, compute_dtype), output_length

    def _logits(self, hidden: tf.Tensor, compute_dtype: tf.DType) -> tf.Tensor:
        """[batch, outputs, units] -> float32 [batch, outputs, classes]."""
        logits = [output(hidden, compute_dtype) for output in self.outputs]
        return tf.cast(tf.concat(logits, axis=2), tf.float32)


class Front(tf.Module):
    """Convolutions over time and frequency, and a dense layer over what is left of the bins."""

    def __init__(self, name: str, config: NetworkConfig, draw: Initializers) -> None:
        super().__init__()
        self._strides = divide_stride(config.stride_size, len(config.conv_channels))
        self.convolutions = []
        inputs, bins = 1, config.bins
        for number, channels in enumerate(config.conv_channels):
            frames = max(KERNEL, self._strides[number] + 1)
            kernel = [frames, KERNEL, inputs, channels]
            self.convolutions.append(
                (
                    variable(f"{name}/conv_{number}/kernel", kernel, draw.he()),
                    variable(f"{name}/conv_{number}/bias", [channels], tf.zeros),
                )
            )
            inputs, bins = channels, strided(bins)
        self.dense = Dense(f"{name}/dense", bins * inputs, config.dense_unit_size, draw.glorot())
        self.norm = LayerNorm(f"{name}/norm", config.dense_unit_size, NORM_EPSILON)

    def __call__(
        self, features: tf.Tensor, length: tf.Tensor, compute_dtype: tf.DType
    ) -> tf.Tensor:
        """float32 [batch, frames, bins] -> compute_dtype [batch, outputs, units]."""
        hidden = tf.cast(zero_padding(features, length), compute_dtype)[..., tf.newaxis]
        for (kernel, bias), stride in zip(self.convolutions, self._strides, strict=True):
            zeros = [[0, 0], centred(kernel.shape[0]), centred(KERNEL), [0, 0]]
            kernel, strides = tf.cast(kernel, compute_dtype), [stride, constants.FREQUENCY_STRIDE]
            hidden = tf.nn.conv2d(tf.pad(hidden, zeros), kernel, strides, "VALID")
            hidden = tf.nn.relu(hidden + tf.cast(bias, compute_dtype))
            length = (length + stride - 1) // stride
            hidden = zero_padding(hidden, length)  # [batch, outputs, bins, channels]
        shape = tf.shape(hidden)
        joined = tf.reshape(hidden, [shape[0], shape[1], hidden.shape[2] * hidden.shape[3]])
        return self.norm(self.dense(joined, compute_dtype))


def divide_stride(stride: int, layers: int) -> list[int]:
    """Divides a stride into factors, one for each layer, small ones first: 4, 3 -> [2, 2, 1]."""
    factors = []
    for _ in range(layers - 1):
        smallest = next((each for each in range(2, stride) if stride % each == 0), stride)
        factors.append(smallest)
        stride //= smallest
    return [*factors, stride]


class Block(tf.Module):
    """Half a feed-forward layer, attention, convolution, the other half (section 2.4)."""

    def __init__(self, name: str, units: int, heads: int, context: int, draw: Initializers) -> None:
        super().__init__()
        self.first = FeedForward(f"{name}/feed_forward_0", units, draw)
        self.attention_norm = LayerNorm(f"{name}/attention/norm", units, NORM_EPSILON)
        self.attention = SelfAttention(f"{name}/attention", units, heads, draw)
        self.convolution = Convolution(f"{name}/convolution", units, context, draw)
        self.second = FeedForward(f"{name}/feed_forward_1", units, draw)
        self.norm = LayerNorm(f"{name}/norm", units, NORM_EPSILON)

    def __call__(
        self, values: tf.Tensor, length: tf.Tensor, dropout: Dropout, compute_dtype: tf.DType
    ) -> tf.Tensor:
        """compute_dtype [batch, frames, units] -> the same shape and type."""
        values += 0.5 * self.first(values, dropout, compute_dtype)
        attended = self.attention(self.attention_norm(values), length, compute_dtype)
        values += dropout(attended)
        values += dropout(self.convolution(values, length, compute_dtype))
        values += 0.5 * self.second(values, dropout, compute_dtype)
        return self.norm(values)


class FeedForward(tf.Module):
    """Two dense layers with a swish between them (section 2.3)."""

    def __init__(self, name: str, units: int, draw: Initializers) -> None:
        super().__init__()
        self.norm = LayerNorm(f"{name}/norm", units, NORM_EPSILON)
        self.wide = Dense(f"{name}/wide", units, EXPANSION * units, draw.glorot())
        self.narrow = Dense(f"{name}/narrow", EXPANSION * units, units, draw.glorot())

    def __call__(self, values: tf.Tensor, dropout: Dropout, compute_dtype: tf.DType) -> tf.Tensor:
        """compute_dtype [batch, frames, units] -> the same shape and type."""
        wide = tf.nn.silu(self.wide(self.norm(values), compute_dtype))
        return dropout(self.narrow(dropout(wide), compute_dtype))


class Convolution(tf.Module):
    """A gated convolution of each unit over time (section 2.2)."""

    def __init__(self, name: str, units: int, context: int, draw: Initializers) -> None:
        super().__init__()
        self._context = context
        self.norm = LayerNorm(f"{name}/norm", units, NORM_EPSILON)
        self.gated = Dense(f"{name}/gated", units, 2 * units, draw.glorot())
        self.kernel = variable(f"{name}/kernel", [1, context, units, 1], draw.glorot())
        self.inner_norm = LayerNorm(f"{name}/inner_norm", units, NORM_EPSILON)
        self.outputs = Dense(f"{name}/outputs", units, units, draw.glorot())

    def __call__(self, values: tf.Tensor, length: tf.Tensor, compute_dtype: tf.DType) -> tf.Tensor:
        """compute_dtype [batch, frames, units] -> the same shape and type."""
        linear, gate = tf.split(self.gated(self.norm(values), compute_dtype), 2, axis=2)
        hidden = zero_padding(linear * tf.sigmoid(gate), length)
        hidden = tf.pad(hidden, [[0, 0], centred(self._context), [0, 0]])
        kernel = tf.cast(self.kernel, compute_dtype)
        hidden = tf.nn.depthwise_conv2d(hidden[:, tf.newaxis], kernel, [1, 1, 1, 1], "VALID")[:, 0]
        return self.outputs(tf.nn.silu(self.inner_norm(hidden)), compute_dtype)
