"""Prints values of a training step, for --logging=debug.

These are the gradients' norms, and features, logits, best path and label of one utterance.
"""

import sys
from collections.abc import Iterable, Sequence

import tensorflow as tf

from speech.optimisation.step import Step, Tensors
from utils import Alphabet

STEPS = 50  # between two descriptions
VALUES = 10  # that are printed of a tensor
LABELS = 20  # that are printed as numbers


def described_values(step: Step, features: Tensors, labels: Tensors) -> list[tf.Tensor]:
    """Returns what `describe` prints.

    Args:
        features, labels: see step.training_step.

    Returns:
        The gradients' norms, float32 [variables]; then, of the batch's first utterance, features
        [1, frames, bins], logits [1, outputs, classes] and label [1, labels], each followed by its
        length, int32 [1].
    """
    norms = tf.stack([tf.norm(each) for each in step.gradients.values()])
    return [
        norms,
        *(features["features"][:1], features["feature_length"][:1]),
        *(step.logits[:1], step.output_length[:1]),
        *(labels["label"][:1], labels["label_length"][:1]),
    ]


def describe(
    step: tf.Tensor, values: Sequence[tf.Tensor], variables: Iterable[str], alphabet: Alphabet
) -> tf.Operation:
    """Prints values of a step.

    Args:
        step: int64 scalar.
        values: from `described_values`.
        variables: names of the variables whose gradients' norms are given.
    """
    norms, *padded = values
    features, logits, label = (
        each[0, : length[0]] for each, length in zip(padded[::2], padded[1::2], strict=True)
    )
    return _print(
        tf.strings.format("D step {}", step),
        *_gradients(variables, norms),
        _statistics("features [frames, bins]", features),
        _statistics("logits [outputs, classes]", logits),
        tf.strings.join(["  best path: ", _text(alphabet, _best_path(logits[:, : alphabet.size]))]),
        tf.strings.join(["  label: ", _text(alphabet, label)]),
        tf.strings.format("  labels: {}", label[:LABELS], summarize=LABELS),
    )


def _print(*lines: tf.Tensor) -> tf.Operation:
    # The host of a remote TPU runs no Python, and so no logging.
    return tf.print(tf.strings.join(lines, "\n"), output_stream=sys.stderr)


def _gradients(names: Iterable[str], norms: tf.Tensor) -> list[tf.Tensor]:
    """Formats a line for each variable; norms: float32 [variables]."""
    numbers = _numbers(norms)
    return [
        tf.strings.join(["  gradient norm ", numbers[i], "  ", name])
        for i, name in enumerate(names)
    ]


def _statistics(name: str, values: tf.Tensor) -> tf.Tensor:
    """Formats shape, mean, deviation and the first values of a tensor in a line."""
    first = tf.strings.reduce_join(_numbers(tf.reshape(values, [-1])[:VALUES]), separator=", ")
    mean, deviation = _numbers(tf.reduce_mean(values)), _numbers(tf.math.reduce_std(values))
    shape = tf.strings.format(f"  {name} {{}}", tf.shape(values))
    return tf.strings.join(
        [shape, ", mean ", mean, ", deviation ", deviation, ": ", first, ", ..."]
    )


def _numbers(values: tf.Tensor) -> tf.Tensor:
    return tf.strings.as_string(values, precision=4)


def _best_path(logits: tf.Tensor) -> tf.Tensor:
    """Returns the labels [labels] of the best path of logits [outputs, classes]."""
    (best,), _ = tf.nn.ctc_greedy_decoder(logits[:, tf.newaxis], tf.shape(logits)[:1])
    return best.values


def _text(alphabet: Alphabet, labels: tf.Tensor) -> tf.Tensor:
    """Returns the text of labels [labels], a string tensor."""
    characters = [alphabet.decode([label]) for label in range(alphabet.blank)]
    return tf.strings.reduce_join(tf.gather(characters, labels))
