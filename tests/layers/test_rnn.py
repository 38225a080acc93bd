"""Recurrent layers and their gradients against Keras and automatic differentiation."""

import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf

import constants
from speech.layers.rnn import bidirectional_rnn, clipped_relu, gru, lstm

Array = npt.NDArray[np.float32]

BATCH, FRAMES, INPUTS, UNITS = 4, 9, 5, 6
LENGTH = np.array([9, 1, 4, 7], np.int32)  # [batch]


def case(seed: int = 0, scale: float = 1.0) -> list[Array]:
    """Returns inputs [batch, frames, inputs], and kernel, recurrent kernel, bias [2, ...]."""
    rng = np.random.default_rng(seed)
    shapes = [
        [BATCH, FRAMES, INPUTS],
        [2, INPUTS, UNITS],
        [2, UNITS, UNITS],
        [2, UNITS],
    ]
    return [np.asarray(scale * 0.5 * rng.normal(size=shape), np.float32) for shape in shapes]


def by_batch(
    inputs: Any, kernel: Any, recurrent_kernel: Any, bias: Any, compute_dtype: tf.DType
) -> tf.Tensor:
    """[batch, frames, units]"""
    length = tf.constant(LENGTH)
    outputs = bidirectional_rnn(inputs, length, kernel, recurrent_kernel, bias, compute_dtype)
    return tf.transpose(outputs, [1, 0, 2])


def layer(inputs: Any, kernel: Any, recurrent_kernel: Any, bias: Any) -> tf.Tensor:
    return by_batch(inputs, kernel, recurrent_kernel, bias, tf.float32)


def python_loop(inputs: Any, kernel: Any, recurrent_kernel: Any, bias: Any) -> tf.Tensor:
    """Computes the layer by its equations, one utterance and direction at a time."""
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
    """Returns [sum of lengths, units]: the real frames of each utterance."""
    return tf.concat([outputs[row, :length] for row, length in enumerate(LENGTH)], axis=0)


def outputs_and_gradients(
    function: Callable[..., tf.Tensor], arguments: list[tf.Tensor]
) -> tuple[tf.Tensor, list[tf.Tensor]]:
    """Returns a function's outputs, and the gradients of an unevenly weighted sum of them."""
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


