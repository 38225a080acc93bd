"""The CPU's and the TPU's form of convolutions against TensorFlow's own."""

from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf

from speech.layers.convolutions import convolutions, convolve, convolve_folded, taps_of


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize(
    ("bins", "context", "frequencies", "channels"),
    [
        (80, 11, 41, (1, 4)),
        (40, 11, 21, (4, 3)),
        (21, 4, 21, (2, 2)),
        (7, 1, 3, (1, 2)),
        (8, 2, 2, (3, 1)),
        (5, 3, 41, (2, 3)),
        (1, 3, 1, (1, 1)),
        # Computed in blocks of 4, 2 and 1 output bins, each from a part of the input bins.
        (40, 2, 21, (32, 32)),
        (40, 2, 5, (8, 64)),
        (7, 2, 3, (32, 200)),
    ],
)
def test_both_forms_equal_tensorflows_convolution(
    bins: int, context: int, frequencies: int, channels: tuple[int, int], stride: int
) -> None:
    rng = np.random.default_rng(2)
    inputs = tf.constant(rng.normal(size=[2, 17, bins, channels[0]]), tf.float32)
    kernel = tf.constant(rng.normal(size=[context, frequencies, *channels]), tf.float32)
    bins_out = -(-bins // 2)
    padding = max((bins_out - 1) * 2 + frequencies - bins, 0)
    around = [[(context - 1) // 2, context // 2], [padding // 2, padding - padding // 2]]

    def plain(inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        explicit = [[0, 0], *around, [0, 0]]
        return tf.nn.conv2d(inputs, kernel, [1, stride, 2, 1], padding=explicit)

    def two_dimensional(inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        outputs = convolve(tf.transpose(inputs, [0, 2, 1, 3]), kernel, stride)
        return tf.transpose(outputs, [0, 2, 1, 3])

    def folded(inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        flat = tf.reshape(inputs, [2, 17, bins * channels[0]])
        outputs = convolve_folded(flat, kernel, bins, stride)
        return tf.reshape(outputs, [2, outputs.shape[1], bins_out, channels[1]])

    expected = outputs_and_gradients(plain, inputs, kernel)
    for way in (two_dimensional, folded):
        for one, other in zip(outputs_and_gradients(way, inputs, kernel), expected, strict=True):
            size = float(tf.reduce_max(tf.abs(other)))
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5 * size)


def outputs_and_gradients(
    function: Callable[..., tf.Tensor], *arguments: tf.Tensor
) -> list[tf.Tensor]:
    with tf.GradientTape() as tape:
        tape.watch(arguments)
        outputs = function(*arguments)
        total = tf.reduce_sum(outputs**2)
    return [outputs, *tape.gradient(total, arguments)]


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("frames", [1, 16, 17])
def test_layers_are_the_same_in_both_forms(frames: int, stride: int) -> None:
    rng = np.random.default_rng(3)

    def normal(*shape: int) -> tf.Tensor:
        return tf.constant(rng.normal(size=shape), tf.float32)

    layers = [(normal(4, 7, 1, 5), normal(5)), (normal(5, 5, 5, 3), normal(3))]
    features, length = normal(3, frames, 9), tf.constant([frames, frames // 2, 0])

    def run(on_tpu: bool) -> list[tf.Tensor]:
        def outputs(features: tf.Tensor, *weights: tf.Tensor) -> tf.Tensor:
            pairs = list(zip(weights[::2], weights[1::2], strict=True))
            return convolutions(features, length, pairs, stride, on_tpu)

        return outputs_and_gradients(
            outputs, features, *(each for layer in layers for each in layer)
        )

    assert run(True)[0].shape == (3, -(-frames // stride), 9)
    for one, other in zip(run(True), run(False), strict=True):
        size = float(tf.reduce_max(tf.abs(other)))
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5 * size + 1e-30)


def test_taps_are_where_the_kernel_meets_a_bin() -> None:
    """Of 5 bins, padded by 1 below and above, and kernels of 3 at every second bin."""
    taps = taps_of(5, 3)
    assert taps.shape == (5, 3, 3) and taps.dtype == np.float32
    places = [(bin_in, bin_out, tap) for bin_in, bin_out, tap in np.argwhere(taps).tolist()]
    assert places == [
        *((0, 0, 1), (1, 0, 2), (1, 1, 0), (2, 1, 1)),
        *((3, 1, 2), (3, 2, 0), (4, 2, 1)),
    ]
    assert set(np.unique(taps)) == {0, 1}


@pytest.mark.parametrize(("bins", "frequencies"), [(80, 41), (40, 21), (7, 3), (4, 41), (1, 1)])
def test_taps_select_what_a_convolution_sums(bins: int, frequencies: int) -> None:
    rng = np.random.default_rng(5)
    inputs, kernel = rng.normal(size=bins), rng.normal(size=frequencies)
    expected = tf.nn.conv2d(
        inputs[np.newaxis, np.newaxis, :, np.newaxis],
        kernel[np.newaxis, :, np.newaxis, np.newaxis],
        strides=[1, 1, 2, 1],
        padding="SAME",
    )
    summed = np.einsum("i,iof,f->o", inputs, taps_of(bins, frequencies), kernel)
    np.testing.assert_allclose(summed, np.ravel(expected), rtol=1e-10, atol=1e-10)
