"""The loop that runs a recurrent cell over all frames, and its gradient.

The gradient is written by hand. Automatic differentiation through the loop stacks a dense gradient
of the whole input at every frame; here the gradient of the recurrent kernel is one product over all
frames. For it the loop stores the states and what the cell keeps: memory that grows no faster than
the number of frames.

All tensors are float32. The axis `directions` holds the forward direction and, if there are two,
the backward one, which reads from the end, padding included. Tables of all frames are separate for
each direction and in the order of time: only the loop reads and writes them in another order, so
that nothing has to be reversed. A `frame` is counted as each direction reads.
"""

import contextlib
import contextvars
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

Tensors = tuple[tf.Tensor, ...]

# (frame, states before) -> states after, what is written at that frame.
Step = Callable[[tf.Tensor, Tensors], tuple[Tensors, Tensors]]

# Frames of a block; see forward_only.
BLOCK_FRAMES = 16

# Frames that one turn of a loop takes if their number is known, as on a TPU. Its time for a frame
# is mostly that of starting the operations and of copying the states; see docs/tpu.md.
FRAMES_A_TURN = 8

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
) -> Tensors:
    """Returns W x + b for all frames.

    Args:
        inputs: float [batch, frames, inputs].
        kernel: float32 [directions, inputs, gates * units]; [1, inputs, gates * units] if all
            directions share one, whose product is then computed once.
        bias: float32 [directions, gates * units], or [1, gates * units].
        compute_dtype: type of the matrix products.
        directions: 1 or 2.

    Returns:
        float32 [frames, batch, gates * units] for each direction.
    """
    by_time = tf.transpose(tf.cast(inputs, compute_dtype), [1, 0, 2])  # [frames, batch, inputs]
    frames, batch = tf.unstack(tf.shape(by_time)[:2])
    # A static batch stays static: TensorFlow Lite requires it of the loop's tables.
    shape = [frames, by_time.shape[1] or batch, kernel.shape[2]]
    flat = tf.reshape(by_time, [-1, inputs.shape[2]])  # [frames * batch, inputs]
    projected = []
    for direction, weights in enumerate(tf.unstack(tf.cast(kernel, compute_dtype))):
        rows = tf.cast(tf.matmul(flat, weights), tf.float32) + bias[direction]
        rows = tf.reshape(rows, shape)
        projected.append(tf.ensure_shape(rows, [*by_time.shape[:2], kernel.shape[2]]))
    if len(projected) < directions:
        projected *= directions
    return tuple(projected)


def batch_major(outputs: Tensors) -> tf.Tensor:
    """Stacks [frames, batch, units] of each direction to [directions, batch, frames, units]."""
    return tf.transpose(tf.stack(outputs), [0, 2, 1, 3])


def zero_states(cell: Cell, projected: Tensors) -> Tensors:
    """Returns zeros [directions, batch, units] for each of the cell's states.

    Args:
        projected: [frames, batch, gates * units] for each direction.
    """
    units = projected[0].shape[2] // cell.gates
    zeros = tf.zeros_like(tf.stack([each[0, :, :units] for each in projected]))
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


class _Table(NamedTuple):
    """What a loop writes, one row a frame."""

    shape: tf.TensorShape  # of a row
    mirrored: bool = False  # whether frame 0 is the last row


