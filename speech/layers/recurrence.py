"""The loop that runs a recurrent cell over all frames, and its gradient.

The gradient is written by hand. Automatic differentiation through the loop stacks a dense gradient
of the whole input at every frame; here the gradient of the recurrent kernel is one product over all
frames. For it the loop stores the states and what the cell keeps: memory that grows no faster than
the number of frames.

All tensors are float32. The axis `directions` holds the forward direction and, if there are two,
the backward one. The axis `frames` counts frames in the order in which each direction reads them:
the backward direction reads from the end, padding included.
"""

import contextlib
import contextvars
import dataclasses
from collections.abc import Callable, Iterator, Sequence

import tensorflow as tf

Tensors = tuple[tf.Tensor, ...]

# (frame, states before) -> states after, what is written at that frame.
Step = Callable[[tf.Tensor, Tensors], tuple[Tensors, Tensors]]

# Frames of a block; see forward_only.
BLOCK_FRAMES = 16

# The argument of the `forward_only` that is active; None: none is.
_in_blocks: contextvars.ContextVar[bool | None] = contextvars.ContextVar("in_blocks", default=None)


@contextlib.contextmanager
def forward_only(in_blocks: bool = True) -> Iterator[None]:
    """Builds layers without gradients, which keep nothing for one, while the context lasts.

    Args:
        in_blocks: whether outputs are collected block by block. TensorFlow Lite copies a loop's
            table at every step: one table of all frames would cost the square of their number. A
            block is always computed to its end, which is wasteful for a stream's pieces of a few
            frames.
    """
    token = _in_blocks.set(in_blocks)
    try:
        yield
    finally:
        _in_blocks.reset(token)


@dataclasses.dataclass(frozen=True)
class Cell:
    """What happens at one frame; tensors are float32 [directions, batch, a multiple of units].

    Attributes:
        gates: width of the projected inputs and of the states' product, in units.
        states: number of tensors that go from frame to frame. The first is the output.
        kept: width of what `forward` keeps for `backward`, in units.
        forward: (projected, product, states before) -> states after, kept. `product` is the first
            state times the recurrent kernel, plus bias.
        backward: (kept, states before, states after, gradients of the states after) -> gradient
            of the projected inputs; gradients of the states before, without the part that flows
            through the product.
        through: (gradient of the projected inputs, kept) -> gradient of the product. Also called
            with a leading axis of all frames.
    """

    gates: int
    states: int
    kept: int
    forward: Callable[[tf.Tensor, tf.Tensor, Tensors], tuple[Tensors, Tensors]]
    backward: Callable[[Tensors, Tensors, Tensors, Tensors], tuple[tf.Tensor, Tensors]]
    through: Callable[[tf.Tensor, Tensors], tf.Tensor]


# --- Inputs and outputs ---------------------------------------------------------------------------


def project(
    inputs: tf.Tensor,
    kernel: tf.Tensor,
    bias: tf.Tensor,
    compute_dtype: tf.DType,
    directions: int,
) -> tf.Tensor:
    """Returns W x + b for all frames, as each direction reads them.

    The backward direction reads the padding first. tf.reverse_sequence would leave out the padding,
    but is a gather, which a TPU executes a row at a time.

    Args:
        inputs: float [batch, frames, inputs].
        kernel: float32 [directions, inputs, gates * units]; [1, inputs, gates * units] if all
            directions share one, whose product is then computed once.
        bias: float32 [directions, gates * units], or [1, gates * units].
        compute_dtype: type of the matrix products.
        directions: 1 or 2.

    Returns:
        float32 [frames, directions, batch, gates * units].
    """
    by_time = tf.transpose(tf.cast(inputs, compute_dtype), [1, 0, 2])  # [frames, batch, inputs]
    frames, batch = tf.unstack(tf.shape(by_time)[:2])
    # A static batch stays static: TensorFlow Lite requires it of the loop's tables.
    shape = [frames, by_time.shape[1] or batch, kernel.shape[2]]
    flat = tf.reshape(by_time, [-1, inputs.shape[2]])  # [frames * batch, inputs]
    projected = []
    for direction, weights in enumerate(tf.unstack(tf.cast(kernel, compute_dtype))):
        rows = tf.cast(tf.matmul(flat, weights), tf.float32) + bias[direction]
        projected.append(tf.reshape(rows, shape))
    if len(projected) < directions:
        projected *= directions
    stacked = tf.stack(_reversed_backward(projected), axis=1)
    return tf.ensure_shape(
        stacked, [by_time.shape[0], len(projected), by_time.shape[1], kernel.shape[2]]
    )


