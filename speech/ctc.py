"""Connectionist temporal classification: the loss of logits against labels.

Graves, Fernandez, Gomez, Schmidhuber (2006), "Connectionist temporal classification". Two
implementations with the same numbers: TensorFlow's CPU op, and a banded recursion in plain ops that
XLA compiles, for TPUs.
"""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

# Stands for log(0): far below any path's log-probability, yet finite, so that differences of two
# of them are no NaN.
LOG_ZERO = -1e30


def alignable(label: tf.Tensor, label_length: tf.Tensor, output_length: tf.Tensor) -> tf.Tensor:
    """Whether the outputs are enough for the labels and a blank between any two equal ones.

    Args:
        label: int32 [batch, labels], padded.
        label_length: int32 [batch].
        output_length: int32 [batch], outputs of the network.

    Returns:
        bool [batch].
    """
    pairs = tf.sequence_mask(label_length, tf.shape(label)[1])[:, 1:]  # [batch, labels - 1]
    repeats = tf.logical_and(tf.equal(label[:, 1:], label[:, :-1]), pairs)
    needed = label_length + tf.reduce_sum(tf.cast(repeats, tf.int32), axis=1)  # [batch]
    return tf.logical_and(needed <= output_length, output_length > 0)


def ctc_loss(
    logits: tf.Tensor,
    output_length: tf.Tensor,
    label: tf.Tensor,
    label_length: tf.Tensor,
    on_tpu: bool,
) -> tf.Tensor:
    """Negative log-probability of the labels, summed over all alignments; the blank is last.

    An utterance whose labels can't be aligned has loss 0 and gradient 0 (see `alignable`).

    Args:
        logits: float [batch, frames, labels]; the loss works in float32 whatever their type.
        output_length: int32 [batch], frames of each utterance.
        label: int32 [batch, labels], padded with any label.
        label_length: int32 [batch].
        on_tpu: takes the banded recursion, which needs static shapes.

    Returns:
        float32 [batch], in nats.
    """
    logits = tf.transpose(tf.cast(logits, tf.float32), [1, 0, 2])  # [frames, batch, labels]
    feasible = alignable(label, label_length, output_length)
    loss = _banded_loss if on_tpu else _op_loss
    return loss(logits, output_length, label, label_length, feasible)


def _op_loss(
    logits: tf.Tensor,
    output_length: tf.Tensor,
    label: tf.Tensor,
    label_length: tf.Tensor,
    feasible: tf.Tensor,
) -> tf.Tensor:
    """TensorFlow's CPU op. It refuses utterances without labels: their paths are blanks alone."""
    spoken = tf.logical_and(feasible, label_length > 0)  # [batch]
    # The op is given one label and one frame of the others, and what it says of them is not used.
    label = tf.pad(tf.where(spoken[:, tf.newaxis], label, 0), [[0, 0], [0, 1]])
    present = tf.sequence_mask(tf.where(spoken, label_length, 1), tf.shape(label)[1])
    sparse = tf.SparseTensor(
        tf.where(present), tf.boolean_mask(label, present), tf.shape(label, out_type=tf.int64)
    )
    loss = tf.compat.v1.nn.ctc_loss(sparse, logits, tf.where(spoken, output_length, 1))
    blanks = tf.nn.log_softmax(logits)[:, :, -1]  # [frames, batch]
    real = tf.transpose(tf.sequence_mask(output_length, tf.shape(logits)[0]))  # [frames, batch]
    silent_loss = -tf.reduce_sum(tf.where(real, blanks, 0.0), axis=0)  # [batch]
    return tf.where(feasible, tf.where(spoken, loss, silent_loss), 0.0)