def _scan(
    frames: int | tf.Tensor,
    states: Tensors,
    tables: Sequence[_Table],
    step: Step,
    backwards: bool = False,
    unrolled: bool = False,
) -> tuple[Tensors, Tensors]:
    """Passes `states` from frame to frame and stacks what `step` writes, one table a tensor.

    Args:
        frames: static where it can be: XLA needs the length of a table as a constant.
        states: before the first step.
        tables: of what is written at one frame.
        step: see Step.
        backwards: whether to go from the last frame to the first.
        unrolled: whether a turn of the loop takes FRAMES_A_TURN frames if `frames` is static.

    Returns:
        The states after the last step, and float32 [frames, *shape] for each of `tables`.
    """
    at_once = min(FRAMES_A_TURN, frames) if unrolled and isinstance(frames, int) else 1
    turns = frames // at_once

    def one(index: tf.Tensor, states: Tensors, arrays: Sequence[Any]) -> tuple:
        frame = frames - 1 - index if backwards else index
        after, written = step(frame, states)
        after = tuple(
            tf.ensure_shape(new, old.shape) for new, old in zip(after, states, strict=True)
        )
        rows = (frames - 1 - frame if table.mirrored else frame for table in tables)
        trios = zip(arrays, rows, written, strict=True)
        return after, tuple(array.write(row, value) for array, row, value in trios)

    def turn(number: tf.Tensor, states: Tensors, arrays: Sequence[Any]) -> tuple:
        for place in range(at_once):
            states, arrays = one(number * at_once + place, states, arrays)
        return number + 1, states, arrays

    _, states, arrays = tf.while_loop(
        lambda number, *unused: number < turns,
        turn,
        (
            tf.constant(0),
            states,
            tuple(tf.TensorArray(tf.float32, frames, element_shape=each.shape) for each in tables),
        ),
        maximum_iterations=turns,
    )
    if at_once > 1:
        for index in range(turns * at_once, frames):
            states, arrays = one(tf.constant(index), states, arrays)
    length = frames if isinstance(frames, int) else None
    stacked = (
        tf.ensure_shape(array.stack(), [length, *table.shape])
        for array, table in zip(arrays, tables, strict=True)
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

        return _scan(BLOCK_FRAMES, states, [_Table(shape)], one)

    blocks = (frames + BLOCK_FRAMES - 1) // BLOCK_FRAMES
    rows = _Table(tf.TensorShape([BLOCK_FRAMES, *shape]))
    states, (table,) = _scan(blocks, states, [rows], block)
    dynamic = tf.unstack(tf.shape(table)[2:])
    sizes = [known or size for known, size in zip(table.shape[2:], dynamic, strict=True)]
    length = frames if isinstance(frames, int) else None
    outputs = tf.reshape(table, [-1, *sizes])[:frames]
    return states, tf.ensure_shape(outputs, [length, *shape])


# --- The recurrence -------------------------------------------------------------------------------


def run(
    cell: Cell,
    projected: Tensors,
    length: tf.Tensor | None,
    recurrent_kernel: tf.Tensor,
    recurrent_bias: tf.Tensor | None,
    initial: Tensors,
    compute_dtype: tf.DType,
) -> tuple[Tensors, Tensors]:
    """Returns all outputs of a cell, and its states after the last real frame.

    Args:
        cell: what happens at one frame.
        projected: float32 [frames, batch, gates * units] for each direction, from `project`.
        length: int32 [batch]; padding leaves the states as they are and has outputs of zero. None:
            all frames are real.
        recurrent_kernel: float32 [directions, units, gates * units].
        recurrent_bias: float32 [directions, gates * units]; None: the cell has none.
        initial: float32 [directions, batch, units] for each state.
        compute_dtype: type of the matrix products.

    Returns:
        float32 [frames, batch, units] for each direction, and states as `initial`.
    """
    weights = (recurrent_kernel,) if recurrent_bias is None else (recurrent_kernel, recurrent_bias)
    in_blocks = _in_blocks.get()
    if in_blocks is not None:
        alone = _Recurrence(cell, weights, projected, length, compute_dtype)
        return alone.without_gradient(initial, in_blocks)
    directions = len(projected)

    @tf.custom_gradient
    def with_gradient(
        projected: Tensors, initial: Tensors, weights: Tensors
    ) -> tuple[Tensors, Callable[..., tuple[Tensors, Tensors, Tensors]]]:
        # Of these tensors, not of the outer ones, TensorFlow takes the gradients.
        recurrence = _Recurrence(cell, weights, projected, length, compute_dtype)
        outputs, final, memory = recurrence.forward(initial)

        def gradient(*upstream: tf.Tensor) -> tuple[Tensors, Tensors, Tensors]:
            return recurrence.backward(memory, upstream[:directions], upstream[directions:])

        return (*outputs, *final), gradient

    both = with_gradient(projected, initial, weights)
    return tuple(both[:directions]), tuple(both[directions:])


@dataclasses.dataclass(frozen=True)
class _Memory:
    """What `_Recurrence.forward` keeps for `_Recurrence.backward`."""

    initial: Tensors  # [directions, batch, units] for each state
    states: tuple[Tensors, ...]  # for each state [frames, batch, units] of each direction
    kept: tuple[Tensors, ...]  # [frames, batch, kept * units] likewise, if the cell keeps anything


class _Recurrence:
    """A cell with its weights, over the frames of a batch."""

    def __init__(
        self,
        cell: Cell,
        weights: Tensors,
        projected: Tensors,
        length: tf.Tensor | None,
        compute_dtype: tf.DType,
    ) -> None:
        """weights: recurrent kernel and, if the cell has one, bias; for the rest see `run`."""
        self._cell = cell
        self._kernel, *self._biases = weights
        self._projected = projected
        self._length = length
        self._compute_dtype = compute_dtype
        self._frames = projected[0].shape[0] or tf.shape(projected[0])[0]

    def forward(self, initial: Tensors) -> tuple[Tensors, Tensors, _Memory]:
        """Returns outputs [frames, batch, units] of each direction, final states, the memory."""
        widths = [1] * self._cell.states + [self._cell.kept] * bool(self._cell.kept)

        def step(frame: tf.Tensor, states: Tensors) -> tuple[Tensors, Tensors]:
            after, written = self._step(frame, states)
            return after, _by_direction(written)

        final, tables = _scan(self._frames, initial, self._tables(widths), step, unrolled=True)
        by_state = _grouped(tables, len(self._projected))
        states, kept = by_state[: self._cell.states], by_state[self._cell.states :]
        return self._zero_padding(states[0]), final, _Memory(initial, states, kept)

    def without_gradient(self, initial: Tensors, in_blocks: bool) -> tuple[Tensors, Tensors]:
        """Returns outputs [frames, batch, units] of each direction, and final states."""

        def step(frame: tf.Tensor, states: Tensors) -> tuple[Tensors, Tensors]:
            after, written = self._step(frame, states)
            return after, written[:1]

        def step_by_direction(frame: tf.Tensor, states: Tensors) -> tuple[Tensors, Tensors]:
            after, written = step(frame, states)
            return after, _by_direction(written)

        if not in_blocks:
            final, outputs = _scan(self._frames, initial, self._tables([1]), step_by_direction)
            return self._zero_padding(outputs), final
        _, batch, units = initial[0].shape
        shape = tf.TensorShape([len(self._projected), batch, units])
        final, rows = _scan_in_blocks(self._frames, initial, shape, step)
        forward, *backward = tf.unstack(rows, axis=1)
        outputs = (forward, *(tf.reverse(each, [0]) for each in backward))
        return self._zero_padding(outputs), final

    def backward(
        self, memory: _Memory, upstream: Tensors, upstream_final: Tensors
    ) -> tuple[Tensors, Tensors, Tensors]:
        """Returns gradients of the projected inputs, the initial states and the weights.

        Args:
            memory: from `forward`.
            upstream: gradient of the outputs, [frames, batch, units] for each direction.
            upstream_final: gradients of the final states, [directions, batch, units] each.
        """

        def step(frame: tf.Tensor, carried: Tensors) -> tuple[Tensors, Tensors]:
            kept = tuple(self._at(frame, each) for each in memory.kept)
            pairs = zip(memory.states, memory.initial, strict=True)
            before = tuple(self._before(frame, each, first) for each, first in pairs)
            after = tuple(self._at(frame, each) for each in memory.states)
            arrived = (carried[0] + self._at(frame, upstream), *carried[1:])
            inner, (hidden, *others) = self._cell.backward(kept, before, after, arrived)
            through = self._cell.through(inner, kept)
            hidden += self._product(through, self._kernel, transpose_b=True)
            carried = self._where_real(frame, (hidden, *others), carried)
            inner = self._where_real(frame, (inner,), (tf.zeros_like(inner),))
            return carried, _by_direction(inner)

        tables = self._tables([self._cell.gates])
        first, inner = _scan(
            self._frames, upstream_final, tables, step, backwards=True, unrolled=True
        )
        kept = zip(*memory.kept, strict=True) if memory.kept else ((),) * len(inner)
        through = [self._cell.through(*pair) for pair in zip(inner, kept, strict=True)]
        # through: [frames, batch, gates * units] for each direction
        biases = (tf.stack([tf.reduce_sum(each, [0, 1]) for each in through]),)
        kernel = self._kernel_gradient(memory, through)
        return inner, first, (kernel, *biases[: len(self._biases)])

    def _kernel_gradient(self, memory: _Memory, through: Sequence[tf.Tensor]) -> tf.Tensor:
        """Returns float32 [directions, units, gates * units]; through: see `backward`."""
        total = []
        for direction, (states, gradient) in enumerate(zip(memory.states[0], through, strict=True)):
            initial = memory.initial[0][direction]
            # At its first frame a direction comes from its initial state.
            if direction:
                before, after, first = states[1:], gradient[:-1], gradient[-1]
            else:
                before, after, first = states[:-1], gradient[1:], gradient[0]
            rows = self._product(_rows(before), _rows(after), transpose_a=True)
            total.append(rows + self._product(initial, first, transpose_a=True))
        return tf.stack(total)

    def _step(self, frame: tf.Tensor, states: Tensors) -> tuple[Tensors, Tensors]:
        """The cell at one frame; writes the states and what the cell keeps."""
        product = self._product(states[0], self._kernel)
        for bias in self._biases:
            product += bias[:, tf.newaxis]
        after, kept = self._cell.forward(self._at(frame, self._projected), product, states)
        after = self._where_real(frame, after, states)
        return after, (*after, *kept)

    def _at(self, frame: tf.Tensor, tables: Tensors) -> tf.Tensor:
        """Returns [directions, batch, width] of [frames, batch, width] for each direction."""
        rows = (frame, self._frames - 1 - frame)
        return tf.stack([tf.gather(*pair) for pair in zip(tables, rows, strict=False)])

    def _before(self, frame: tf.Tensor, states: Tensors, initial: tf.Tensor) -> tf.Tensor:
        """Returns a state [directions, batch, units] before a frame."""
        return tf.where(frame > 0, self._at(tf.maximum(frame - 1, 0), states), initial)

    def _product(self, left: tf.Tensor, right: tf.Tensor, **transposed: bool) -> tf.Tensor:
        """Multiplies in the compute type; returns float32."""
        left, right = tf.cast(left, self._compute_dtype), tf.cast(right, self._compute_dtype)
        return tf.cast(tf.matmul(left, right, **transposed), tf.float32)

    def _where_real(self, frame: tf.Tensor, real: Tensors, padding: Tensors) -> Tensors:
        """Returns `real` where a frame is the utterance's own, else `padding`."""
        if self._length is None:
            return real
        mask = is_real(frame, self._length, self._frames, len(self._projected))[..., tf.newaxis]
        # mask: [directions, batch, 1]
        return tuple(tf.where(mask, *each) for each in zip(real, padding, strict=True))

    def _zero_padding(self, outputs: Tensors) -> Tensors:
        """Zeros [frames, batch, units] of each direction where a frame is padding."""
        if self._length is None:
            return outputs
        real = tf.transpose(tf.sequence_mask(self._length, self._frames))[..., tf.newaxis]
        return tuple(tf.where(real, each, 0.0) for each in outputs)

    def _tables(self, widths: Sequence[int]) -> list[_Table]:
        """Returns tables of rows [batch, width * units], each for all directions."""
        _, batch, gates = self._projected[0].shape
        shapes = (tf.TensorShape([batch, width * (gates // self._cell.gates)]) for width in widths)
        directions = range(len(self._projected))
        return [_Table(shape, bool(direction)) for shape in shapes for direction in directions]


def _by_direction(written: Tensors) -> Tensors:
    """[directions, ...] each -> [...] of each direction for each."""
    return tuple(row for each in written for row in tf.unstack(each))


def _grouped(tables: Tensors, directions: int) -> tuple[Tensors, ...]:
    """Returns the tables of all directions for each of what was written."""
    return tuple(tables[at : at + directions] for at in range(0, len(tables), directions))


def _rows(values: tf.Tensor) -> tf.Tensor:
    """[frames, batch, width] -> [frames * batch, width]."""
    return tf.reshape(values, [-1, values.shape[2]])
