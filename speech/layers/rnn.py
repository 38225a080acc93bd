"""Recurrent layers: a clipped-ReLU simple RNN, LSTM and GRU, both directions in one loop.

The products with the inputs are one matrix product in front of the loop. The gradients are written
by hand: automatic differentiation through the loop stacks a dense gradient of the whole input at
every step, and here the gradient of the recurrent kernel is one product over all frames. Kept for
it are the states and what a cell asks for, nothing that grows faster than the number of frames.
"""

import contextlib
import contextvars
import dataclasses
from collections.abc import Callable, Iterator, Sequence

import tensorflow as tf

import constants

Tensors = tuple[tf.Tensor, ...]

# More than a unit's inputs ever sum to.
BEYOND_ANY_SUM = 1e30

# Frames of a block; see forward_only.
BLOCK_FRAMES = 16

# What `forward_only` was told; None outside of it.
_in_blocks: contextvars.ContextVar[bool | None] = contextvars.ContextVar("in_blocks", default=None)


@contextlib.contextmanager
def forward_only(in_blocks: bool = True) -> Iterator[None]:
    """Layers that are built herein have no gradient, and keep nothing for one.

    Args:
        in_blocks: their outputs are collected block by block: TensorFlow Lite copies a loop's table
            at every step, and one of all frames would cost the square of their number. A block is
            always computed to its end, which a stream's pieces of a few frames should not wait for.
    """
    token = _in_blocks.set(in_blocks)
    try:
        yield
    finally:
        _in_blocks.reset(token)


def clipped_relu(values: tf.Tensor) -> tf.Tensor:
    """min(max(x, 0), 20), Deep Speech (arXiv 1412.5567, section 2), any shape."""
    return tf.nn.relu(tf.minimum(values, tf.cast(constants.RELU_CLIP, values.dtype)))


def bidirectional_rnn(
    inputs: tf.Tensor,
    length: tf.Tensor,
    kernel: tf.Tensor,
    recurrent_kernel: tf.Tensor,
    bias: tf.Tensor,
    compute_dtype: tf.DType,
) -> tf.Tensor:
    """h[t] = clipped_relu(W x[t] + U h[t -+ 1] + b), the two directions summed.

    Deep Speech (arXiv 1412.5567, equations 3 and 4, and the sum of section 2). The backward
    direction starts at an utterance's last real frame, so padding reaches no real frame.

    Args:
        inputs: float [batch, frames, inputs].
        length: int32 [batch], real frames of each utterance.
        kernel: float32 [2, inputs, units], forward and backward; [1, inputs, units] if it is one
            that both share, as in the paper.
        recurrent_kernel: float32 [2, units, units].
        bias: float32 [2, units], or [1, units].
        compute_dtype: of the matrix products; states are float32.

    Returns:
        float32 [frames, batch, units], the order in which the loop writes it and reads its
        gradient: asked for by batch, a TPU's compiler would lay both out for whoever asks.
    """
    projected = _project(inputs, kernel, bias, compute_dtype, directions=2)
    frames = tf.range(tf.shape(projected)[0])[:, tf.newaxis, tf.newaxis]
    # What the activation cuts to zero whatever it is added to: the loop then needs no mask.
    padding = tf.where(_is_real(frames, length, projected), 0.0, -BEYOND_ANY_SUM)
    projected += padding[..., tf.newaxis]
    initial = _zero_states(_CLIPPED_RELU, projected)
    states, _ = _recurrence(
        _CLIPPED_RELU, projected, None, recurrent_kernel, None, initial, compute_dtype
    )
    forward, backward = _by_time(states)
    return forward + backward


