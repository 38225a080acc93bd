"""The CTC loss: connectionist temporal classification of logits against labels.

Graves, Fernandez, Gomez, Schmidhuber (2006), "Connectionist temporal classification". It consists
of plain operations, which XLA compiles for a TPU. TensorFlow's own CPU operation is the reference
in the tests; it is slower on a CPU.

Axes: `outputs` are the network's, `classes` what its softmax ranges over (the last is the blank),
`labels` the positions of a transcript. `rows` are 2 * batch: every utterance read forward, then
every utterance read from its end.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

# Stands for log(0): far below the log-probability of any path, yet finite, so that the difference
# of two of them is no NaN.
LOG_ZERO = -1e30

# Outputs that one turn of the loop takes. A TPU's time for an output is mostly that of starting the
# operations and of slicing the table that they read; see docs/tpu.md.
OUTPUTS_A_TURN = 16


def alignable(label: tf.Tensor, label_length: tf.Tensor, output_length: tf.Tensor) -> tf.Tensor:
    """Returns whether there are enough outputs for the labels and the blanks they need.

    Two equal labels in a row need a blank between them.

    Args:
        label: int32 [batch, labels], padded.
        label_length: int32 [batch].
        output_length: int32 [batch].

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
    """Computes the negative log-probability of the labels, summed over all alignments.

    Forward and backward variables come from one recursion: the backward variables are the forward
    ones of the utterance read from its end, so that both run as one batch. After an utterance's end
    the blank is certain. Read from the end, a path therefore waits in the first blank until the
    utterance begins, and the recursion needs no mask.

    An utterance whose labels can't be aligned has loss 0 and gradient 0 (see `alignable`).

    Args:
        logits: float [batch, outputs, classes], of any float type; the loss is computed in float32.
            Under XLA the shapes must be static.
        output_length: int32 [batch], outputs of each utterance.
        label: int32 [batch, labels], padded with any label.
        label_length: int32 [batch].

    Returns:
        float32 [batch], in nats.
    """
    logits = tf.cast(logits, tf.float32)
    feasible = alignable(label, label_length, output_length)
    batch, outputs = _size(logits, 0), _size(logits, 1)
    states = _States(label, label_length, logits.shape[2])
    one_hot = states.one_hot[:batch, :-1]  # [batch, labels, classes - 1]
    turns = -(-outputs // OUTPUTS_A_TURN)
    after_end = [[0, 0], [0, turns * OUTPUTS_A_TURN - outputs], [0, 0]]
    real = tf.sequence_mask(output_length, turns * OUTPUTS_A_TURN)[:, :, tf.newaxis]

    @tf.custom_gradient
    def loss_of(logits: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
        log_probs = tf.nn.log_softmax(tf.pad(logits, after_end))  # [batch, outputs, classes]
        spoken = tf.where(real, log_probs[:, :, :-1], LOG_ZERO)  # [batch, outputs, classes - 1]
        silent = tf.where(real, log_probs[:, :, -1:], 0.0)  # [batch, outputs, 1]
        parts = tf.concat(_exact_parts(spoken, 3), axis=2)  # [batch, outputs, 3 * (classes - 1)]
        variables = _log_variables(_both_ways(parts), _both_ways(silent), states)
        # Both variables contain the emission of their output.
        log_occupancy = _of_both_ways(variables) - _look_up(parts, one_hot)
        # An infeasible utterance has no path: its differences are meaningless and masked below.
        occupancy = tf.exp(tf.minimum(log_occupancy, 0.0))  # [batch, outputs, labels]
        expected = _sum_by_class(occupancy, one_hot)  # [batch, outputs, classes - 1]
        # At every output a path is either in a label or in a blank.
        blank = 1.0 - tf.reduce_sum(expected, axis=-1, keepdims=True)
        counts = tf.logical_and(real, feasible[:, tf.newaxis, tf.newaxis])
        gradient = tf.exp(log_probs) - tf.concat([expected, blank], axis=-1)
        gradient = tf.where(counts, gradient, 0.0)[:, :outputs]

        def backward(upstream: tf.Tensor) -> tf.Tensor:
            return upstream[:, tf.newaxis, tf.newaxis] * gradient

        return tf.where(feasible, -(variables.whole + variables.whole_scale), 0.0), backward

    return loss_of(logits)


class _States:
    """The states of a transcript, from both ends: pairs of a blank and the label after it.

    The last pair's label doesn't exist; no path comes back from it.
    """

    def __init__(self, label: tf.Tensor, label_length: tf.Tensor, classes: int) -> None:
        """See `ctc_loss`; classes: how many there are, the blank included."""
        batch, labels = _size(label, 0), _size(label, 1)
        nothing = tf.fill([2 * batch, 1], -1)
        symbol = tf.concat([_both_ways(label), nothing], axis=1)  # [rows, pairs]
        before = tf.concat([nothing, symbol[:, :-1]], axis=1)
        self.one_hot = tf.one_hot(symbol, classes - 1)  # [rows, pairs, classes - 1]
        # Whether a path may enter a label directly from the one before it: not between equal ones.
        # A function, because == and != between tensors of a TPUEstimator's graph compare objects.
        self.direct = tf.not_equal(symbol, before)  # [rows, pairs]
        # Read from its end, a padded transcript begins after its padding.
        first = tf.concat([tf.zeros_like(label_length), labels - label_length], axis=0)
        is_first = tf.equal(tf.range(labels + 1), first[:, tf.newaxis])
        self.initial = tf.where(is_first, 0.0, LOG_ZERO)  # of the blanks, [rows, pairs]


def _size(tensor: tf.Tensor, axis: int) -> int | tf.Tensor:
    """Returns the size of an axis, as an int if it is known, which XLA requires."""
    return tensor.shape[axis] if tensor.shape[axis] is not None else tf.shape(tensor)[axis]


def _both_ways(values: tf.Tensor) -> tf.Tensor:
    """[batch, ...] -> [rows, ...]: as it is, and with the second axis read from its end."""
    return tf.concat([values, tf.reverse(values, [1])], axis=0)


class _Variables(NamedTuple):
    """Logarithms of the forward and backward variables, each a small number plus a scale.

    Thousands of outputs add up to thousands of nats, for which a float32 has no decimals left. The
    scales are whole numbers, so that they are added and subtracted exactly.
    """

    labels: tf.Tensor  # [outputs, rows, pairs]
    scale: tf.Tensor  # of the labels, [outputs, rows]
    whole: tf.Tensor  # of all paths through an utterance, [batch]
    whole_scale: tf.Tensor  # [batch]


def _log_variables(parts: tf.Tensor, silent: tf.Tensor, states: _States) -> _Variables:
    """Computes the labels' variables at every output.

    Args:
        parts: log-probabilities of the classes but the blank, [rows, outputs, 3 * (classes - 1)];
            see `_look_up`.
        silent: log-probabilities of the blank, [rows, outputs, 1].
    """
    rows, outputs, pairs = _size(parts, 0), _size(parts, 1), _size(states.direct, 1)
    turns = outputs // OUTPUTS_A_TURN

    def by_turn(values: tf.Tensor) -> tf.Tensor:
        """[rows, outputs, ...] -> [turns, rows, outputs of a turn, ...]."""
        split = tf.reshape(values, [rows, turns, OUTPUTS_A_TURN, values.shape[2]])
        return tf.transpose(split, [1, 0, 2, 3])

    parts_by_turn, silent_by_turn = by_turn(parts), by_turn(silent)

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
        # Looked up turn by turn. In one table of all outputs the TPU compiler would make time the
        # minor axis, and every output's slice would read all of it.
        emissions = _look_up(tf.gather(parts_by_turn, index), states.one_hot)
        silences = tf.gather(silent_by_turn, index)  # [rows, outputs of a turn, 1]
        for output in range(OUTPUTS_A_TURN):
            # One sum serves the blank and the label after it, unless that equals the one before.
            entered = _log_add(blanks, _shift(labels))
            labels = _log_add(labels, tf.where(states.direct, entered, blanks))
            labels += emissions[:, output]
            blanks = entered + silences[:, output]
            table = table.write(index * OUTPUTS_A_TURN + output, labels)
        return index + 1, blanks, labels, scale, table, scales.write(index, scale)

    _, blanks, labels, scale, table, scales = tf.while_loop(
        lambda index, *unused: index < turns,
        turn,
        (
            tf.constant(0),
            states.initial,
            tf.fill([rows, pairs], LOG_ZERO),
            tf.zeros([rows]),
            tf.TensorArray(tf.float32, outputs, element_shape=states.direct.shape),
            tf.TensorArray(tf.float32, turns, element_shape=states.direct.shape[:1]),
        ),
        maximum_iterations=turns,
    )
    # Read from their ends, all utterances are complete at the last output: in the last blank, or,
    # if the batch has any labels, in the label before it.
    batch = rows // 2
    ends = tf.concat([blanks[batch:, -1:], labels[batch:, -2:-1]], axis=1)
    return _Variables(
        tf.ensure_shape(table.stack(), [parts.shape[1], *states.direct.shape]),
        tf.repeat(scales.stack(), OUTPUTS_A_TURN, axis=0),
        tf.reduce_logsumexp(ends, axis=1),
        scale[batch:],
    )


def _of_both_ways(variables: _Variables) -> tf.Tensor:
    """Multiplies forward and backward variables, as shares of the probability of all paths.

    Returns:
        Logarithms, [batch, outputs, labels].
    """
    batch, labels = _size(variables.labels, 1) // 2, _size(variables.labels, 2) - 1
    forward, backward = variables.labels[:, :batch, :-1], variables.labels[:, batch:, :-1]
    # A matrix product reverses the labels: a TPU is slow at reversing its minor axis.
    turned = tf.reverse(tf.eye(labels), [1])  # [labels, labels]
    parts = _exact_parts(tf.reverse(backward, [0]), 3)  # [outputs, batch, labels] each
    backward = tf.add_n([tf.einsum("obl,lm->obm", part, turned) for part in parts])
    scale = variables.scale[:, :batch] + tf.reverse(variables.scale[:, batch:], [0])
    share = (scale - variables.whole_scale) - variables.whole  # [outputs, batch]
    return tf.transpose(forward + backward + share[:, :, tf.newaxis], [1, 0, 2])


def _look_up(parts: tf.Tensor, one_hot: tf.Tensor) -> tf.Tensor:
    """Looks up the class of every label.

    Args:
        parts: three `_exact_parts` of each class but the blank, [rows, outputs, 3 * (classes - 1)].
        one_hot: [rows, labels, classes - 1].

    Returns:
        [rows, outputs, labels].
    """
    return tf.matmul(parts, tf.concat([one_hot] * 3, axis=2), transpose_b=True)


def _sum_by_class(occupancy: tf.Tensor, one_hot: tf.Tensor) -> tf.Tensor:
    """Sums over the labels of each class, with a relative precision of 16 bits.

    Args:
        occupancy: [rows, outputs, labels].
        one_hot: [rows, labels, classes - 1].

    Returns:
        [rows, outputs, classes - 1].
    """
    parts = tf.concat(_exact_parts(occupancy, 2), axis=2)  # [rows, outputs, 2 * labels]
    return tf.matmul(parts, tf.concat([one_hot] * 2, axis=1))


def _exact_parts(values: tf.Tensor, count: int) -> list[tf.Tensor]:
    """Splits `values` into summands that bfloat16 holds exactly; three hold all of a float32.

    A TPU rounds what it multiplies to bfloat16 and sums in float32. Multiplied by zeros and ones,
    the parts give float32's sums from one product. They are cut off by masking bits, because a
    compiler may remove a conversion to bfloat16 and back as redundant.
    """
    parts = []
    for _ in range(count - 1):
        bits = tf.bitwise.bitwise_and(tf.bitcast(values, tf.int32), tf.constant(-(2**16)))
        parts.append(tf.bitcast(bits, tf.float32))
        values -= parts[-1]
    return [*parts, values]


def _log_add(one: tf.Tensor, other: tf.Tensor) -> tf.Tensor:
    """Returns the logarithm of the sum of exponentials, elementwise."""
    return tf.maximum(one, other) + tf.math.log(1.0 + tf.exp(-tf.abs(one - other)))


def _shift(values: tf.Tensor) -> tf.Tensor:
    """Moves [rows, pairs] to the next pair and fills the first one with log(0)."""
    return tf.pad(values[:, :-1], [[0, 0], [1, 0]], constant_values=LOG_ZERO)