def _banded_loss(
    logits: tf.Tensor,
    output_length: tf.Tensor,
    label: tf.Tensor,
    label_length: tf.Tensor,
    feasible: tf.Tensor,
) -> tf.Tensor:
    """Forward and backward variables over the 2 * labels + 1 states, one frame of each a step."""
    frames, _, classes = logits.shape
    states = _States(label, label_length, blank=classes - 1)

    @tf.custom_gradient
    def loss_of(logits: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
        log_probs = tf.nn.log_softmax(logits)  # [frames, batch, labels]
        joint = _log_forward_backward(log_probs, output_length, states)  # [frames, batch, states]
        log_likelihood = tf.reduce_logsumexp(joint[0], axis=-1)  # [batch]
        # An infeasible utterance has no path: its differences mean nothing and are masked below.
        occupancy = tf.exp(tf.minimum(joint - log_likelihood[tf.newaxis, :, tf.newaxis], 0.0))
        expected = tf.einsum("fbs,bsl->fbl", occupancy, states.one_hot)  # [frames, batch, labels]
        counts = tf.logical_and(tf.sequence_mask(output_length, frames), feasible[:, tf.newaxis])
        counts = tf.transpose(counts)[:, :, tf.newaxis]  # [frames, batch, 1]
        gradient = tf.where(counts, tf.exp(log_probs) - expected, 0.0)

        def backward(upstream: tf.Tensor) -> tf.Tensor:
            return upstream[tf.newaxis, :, tf.newaxis] * gradient

        return tf.where(feasible, -log_likelihood, 0.0), backward

    return loss_of(logits)


class _States:
    """The states of a label: a blank before, between and behind its labels."""

    def __init__(self, label: tf.Tensor, label_length: tf.Tensor, blank: int) -> None:
        batch, labels = label.shape
        self.count = 2 * labels + 1
        present = tf.sequence_mask(label_length, labels)
        real = tf.where(present, label, blank)  # [batch, labels]
        blanks = tf.fill([batch, labels], blank)
        pairs = tf.reshape(tf.stack([blanks, real], axis=2), [batch, 2 * labels])
        symbol = tf.concat([pairs, tf.fill([batch, 1], blank)], axis=1)  # [batch, states]
        self.one_hot = tf.one_hot(symbol, blank + 1)  # [batch, states, labels]
        two_before = tf.concat([tf.fill([batch, 2], blank), symbol[:, :-2]], axis=1)
        # Written out: between tensors of a TPUEstimator's graph, == and != compare identities.
        skippable = tf.logical_and(tf.not_equal(symbol, blank), tf.not_equal(symbol, two_before))
        # What it costs to enter a state from two before it, and to leave one to two behind it.
        self.enter = tf.where(skippable, 0.0, LOG_ZERO)  # [batch, states]
        self.leave = shift_left(self.enter, 2)  # [batch, states]
        position = tf.range(self.count)[tf.newaxis]  # [1, states]
        last = 2 * label_length[:, tf.newaxis]  # [batch, 1]
        starts = tf.logical_or(
            tf.equal(position, 0), tf.logical_and(tf.equal(position, 1), last > 0)
        )
        ends = tf.logical_or(tf.equal(position, last), tf.equal(position, last - 1))
        self.initial = tf.where(starts, 0.0, LOG_ZERO)  # [batch, states]
        self.final = tf.where(ends, 0.0, LOG_ZERO)  # [batch, states]


def _log_forward_backward(
    log_probs: tf.Tensor, output_length: tf.Tensor, states: _States
) -> tf.Tensor:
    """Log-probability of all paths that are in a state at a frame: [frames, batch, states]."""
    frames, batch, classes = log_probs.shape
    # Looked up frame by frame: of a table [frames, batch, states] made at once the TPU compiler
    # makes time the minor axis, and every frame's slice then reads all of it.
    by_label = tf.transpose(log_probs, [0, 2, 1])  # [frames, labels, batch]
    symbols = tf.transpose(states.one_hot, [2, 0, 1])  # [labels, batch, states]

    def emission(frame: tf.Tensor) -> tf.Tensor:
        at_frame = tf.slice(by_label, [frame, 0, 0], [1, classes, batch])[0]  # [labels, batch]
        return tf.reduce_sum(at_frame[:, :, tf.newaxis] * symbols, axis=0)  # [batch, states]

    def step(index: tf.Tensor, alpha: tf.Tensor, beta: tf.Tensor, *tables: Any) -> tuple[Any, ...]:
        alphas, betas = tables
        arrived = _log_add(alpha, shift_right(alpha, 1), shift_right(alpha, 2) + states.enter)
        alpha = tf.where(tf.equal(index, 0), states.initial, arrived) + emission(index)
        frame = frames - 1 - index
        ahead = beta + emission(tf.minimum(frame + 1, frames - 1))
        left = _log_add(ahead, shift_left(ahead, 1), shift_left(ahead, 2) + states.leave)
        beta = tf.where((frame >= output_length - 1)[:, tf.newaxis], states.final, left)
        return index + 1, alpha, beta, alphas.write(index, alpha), betas.write(frame, beta)

    def table() -> tf.TensorArray:
        return tf.TensorArray(tf.float32, frames, element_shape=[batch, states.count])

    nothing = tf.fill([batch, states.count], LOG_ZERO)
    *_, alphas, betas = tf.while_loop(
        lambda index, *unused: index < frames,
        step,
        (tf.constant(0), nothing, states.final, table(), table()),
        maximum_iterations=frames,
    )
    joint = alphas.stack() + betas.stack()
    joint.set_shape([frames, batch, states.count])
    return joint


def _log_add(*terms: tf.Tensor) -> tf.Tensor:
    """Logarithm of the sum of exponentials, elementwise."""
    largest = terms[0]
    for term in terms[1:]:
        largest = tf.maximum(largest, term)
    return largest + tf.math.log(tf.add_n([tf.exp(term - largest) for term in terms]))


def shift_right(values: tf.Tensor, places: int) -> tf.Tensor:
    """[batch, states] moved to later states, log(0) moving in."""
    return tf.pad(values[:, :-places], [[0, 0], [places, 0]], constant_values=LOG_ZERO)


def shift_left(values: tf.Tensor, places: int) -> tf.Tensor:
    """[batch, states] moved to earlier states, log(0) moving in."""
    return tf.pad(values[:, places:], [[0, 0], [0, places]], constant_values=LOG_ZERO)