def test_shared_kernel_equals_two_equal_kernels() -> None:
    inputs, kernel, recurrent_kernel, bias = case()
    shared = [tf.constant(each) for each in (inputs, kernel[:1], recurrent_kernel, bias[:1])]
    outputs, gradients = outputs_and_gradients(lambda *arguments: real(layer(*arguments)), shared)

    def twice(inputs: Any, kernel: Any, recurrent_kernel: Any, bias: Any) -> tf.Tensor:
        kernel, bias = (tf.concat([each, each], axis=0) for each in (kernel, bias))
        return real(layer(inputs, kernel, recurrent_kernel, bias))

    expected, expected_gradients = outputs_and_gradients(twice, shared)
    np.testing.assert_allclose(outputs, expected, atol=1e-6)
    for one, other in zip(gradients, expected_gradients, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


def test_padding_does_not_change_real_frames() -> None:
    arguments = case(2)
    expected = layer(*arguments).numpy()
    filled = arguments[0].copy()
    filled = np.pad(filled, [[0, 0], [0, 5], [0, 0]])
    for row, length in enumerate(LENGTH):
        filled[row, length:] = 100.0
    outputs = layer(filled, *arguments[1:])
    np.testing.assert_allclose(real(outputs), real(tf.constant(expected)), rtol=1e-6, atol=1e-6)


def test_padding_has_no_gradient() -> None:
    arguments = [tf.constant(each) for each in case(3)]
    _, gradients = outputs_and_gradients(lambda *each: real(layer(*each)), arguments)
    for row, length in enumerate(LENGTH):
        assert not gradients[0].numpy()[row, length:].any()
        assert gradients[0].numpy()[row, :length].any()


def test_clipped_state_has_no_gradient() -> None:
    inputs, kernel, recurrent_kernel, _ = case(4)
    bias = np.full([2, UNITS], 1000.0, np.float32)
    arguments = [tf.constant(each) for each in (inputs, kernel, recurrent_kernel, bias)]
    arguments[2] = tf.abs(arguments[2])
    outputs, gradients = outputs_and_gradients(lambda *each: real(layer(*each)), arguments)
    assert (outputs.numpy() == 2 * constants.RELU_CLIP).all()
    assert not any(gradient.numpy().any() for gradient in gradients)


def test_clipped_relu_keeps_values_between_its_limits() -> None:
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


def test_bfloat16_products_are_close_and_states_stay_float32() -> None:
    inputs, kernel, recurrent_kernel, bias = case(7)
    outputs = by_batch(inputs, kernel, recurrent_kernel, bias, tf.bfloat16)
    assert outputs.dtype == tf.float32
    expected = layer(inputs, kernel, recurrent_kernel, bias)
    np.testing.assert_allclose(real(outputs), real(expected), rtol=0.05, atol=0.1)


def assert_same(one: Any, other: Any) -> None:
    for left, right in zip(tf.nest.flatten(one), tf.nest.flatten(other), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-5, atol=1e-5)


GATED: dict[str, tuple[Any, Any, int]] = {
    "lstm": (lstm, tf.keras.layers.LSTM, 4),
    "gru": (gru, tf.keras.layers.GRU, 3),
}
each_cell = pytest.mark.parametrize("cell", list(GATED))


def gated_case(cell: str, seed: int, directions: int = 2) -> list[tf.Tensor]:
    """Returns inputs [batch, frames, inputs], kernel, recurrent kernel and bias."""
    rng = np.random.default_rng(seed)
    width = GATED[cell][2] * UNITS
    shapes = [
        [BATCH, FRAMES, INPUTS],
        [directions, INPUTS, width],
        [directions, UNITS, width],
        [directions, width] if cell == "lstm" else [directions, 2, width],
    ]
    return [tf.constant(rng.normal(size=shape), tf.float32) for shape in shapes]


def gated(
    cell: str,
    arguments: Any,
    dtype: tf.DType = tf.float32,
    length: Any = LENGTH,
    initial: Any = None,
) -> list[tf.Tensor]:
    """Returns outputs [directions, batch, frames, units] and the final states."""
    inputs, *weights = arguments
    run = GATED[cell][0]
    return tf.nest.flatten(run(inputs, tf.constant(length, tf.int32), *weights, dtype, initial))


def uneven_sum(outputs: list[tf.Tensor]) -> tf.Tensor:
    """Returns a scalar whose gradient differs at every position of `outputs`."""
    weights = (
        tf.reshape(tf.linspace(-1.0, 2.0, tf.size(each)), tf.shape(each)) for each in outputs
    )
    return tf.add_n(
        [tf.reduce_sum(each * weight) for each, weight in zip(outputs, weights, strict=True)]
    )


def with_gradients(
    function: Callable[..., list[tf.Tensor]], arguments: Any
) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
    with tf.GradientTape() as tape:
        tape.watch(arguments)
        outputs = function(arguments)
        total = uneven_sum(outputs)
    return outputs, tape.gradient(total, arguments)


def graph_gradients(
    outputs: list[tf.Tensor], arguments: list[tf.Tensor]
) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
    return outputs, tf.gradients(uneven_sum(outputs), arguments)


def assert_close(one: Any, other: Any) -> None:
    for left, right in zip(tf.nest.flatten(one), tf.nest.flatten(other), strict=True):
        size = float(np.abs(right).max())
        assert size > 0
        np.testing.assert_allclose(left, right, rtol=1e-4, atol=1e-5 * size)


MASK = tf.sequence_mask(LENGTH, FRAMES)


@each_cell
@pytest.mark.parametrize("direction", [0, 1], ids=["forward", "backward"])
def test_direction_of_gated_cell_equals_masked_keras_layer(cell: str, direction: int) -> None:
    """Outputs, final states, and the gradients of all of them."""
    inputs, *weights = gated_case(cell, 8)
    keras = GATED[cell][1](
        UNITS,
        return_sequences=True,
        return_state=True,
        go_backwards=direction == 1,
        zero_output_for_mask=True,
    )
    keras.build(inputs.shape)
    keras.set_weights([weight[direction] for weight in weights])

    with tf.GradientTape() as tape:
        tape.watch(inputs)
        expected, *expected_final = keras(inputs, mask=MASK)
        if direction:  # Keras leaves the frames in the order it has read them
            expected = tf.reverse(expected, [1])
        total = uneven_sum([expected, *expected_final])
    expected_gradients = tape.gradient(total, [inputs, *keras.trainable_weights])

    def run(arguments: list[tf.Tensor]) -> list[tf.Tensor]:
        return [each[direction] for each in gated(cell, arguments)]

    outputs, gradients = with_gradients(run, [inputs, *weights])
    assert_close(outputs, [expected, *expected_final])
    assert_close([gradients[0], *(each[direction] for each in gradients[1:])], expected_gradients)
    assert not any(each[1 - direction].numpy().any() for each in gradients[1:])


@each_cell
@pytest.mark.parametrize("merge", ["sum", "concat"])
def test_both_directions_equal_masked_keras_bidirectional(cell: str, merge: str) -> None:
    inputs, *weights = gated_case(cell, 9)
    keras = tf.keras.layers.Bidirectional(GATED[cell][1](UNITS, return_sequences=True), merge)
    keras.build(inputs.shape)
    keras.set_weights([weight[direction] for direction in (0, 1) for weight in weights])

    with tf.GradientTape() as tape:
        tape.watch(inputs)
        expected = keras(inputs, mask=MASK)
        total = uneven_sum([expected])
    gradient, *by_direction = tape.gradient(total, [inputs, *keras.trainable_weights])
    stacked = [tf.stack(pair) for pair in zip(by_direction[:3], by_direction[3:], strict=True)]

    def run(arguments: list[tf.Tensor]) -> list[tf.Tensor]:
        both = tf.unstack(gated(cell, arguments)[0])
        return [both[0] + both[1] if merge == "sum" else tf.concat(both, axis=-1)]

    assert_close(with_gradients(run, [inputs, *weights]), ([expected], [gradient, *stacked]))


@each_cell
def test_gated_cell_outputs_zeros_for_padding_which_changes_nothing_else(cell: str) -> None:
    inputs, *weights = gated_case(cell, 10)
    padding = ~MASK[:, :, tf.newaxis]
    filled = tf.where(padding, 100.0, inputs)
    filled = tf.pad(filled, [[0, 0], [0, 3], [0, 0]], constant_values=-100.0)
    outputs, gradients = with_gradients(lambda each: gated(cell, each), [filled, *weights])
    for row, length in enumerate(LENGTH):
        assert not outputs[0].numpy()[:, row, length:].any()
        assert not gradients[0].numpy()[row, length:].any()
    expected = gated(cell, [inputs, *weights])
    assert_close([outputs[0][:, :, :FRAMES], *outputs[1:]], expected)


@each_cell
def test_chunks_with_carried_states_equal_the_whole_and_so_do_gradients(cell: str) -> None:
    arguments = gated_case(cell, 11, directions=1)

    def in_chunks(arguments: list[tf.Tensor]) -> list[tf.Tensor]:
        inputs, *weights = arguments
        outputs, initial = [], None
        for start in range(0, FRAMES, 4):  # the last chunk is a single frame
            chunk = inputs[:, start : start + 4]
            length = np.clip(LENGTH - start, 0, chunk.shape[1])
            output, *states = gated(cell, [chunk, *weights], length=length, initial=initial)
            initial = tuple(states) if cell == "lstm" else states[0]
            outputs.append(output)
        return [tf.concat(outputs, axis=2), *states]

    whole = with_gradients(lambda each: gated(cell, each), arguments)
    assert_close(with_gradients(in_chunks, arguments), whole)


@each_cell
def test_initial_states_have_the_same_gradients_in_a_padded_batch_as_alone(cell: str) -> None:
    inputs, *weights = gated_case(cell, 17)
    rng = np.random.default_rng(18)
    states = [
        tf.constant(rng.normal(size=[2, BATCH, UNITS]), tf.float32)
        for _ in range(2 if cell == "lstm" else 1)
    ]
    padded = inputs * tf.cast(MASK, tf.float32)[:, :, tf.newaxis]

    def run(rows: list[list[int]], frames: Callable[[list[int]], int]) -> list[tf.Tensor]:
        """Returns gradients of inputs, weights and states, for rows run together or one by one."""
        with tf.GradientTape() as tape:
            tape.watch([padded, *weights, *states])
            total = tf.constant(0.0)
            for together in rows:
                part = tf.gather(padded, together)[:, : frames(together)]
                initial = tuple(tf.gather(each, together, axis=1) for each in states)
                outputs, *final = gated(
                    cell,
                    [part, *weights],
                    length=LENGTH[together],
                    initial=initial if cell == "lstm" else initial[0],
                )
                for place, row in enumerate(together):
                    alone = outputs[:, place, : LENGTH[row]]
                    total += uneven_sum([alone, *(each[:, place] for each in final)])
        gradients = tape.gradient(total, [padded, *weights, *states])
        return [tf.convert_to_tensor(each) for each in gradients]

    batch = run([list(range(BATCH))], lambda rows: FRAMES)
    alone = run([[row] for row in range(BATCH)], lambda rows: int(LENGTH[rows[0]]))
    assert_close(batch, alone)


@each_cell
@pytest.mark.parametrize("compiled", [False, True], ids=["graph", "xla"])
def test_gated_cell_gives_the_same_numbers_in_a_function(cell: str, compiled: bool) -> None:
    arguments = gated_case(cell, 12)

    @tf.function(jit_compile=compiled)
    def run(arguments: list[tf.Tensor]) -> Any:
        return with_gradients(lambda each: gated(cell, each), arguments)

    assert_close(run(arguments), with_gradients(lambda each: gated(cell, each), arguments))


@each_cell
@pytest.mark.parametrize("static", [False, True], ids=["dynamic", "static"])
def test_gated_cell_gives_the_same_numbers_in_a_v1_graph(cell: str, static: bool) -> None:
    arguments = gated_case(cell, 13)
    eager = with_gradients(lambda each: gated(cell, each), arguments)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        tensors = [tf.constant(each.numpy()) for each in arguments]
        if not static:
            tensors[0] = tf.compat.v1.placeholder_with_default(tensors[0], [None, None, INPUTS])
        assert_close(session.run(graph_gradients(gated(cell, tensors), tensors)), eager)


class Exported(tf.Module):
    """A layer with variables, for any number of utterances and frames."""

    def __init__(self, cell: str, weights: list[tf.Tensor]) -> None:
        super().__init__()
        self.cell = cell
        self.weights = [tf.Variable(each) for each in weights]

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, None, INPUTS], tf.float32),
            tf.TensorSpec([None], tf.int32),
        ]
    )
    def run(self, inputs: tf.Tensor, length: tf.Tensor) -> list[tf.Tensor]:
        return tf.nest.flatten(GATED[self.cell][0](inputs, length, *self.weights, tf.float32))