def lstm(
    inputs: tf.Tensor,
    length: tf.Tensor,
    kernel: tf.Tensor,
    recurrent_kernel: tf.Tensor,
    bias: tf.Tensor,
    compute_dtype: tf.DType,
    initial: tuple[tf.Tensor, tf.Tensor] | None = None,
) -> tuple[tf.Tensor, tuple[tf.Tensor, tf.Tensor]]:
    """Long short-term memory with forget gates, the numbers of tf.keras.layers.LSTM.

        i, f, o = sigmoid(W x[t] + U h[t - 1] + b)      g = tanh(W x[t] + U h[t - 1] + b)
        c[t] = f * c[t - 1] + i * g                     h[t] = o * tanh(c[t])

    Hochreiter and Schmidhuber (Neural Computation 9(8), 1997), forget gates by Gers, Schmidhuber
    and Cummins (Neural Computation 12(10), 2000). Gates lie in Keras' order i, f, g, o. The
    backward direction starts at an utterance's last real frame. Frames of padding leave the state
    as it is and put out zeros, as in tf.keras.layers.Bidirectional.

    Args:
        inputs: float [batch, frames, inputs].
        length: int32 [batch], real frames of each utterance.
        kernel: float32 [directions, inputs, 4 * units]; directions is 1 (forward) or 2 (forward
            and backward).
        recurrent_kernel: float32 [directions, units, 4 * units].
        bias: float32 [directions, 4 * units].
        compute_dtype: of the matrix products; states are float32.
        initial: h and c before the first frame, float32 [directions, batch, units] each; zeros if
            not given.

    Returns:
        h of all frames, float32 [directions, batch, frames, units], and h and c after each
        utterance's last real frame (for the backward direction its first), as `initial`.
    """
    projected = _project(inputs, kernel, bias, compute_dtype, kernel.shape[0])
    initial = initial or _zero_states(_LSTM, projected)
    outputs, (hidden, memory) = _recurrence(
        _LSTM, projected, length, recurrent_kernel, None, initial, compute_dtype
    )
    return _batch_major(_by_time(outputs)), (hidden, memory)


