"""Connectionist temporal classification: the loss of logits against labels.

Graves, Fernandez, Gomez, Schmidhuber (2006), "Connectionist temporal classification". Written in
plain operations, which XLA compiles for a TPU; TensorFlow's own CPU operation, the reference in the
tests, is slower on a CPU.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

# Stands for log(0): far below any path's log-probability, yet finite, so that differences of two
# of them are no NaN.
LOG_ZERO = -1e30

# Frames of the banded recursion in one turn of its loop. A TPU's time for a frame is mostly that of
# starting the operations and of slicing the table they read; see docs/tpu.md.
FRAMES_A_TURN = 16


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
    logits: tf.Tensor, output_length: tf.Tensor, label: tf.Tensor, label_length: tf.Tensor
) -> tf.Tensor:
    """Negative log-probability of the labels, summed over all alignments; the blank is last.

    Forward and backward variables are one recursion: the backward variables are the forward ones of
    the utterance read from its end, so that both run as one batch. Behind an utterance's end the
    blank is certain: a path waits there in the first blank until the utterance begins, and no mask
    is needed.

    An utterance whose labels can't be aligned has loss 0 and gradient 0 (see `alignable`).

    Args:
        logits: float [batch, frames, labels]; the loss works in float32 whatever their type.
            Under XLA the shapes must be static.
        output_length: int32 [batch], frames of each utterance.
        label: int32 [batch, labels], padded with any label.
        label_length: int32 [batch].

    Returns:
        float32 [batch], in nats.
    """
    logits = tf.cast(logits, tf.float32)
    feasible = alignable(label, label_length, output_length)
    batch, frames = _size(logits, 0), _size(logits, 1)
    states = _States(label, label_length, logits.shape[2] - 1)
    labels = states.one_hot[:batch, :-1]  # [batch, labels, characters]
    turns = -(-frames // FRAMES_A_TURN)
    behind = [[0, 0], [0, turns * FRAMES_A_TURN - frames], [0, 0]]
    real = tf.sequence_mask(output_length, turns * FRAMES_A_TURN)[:, :, tf.newaxis]

    @tf.custom_gradient
    def loss_of(logits: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
        log_probs = tf.nn.log_softmax(tf.pad(logits, behind))  # [batch, frames, labels]
        spoken = tf.where(real, log_probs[:, :, :-1], LOG_ZERO)  # [batch, frames, characters]
        silent = tf.where(real, log_probs[:, :, -1:], 0.0)  # [batch, frames, 1]
        variables = _log_variables(_both_ways(spoken), _both_ways(silent), states)
        # Both variables hold the emission of their frame.
        log_occupancy = _of_both_ways(variables) - _look_up(spoken, labels)
        # An infeasible utterance has no path: its differences mean nothing and are masked below.
        occupancy = tf.exp(tf.minimum(log_occupancy, 0.0))  # [batch, frames, labels]
        expected = _sum_by_character(occupancy, labels)
        # At every frame a path is somewhere: where it is in no label, it is in a blank.
        blank = 1.0 - tf.reduce_sum(expected, axis=-1, keepdims=True)
        counts = tf.logical_and(real, feasible[:, tf.newaxis, tf.newaxis])
        gradient = tf.exp(log_probs) - tf.concat([expected, blank], axis=-1)
        gradient = tf.where(counts, gradient, 0.0)[:, :frames]

        def backward(upstream: tf.Tensor) -> tf.Tensor:
            return upstream[:, tf.newaxis, tf.newaxis] * gradient

        return tf.where(feasible, -(variables.whole + variables.whole_scale), 0.0), backward

    return loss_of(logits)


class _States:
    """A label's states, from both ends: pairs of a blank and the label behind it.

    The last pair's label doesn't exist; no path comes back from it.
    """

    def __init__(self, label: tf.Tensor, label_length: tf.Tensor, characters: int) -> None:
        batch, labels = _size(label, 0), _size(label, 1)
        nothing = tf.fill([2 * batch, 1], -1)
        symbol = tf.concat([_both_ways(label), nothing], axis=1)  # [2 * batch, pairs]
        before = tf.concat([nothing, symbol[:, :-1]], axis=1)
        self.one_hot = tf.one_hot(symbol, characters)  # [2 * batch, pairs, characters]
        # What it costs to enter a label from the one before it: equal ones need a blank between.
        # Written out: between tensors of a TPUEstimator's graph, == and != compare identities.
        self.enter = tf.where(tf.not_equal(symbol, before), 0.0, LOG_ZERO)  # [2 * batch, pairs]
        # Read from its end, a padded label begins behind its padding.
        first = tf.concat([tf.zeros_like(label_length), labels - label_length], axis=0)
        is_first = tf.equal(tf.range(labels + 1), first[:, tf.newaxis])
        self.initial = tf.where(is_first, 0.0, LOG_ZERO)  # blanks: [2 * batch, pairs]


def _size(tensor: tf.Tensor, axis: int) -> int | tf.Tensor:
    """Static if it is known: XLA asks for it."""
    return tensor.shape[axis] if tensor.shape[axis] is not None else tf.shape(tensor)[axis]


def _both_ways(values: tf.Tensor) -> tf.Tensor:
    """[batch, ...] -> [2 * batch, ...]: as it is, and with the second axis read from its end."""
    return tf.concat([values, tf.reverse(values, [1])], axis=0)


class _Variables(NamedTuple):
    """Logarithms of the variables, each the sum of a small number and a scale.

    Thousands of frames add up to thousands of nats, of which a float32 has no decimals left. The
    scales are whole numbers, so that they are added and subtracted exactly.
    """

    labels: tf.Tensor  # [frames, 2 * batch, pairs]
    scale: tf.Tensor  # of the labels, [frames, 2 * batch]
    whole: tf.Tensor  # of all paths through an utterance, [batch]
    whole_scale: tf.Tensor  # [batch]


def _log_variables(spoken: tf.Tensor, silent: tf.Tensor, states: _States) -> _Variables:
    """The labels' variables at every frame.

    Args:
        spoken: log-probabilities of the characters, [2 * batch, frames, characters].
        silent: of the blank, [2 * batch, frames, 1].
    """
    rows, frames, pairs = _size(spoken, 0), _size(spoken, 1), _size(states.enter, 1)
    turns = frames // FRAMES_A_TURN

    def by_turn(values: tf.Tensor) -> tf.Tensor:
        """[turns, rows, frames of a turn, ...]"""
        split = tf.reshape(values, [rows, turns, FRAMES_A_TURN, values.shape[2]])
        return tf.transpose(split, [1, 0, 2, 3])

    spoken_by_turn, silent_by_turn = by_turn(spoken), by_turn(silent)

    def turn(
        index: tf.Tensor,
        blanks: tf.Tensor,
        labels: tf.Tensor,
        scale: tf.Tensor,
        table: Any,
        scales: Any,
    ) -> tuple[Any, ...]:
        largest = tf.round(tf.reduce_max(tf.maximum(blanks, labels), axis=1))  # [rows]
        blanks -= largest[:, tf.newaxis]
        labels -= largest[:, tf.newaxis]
        scale += largest
        # Looked up turn by turn: of a table of all frames made at once the TPU compiler makes time
        # the minor axis, and every frame's slice then reads all of it.
        emissions = _look_up(tf.gather(spoken_by_turn, index), states.one_hot)
        silences = tf.gather(silent_by_turn, index)  # [rows, frames of a turn, 1]
        for frame in range(FRAMES_A_TURN):
            before = _shifted(labels)
            labels = _log_add(labels, blanks, before + states.enter) + emissions[:, frame]
            blanks = _log_add(blanks, before) + silences[:, frame]
            table = table.write(index * FRAMES_A_TURN + frame, labels)
        return index + 1, blanks, labels, scale, table, scales.write(index, scale)

    _, blanks, labels, scale, table, scales = tf.while_loop(
        lambda index, *unused: index < turns,
        turn,
        (
            tf.constant(0),
            states.initial,
            tf.fill([rows, pairs], LOG_ZERO),
            tf.zeros([rows]),
            tf.TensorArray(tf.float32, frames, element_shape=states.enter.shape),
            tf.TensorArray(tf.float32, turns, element_shape=states.enter.shape[:1]),
        ),
        maximum_iterations=turns,
    )
    # Read from their ends, all utterances are through at the last frame: in the last blank, or in
    # the label in front of it, if a batch has any labels.
    batch = rows // 2
    ends = tf.concat([blanks[batch:, -1:], labels[batch:, -2:-1]], axis=1)
    return _Variables(
        tf.ensure_shape(table.stack(), [spoken.shape[1], *states.enter.shape]),
        tf.repeat(scales.stack(), FRAMES_A_TURN, axis=0),
        tf.reduce_logsumexp(ends, axis=1),
        scale[batch:],
    )


def _of_both_ways(variables: _Variables) -> tf.Tensor:
    """Products of forward and backward variables, as shares of the whole: [batch, frames, labels].

    In logarithms.
    """
    batch, labels = _size(variables.labels, 1) // 2, _size(variables.labels, 2) - 1
    forward, backward = variables.labels[:, :batch, :-1], variables.labels[:, batch:, :-1]
    # The states are turned round by a matrix product: a TPU has no quick way along the minor axis.
    turned = tf.reverse(tf.eye(labels), [1])  # [labels, labels]
    parts = _exact_parts(tf.reverse(backward, [0]), 3)  # [frames, batch, labels] each
    backward = tf.add_n([tf.einsum("fbl,lm->fbm", part, turned) for part in parts])
    scale = variables.scale[:, :batch] + tf.reverse(variables.scale[:, batch:], [0])
    share = (scale - variables.whole_scale) - variables.whole  # [frames, batch]
    return tf.transpose(forward + backward + share[:, :, tf.newaxis], [1, 0, 2])


def _look_up(spoken: tf.Tensor, one_hot: tf.Tensor) -> tf.Tensor:
    """[rows, frames, characters] for every state's character: [rows, frames, states]."""
    parts = tf.concat(_exact_parts(spoken, 3), axis=2)  # [rows, frames, 3 * characters]
    return tf.matmul(parts, tf.concat([one_hot] * 3, axis=2), transpose_b=True)