def _reversed_backward(directions: list[tf.Tensor]) -> list[tf.Tensor]:
    """Reverses the backward direction's frames; its own inverse.

    Args:
        directions: [frames, ...] for each direction.
    """
    forward, *backward = directions
    return [forward, *(tf.reverse(each, [0]) for each in backward)]


def by_time(outputs: tf.Tensor) -> list[tf.Tensor]:
    """Returns the frames of each direction in the order of time.

    Args:
        outputs: [frames, directions, batch, units].

    Returns:
        [frames, batch, units] for each direction.
    """
    return _reversed_backward(tf.unstack(outputs, axis=1))


def batch_major(outputs: Sequence[tf.Tensor]) -> tf.Tensor:
    """Stacks [frames, batch, units] of each direction to [directions, batch, frames, units]."""
    return tf.transpose(tf.stack(outputs), [0, 2, 1, 3])


def zero_states(cell: Cell, projected: tf.Tensor) -> Tensors:
    """Returns zeros [directions, batch, units] for each of the cell's states.

    Args:
        projected: [frames, directions, batch, gates * units].
    """
    zeros = tf.zeros_like(projected[0, :, :, : projected.shape[3] // cell.gates])
    return (zeros,) * cell.states


def is_real(
    frame: tf.Tensor, length: tf.Tensor, frames: int | tf.Tensor, directions: int
) -> tf.Tensor:
    """Returns whether a frame is the utterance's own and not padding.

    Args:
        frame: int32, counted as each direction reads; any shape that broadcasts with
            [directions, batch].
        length: int32 [batch].
        frames: number of frames, padding included.
        directions: 1 or 2.

    Returns:
        bool [..., directions, batch].
    """
    first = tf.stack([tf.zeros_like(length), frames - length][:directions])
    last = tf.stack([length, tf.fill(tf.shape(length), frames)][:directions])
    return tf.logical_and(first <= frame, frame < last)


# --- Loops ----------------------------------------------------------------------------------------


def _scan(
    frames: int | tf.Tensor,
    states: Tensors,
    shapes: Sequence[tf.TensorShape],
    step: Step,
    backwards: bool = False,
) -> tuple[Tensors, Tensors]:
    """Passes `states` from frame to frame and stacks what `step` writes, one table a shape.

    Args:
        frames: static where it can be: XLA needs the length of a table as a constant.
        states: before the first step.
        shapes: shapes of what is written at one frame.
        step: see Step.
        backwards: whether to go from the last frame to the first.

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


def _scan_in_blocks(
    frames: int | tf.Tensor, states: Tensors, shape: tf.TensorShape, step: Step
) -> tuple[Tensors, tf.Tensor]:
    """Does as `_scan` with one table, collected block by block; see forward_only."""

    def block(number: tf.Tensor, states: Tensors) -> tuple[Tensors, Tensors]:
        def one(index: tf.Tensor, states: Tensors) -> tuple[Tensors, Tensors]:
            frame = number * BLOCK_FRAMES + index
            after, written = step(tf.minimum(frame, frames - 1), states)
            pairs = zip(after, states, strict=True)
            return tuple(tf.where(frame < frames, new, old) for new, old in pairs), written

        return _scan(BLOCK_FRAMES, states, [shape], one)

    blocks = (frames + BLOCK_FRAMES - 1) // BLOCK_FRAMES
    states, (table,) = _scan(blocks, states, [tf.TensorShape([BLOCK_FRAMES, *shape])], block)
    dynamic = tf.unstack(tf.shape(table)[2:])
    sizes = [known or size for known, size in zip(table.shape[2:], dynamic, strict=True)]
    length = frames if isinstance(frames, int) else None
    outputs = tf.reshape(table, [-1, *sizes])[:frames]
    return states, tf.ensure_shape(outputs, [length, *shape])


# --- The recurrence -------------------------------------------------------------------------------


def run(
    cell: Cell,
    projected: tf.Tensor,
    length: tf.Tensor | None,
    recurrent_kernel: tf.Tensor,
    recurrent_bias: tf.Tensor | None,
    initial: Tensors,
    compute_dtype: tf.DType,
) -> tuple[tf.Tensor, Tensors]:
    """Returns all outputs of a cell, and its states after the last real frame.

    Args:
        cell: what happens at one frame.
        projected: float32 [frames, directions, batch, gates * units], from `project`.
        length: int32 [batch]; padding leaves the states as they are and has outputs of zero. None:
            all frames are real.
        recurrent_kernel: float32 [directions, units, gates * units].
        recurrent_bias: float32 [directions, gates * units]; None: the cell has none.
        initial: float32 [directions, batch, units] for each state.
        compute_dtype: type of the matrix products.

    Returns:
        float32 [frames, directions, batch, units], and states as `initial`.
    """
    weights = (recurrent_kernel,) if recurrent_bias is None else (recurrent_kernel, recurrent_bias)
    in_blocks = _in_blocks.get()
    if in_blocks is not None:
        alone = _Recurrence(cell, weights, projected, length, compute_dtype)
        return alone.without_gradient(initial, in_blocks)

    @tf.custom_gradient
    def with_gradient(
        projected: tf.Tensor, initial: Tensors, weights: Tensors
    ) -> tuple[Tensors, Callable[..., tuple[tf.Tensor, Tensors, Tensors]]]:
        # Of these tensors, not of the outer ones, TensorFlow takes the gradients.
        recurrence = _Recurrence(cell, weights, projected, length, compute_dtype)
        outputs, final, memory = recurrence.forward(initial)

        def gradient(*upstream: tf.Tensor) -> tuple[tf.Tensor, Tensors, Tensors]:
            return recurrence.backward(memory, upstream[0], upstream[1:])

        return (outputs, *final), gradient

    outputs, *final = with_gradient(projected, initial, weights)
    return outputs, tuple(final)


@dataclasses.dataclass(frozen=True)
class _Memory:
    """What `_Recurrence.forward` keeps for `_Recurrence.backward`."""

    initial: Tensors  # [directions, batch, units] for each state
    states: Tensors  # [frames, directions, batch, units] for each state
    kept: Tensors  # [frames, directions, batch, kept * units], if the cell keeps anything


class _Recurrence:
    """A cell with its weights, over the frames of a batch."""

    def __init__(
        self,
        cell: Cell,
        weights: Tensors,
        projected: tf.Tensor,
        length: tf.Tensor | None,
        compute_dtype: tf.DType,
    ) -> None:
        """weights: recurrent kernel and, if the cell has one, bias; for the rest see `run`."""
        self._cell = cell
        self._kernel, *self._biases = weights
        self._projected = projected
        self._length = length
        self._compute_dtype = compute_dtype
        self._frames = projected.shape[0] or tf.shape(projected)[0]

    def forward(self, initial: Tensors) -> tuple[tf.Tensor, Tensors, _Memory]:
        """Returns outputs [frames, directions, batch, units], final states, and the memory."""
        shapes = [self._shape(1)] * self._cell.states
        shapes += [self._shape(self._cell.kept)] if self._cell.kept else []
        final, tables = _scan(self._frames, initial, shapes, self._step)
        states, kept = tables[: self._cell.states], tables[self._cell.states :]
        return self._zero_padding(states[0]), final, _Memory(initial, states, kept)

    def without_gradient(self, initial: Tensors, in_blocks: bool) -> tuple[tf.Tensor, Tensors]:
        """Returns outputs [frames, directions, batch, units] and final states."""

        def step(frame: tf.Tensor, states: Tensors) -> tuple[Tensors, Tensors]:
            after, written = self._step(frame, states)
            return after, written[:1]

        if in_blocks:
            final, outputs = _scan_in_blocks(self._frames, initial, self._shape(1), step)
        else:
            final, (outputs,) = _scan(self._frames, initial, [self._shape(1)], step)
        return self._zero_padding(outputs), final

    def backward(
        self, memory: _Memory, upstream: tf.Tensor, upstream_final: Tensors
    ) -> tuple[tf.Tensor, Tensors, Tensors]:
        """Returns gradients of the projected inputs, the initial states and the weights.

        Args:
            memory: from `forward`.
            upstream: gradient of the outputs, [frames, directions, batch, units].
            upstream_final: gradients of the final states, [directions, batch, units] each.
        """
        history = tuple(  # [1 + frames, directions, batch, units] for each state
            tf.concat([first[tf.newaxis], rest], axis=0)
            for first, rest in zip(memory.initial, memory.states, strict=True)
        )

        def step(frame: tf.Tensor, carried: Tensors) -> tuple[Tensors, Tensors]:
            kept, before, after = (
                tuple(tf.gather(table, index) for table in tables)
                for tables, index in ((memory.kept, frame), (history, frame), (history, frame + 1))
            )
            arrived = (carried[0] + tf.gather(upstream, frame), *carried[1:])
            inner, (hidden, *others) = self._cell.backward(kept, before, after, arrived)
            through = self._cell.through(inner, kept)
            hidden += self._product(through, self._kernel, transpose_b=True)
            carried = self._where_real(frame, (hidden, *others), carried)
            return carried, self._where_real(frame, (inner,), (tf.zeros_like(inner),))

        shape = self._shape(self._cell.gates)
        first, (inner,) = _scan(self._frames, upstream_final, [shape], step, backwards=True)
        through = self._cell.through(inner, memory.kept)
        # through: [frames, directions, batch, gates * units]
        kernel = self._product(_rows(history[0][:-1]), _rows(through), transpose_a=True)
        biases = (tf.reduce_sum(through, [0, 2]) for _ in self._biases)
        return inner, first, (kernel, *biases)

    def _step(self, frame: tf.Tensor, states: Tensors) -> tuple[Tensors, Tensors]:
        """The cell at one frame; writes the states and what the cell keeps."""
        product = self._product(states[0], self._kernel)
        for bias in self._biases:
            product += bias[:, tf.newaxis]
        after, kept = self._cell.forward(tf.gather(self._projected, frame), product, states)
        after = self._where_real(frame, after, states)
        return after, (*after, *kept)

    def _product(self, left: tf.Tensor, right: tf.Tensor, **transposed: bool) -> tf.Tensor:
        """Multiplies in the compute type; returns float32."""
        left, right = tf.cast(left, self._compute_dtype), tf.cast(right, self._compute_dtype)
        return tf.cast(tf.matmul(left, right, **transposed), tf.float32)

    def _where_real(self, frame: tf.Tensor, real: Tensors, padding: Tensors) -> Tensors:
        """Returns `real` where a frame is the utterance's own, else `padding`."""
        if self._length is None:
            return real
        mask = self._is_real(frame)  # [directions, batch, 1]
        return tuple(tf.where(mask, *each) for each in zip(real, padding, strict=True))

    def _zero_padding(self, outputs: tf.Tensor) -> tf.Tensor:
        """Zeros [frames, directions, batch, units] where a frame is padding."""
        if self._length is None:
            return outputs
        frame = tf.range(self._frames)[:, tf.newaxis, tf.newaxis]
        return tf.where(self._is_real(frame), outputs, 0.0)

    def _is_real(self, frame: tf.Tensor) -> tf.Tensor:
        """bool [..., directions, batch, 1]; see is_real."""
        directions = self._projected.shape[1]
        return is_real(frame, self._length, self._frames, directions)[..., tf.newaxis]

    def _shape(self, width: int) -> tf.TensorShape:
        """[directions, batch, width * units]"""
        _, directions, batch, gates = self._projected.shape
        return tf.TensorShape([directions, batch, width * (gates // self._cell.gates)])


def _rows(values: tf.Tensor) -> tf.Tensor:
    """[frames, directions, batch, width] -> [directions, frames * batch, width]."""
    directions, width = values.shape[1], values.shape[3]
    return tf.reshape(tf.transpose(values, [1, 0, 2, 3]), [directions, -1, width])