@each_cell
def test_gated_cell_gives_the_same_numbers_from_a_saved_model(
    cell: str, tmp_path: pathlib.Path
) -> None:
    inputs, *weights = gated_case(cell, 14)
    tf.saved_model.save(Exported(cell, weights), str(tmp_path))
    loaded = tf.saved_model.load(str(tmp_path))
    outputs, gradients = with_gradients(
        lambda each: loaded.run(each[0], tf.constant(LENGTH)), [inputs, *loaded.weights]
    )
    expected = with_gradients(lambda each: gated(cell, each), [inputs, *weights])
    assert_close((outputs, gradients), expected)
    few = loaded.run(inputs[:1, :3], tf.constant([2]))
    assert_close(few, gated(cell, [inputs[:1, :3], *weights], length=np.array([2])))


@each_cell
def test_bfloat16_products_of_gated_cell_are_close_and_states_stay_float32(cell: str) -> None:
    arguments = gated_case(cell, 15)
    rough = with_gradients(lambda each: gated(cell, each, tf.bfloat16), arguments)
    exact = with_gradients(lambda each: gated(cell, each), arguments)
    for left, right in zip(tf.nest.flatten(rough), tf.nest.flatten(exact), strict=True):
        assert left.dtype == tf.float32
        assert not np.array_equal(left, right)
        error = np.linalg.norm(left - right) / np.linalg.norm(right)
        assert error < 0.03