def gru(
    inputs: tf.Tensor,
    length: tf.Tensor,
    kernel: tf.Tensor,
    recurrent_kernel: tf.Tensor,
    bias: tf.Tensor,
    compute_dtype: tf.DType,
    initial: tf.Tensor | None = None,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Gated recurrent units, the numbers of tf.keras.layers.GRU(reset_after=True) and of cuDNN.

        z, r = sigmoid(W x[t] + b + U h[t - 1] + d)
        g = tanh(W x[t] + b + r * (U h[t - 1] + d))     h[t] = z * h[t - 1] + (1 - z) * g

    Cho et al. (arXiv 1406.1078, version 1, has the reset gate behind the product as here). Gates
    lie in Keras' order z, r, g. Directions and padding as in `lstm`.

    Args:
        inputs: float [batch, frames, inputs].
        length: int32 [batch], real frames of each utterance.
        kernel: float32 [directions, inputs, 3 * units]; directions is 1 (forward) or 2 (forward
            and backward).
        recurrent_kernel: float32 [directions, units, 3 * units].
        bias: float32 [directions, 2, 3 * units]: b, of the inputs' product, and d, of the states'.
        compute_dtype: of the matrix products; states are float32.
        initial: h before the first frame, float32 [directions, batch, units]; zeros if not given.

    Returns:
        h of all frames, float32 [directions, batch, frames, units], and h after each utterance's
        last real frame (for the backward direction its first), as `initial`.
    """
    projected = _project(inputs, kernel, bias[:, 0], compute_dtype, kernel.shape[0])
    states = _zero_states(_GRU, projected) if initial is None else (initial,)
    outputs, (hidden,) = _recurrence(
        _GRU, projected, length, recurrent_kernel, bias[:, 1], states, compute_dtype
    )
    return _batch_major(_by_time(outputs)), hidden


@dataclasses.dataclass(frozen=True)
class _Cell:
    """What happens at one frame; tensors are [directions, batch, a multiple of units].

    Attributes:
        gates: width of the projected inputs and of the states' product, in units.
        states: how many tensors go from frame to frame. The first is the output.
        kept: width of what `forward` keeps for `backward`, in units.
        forward: (projected, product, states before) -> states after, kept. `product` is the first
            state times the recurrent kernel, plus bias.
        backward: (kept, states before, states after, gradients of the states after) -> gradient
            of the projected inputs; gradients of the states before, but for what flows through
            the product.
        through: (gradient of the projected inputs, kept) -> gradient of the product. Also taken
            of all frames at once.
    """

    gates: int
    states: int
    kept: int
    forward: Callable[[tf.Tensor, tf.Tensor, Tensors], tuple[Tensors, Tensors]]
    backward: Callable[[Tensors, Tensors, Tensors, Tensors], tuple[tf.Tensor, Tensors]]
    through: Callable[[tf.Tensor, Tensors], tf.Tensor]


def _rnn_forward(projected: tf.Tensor, product: tf.Tensor, _: Tensors) -> tuple[Tensors, Tensors]:
    return (clipped_relu(projected + product),), ()


def _rnn_backward(
    kept: Tensors, before: Tensors, after: Tensors, upstream: Tensors
) -> tuple[tf.Tensor, Tensors]:
    linear = tf.logical_and(after[0] > 0.0, after[0] < constants.RELU_CLIP)
    return upstream[0] * tf.cast(linear, tf.float32), (tf.zeros_like(upstream[0]),)


def _lstm_forward(
    projected: tf.Tensor, product: tf.Tensor, states: Tensors
) -> tuple[Tensors, Tensors]:
    inner = tf.split(projected + product, 4, axis=-1)
    i, f, o = (tf.sigmoid(inner[gate]) for gate in (0, 1, 3))
    g = tf.tanh(inner[2])
    memory = f * states[1] + i * g
    return (o * tf.tanh(memory), memory), (tf.concat([i, f, g, o], axis=-1),)


def _lstm_backward(
    kept: Tensors, before: Tensors, after: Tensors, upstream: Tensors
) -> tuple[tf.Tensor, Tensors]:
    i, f, g, o = tf.split(kept[0], 4, axis=-1)
    squashed = tf.tanh(after[1])
    memory = upstream[1] + upstream[0] * o * (1.0 - squashed**2)
    inner = [
        memory * g * i * (1.0 - i),
        memory * before[1] * f * (1.0 - f),
        memory * i * (1.0 - g**2),
        upstream[0] * squashed * o * (1.0 - o),
    ]
    return tf.concat(inner, axis=-1), (tf.zeros_like(upstream[0]), memory * f)


def _gru_forward(
    projected: tf.Tensor, product: tf.Tensor, states: Tensors
) -> tuple[Tensors, Tensors]:
    from_input = tf.split(projected, 3, axis=-1)
    from_state = tf.split(product, 3, axis=-1)
    z, r = (tf.sigmoid(from_input[gate] + from_state[gate]) for gate in (0, 1))
    g = tf.tanh(from_input[2] + r * from_state[2])
    hidden = z * states[0] + (1.0 - z) * g
    return (hidden,), (tf.concat([z, r, g, from_state[2]], axis=-1),)


def _gru_backward(
    kept: Tensors, before: Tensors, after: Tensors, upstream: Tensors
) -> tuple[tf.Tensor, Tensors]:
    z, r, g, from_state = tf.split(kept[0], 4, axis=-1)
    candidate = upstream[0] * (1.0 - z) * (1.0 - g**2)
    inner = [
        upstream[0] * (before[0] - g) * z * (1.0 - z),
        candidate * from_state * r * (1.0 - r),
        candidate,
    ]
    return tf.concat(inner, axis=-1), (upstream[0] * z,)


def _gru_through(inner: tf.Tensor, kept: Tensors) -> tf.Tensor:
    z, r, candidate = tf.split(inner, 3, axis=-1)
    reset = tf.split(kept[0], 4, axis=-1)[1]
    return tf.concat([z, r, candidate * reset], axis=-1)


def _unchanged(inner: tf.Tensor, kept: Tensors) -> tf.Tensor:
    return inner


_CLIPPED_RELU = _Cell(1, 1, 0, _rnn_forward, _rnn_backward, _unchanged)
_LSTM = _Cell(4, 2, 4, _lstm_forward, _lstm_backward, _unchanged)
_GRU = _Cell(3, 1, 4, _gru_forward, _gru_backward, _gru_through)


def _project(
    inputs: tf.Tensor,
    kernel: tf.Tensor,
    bias: tf.Tensor,
    compute_dtype: tf.DType,
    directions: int,
) -> tf.Tensor:
    """W x + b of all frames; the backward direction reads them, padding and all, from the end.

    tf.reverse_sequence, which would leave out the padding, is a gather: a row at a time on a TPU.
    Of one kernel for all `directions` the product is taken once.

    Returns:
        float32 [frames, directions, batch, gates * units].
    """
    by_time = tf.transpose(tf.cast(inputs, compute_dtype), [1, 0, 2])  # [frames, batch, inputs]
    frames, batch = tf.unstack(tf.shape(by_time)[:2])
    # A batch that is known stays so: TensorFlow Lite wants it of the loop's tables.
    shape = [frames, by_time.shape[1] or batch, kernel.shape[2]]
    flat = tf.reshape(by_time, [-1, inputs.shape[2]])  # [frames * batch, inputs]
    projected = []
    for direction, weights in enumerate(tf.unstack(tf.cast(kernel, compute_dtype))):
        rows = tf.cast(tf.matmul(flat, weights), tf.float32) + bias[direction]
        projected.append(tf.reshape(rows, shape))
    if len(projected) < directions:
        projected *= directions
    stacked = tf.stack(_by_reading(projected), axis=1)
    return tf.ensure_shape(
        stacked, [by_time.shape[0], len(projected), by_time.shape[1], kernel.shape[2]]
    )


def _by_reading(directions: list[tf.Tensor]) -> list[tf.Tensor]:
    """[frames, ...] a direction: forward as it is, backward from the end; and the way back."""
    forward, *backward = directions
    return [forward, *(tf.reverse(each, [0]) for each in backward)]


def _by_time(outputs: tf.Tensor) -> list[tf.Tensor]:
    """[frames, directions, batch, units] -> [frames, batch, units] a direction, by time."""
    return _by_reading(tf.unstack(outputs, axis=1))


def _is_real(frame: tf.Tensor, length: tf.Tensor, projected: tf.Tensor) -> tf.Tensor:
    """Whether a frame, counted as each direction reads it, is one of the utterance's.

    Args:
        frame: int32, any shape that goes with [directions, batch].
        length: int32 [batch].
        projected: [frames, directions, ...].

    Returns:
        bool [..., directions, batch].
    """
    frames, directions = tf.shape(projected)[0], projected.shape[1]
    first = tf.stack([tf.zeros_like(length), frames - length][:directions])
    last = tf.stack([length, tf.fill(tf.shape(length), frames)][:directions])
    return tf.logical_and(first <= frame, frame < last)


def _batch_major(outputs: Sequence[tf.Tensor]) -> tf.Tensor:
    """[frames, batch, units] a direction -> [directions, batch, frames, units]."""
    return tf.transpose(tf.stack(outputs), [0, 2, 1, 3])


def _zero_states(cell: _Cell, projected: tf.Tensor) -> Tensors:
    """Zeros [directions, batch, units] a state."""
    zeros = tf.zeros_like(projected[0, :, :, : projected.shape[3] // cell.gates])
    return (zeros,) * cell.states


def _scan(
    frames: int | tf.Tensor,
    states: Tensors,
    shapes: Sequence[tf.TensorShape],
    step: Callable[[tf.Tensor, Tensors], tuple[Tensors, Tensors]],
    backwards: bool = False,
) -> tuple[Tensors, Tensors]:
    """Hands `states` from frame to frame; stacks what `step` writes, one table a shape.

    Args:
        frames: static where it can be: XLA wants the length of a table as a constant.
        states: before the first step.
        shapes: of what is written at one frame.
        step: (frame, states) -> (states, written).
        backwards: from the last frame to the first.

    Returns:
        The states after the last step, and float32 [frames, *shape] for each of `shapes`.
    """

    def body(index: tf.Tensor, states: Tensors, tables: tuple[tf.TensorArray, ...]) -> tuple:
        frame = frames - 1 - index if backwards else index
        after, written = step(frame, states)
        after = tuple(
            tf.ensure_shape(new, old.shape) for new, old in zip(after, states, strict=True)
        )
        pairs = zip(tables, written, strict=True)
        return index + 1, after, tuple(table.write(frame, value) for table, value in pairs)

    tables = tuple(tf.TensorArray(tf.float32, frames, element_shape=shape) for shape in shapes)
    _, states, tables = tf.while_loop(
        lambda index, *unused: index < frames,
        body,
        (tf.constant(0), states, tables),
        maximum_iterations=frames,
    )
    length = frames if isinstance(frames, int) else None
    stacked = (
        tf.ensure_shape(table.stack(), [length, *shape])
        for table, shape in zip(tables, shapes, strict=True)
    )
    return states, tuple(stacked)


def _scan_first(
    frames: int | tf.Tensor,
    states: Tensors,
    shape: tf.TensorShape,
    step: Callable[[tf.Tensor, Tensors], tuple[Tensors, Tensors]],
) -> tuple[Tensors, tf.Tensor]:
    """As `_scan`, of the first table alone."""

    def first(frame: tf.Tensor, states: Tensors) -> tuple[Tensors, Tensors]:
        after, written = step(frame, states)
        return after, written[:1]

    states, (outputs,) = _scan(frames, states, [shape], first)
    return states, outputs


def _scan_in_blocks(
    frames: int | tf.Tensor,
    states: Tensors,
    shape: tf.TensorShape,
    step: Callable[[tf.Tensor, Tensors], tuple[Tensors, Tensors]],
) -> tuple[Tensors, tf.Tensor]:
    """As `_scan_first`; see forward_only."""

    def block(number: tf.Tensor, states: Tensors) -> tuple[Tensors, Tensors]:
        def one(index: tf.Tensor, states: Tensors) -> tuple[Tensors, Tensors]:
            frame = number * BLOCK_FRAMES + index
            after, written = step(tf.minimum(frame, frames - 1), states)
            pairs = zip(after, states, strict=True)
            return tuple(tf.where(frame < frames, new, old) for new, old in pairs), written[:1]

        return _scan(BLOCK_FRAMES, states, [shape], one)

    blocks = (frames + BLOCK_FRAMES - 1) // BLOCK_FRAMES
    states, (table,) = _scan(blocks, states, [tf.TensorShape([BLOCK_FRAMES, *shape])], block)
    dynamic = tf.unstack(tf.shape(table)[2:])
    each = [known or asked for known, asked in zip(table.shape[2:], dynamic, strict=True)]
    length = frames if isinstance(frames, int) else None
    outputs = tf.reshape(table, [-1, *each])[:frames]
    return states, tf.ensure_shape(outputs, [length, *shape])


def _recurrence(
    cell: _Cell,
    projected: tf.Tensor,
    length: tf.Tensor | None,
    recurrent_kernel: tf.Tensor,
    recurrent_bias: tf.Tensor | None,
    initial: Tensors,
    compute_dtype: tf.DType,
) -> tuple[tf.Tensor, Tensors]:
    """All outputs of a cell, and the states after the last real frame.

    Args:
        projected: float32 [frames, directions, batch, gates * units], from `_project`.
        length: int32 [batch]; padding leaves the states and puts out zeros. None: all frames
            are real.
        recurrent_kernel: float32 [directions, units, gates * units].
        recurrent_bias: float32 [directions, gates * units].
        initial: float32 [directions, batch, units] a state.

    Returns:
        float32 [frames, directions, batch, units], and states as `initial`.
    """
    units = projected.shape[3] // cell.gates
    step_shape = projected.shape[1:]
    state_shape = tf.TensorShape([*step_shape[:2], units])
    kept_shapes = [tf.TensorShape([*step_shape[:2], cell.kept * units])] if cell.kept else []
    frames = projected.shape[0] or tf.shape(projected)[0]

    def product(left: tf.Tensor, right: tf.Tensor, **transposed: bool) -> tf.Tensor:
        left, right = tf.cast(left, compute_dtype), tf.cast(right, compute_dtype)
        return tf.cast(tf.matmul(left, right, **transposed), tf.float32)

    def where_real(frame: tf.Tensor, real: Tensors, padding: Tensors) -> Tensors:
        if length is None:
            return real
        mask = _is_real(frame, length, projected)[..., tf.newaxis]  # [directions, batch, 1]
        return tuple(tf.where(mask, *each) for each in zip(real, padding, strict=True))

    def only_real(outputs: tf.Tensor) -> tf.Tensor:
        if length is None:
            return outputs
        at = tf.range(frames)[:, tf.newaxis, tf.newaxis]
        return tf.where(_is_real(at, length, projected)[..., tf.newaxis], outputs, 0.0)

    def stepping(
        projected: tf.Tensor, weights: Tensors
    ) -> Callable[[tf.Tensor, Tensors], tuple[Tensors, Tensors]]:
        recurrent_kernel, *recurrent_bias = weights

        def forward(frame: tf.Tensor, states: Tensors) -> tuple[Tensors, Tensors]:
            through = product(states[0], recurrent_kernel)
            for bias in recurrent_bias:
                through += bias[:, tf.newaxis]
            after, kept = cell.forward(tf.gather(projected, frame), through, states)
            after = where_real(frame, after, states)
            return after, (*after, *kept)

        return forward

    @tf.custom_gradient
    def recurrence(
        projected: tf.Tensor, initial: Tensors, weights: Tensors
    ) -> tuple[Tensors, Callable[..., tuple[tf.Tensor, Tensors, Tensors]]]:
        recurrent_kernel, *recurrent_bias = weights
        shapes = [state_shape] * cell.states + kept_shapes
        final, tables = _scan(frames, initial, shapes, stepping(projected, weights))
        all_states, all_kept = tables[: cell.states], tables[cell.states :]

        def gradient(*upstream: tf.Tensor) -> tuple[tf.Tensor, Tensors, Tensors]:
            upstream_outputs, *upstream_final = upstream
            history = tuple(  # [1 + frames, directions, batch, units] a state
                tf.concat([first[tf.newaxis], rest], axis=0)
                for first, rest in zip(initial, all_states, strict=True)
            )

            def backward(frame: tf.Tensor, carried: Tensors) -> tuple[Tensors, Tensors]:
                kept, before, after = (
                    tuple(tf.gather(table, index) for table in tables)
                    for tables, index in ((all_kept, frame), (history, frame), (history, frame + 1))
                )
                arrived = (carried[0] + tf.gather(upstream_outputs, frame), *carried[1:])
                inner, (hidden, *others) = cell.backward(kept, before, after, arrived)
                through = cell.through(inner, kept)
                hidden += product(through, recurrent_kernel, transpose_b=True)
                carried = where_real(frame, (hidden, *others), carried)
                return carried, where_real(frame, (inner,), (tf.zeros_like(inner),))

            first, (inner,) = _scan(
                frames, tuple(upstream_final), [step_shape], backward, backwards=True
            )
            through = cell.through(inner, all_kept)  # [frames, directions, batch, gates * units]
            kernel = product(_rows(history[0][:-1]), _rows(through), transpose_a=True)
            return inner, first, (kernel, *(tf.reduce_sum(through, [0, 2]) for _ in recurrent_bias))

        return (only_real(all_states[0]), *final), gradient

    weights = (recurrent_kernel,) if recurrent_bias is None else (recurrent_kernel, recurrent_bias)
    in_blocks = _in_blocks.get()
    if in_blocks is not None:
        scan = _scan_in_blocks if in_blocks else _scan_first
        states, outputs = scan(frames, initial, state_shape, stepping(projected, weights))
        return only_real(outputs), states
    outputs, *final = recurrence(projected, initial, weights)
    return outputs, tuple(final)


def _rows(values: tf.Tensor) -> tf.Tensor:
    """[frames, directions, batch, width] -> [directions, frames * batch, width]."""
    directions, width = values.shape[1], values.shape[3]
    return tf.reshape(tf.transpose(values, [1, 0, 2, 3]), [directions, -1, width])
