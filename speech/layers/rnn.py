"""Recurrent layers: a simple RNN of clipped ReLUs, LSTM and GRU, in one direction or both.

recurrence.py runs the cells over the frames and computes the gradients; both directions run in one
loop. The products with the inputs are one matrix product before the loop.
"""

import tensorflow as tf

import constants
from speech.layers import recurrence
from speech.layers.recurrence import Cell, Tensors

# More than a unit's inputs ever sum to.
BEYOND_ANY_SUM = 1e30


def clipped_relu(values: tf.Tensor) -> tf.Tensor:
    """Returns min(max(x, 0), 20), of any shape (Deep Speech, arXiv 1412.5567, section 2)."""
    return tf.nn.relu(tf.minimum(values, tf.cast(constants.RELU_CLIP, values.dtype)))


def bidirectional_rnn(
    inputs: tf.Tensor,
    length: tf.Tensor,
    kernel: tf.Tensor,
    recurrent_kernel: tf.Tensor,
    bias: tf.Tensor,
    compute_dtype: tf.DType,
) -> tf.Tensor:
    """Computes the simple RNN of Deep Speech; the two directions are summed.

        h[t] = clipped_relu(W x[t] + U h[t -+ 1] + b)

    Deep Speech (arXiv 1412.5567, equations 3 and 4, and the sum of section 2). The backward
    direction starts at an utterance's last real frame, so padding reaches no real frame.

    Args:
        inputs: float [batch, frames, inputs].
        length: int32 [batch], real frames of each utterance.
        kernel: float32 [2, inputs, units], forward and backward; [1, inputs, units] if it is one
            that both share, as in the paper.
        recurrent_kernel: float32 [2, units, units].
        bias: float32 [2, units], or [1, units].
        compute_dtype: type of the matrix products; states are float32.

    Returns:
        float32 [frames, batch, units], the order in which the loop writes it and reads its
        gradient. In batch-major order a TPU's compiler would transpose both inside the loop.
    """
    projected = recurrence.project(inputs, kernel, bias, compute_dtype, directions=2)
    real = tf.transpose(tf.sequence_mask(length, tf.shape(projected[0])[0]))  # [frames, batch]
    # The activation cuts this to zero whatever it is added to, so that the loop needs no mask.
    padding = tf.where(real, 0.0, -BEYOND_ANY_SUM)[..., tf.newaxis]
    projected = tuple(each + padding for each in projected)
    initial = recurrence.zero_states(_CLIPPED_RELU, projected)
    (forward, backward), _ = recurrence.run(
        _CLIPPED_RELU, projected, None, recurrent_kernel, None, initial, compute_dtype
    )
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
    """Computes a long short-term memory with forget gates, as tf.keras.layers.LSTM does.

        i, f, o = sigmoid(W x[t] + U h[t - 1] + b)      g = tanh(W x[t] + U h[t - 1] + b)
        c[t] = f * c[t - 1] + i * g                     h[t] = o * tanh(c[t])

    Hochreiter and Schmidhuber (Neural Computation 9(8), 1997), forget gates by Gers, Schmidhuber
    and Cummins (Neural Computation 12(10), 2000). The gates are in Keras' order i, f, g, o. The
    backward direction starts at an utterance's last real frame. Padding leaves the state as it is
    and has outputs of zero, as in tf.keras.layers.Bidirectional.

    Args:
        inputs: float [batch, frames, inputs].
        length: int32 [batch], real frames of each utterance.
        kernel: float32 [directions, inputs, 4 * units]; directions is 1 (forward) or 2 (forward
            and backward).
        recurrent_kernel: float32 [directions, units, 4 * units].
        bias: float32 [directions, 4 * units].
        compute_dtype: type of the matrix products; states are float32.
        initial: h and c before the first frame, float32 [directions, batch, units] each; zeros if
            not given.

    Returns:
        h of all frames, float32 [directions, batch, frames, units], and h and c after each
        utterance's last real frame (for the backward direction its first), as `initial`.
    """
    projected = recurrence.project(inputs, kernel, bias, compute_dtype, kernel.shape[0])
    initial = initial or recurrence.zero_states(_LSTM, projected)
    outputs, (hidden, memory) = recurrence.run(
        _LSTM, projected, length, recurrent_kernel, None, initial, compute_dtype
    )
    return recurrence.batch_major(outputs), (hidden, memory)


def gru(
    inputs: tf.Tensor,
    length: tf.Tensor,
    kernel: tf.Tensor,
    recurrent_kernel: tf.Tensor,
    bias: tf.Tensor,
    compute_dtype: tf.DType,
    initial: tf.Tensor | None = None,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Computes gated recurrent units, as tf.keras.layers.GRU(reset_after=True) and cuDNN do.

        z, r = sigmoid(W x[t] + b + U h[t - 1] + d)
        g = tanh(W x[t] + b + r * (U h[t - 1] + d))     h[t] = z * h[t - 1] + (1 - z) * g

    Cho et al. (arXiv 1406.1078; version 1 applies the reset gate after the product, as here). The
    gates are in Keras' order z, r, g. Directions and padding are as in `lstm`.

    Args:
        inputs: float [batch, frames, inputs].
        length: int32 [batch], real frames of each utterance.
        kernel: float32 [directions, inputs, 3 * units]; directions is 1 (forward) or 2 (forward
            and backward).
        recurrent_kernel: float32 [directions, units, 3 * units].
        bias: float32 [directions, 2, 3 * units]: b for the product with the inputs, d for that with
            the states.
        compute_dtype: type of the matrix products; states are float32.
        initial: h before the first frame, float32 [directions, batch, units]; zeros if not given.

    Returns:
        h of all frames, float32 [directions, batch, frames, units], and h after each utterance's
        last real frame (for the backward direction its first), as `initial`.
    """
    projected = recurrence.project(inputs, kernel, bias[:, 0], compute_dtype, kernel.shape[0])
    states = recurrence.zero_states(_GRU, projected) if initial is None else (initial,)
    outputs, (hidden,) = recurrence.run(
        _GRU, projected, length, recurrent_kernel, bias[:, 1], states, compute_dtype
    )
    return recurrence.batch_major(outputs), hidden


# --- Cells ----------------------------------------------------------------------------------------

# The functions of each `Cell`, which documents their arguments and results.


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


_CLIPPED_RELU = Cell(1, 1, 0, _rnn_forward, _rnn_backward, _unchanged)
_LSTM = Cell(4, 2, 4, _lstm_forward, _lstm_backward, _unchanged)
_GRU = Cell(3, 1, 4, _gru_forward, _gru_backward, _gru_through)
