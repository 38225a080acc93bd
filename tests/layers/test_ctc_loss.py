"""The CTC loss against TensorFlow's op and all paths; eager, in a v1 graph, and under XLA."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from speech.layers.ctc_loss import alignable, ctc_loss

Array = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int32]

OUTPUTS, LABELS, CLASSES = 24, 9, 5
BLANK = CLASSES - 1


@dataclass(frozen=True)
class Batch:
    logits: Array  # [batch, outputs, classes]
    output_length: Integers  # [batch]
    label: Integers  # [batch, labels]
    label_length: Integers  # [batch]


def needed(label: list[int]) -> int:
    """Returns the number of outputs on the shortest path of a transcript."""
    return len(label) + sum(one == other for one, other in itertools.pairwise(label))


def random_utterance(rng: np.random.Generator, kind: str) -> tuple[list[int], int]:
    """Returns the labels of a transcript and a number of outputs for it."""
    labels = {"empty": 0, "full": LABELS}.get(kind, int(rng.integers(1, LABELS + 1)))
    # Two classes alone make many repeats.
    label = [int(each) for each in rng.integers(0, rng.choice([1, 2, BLANK]), labels)]
    shortest = max(needed(label), 1)
    outputs = {
        "full": OUTPUTS,
        "exact": shortest,
        "infeasible": int(rng.integers(0, shortest)),
        "no outputs": 0,
    }.get(kind, int(rng.integers(shortest, OUTPUTS + 1)))
    return label, outputs


KINDS = ("empty", "full", "exact", "infeasible", "no outputs", "any", "any", "any")


def random_batch(seed: int, scale: float, size: int = 64) -> Batch:
    """Returns utterances of every kind; the padding of labels and outputs is random too."""
    rng = np.random.default_rng(seed)
    utterances = [random_utterance(rng, KINDS[each % len(KINDS)]) for each in range(size)]
    # TensorFlow's op computes with probabilities, and float32 has none below e^-87.
    logits = np.clip(scale * rng.normal(size=[size, OUTPUTS, CLASSES]), -40, 40)
    return batch_of(utterances, logits, rng)


def batch_of(
    utterances: list[tuple[list[int], int]], logits: npt.NDArray[Any], rng: np.random.Generator
) -> Batch:
    """Returns a batch of transcripts with their numbers of outputs; label padding is random."""
    padded = rng.integers(0, CLASSES, [len(utterances), LABELS])
    for row, (label, _) in zip(padded, utterances, strict=True):
        row[: len(label)] = label
    return Batch(
        logits=logits.astype(np.float32),
        output_length=np.array([outputs for _, outputs in utterances], np.int32),
        label=padded.astype(np.int32),
        label_length=np.array([len(label) for label, _ in utterances], np.int32),
    )


def tensors(batch: Batch) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns the arguments of ctc_loss, in its order."""
    return (
        tf.constant(batch.logits),
        tf.constant(batch.output_length),
        tf.constant(batch.label),
        tf.constant(batch.label_length),
    )


def op_loss(
    logits: tf.Tensor, output_length: tf.Tensor, label: tf.Tensor, label_length: tf.Tensor
) -> tf.Tensor:
    """Computes the loss by TensorFlow's CPU op, which rejects empty and infeasible labels."""
    feasible = alignable(label, label_length, output_length)  # [batch]
    spoken = tf.logical_and(feasible, label_length > 0)  # [batch]
    # The op gets one label and one output of the others, and its results for them are not used.
    label = tf.pad(tf.where(spoken[:, tf.newaxis], label, 0), [[0, 0], [0, 1]])
    present = tf.sequence_mask(tf.where(spoken, label_length, 1), tf.shape(label)[1])
    sparse = tf.SparseTensor(
        tf.where(present), tf.boolean_mask(label, present), tf.shape(label, out_type=tf.int64)
    )
    loss = tf.compat.v1.nn.ctc_loss(
        sparse, logits, tf.where(spoken, output_length, 1), time_major=False
    )
    blanks = tf.nn.log_softmax(logits)[:, :, -1]  # [batch, outputs]
    real = tf.sequence_mask(output_length, tf.shape(logits)[1])  # [batch, outputs]
    nothing = tf.zeros([], logits.dtype)
    silent_loss = -tf.reduce_sum(tf.where(real, blanks, nothing), axis=1)  # [batch]
    return tf.where(feasible, tf.where(spoken, loss, silent_loss), nothing)


Loss = Callable[..., tf.Tensor]