def kept_for_the_gradient(cell: str, frames: int) -> list[list[int] | None]:
    """Returns the shapes of forward tensors that the gradient reads and that grow with `frames`.

    None stands for a list of tensors, which a loop keeps for automatic differentiation.
    """
    _, *weights = (each.numpy() for each in gated_case(cell, 16))
    with tf.Graph().as_default() as graph:
        inputs = tf.compat.v1.placeholder(tf.float32, [BATCH, frames, INPUTS])
        tensors = [inputs, *map(tf.constant, weights)]
        total = uneven_sum(gated(cell, tensors)[:1])
        forward = set(graph.get_operations())
        reached = {each.op for each in tf.gradients(total, tensors)}
    read, waiting = {}, list(reached)
    while waiting:
        for each in waiting.pop().inputs:
            if each.op in forward:
                read[id(each)] = each
            elif each.op not in reached:
                reached.add(each.op)
                waiting.append(each.op)
    return [
        None if each.dtype == tf.variant else each.shape.as_list()
        for each in read.values()
        if each.dtype == tf.variant or each.shape.num_elements() >= frames
    ]


@pytest.mark.parametrize(("cell", "widths"), [("lstm", [1, 1, 4]), ("gru", [1, 4])])
@pytest.mark.parametrize("frames", [1000, 2000])
def test_gradient_of_gated_cell_keeps_only_inputs_states_and_gates(
    cell: str, widths: list[int], frames: int
) -> None:
    """A tensor of all frames for each direction; automatic differentiation keeps lists."""
    kept = kept_for_the_gradient(cell, frames)
    weight_of_the_sum = [2, BATCH, frames, UNITS]
    expected = [
        [frames * BATCH, INPUTS],
        weight_of_the_sum,
        *([frames, BATCH, width * UNITS] for width in widths for direction in range(2)),
    ]
    assert sorted(kept, key=str) == sorted(expected, key=str)
