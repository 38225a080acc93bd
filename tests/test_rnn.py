"""The recurrent layer against Keras' on each utterance alone, and its gradient against autodiff."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf

import constants
from speech.rnn import bidirectional_rnn, clipped_relu

Array = npt.NDArray[np.float32]

BATCH, FRAMES, INPUTS, UNITS = 4, 9, 5, 6
LENGTH = np.array([9, 1, 4, 7], np.int32)  # [batch]


def case(seed: int = 0, scale: float = 1.0) -> list[Array]:
    """Inputs [batch, frames, inputs], kernel, recurrent kernel and bias of both directions."""
    rng = np.random.default_rng(seed)
    shapes = [
        [BATCH, FRAMES, INPUTS],
        [2, INPUTS, UNITS],
        [2, UNITS, UNITS],
        [2, UNITS],
    ]
    return [np.asarray(scale * 0.5 * rng.normal(size=shape), np.float32) for shape in shapes]


def layer(inputs: Any, kernel: Any, recurrent_kernel: Any, bias: Any) -> tf.Tensor:
    length = tf.constant(LENGTH)
    return bidirectional_rnn(inputs, length, kernel, recurrent_kernel, bias, tf.float32)


def python_loop(inputs: Any, kernel: Any, recurrent_kernel: Any, bias: Any) -> tf.Tensor:
    """The same by the equations: every utterance and direction by itself, differentiable."""
    outputs = []
    for row, length in enumerate(LENGTH):
        states: list[dict[int, tf.Tensor]] = [{}, {}]
        for direction, order in enumerate((range(length), reversed(range(length)))):
            state = tf.zeros([1, UNITS])
            for frame in order:
                state = clipped_relu(
                    inputs[row : row + 1, frame] @ kernel[direction]
                    + state @ recurrent_kernel[direction]
                    + bias[direction]
                )
                states[direction][frame] = state[0]
        outputs.append(tf.stack([states[0][frame] + states[1][frame] for frame in range(length)]))
    return tf.concat(outputs, axis=0)  # [sum of lengths, units]


def real(outputs: tf.Tensor) -> tf.Tensor:
    """[sum of lengths, units]: what lies in front of each utterance's padding."""
    return tf.concat([outputs[row, :length] for row, length in enumerate(LENGTH)], axis=0)


def outputs_and_gradients(
    function: Callable[..., tf.Tensor], arguments: list[tf.Tensor]
) -> tuple[tf.Tensor, list[tf.Tensor]]:
    """The outputs in front of the padding, and the gradients of an uneven sum of them."""
    with tf.GradientTape() as tape:
        tape.watch(arguments)
        outputs = function(*arguments)
        weight = tf.reshape(tf.linspace(-1.0, 2.0, outputs.shape[0] * UNITS), outputs.shape)
        total = tf.reduce_sum(outputs * weight)
    return outputs, tape.gradient(total, arguments)


@pytest.mark.parametrize("scale", [0.5, 1.0, 4.0])
def test_layer_equals_keras_on_each_utterance_alone(scale: float) -> None:
    """At the largest scale many states are clipped."""
    inputs, kernel, recurrent_kernel, bias = case(scale=scale)
    outputs = layer(inputs, kernel, recurrent_kernel, bias).numpy()
    for row, length in enumerate(LENGTH):
        expected = np.zeros([length, UNITS], np.float32)
        for direction in (0, 1):
            keras = tf.keras.layers.SimpleRNN(
                UNITS,
                activation=tf.keras.layers.ReLU(max_value=constants.RELU_CLIP),
                return_sequences=True,
                go_backwards=direction == 1,
            )
            keras.build((1, length, INPUTS))
            keras.set_weights([kernel[direction], recurrent_kernel[direction], bias[direction]])
            states = keras(inputs[row : row + 1, :length]).numpy()[0]
            expected += states[::-1] if direction else states
        np.testing.assert_allclose(outputs[row, :length], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("scale", [1.0, 4.0])
def test_gradients_equal_automatic_differentiation_of_a_loop(scale: float) -> None:
    arguments = [tf.constant(each) for each in case(1, scale)]
    outputs, gradients = outputs_and_gradients(lambda *each: real(layer(*each)), arguments)
    expected_outputs, expected_gradients = outputs_and_gradients(python_loop, arguments)
    np.testing.assert_allclose(outputs, expected_outputs, rtol=1e-5, atol=1e-5)
    for gradient, expected in zip(gradients, expected_gradients, strict=True):
        assert np.abs(expected).max() > 0
        size = float(np.abs(expected).max())
        np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-5 * size)