@cache
def function_of(loss_of: Loss, compiled: bool) -> Callable[..., tuple[tf.Tensor, tf.Tensor]]:
    @tf.function(jit_compile=compiled)
    def loss_and_gradient(
        logits: tf.Tensor, output_length: tf.Tensor, label: tf.Tensor, label_length: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(logits)
            loss = loss_of(logits, output_length, label, label_length)  # [batch]
            # Unequal weights reveal an upstream gradient that is lost.
            weight = tf.cast(tf.linspace(0.5, 2.0, loss.shape[0]), loss.dtype)
            total = tf.reduce_sum(loss * weight)
        return loss, tape.gradient(total, logits)

    return loss_and_gradient


def loss_and_gradient(
    batch: Batch, compiled: bool = False, loss_of: Loss = ctc_loss
) -> tuple[Array, Array]:
    """Returns the loss [batch] and gradient [batch, outputs, classes] of a weighted sum."""
    loss, gradient = function_of(loss_of, compiled)(*tensors(batch))
    return loss.numpy(), gradient.numpy()


def feasible(batch: Batch) -> npt.NDArray[np.bool_]:
    labels = [
        row[:length].tolist() for row, length in zip(batch.label, batch.label_length, strict=True)
    ]
    pairs = zip(labels, batch.output_length, strict=True)
    return np.array([n > 0 and needed(label) <= n for label, n in pairs])


# --- Against other ways to the same numbers -------------------------------------------------------


def assert_equal_losses(batch: Batch, compiled: bool) -> None:
    loss, gradient = loss_and_gradient(batch, compiled)
    expected_loss, expected_gradient = loss_and_gradient(batch, loss_of=op_loss)
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(gradient, expected_gradient, atol=1e-3)


@pytest.mark.parametrize("compiled", [False, True], ids=["graph", "xla"])
@pytest.mark.parametrize("scale", [0.1, 1.0, 5.0, 10.0, 20.0])
def test_loss_equals_tensorflows_op(scale: float, compiled: bool) -> None:
    for seed in range(3):
        assert_equal_losses(random_batch(seed, scale), compiled)


@st.composite
def utterances(draw: st.DrawFn) -> tuple[list[int], int]:
    """Draws labels and a number of outputs, often just enough for them or one too few."""
    label = draw(st.lists(st.integers(0, draw(st.integers(0, BLANK - 1))), max_size=LABELS))
    shortest = needed(label)
    choices = st.sampled_from([shortest, max(shortest - 1, 0), OUTPUTS])
    return label, draw(choices | st.integers(0, OUTPUTS))


# 200 batches of 32: 6400 utterances, each with its loss and all of its gradient.
@settings(max_examples=200, deadline=None)
@given(
    batch=st.lists(utterances(), min_size=32, max_size=32),
    scale=st.sampled_from([0.0, 0.1, 1.0, 5.0, 20.0]),
    peaks=st.floats(0, 1),
    seed=st.integers(0, 2**32 - 1),
    compiled=st.booleans(),
)
def test_loss_equals_tensorflows_op_whatever_the_utterances(
    batch: list[tuple[list[int], int]], scale: float, peaks: float, seed: int, compiled: bool
) -> None:
    """peaks: share of the outputs with one dominant class, as a trained network's have."""
    rng = np.random.default_rng(seed)
    logits = scale * rng.normal(size=[len(batch), OUTPUTS, CLASSES])
    sure = rng.random([len(batch), OUTPUTS, 1]) < peaks
    logits += 30 * sure * np.eye(CLASSES)[rng.integers(0, CLASSES, [len(batch), OUTPUTS])]
    assert_equal_losses(batch_of(batch, np.clip(logits, -40, 40), rng), compiled)


def longest_batch(logits: npt.NDArray[Any]) -> Batch:
    """Returns utterances of 865, 700 and 400 outputs with 338, 200 and 30 labels."""
    labels = np.random.default_rng(0).integers(0, 28, [3, 338])
    return Batch(
        logits=logits.astype(np.float32),
        output_length=np.array([865, 700, 400], np.int32),
        label=labels.astype(np.int32),
        label_length=np.array([338, 200, 30], np.int32),
    )


def assert_near_float64(batch: Batch, tolerance: float) -> None:
    """tolerance: that of the gradient; the loss is a sum of 865 numbers with 7 digits each."""
    loss, gradient = loss_and_gradient(batch)
    wide = replace(batch, logits=batch.logits.astype(np.float64))
    expected_loss, expected_gradient = loss_and_gradient(wide, loss_of=op_loss)
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(gradient, expected_gradient, atol=tolerance)


@pytest.mark.parametrize(("scale", "tolerance"), [(0.1, 1e-3), (1.0, 2e-3), (3.0, 3e-3)])
def test_longest_utterances_agree_with_float64(scale: float, tolerance: float) -> None:
    """Losses are 1200 to 3200 nats; the gradients are of losses weighted by up to two."""
    logits = scale * np.random.default_rng(0).normal(size=[3, 865, 29])
    assert_near_float64(longest_batch(logits), tolerance)


@pytest.mark.parametrize("sure", [5.0, 10.0, 20.0])
@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_trained_networks_logits_agree_with_float64(noise: float, sure: float) -> None:
    """A loss near zero is no difference of large numbers."""
    batch = longest_batch(noise * np.random.default_rng(1).normal(size=[3, 865, 29]))
    for row, (outputs, count) in enumerate(
        zip(batch.output_length, batch.label_length, strict=True)
    ):
        spoken = np.full(outputs, 28)  # blanks
        step = outputs // count
        spoken[: step * count] = np.repeat(batch.label[row, :count], step)
        spoken[step - 1 : step * count : step] = 28  # between any two labels
        batch.logits[row, np.arange(outputs), spoken] += sure
    assert_near_float64(batch, tolerance=1e-3)


def test_loss_sums_over_all_paths() -> None:
    rng = np.random.default_rng(1)
    logits = rng.normal(size=[1, 5, CLASSES]).astype(np.float32)
    log_probs = tf.nn.log_softmax(logits).numpy()[0]  # [outputs, classes]
    for label in ([], [0], [1, 1], [0, 1], [2, 2, 0], [0, 1, 2, 3, 0]):
        paths = [
            path
            for path in itertools.product(range(CLASSES), repeat=5)
            if [each for each, _ in itertools.groupby(path) if each != BLANK] == label
        ]
        probability = sum(np.exp(log_probs[range(5), path].sum()) for path in paths)
        padded = np.array([label + [3] * (5 - len(label))], np.int32)
        batch = Batch(logits, np.array([5], np.int32), padded, np.array([len(label)], np.int32))
        loss, _ = loss_and_gradient(batch)
        assert loss[0] == pytest.approx(-np.log(probability), rel=1e-5)


def forward_loss(logits: Array, label: list[int]) -> float:
    """Computes the loss by the forward variable alone, in float64; logits: [outputs, classes]."""
    wide = logits.astype(np.float64)
    log_probs = wide - np.logaddexp.reduce(wide, axis=1, keepdims=True)  # [outputs, classes]
    symbols = [BLANK, *itertools.chain.from_iterable((each, BLANK) for each in label)]
    alpha = np.full(len(symbols), -np.inf)
    alpha[:2] = log_probs[0, symbols[:2]]
    for output in log_probs[1:]:
        before = alpha.copy()
        for state, symbol in enumerate(symbols):
            ways = [before[state], before[state - 1] if state else -np.inf]
            if state > 1 and symbol not in (BLANK, symbols[state - 2]):
                ways.append(before[state - 2])
            alpha[state] = np.logaddexp.reduce(ways) + output[symbol]
    return float(-np.logaddexp.reduce(alpha[-2:]))


def test_loss_stays_exact_where_probabilities_underflow() -> None:
    """TensorFlow's op finds no path in some of these."""
    batch = random_batch(9, 1.0)
    sure = replace(batch, logits=60 * batch.logits)
    loss, gradient = loss_and_gradient(sure)
    assert np.isfinite(gradient).all()
    for row in np.flatnonzero(feasible(sure)):
        label = sure.label[row, : sure.label_length[row]].tolist()
        expected = forward_loss(sure.logits[row, : sure.output_length[row]], label)
        assert loss[row] == pytest.approx(expected, rel=1e-4, abs=1e-3)


def test_gradient_equals_finite_differences_of_the_loss() -> None:
    batch = random_batch(7, 1.0, size=16)
    direction = np.random.default_rng(8).normal(size=batch.logits.shape).astype(np.float32)
    step = 1e-2 * direction
    ahead, _ = loss_and_gradient(replace(batch, logits=batch.logits + step))
    back, _ = loss_and_gradient(replace(batch, logits=batch.logits - step))
    _, gradient = loss_and_gradient(batch)
    weight = np.linspace(0.5, 2.0, 16, dtype=np.float32)  # [batch]
    slope = weight * (ahead - back) / 2e-2  # [batch]
    np.testing.assert_allclose((gradient * direction).sum((1, 2)), slope, rtol=5e-3, atol=5e-3)


# --- Infeasible labels and padding ----------------------------------------------------------------


def test_infeasible_utterance_has_no_loss_and_no_gradient() -> None:
    for scale in (1.0, 20.0):
        batch = random_batch(2, scale)
        loss, gradient = loss_and_gradient(batch)
        good = feasible(batch)
        assert 0 < good.sum() < good.size
        assert not loss[~good].any() and not gradient[~good].any()
        assert (loss[good] > 0).all() and np.abs(gradient[good]).max((1, 2)).all()
        assert np.isfinite(loss).all() and np.isfinite(gradient).all()


@pytest.mark.parametrize("labels", [0, 3])
def test_batch_of_empty_transcripts_is_all_blanks(labels: int) -> None:
    logits = np.random.default_rng(3).normal(size=[2, 4, CLASSES]).astype(np.float32)
    lengths, empty = np.array([4, 2], np.int32), np.zeros(2, np.int32)
    batch = Batch(logits, lengths, np.zeros([2, labels], np.int32), empty)
    loss, _ = loss_and_gradient(batch)
    blanks = tf.nn.log_softmax(logits).numpy()[:, :, BLANK]  # [batch, outputs]
    np.testing.assert_allclose(loss, [-blanks[0].sum(), -blanks[1, :2].sum()], rtol=1e-5)


def test_padding_of_labels_and_outputs_changes_nothing() -> None:
    rng = np.random.default_rng(4)
    batch = random_batch(4, 3.0, size=16)
    loss, gradient = loss_and_gradient(batch)
    logits = np.pad(batch.logits, [[0, 0], [0, 6], [0, 0]], constant_values=9.0)
    label = np.pad(batch.label, [[0, 0], [0, 4]], constant_values=2)
    padding = np.arange(logits.shape[1]) >= batch.output_length[:, np.newaxis]
    logits[padding] = 50 * rng.normal(size=[padding.sum(), CLASSES])
    unused = np.arange(label.shape[1]) >= batch.label_length[:, np.newaxis]
    label[unused] = rng.integers(0, BLANK, unused.sum())
    other_loss, other_gradient = loss_and_gradient(replace(batch, logits=logits, label=label))
    np.testing.assert_allclose(other_loss, loss, rtol=1e-5)
    np.testing.assert_allclose(other_gradient[:, :OUTPUTS], gradient, atol=1e-5)
    assert not other_gradient[padding].any()


# --- Modes of execution ---------------------------------------------------------------------------


@pytest.mark.parametrize("known", [True, False], ids=["static", "dynamic"])
def test_v1_graph_gives_the_same_numbers(known: bool) -> None:
    """In such a graph, as in TPUEstimator's, == between tensors compares objects."""
    batch = random_batch(5, 2.0)
    expected_loss, expected_gradient = loss_and_gradient(batch)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        arguments = list(tensors(batch))
        if not known:  # as on a CPU, where batches are padded to their longest utterance
            shapes = [[None, None, CLASSES], [None], [None, None], [None]]
            arguments = [
                tf.compat.v1.placeholder_with_default(each, shape)
                for each, shape in zip(arguments, shapes, strict=True)
            ]
        loss = ctc_loss(*arguments)
        total = tf.reduce_sum(loss * tf.linspace(0.5, 2.0, tf.shape(loss)[0]))
        loss, gradient = session.run([loss, tf.gradients(total, arguments[0])[0]])
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-6)
    np.testing.assert_allclose(gradient, expected_gradient, atol=1e-6)


