"""The recurrent layer: a clipped-ReLU simple RNN, both directions in one loop."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

import constants


def clipped_relu(values: tf.Tensor) -> tf.Tensor:
    """min(max(x, 0), 20), Deep Speech (arXiv 1412.5567, section 2), any shape."""
    low, high = (tf.cast(limit, values.dtype) for limit in (0.0, constants.RELU_CLIP))
    return tf.minimum(tf.maximum(values, low), high)


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
        kernel: float32 [2, inputs, units], forward and backward.
        recurrent_kernel: float32 [2, units, units].
        bias: float32 [2, units].
        compute_dtype: of the matrix products; states are float32.

    Returns:
        float32 [batch, frames, units].
    """
    by_time = tf.transpose(tf.cast(inputs, compute_dtype), [1, 0, 2])  # [frames, batch, inputs]
    reversed_ = tf.reverse_sequence(by_time, length, seq_axis=0, batch_axis=1)
    frames, batch = tf.shape(by_time)[0], tf.shape(by_time)[1]
    both = tf.stack([by_time, reversed_])  # [2, frames, batch, inputs]
    flat = tf.reshape(both, [2, frames * batch, inputs.shape[2]])
    projected = tf.cast(tf.matmul(flat, tf.cast(kernel, compute_dtype)), tf.float32)
    projected += bias[:, tf.newaxis]  # [2, frames * batch, units]
    projected = tf.reshape(projected, [2, frames, batch, kernel.shape[2]])
    projected = tf.ensure_shape(projected, [2, *by_time.shape[:2], kernel.shape[2]])
    states = _recurrence(
        tf.transpose(projected, [1, 0, 2, 3]), recurrent_kernel, compute_dtype
    )  # [frames, 2, batch, units]
    forward, backward = tf.unstack(states, axis=1)
    backward = tf.reverse_sequence(backward, length, seq_axis=0, batch_axis=1)
    return tf.transpose(forward + backward, [1, 0, 2])  # [batch, frames, units]


def _recurrence(
    projected: tf.Tensor, recurrent_kernel: tf.Tensor, compute_dtype: tf.DType
) -> tf.Tensor:
    """All states of h[t] = clipped_relu(projected[t] + h[t - 1] U), h[-1] = 0.

    The gradient is written by hand: automatic differentiation through the loop stacks a dense
    gradient of the whole input at every step, and here dU is one product over all frames.

    Args:
        projected: float32 [frames, directions, batch, units].
        recurrent_kernel: float32 [directions, units, units].

    Returns:
        float32 [frames, directions, batch, units].
    """
    step_shape = projected.shape[1:]
    units = projected.shape[3]

    def product(left: tf.Tensor, right: tf.Tensor, **transposed: bool) -> tf.Tensor:
        left, right = tf.cast(left, compute_dtype), tf.cast(right, compute_dtype)
        return tf.cast(tf.matmul(left, right, **transposed), tf.float32)

    def run(frames: tf.Tensor, like: tf.Tensor, step: Callable[..., Any]) -> tf.Tensor:
        """Stacks what `step` writes for every frame, from a zero state."""
        table = tf.TensorArray(tf.float32, frames, element_shape=step_shape)
        *_, table = tf.while_loop(
            lambda index, *unused: index < frames,
            step,
            (tf.constant(0), tf.zeros_like(like[0]), table),
            maximum_iterations=frames,
        )
        return tf.ensure_shape(table.stack(), like.shape)

    @tf.custom_gradient
    def recurrence(
        projected: tf.Tensor, recurrent_kernel: tf.Tensor
    ) -> tuple[tf.Tensor, Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]]:
        # Static where it can be: XLA wants the length of a table as a constant.
        frames = projected.shape[0] or tf.shape(projected)[0]

        def forward(index: tf.Tensor, state: tf.Tensor, table: tf.TensorArray) -> tuple[Any, ...]:
            state = clipped_relu(tf.gather(projected, index) + product(state, recurrent_kernel))
            return index + 1, state, table.write(index, state)

        states = run(frames, projected, forward)  # [frames, directions, batch, units]

        def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            linear = tf.logical_and(states > 0.0, states < constants.RELU_CLIP)
            slope = tf.cast(linear, tf.float32)

            def backward(
                index: tf.Tensor, carried: tf.Tensor, table: tf.TensorArray
            ) -> tuple[Any, ...]:
                frame = frames - 1 - index
                inner = (tf.gather(upstream, frame) + carried) * tf.gather(slope, frame)
                carried = product(inner, recurrent_kernel, transpose_b=True)
                return index + 1, carried, table.write(frame, inner)

            inner = run(frames, projected, backward)  # [frames, directions, batch, units]
            before = tf.concat([tf.zeros_like(states[:1]), states[:-1]], axis=0)
            return inner, product(_rows(before, units), _rows(inner, units), transpose_a=True)

        return states, gradient

    return recurrence(projected, recurrent_kernel)


def _rows(values: tf.Tensor, units: int) -> tf.Tensor:
    """[frames, directions, batch, units] -> [directions, frames * batch, units]."""
    directions = values.shape[1]
    return tf.reshape(tf.transpose(values, [1, 0, 2, 3]), [directions, -1, units])
