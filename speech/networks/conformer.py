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
from speech.networks.network import Network

EXPANSION = 4  # units of a feed-forward layer, in units of a frame's
NORM_EPSILON = 1e-5
KERNEL = 3  # bins, and frames at least, of a convolution before the blocks


class Conformer(Network):
    """Strided convolutions, Conformer blocks, a linear layer.

    Differences from the source: positions are rotary, and the convolution is followed by layer
    normalisation, so that an utterance's logits are the same in every batch. The logits of the
    middle block are trained too, and the next block sees what they are (arXiv 2102.03216 and
    2104.02724). With a lexicon they are of phones (arXiv 1807.06234). Some of the blocks before
    may see one of two frames; what they compute is repeated for the other (arXiv 2206.00888).
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
        first, last = half_rate(config)
        # Blocks before those with half of the frames, these, and those after the middle output.
        self._parts = self.blocks[:first], self.blocks[first:last], self.blocks[last:]
        if config.half_rate_blocks:
            self.halve = Dense("halve", units, units, draw.glorot(), context=2)
        self.output = Dense("output", units, config.labels, draw.glorot())
        self.middle_output = self.output
        if config.phones:
            self.middle_output = Dense("phones", units, config.middle_classes, draw.glorot())
        self.condition = Dense("condition", config.middle_classes, units, draw.glorot())
        halve, phones = ["halve"] * (first < last), ["phones"] * bool(config.phones)
        blocks = [*names[:first], *halve, *names[first:]]
        self.layers = ["front", *blocks, *phones, "condition", "output"]

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

        before, halved, after = self._parts
        with tf.name_scope("blocks"):
            hidden = compute(before, hidden, output_length)
            if halved:
                half = self._half(hidden, output_length, compute_dtype)
                half = compute(halved, half, (output_length + 1) // 2)
                hidden += doubled(half, tf.shape(hidden)[1])
        with tf.name_scope("output"):
            logits = _logits(self.middle_output, hidden, compute_dtype)
            hidden += self.condition(tf.nn.softmax(logits), compute_dtype)
            self.intermediate_logits = [logits]
        with tf.name_scope("blocks"):
            hidden = compute(after, hidden, output_length)
        with tf.name_scope("output"):
            return _logits(self.output, hidden, compute_dtype), output_length

    def forward_flops(self, outputs: int) -> float:
        if not self.config.half_rate_blocks:
            return super().forward_flops(outputs)
        halved: list[tf.Module] = [self.halve, *self._parts[1]]
        variables = [each for module in halved for each in module.variables]
        kernels = [each for each in variables if "kernel" in each.name]
        saved = sum(each.shape.num_elements() for each in kernels)
        return super().forward_flops(outputs) - 2.0 * (outputs // 2) * saved

    def _half(self, hidden: tf.Tensor, length: tf.Tensor, compute_dtype: tf.DType) -> tf.Tensor:
        """[batch, frames, units] -> [batch, (frames + 1) // 2, units], one for two frames."""
        hidden = tf.pad(zero_padding(hidden, length), [[0, 0], [0, 1], [0, 0]])
        return self.halve(hidden, compute_dtype, stride=2)


def half_rate(config: NetworkConfig) -> tuple[int, int]:
    """Returns the first of the blocks with half of the frames, and the one after the last.

    The middle output follows the latter, or half of the blocks if all have all frames.
    """
    last = (config.blocks + config.half_rate_blocks) // 2
    return last - config.half_rate_blocks, last


def doubled(values: tf.Tensor, frames: tf.Tensor) -> tf.Tensor:
    """[batch, (frames + 1) // 2, units] -> [batch, frames, units], each frame twice."""
    shape = tf.shape(values)
    twice = tf.tile(values[:, :, tf.newaxis], [1, 1, 2, 1])
    return tf.reshape(twice, [shape[0], 2 * shape[1], values.shape[2]])[:, :frames]


def _logits(output: Dense, hidden: tf.Tensor, compute_dtype: tf.DType) -> tf.Tensor:
    """[batch, outputs, units] -> float32 [batch, outputs, classes]."""
    return tf.cast(output(hidden, compute_dtype), tf.float32)


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