def test_eager_gives_the_same_numbers() -> None:
    batch = random_batch(5, 2.0, size=8)
    loss = ctc_loss(*tensors(batch))
    np.testing.assert_allclose(loss, loss_and_gradient(batch)[0], rtol=1e-5)


def test_bfloat16_logits_are_accepted_and_the_loss_is_float32() -> None:
    batch = random_batch(6, 2.0, size=16)
    rounded = tf.cast(batch.logits, tf.bfloat16)
    loss, gradient = function_of(ctc_loss, False)(rounded, *tensors(batch)[1:])
    assert loss.dtype == tf.float32 and gradient.dtype == tf.bfloat16
    same = replace(batch, logits=tf.cast(rounded, tf.float32).numpy())
    np.testing.assert_allclose(loss, loss_and_gradient(same)[0], rtol=1e-5)


# --- alignable ------------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(label=st.lists(st.integers(0, 1), max_size=4), outputs=st.integers(0, 6))
def test_alignable_if_and_only_if_a_path_exists(label: list[int], outputs: int) -> None:
    paths = itertools.product(range(3), repeat=outputs)
    exists = outputs > 0 and any(
        [each for each, _ in itertools.groupby(path) if each != 2] == label for path in paths
    )
    padded = tf.constant([label + [0] * (5 - len(label))])
    assert bool(alignable(padded, tf.constant([len(label)]), tf.constant([outputs]))[0]) == exists


def test_alignable_accepts_a_batch_without_labels() -> None:
    nothing = tf.zeros([2, 0], tf.int32)
    answer = alignable(nothing, tf.constant([0, 0]), tf.constant([3, 0]))
    assert answer.numpy().tolist() == [True, False]
