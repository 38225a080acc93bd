"""Convolutions over time and frequency, in one form for a TPU and one for a CPU.

Both forms compute the same numbers; see docs/tpu.md for what the TPU's one gains.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import tensorflow as tf

import constants
from speech.layers.rnn import clipped_relu
from speech.layers.windows import centred

# A layer's kernel [context, frequencies, channels in, channels out] and bias [channels out].
Weights = tuple[tf.Tensor, tf.Tensor]

# Rows and columns of a TPU's matrix unit, which one pass multiplies (v6e's has 256).
MATRIX_UNIT = 128


def strided(bins: int) -> int:
    """Returns the number of bins that a convolution outputs for `bins`."""
    return -(-bins // constants.FREQUENCY_STRIDE)


def convolutions(
    features: tf.Tensor,
    feature_length: tf.Tensor,
    layers: Sequence[Weights],
    stride: int,
    on_tpu: bool,
) -> tf.Tensor:
    """Applies layers of convolutions, each followed by a clipped ReLU.

    Frequency is padded ("SAME") and strided by 2 in every layer. Output t of the first layer is
    centred on frame t * stride, however far the batch is padded, and output t of the others on
    output t of the layer before. The padding after an utterance's end is zeroed before and after
    every layer.

    Args:
        features: float [batch, frames, bins], in the type to compute in.
        feature_length: int32 [batch], real frames.
        layers: kernel and bias of each layer, float32; see Weights.
        stride: frames between two outputs of the first layer.
        on_tpu: whether to compute folded convolutions, for a TPU, or 2-D ones. The numbers are the
            same.

    Returns:
        [batch, outputs, bins out * channels out] in the type of the features, where outputs is
        ceil(frames / stride).
    """
    features = zero_padding(features, feature_length)
    output_length = (feature_length + stride - 1) // stride  # [batch]
    return (_folded if on_tpu else _two_dimensional)(features, output_length, layers, stride)


def _padding(bins: int, frequencies: int) -> list[int]:
    """Returns the numbers of zeros below and above the bins, as in TensorFlow's "SAME"."""
    reach = (strided(bins) - 1) * constants.FREQUENCY_STRIDE + frequencies
    zeros = max(reach - bins, 0)
    return [zeros // 2, zeros - zeros // 2]


def zero_padding(values: tf.Tensor, length: tf.Tensor) -> tf.Tensor:
    """Zeroes float [batch, frames, ...] after each utterance's length, int32 [batch]."""
    real = tf.sequence_mask(length, tf.shape(values)[1], values.dtype)  # [batch, frames]
    return values * real[(..., *[tf.newaxis] * (len(values.shape) - 2))]


# --- For a CPU ------------------------------------------------------------------------------------


def _two_dimensional(
    hidden: tf.Tensor, output_length: tf.Tensor, layers: Sequence[Weights], stride: int
) -> tf.Tensor:
    """[batch, frames, bins] -> [batch, outputs, bins * channels].

    The bins come before the frames: in the other order a CPU takes five times as long for the
    gradient of a kernel.
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
    # A static batch stays static: TensorFlow Lite requires it of a loop's tables.
    batch = hidden.shape[0] or batch
    return tf.reshape(hidden, [batch, outputs, hidden.shape[2] * hidden.shape[3]])


def convolve(inputs: tf.Tensor, kernel: tf.Tensor, stride: int) -> tf.Tensor:
    """Convolves over frequency and time.

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
        # Padded beforehand: with explicit padding in the convolution a CPU uses a slower kernel.
        padding = "VALID"
        around = [[0, 0], _padding(inputs.shape[1], frequencies), centred(context), [0, 0]]
        inputs = tf.pad(inputs, around)
    kernel = tf.transpose(kernel, [1, 0, 2, 3])
    return tf.nn.conv2d(inputs, kernel, [1, constants.FREQUENCY_STRIDE, stride, 1], padding)


# --- For a TPU ------------------------------------------------------------------------------------


def _folded(
    hidden: tf.Tensor, output_length: tf.Tensor, layers: Sequence[Weights], stride: int
) -> tf.Tensor:
    """[batch, frames, bins] -> [batch, outputs, bins * channels]."""
    bins = hidden.shape[2]
    for kernel, bias in layers:
        hidden = convolve_folded(hidden, kernel, bins, stride)
        bins, stride = strided(bins), 1
        hidden += tf.tile(tf.cast(bias, hidden.dtype), [bins])
        hidden = zero_padding(clipped_relu(hidden), output_length)
    return hidden


def convolve_folded(inputs: tf.Tensor, kernel: tf.Tensor, bins: int, stride: int) -> tf.Tensor:
    """Convolves over time and frequency by dense products, which fill a TPU's matrix unit.

    The frequency axis is only 80, 40 or 20 wide and there are few channels, which would leave the
    matrix unit almost empty. Spread into a matrix over (frequency x channels), the same kernel
    gives the same outputs by convolutions over time alone. Far from its diagonal such a matrix is
    zero, so the output bins are computed in blocks, each from the bins that its kernels reach.

    Args:
        inputs: [batch, frames, bins * channels in].
        kernel: float32 [context, frequencies, channels in, channels out].
        bins: width of the frequency axis.
        stride: frames between two outputs.

    Returns:
        [batch, ceil(frames / stride), ceil(bins / 2) * channels out] in the type of the inputs.
    """
    _, frequencies, channels_in, channels_out = kernel.shape
    outputs = []
    for band in _bands(bins, frequencies, channels_in, channels_out):
        begin = band.first * channels_in
        block = inputs[:, :, begin : begin + band.reached * channels_in]
        folded = tf.cast(_folded_kernel(kernel, band), inputs.dtype)
        outputs.append(_convolve_time(block, folded, stride))
    return tf.concat(outputs, axis=2)


def _folded_kernel(kernel: tf.Tensor, band: "_Band") -> tf.Tensor:
    """Returns the kernel spread over the bins of a band, with zeros where it doesn't reach.

    In float32, so that the gradient is summed over the outputs in float32.

    Args:
        kernel: [context, frequencies, channels in, channels out].

    Returns:
        [context, reached * channels in, outputs * channels out].
    """
    context, frequencies, channels_in, channels_out = kernel.shape
    columns = []
    for lowest in band.lowest:
        below, above = max(-lowest, 0), max(lowest + frequencies - band.reached, 0)
        inside = kernel[:, below : frequencies - above]
        rows = tf.reshape(inside, [context, -1, channels_out])
        before = max(lowest, 0) * channels_in
        after = band.reached * channels_in - before - rows.shape[1]
        columns.append(tf.pad(rows, [[0, 0], [before, after], [0, 0]]))
    return tf.concat(columns, axis=2)


class _Band(NamedTuple):
    """A block of the bins that a convolution outputs, and of the bins that its kernels reach."""

    first: int  # the lowest bin reached
    reached: int  # number of bins reached
    lowest: list[int]  # for each output its lowest tap's bin, counted from `first`


def taps_of(bins: int, frequencies: int) -> npt.NDArray[np.float32]:
    """Returns float32 [bins, bins out, frequencies]: 1 where a tap of an output meets a bin."""
    position = np.arange(bins)[:, np.newaxis] + _padding(bins, frequencies)[0]
    tap = position - constants.FREQUENCY_STRIDE * np.arange(strided(bins))  # [bins, bins out]
    return (tap[:, :, np.newaxis] == np.arange(frequencies)).astype(np.float32)


def _bands(bins: int, frequencies: int, channels_in: int, channels_out: int) -> list[_Band]:
    """Returns blocks of outputs that fill the matrix unit's columns, and of inputs its rows."""
    # The fewest bins whose channels fill whole columns; rows likewise.
    columns = MATRIX_UNIT // math.gcd(MATRIX_UNIT, channels_out)  # bins
    rows = MATRIX_UNIT // math.gcd(MATRIX_UNIT, channels_in)  # bins
    if bins <= rows:
        rows, columns = bins, strided(bins)  # the unit has room for all of them at once
    bands = []
    lowest = [
        output * constants.FREQUENCY_STRIDE - _padding(bins, frequencies)[0]
        for output in range(strided(bins))
    ]
    for begin in range(0, len(lowest), columns):
        block = lowest[begin : begin + columns]
        first = max(block[0], 0) // rows * rows
        end = min(block[-1] + frequencies, bins)
        bands.append(_Band(first, end - first, [each - first for each in block]))
    return bands


def _convolve_time(inputs: tf.Tensor, kernel: tf.Tensor, stride: int) -> tf.Tensor:
    """Convolves [batch, frames, channels] with [context, channels, channels out] over time."""
    return tf.squeeze(
        tf.nn.conv2d(
            inputs[:, tf.newaxis],
            kernel[tf.newaxis],
            [1, 1, stride, 1],
            padding=[[0, 0], [0, 0], centred(kernel.shape[0]), [0, 0]],
        ),
        axis=1,
    )
