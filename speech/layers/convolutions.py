"""Convolutions over time and frequency, for a TPU's matrix unit and for a CPU."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import tensorflow as tf

import constants
from speech.layers.rnn import clipped_relu

# A layer's kernel [context, frequencies, channels in, channels out] and bias [channels out].
Weights = tuple[tf.Tensor, tf.Tensor]

# Rows and columns of a TPU's matrix unit: what one pass multiplies (v6e's has 256).
MATRIX_UNIT = 128


def strided(bins: int) -> int:
    """Bins that a convolution puts out for `bins`."""
    return -(-bins // constants.FREQUENCY_STRIDE)


def convolutions(
    features: tf.Tensor,
    feature_length: tf.Tensor,
    layers: Sequence[Weights],
    stride: int,
    on_tpu: bool,
) -> tf.Tensor:
    """Layers of convolutions, each followed by a clipped ReLU.

    Frequency is padded ("SAME") and strided by 2 in every layer. Output t of the first layer is
    centred on frame t * stride, however far the batch is padded; of the others on t. What lies
    behind an utterance's end is zeroed in front of and behind every layer.

    Args:
        features: [batch, frames, bins], in the type to compute in.
        feature_length: int32 [batch].
        layers: kernel and bias of each layer, float32.
        stride: frames between two outputs of the first layer.
        on_tpu: takes folded convolutions, else 2-D ones. The numbers are the same.

    Returns:
        [batch, ceil(frames / stride), bins out * channels out].
    """
    features = zero_padding(features, feature_length)
    output_length = (feature_length + stride - 1) // stride  # [batch]
    return (_folded if on_tpu else _two_dimensional)(features, output_length, layers, stride)


def _padding(bins: int, frequencies: int) -> list[int]:
    """Zeros below and above the bins, as TensorFlow's "SAME" puts them."""
    reach = (strided(bins) - 1) * constants.FREQUENCY_STRIDE + frequencies
    zeros = max(reach - bins, 0)
    return [zeros // 2, zeros - zeros // 2]


def centred(context: int) -> list[int]:
    """Zeros in front of and behind the frames, so that an output is centred on its frame.

    "SAME" would put one more or less in front according to the parity of the frames.
    """
    return [(context - 1) // 2, context // 2]


def zero_padding(values: tf.Tensor, length: tf.Tensor) -> tf.Tensor:
    """Zeroes [batch, frames, channels] behind each utterance's length."""
    real = tf.sequence_mask(length, tf.shape(values)[1], values.dtype)  # [batch, frames]
    return values * real[:, :, tf.newaxis]


# --- On a CPU -------------------------------------------------------------------------------------


def _two_dimensional(
    hidden: tf.Tensor, output_length: tf.Tensor, layers: Sequence[Weights], stride: int
) -> tf.Tensor:
    """[batch, frames, bins] -> [batch, outputs, bins * channels].

    Bins lie in front of frames: the other way round a CPU takes five times as long for the gradient
    of a kernel.
    """
    hidden = tf.transpose(hidden, [0, 2, 1])[..., tf.newaxis]  # [batch, bins, frames, 1]
    for kernel, bias in layers:
        hidden = convolve(hidden, tf.cast(kernel, hidden.dtype), stride)
        hidden = clipped_relu(tf.nn.bias_add(hidden, tf.cast(bias, hidden.dtype)))
        real = tf.sequence_mask(output_length, tf.shape(hidden)[2], hidden.dtype)
        hidden *= real[:, tf.newaxis, :, tf.newaxis]  # [batch, bins, outputs, channels]
        stride = 1
    hidden = tf.transpose(hidden, [0, 2, 1, 3])  # [batch, outputs, bins, channels]
    batch, outputs = tf.unstack(tf.shape(hidden)[:2])
    # A batch that is known stays so: TensorFlow Lite wants it of a loop's tables.
    batch = hidden.shape[0] or batch
    return tf.reshape(hidden, [batch, outputs, hidden.shape[2] * hidden.shape[3]])


def convolve(inputs: tf.Tensor, kernel: tf.Tensor, stride: int) -> tf.Tensor:
    """Convolution over frequency and time.

    Args:
        inputs: [batch, bins, frames, channels].
        kernel: [context, frequencies, channels in, channels out].
        stride: frames between two outputs.

    Returns:
        [batch, ceil(bins / 2), ceil(frames / stride), channels out].
    """
    context, frequencies, *_ = kernel.shape
    padding = "SAME"
    if stride > 1:
        # Not by explicit padding of the convolution: a CPU takes a slower kernel then.
        padding = "VALID"
        around = [[0, 0], _padding(inputs.shape[1], frequencies), centred(context), [0, 0]]
        inputs = tf.pad(inputs, around)
    kernel = tf.transpose(kernel, [1, 0, 2, 3])
    return tf.nn.conv2d(inputs, kernel, [1, constants.FREQUENCY_STRIDE, stride, 1], padding)


# --- On a TPU -------------------------------------------------------------------------------------


def _folded(
    hidden: tf.Tensor, output_length: tf.Tensor, layers: Sequence[Weights], stride: int
) -> tf.Tensor:
    """[batch, frames, bins] -> [batch, outputs, bins * channels]."""
    bins = hidden.shape[2]
    for kernel, bias in layers:
        hidden = convolve_folded(hidden, tf.cast(kernel, hidden.dtype), bins, stride)
        bins, stride = strided(bins), 1
        hidden += tf.tile(tf.cast(bias, hidden.dtype), [bins])
        hidden = zero_padding(clipped_relu(hidden), output_length)
    return hidden


def convolve_folded(inputs: tf.Tensor, kernel: tf.Tensor, bins: int, stride: int) -> tf.Tensor:
    """A convolution over time and frequency as ones over time alone, for the matrix unit's sake.

    The frequency axis is only 80, 40 or 20 wide and the channels are few, which leaves a TPU's
    matrix unit almost empty. Spread into a matrix over (frequency x channels) the same kernel
    gives the same outputs from dense products. Far from its diagonal such a matrix is zero, so the
    bins that come out are computed in blocks, each from the bins that its kernels reach.

    Args:
        inputs: [batch, frames, bins * channels in].
        kernel: [context, frequencies, channels in, channels out].
        bins: width of the frequency axis.
        stride: frames between two outputs.

    Returns:
        [batch, ceil(frames / stride), ceil(bins / 2) * channels out].
    """
    context, frequencies, channels_in, channels_out = kernel.shape
    outputs = []
    for band in _bands(bins, frequencies, channels_in, channels_out):
        reached, made, _ = band.taps.shape
        folded = tf.einsum("iof,tfcd->ticod", tf.constant(band.taps, kernel.dtype), kernel)
        folded = tf.reshape(folded, [context, reached * channels_in, made * channels_out])
        begin = band.first * channels_in
        block = inputs[:, :, begin : begin + reached * channels_in]
        outputs.append(_convolve_time(block, folded, stride))
    return tf.concat(outputs, axis=2)


class _Band(NamedTuple):
    """A block of the bins that a convolution puts out, and the bins that their kernels reach."""

    first: int  # of the bins reached
    taps: npt.NDArray[np.float32]  # [reached, made, frequencies], 1 where a kernel's tap lies


def taps_of(bins: int, frequencies: int) -> npt.NDArray[np.float32]:
    """[bins, bins out, frequencies]: 1 where a tap of an output's kernel lies on a bin."""
    position = np.arange(bins)[:, np.newaxis] + _padding(bins, frequencies)[0]
    tap = position - constants.FREQUENCY_STRIDE * np.arange(strided(bins))  # [bins, bins out]
    return (tap[:, :, np.newaxis] == np.arange(frequencies)).astype(np.float32)


def _bands(bins: int, frequencies: int, channels_in: int, channels_out: int) -> list[_Band]:
    """Blocks that fill the matrix unit's columns, reaching for bins that fill its rows."""
    taps = taps_of(bins, frequencies)
    # As few bins as have all their channels in columns that are full, rows likewise.
    columns = MATRIX_UNIT // math.gcd(MATRIX_UNIT, channels_out)  # bins
    rows = MATRIX_UNIT // math.gcd(MATRIX_UNIT, channels_in)  # bins
    if bins <= rows:
        return [_Band(0, taps)]  # the unit has room for all of them at once
    bands = []
    for begin in range(0, strided(bins), columns):
        block = taps[:, begin : begin + columns]
        reached = np.flatnonzero(block.any(axis=(1, 2)))
        first = int(reached[0]) // rows * rows
        bands.append(_Band(first, block[first : reached[-1] + 1]))
    return bands


def _convolve_time(inputs: tf.Tensor, kernel: tf.Tensor, stride: int) -> tf.Tensor:
    """[batch, frames, channels] and [context, channels, channels out] -> [batch, outputs, ...]."""
    return tf.squeeze(
        tf.nn.conv2d(
            inputs[:, tf.newaxis],
            kernel[tf.newaxis],
            [1, 1, stride, 1],
            padding=[[0, 0], [0, 0], centred(kernel.shape[0]), [0, 0]],
        ),
        axis=1,
    )