def test_padding_has_no_influence() -> None:
    arguments = case(2)
    expected = layer(*arguments).numpy()
    filled = arguments[0].copy()
    filled = np.pad(filled, [[0, 0], [0, 5], [0, 0]])
    for row, length in enumerate(LENGTH):
        filled[row, length:] = 100.0
    outputs = layer(filled, *arguments[1:])
    np.testing.assert_allclose(real(outputs), real(tf.constant(expected)), rtol=1e-6, atol=1e-6)


def test_padding_takes_no_gradient_from_real_frames() -> None:
    arguments = [tf.constant(each) for each in case(3)]
    _, gradients = outputs_and_gradients(lambda *each: real(layer(*each)), arguments)
    for row, length in enumerate(LENGTH):
        assert not gradients[0].numpy()[row, length:].any()
        assert gradients[0].numpy()[row, :length].any()


def test_clipped_state_has_no_slope() -> None:
    inputs, kernel, recurrent_kernel, _ = case(4)
    bias = np.full([2, UNITS], 1000.0, np.float32)
    arguments = [tf.constant(each) for each in (inputs, kernel, recurrent_kernel, bias)]
    arguments[2] = tf.abs(arguments[2])
    outputs, gradients = outputs_and_gradients(lambda *each: real(layer(*each)), arguments)
    assert (outputs.numpy() == 2 * constants.RELU_CLIP).all()
    assert not any(gradient.numpy().any() for gradient in gradients)


def test_clipped_relu_keeps_what_lies_between_its_limits() -> None:
    for dtype in (tf.float32, tf.bfloat16):
        outputs = clipped_relu(tf.constant([-3.0, 0.0, 7.5, 20.0, 21.0], dtype))
        assert outputs.dtype == dtype
        assert tf.cast(outputs, tf.float32).numpy().tolist() == [0.0, 0.0, 7.5, 20.0, 20.0]


@pytest.mark.parametrize("compiled", [False, True], ids=["graph", "xla"])
def test_function_gives_the_same_numbers_as_eager(compiled: bool) -> None:
    arguments = [tf.constant(each) for each in case(5)]

    @tf.function(jit_compile=compiled)
    def run(*arguments: tf.Tensor) -> Any:
        return outputs_and_gradients(lambda *each: real(layer(*each)), list(arguments))

    assert_same(run(*arguments), outputs_and_gradients(lambda *e: real(layer(*e)), arguments))


@pytest.mark.parametrize("static", [False, True])
def test_v1_graph_gives_the_same_numbers_as_eager(static: bool) -> None:
    arguments = case(6)
    eager = outputs_and_gradients(lambda *e: real(layer(*e)), list(map(tf.constant, arguments)))
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        weights: list[tf.Tensor] = [tf.constant(each) for each in arguments]
        if not static:  # as on a CPU, where every batch has its own number of frames
            weights[0] = tf.compat.v1.placeholder_with_default(weights[0], [None, None, INPUTS])
        outputs = real(layer(*weights))
        count = int(LENGTH.sum())
        weight = tf.reshape(tf.linspace(-1.0, 2.0, count * UNITS), [count, UNITS])
        gradients = tf.gradients(tf.reduce_sum(outputs * weight), weights)
        assert_same(session.run((outputs, gradients)), eager)


def test_bfloat16_products_come_near_and_states_stay_float32() -> None:
    inputs, kernel, recurrent_kernel, bias = case(7)
    length = tf.constant(LENGTH)
    outputs = bidirectional_rnn(inputs, length, kernel, recurrent_kernel, bias, tf.bfloat16)
    assert outputs.dtype == tf.float32
    expected = layer(inputs, kernel, recurrent_kernel, bias)
    np.testing.assert_allclose(real(outputs), real(expected), rtol=0.05, atol=0.1)


def assert_same(one: Any, other: Any) -> None:
    for left, right in zip(tf.nest.flatten(one), tf.nest.flatten(other), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-5, atol=1e-5)