def _sum_by_character(occupancy: tf.Tensor, one_hot: tf.Tensor) -> tf.Tensor:
    """[rows, frames, states] summed over the states of each character: [rows, frames, characters].

    To 16 bits, relative.
    """
    parts = tf.concat(_exact_parts(occupancy, 2), axis=2)  # [rows, frames, 2 * states]
    return tf.matmul(parts, tf.concat([one_hot] * 2, axis=1))


def _exact_parts(values: tf.Tensor, count: int) -> list[tf.Tensor]:
    """Summands of `values` that bfloat16 holds exactly; three hold all of a float32.

    A TPU rounds what it multiplies to bfloat16 and sums in float32. Multiplied by zeros and ones,
    the parts give float32's sums from one product. They are cut off bit by bit because a compiler
    may take a conversion to bfloat16 and back for superfluous.
    """
    parts = []
    for _ in range(count - 1):
        bits = tf.bitwise.bitwise_and(tf.bitcast(values, tf.int32), tf.constant(-(2**16)))
        parts.append(tf.bitcast(bits, tf.float32))
        values -= parts[-1]
    return [*parts, values]


def _log_add(*terms: tf.Tensor) -> tf.Tensor:
    """Logarithm of the sum of exponentials, elementwise."""
    largest = terms[0]
    for term in terms[1:]:
        largest = tf.maximum(largest, term)
    return largest + tf.math.log(tf.add_n([tf.exp(term - largest) for term in terms]))


def _shifted(values: tf.Tensor) -> tf.Tensor:
    """[rows, pairs] moved to the next pair, log(0) moving in."""
    return tf.pad(values[:, :-1], [[0, 0], [1, 0]], constant_values=LOG_ZERO)
