"""Prints values of a training step, for --logging=debug.

These are the gradients' norms, and features, logits, best path and label of one utterance. They
reach the host as TensorBoard's curves do, by TPUEstimator's host_call, so a TPU's are printed too.
"""

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from utils import Alphabet

HostCall = tuple[Callable[..., Any], list[tf.Tensor]]

STEPS = 50  # between two descriptions
VALUES = 10  # that are printed of a tensor
LABELS = 20  # that are printed as numbers


@dataclass(frozen=True)
class StepValues:
    """The tensors of a step that a description shows."""

    gradient_norms: dict[str, tf.Tensor]  # scalars by their variables' names, before clipping
    features: tf.Tensor  # float32 [batch, frames, bins]
    feature_length: tf.Tensor  # int32 [batch]
    logits: tf.Tensor  # float32 [batch, outputs, classes]
    output_length: tf.Tensor  # int32 [batch]
    label: tf.Tensor  # int32 [batch, labels]
    label_length: tf.Tensor  # int32 [batch]


def describe_too(host_call: HostCall, values: StepValues, alphabet: Alphabet) -> HostCall:
    """Extends a host_call, whose first tensor is the step, by a description every STEPS steps."""
    write, tensors = host_call
    names = list(values.gradient_norms)
    # A TPU sends only tensors with an axis of cores to its host.
    norms = tf.stack(list(values.gradient_norms.values()))[tf.newaxis]  # [cores, variables]
    utterance = [
        (values.features[:1], values.feature_length[:1]),
        (values.logits[:1], values.output_length[:1]),
        (values.label[:1], values.label_length[:1]),
    ]  # the first one of every core

    def write_and_describe(*given: tf.Tensor) -> Any:
        step, norms, *padded = (each[0] for each in (given[0], *given[len(tensors) :]))
        features, logits, label = (
            each[:length] for each, length in zip(padded[::2], padded[1::2], strict=True)
        )
        description = tf.cond(
            tf.equal(step % STEPS, 0),
            lambda: _print(
                tf.strings.format("D step {}", step),
                *_gradients(names, norms),
                _statistics("features [frames, bins]", features),
                _statistics("logits [outputs, classes]", logits),
                tf.strings.join(["  best path: ", _text(alphabet, _best_path(logits))]),
                tf.strings.join(["  label: ", _text(alphabet, label)]),
                tf.strings.format("  labels: {}", label[:LABELS], summarize=LABELS),
            ),
            tf.no_op,
            name="describe_step",
        )
        return tf.group(*tf.nest.flatten(write(*given[: len(tensors)])), description)

    return write_and_describe, [*tensors, norms, *(each for pair in utterance for each in pair)]


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
