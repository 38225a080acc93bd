"""Batches from shards: every utterance, in a reproducible order, in the shapes asked for."""

import itertools
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import faked_tpu
import numpy as np
import pytest
import tensorflow as tf
from absl.testing import absltest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_shards import random_utterances, write_shards

import constants
from speech.engines import tpu_estimator
from speech.features.front_end import FrontEnd
from speech.features.normalisation import Statistics, Sums
from speech.input_pipeline.batching import (
    Batching,
    Shuffling,
    bucket_boundaries,
    host_records,
    host_shards,
    log_reading,
    shuffling,
    steps_per_epoch,
)
from speech.input_pipeline.evaluation_input import FILLING, evaluation_input_fn, evaluation_steps
from speech.input_pipeline.parsing import stored_features, transcripts
from speech.input_pipeline.training_input import TrainingInput, training_input_fn
from speech.shards.index import Index, Shard, ShardSettings
from speech.shards.shard_set import ShardSet
from utils import ENGLISH

Batch = dict[str, np.ndarray]
InputFn = Callable[[Any], tf.data.Dataset]

MASKS = ("time_mask[n=2,size=50~50]", "frequency_mask[p=0.5,size=1]")

# Of many lengths, so that there are several buckets.
FRAMES = [int(frames) for frames in np.random.default_rng(0).integers(9, 60, 37)]


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    return write_shards(tmp_path_factory.mktemp("shards"), random_utterances(FRAMES, 4))


CORES = faked_tpu.CORES  # of each host


class FakeContext:
    """What TPUEstimator tells an input_fn of the host it runs on."""

    def __init__(self, host: int = 0, hosts: int = 1) -> None:
        self.host, self.hosts = host, hosts

    def current_input_fn_deployment(self) -> tuple[None, int, int, int]:
        """(device, this host, hosts, replicas that this host feeds)."""
        return None, self.host, self.hosts, CORES


def on_tpu(input_fn: InputFn, batching: Batching, host: int = 0, hosts: int = 1) -> Iterator[Batch]:
    """The batches of one host's cores."""
    size = batching.batch_size // (CORES * hosts)
    return batches_of(input_fn, size, context=FakeContext(host, hosts))


def batches_of(input_fn: InputFn, batch_size: int, **params: Any) -> Iterator[Batch]:
    """Batches, (features, labels) put together."""
    for batch in input_fn({"batch_size": batch_size, **params}).as_numpy_iterator():
        yield batch if isinstance(batch, dict) else {**batch[0], **batch[1]}


def training_batches(
    shards: ShardSet,
    batching: Batching,
    start_step: int = 0,
    seed: int = 1,
    masks: tuple[str, ...] = (),
    buffer: int | None = 8,
    sorta_grad: bool = False,
    **params: Any,
) -> Iterator[Batch]:
    input_fn = training_input_fn(
        TrainingInput(
            shards,
            batching,
            seed,
            shuffle_buffer_size=buffer,
            augmentations=masks,
            start_step=start_step,
            sorta_grad=sorta_grad,
        )
    )
    return batches_of(input_fn, batching.batch_size, **params)


def names(batches: list[Batch]) -> list[bytes]:
    """What tells utterances apart: their real features, row by row."""
    return [
        features[:length].tobytes()
        for batch in batches
        for features, length in zip(batch["features"], batch["feature_length"], strict=True)
    ]


def trimmed(batch: Batch) -> Batch:
    """Without the padding that all of the batch's utterances have."""
    frames, labels = batch["feature_length"].max(), batch["label_length"].max()
    return {**batch, "features": batch["features"][:, :frames], "label": batch["label"][:, :labels]}


def counted(batches: list[Batch]) -> list[bytes]:
    """Names of what isn't filling."""
    weights = np.concatenate([batch["weight"] for batch in batches])
    return [name for name, weight in zip(names(batches), weights, strict=True) if weight]


def known_names(frames: list[int] = FRAMES) -> list[bytes]:
    return [each.features.tobytes() for each in random_utterances(frames, 4)]


def assert_same_batches(one: list[Batch], other: list[Batch]) -> None:
    """But for what the first batch of a start is padded to."""
    assert len(one) == len(other)
    for left, right in zip(map(trimmed, one), map(trimmed, other), strict=True):
        assert left.keys() == right.keys()
        for key in left:
            assert left[key].shape == right[key].shape
            assert left[key].tobytes() == right[key].tobytes()


# --- Normalisation over the corpus ----------------------------------------------------------------


@pytest.mark.parametrize("static", [True, False])
@pytest.mark.parametrize("padded", [True, False])
def test_features_are_normalised_by_the_statistics_given(
    tmp_path: Path, static: bool, padded: bool
) -> None:
    """By those of a model, though these shards have others; and what is behind the end stays 0."""
    utterances = random_utterances([12, 33, 9, 20], 4)
    shards = write_shards(tmp_path, utterances, padded=padded, normalisation="corpus")
    model_s = Statistics((1.0, -2.0, 0.0, 3.0), (0.5, 1.0, 2.0, 4.0))
    assert shards.index.statistics not in (model_s, None)
    expected = [(each.features - model_s.mean) / model_s.deviation for each in utterances]
    batching = Batching(4, static)
    looks = evaluation_input_fn(shards, batching, for_prediction=True, statistics=model_s)
    trains = training_input_fn(
        TrainingInput(shards, batching, 1, shuffle_buffer_size=8, statistics=model_s)
    )
    for input_fn, in_order in ((looks, True), (trains, False)):
        batch = next(batches_of(input_fn, 4))
        real = {  # by their lengths, which differ
            int(length): features[:length]
            for features, length in zip(batch["features"], batch["feature_length"], strict=True)
        }
        assert set(real) == {len(each) for each in expected}
        assert not in_order or list(real) == [len(each) for each in expected]
        for each in expected:
            np.testing.assert_allclose(real[len(each)], each, rtol=1e-5, atol=1e-6)
        for features, length in zip(batch["features"], batch["feature_length"], strict=True):
            assert not features[length:].any()


def test_a_training_set_s_own_statistics_give_it_mean_0_and_deviation_1(tmp_path: Path) -> None:
    shards = write_shards(tmp_path, random_utterances(FRAMES, 4), normalisation="corpus")
    own = shards.index.statistics
    input_fn = evaluation_input_fn(shards, Batching(5, False), True, own)
    real = [
        features[:length]
        for batch in batches_of(input_fn, 5)
        for features, length in zip(batch["features"], batch["feature_length"], strict=True)
    ]
    together = np.concatenate(real).astype(np.float64)  # [frames, bins]
    np.testing.assert_allclose(together.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(together.std(axis=0), 1, atol=1e-6)


def test_masks_hide_what_is_normalised(tmp_path: Path) -> None:
    """So that 0 is the mean."""
    shards = write_shards(tmp_path, random_utterances([40] * 4, 4), normalisation="corpus")
    far = Statistics((100.0,) * 4, (1.0,) * 4)
    input_fn = training_input_fn(
        TrainingInput(
            shards,
            Batching(4, False),
            1,
            shuffle_buffer_size=8,
            augmentations=MASKS,
            statistics=far,
        )
    )
    features = next(batches_of(input_fn, 4))["features"]
    assert (features == 0).any()
    assert (features[features != 0] < -90).all()


@pytest.mark.parametrize("normalisation", ["utterance", "corpus", "none"])
def test_statistics_are_given_just_where_they_are_needed(
    tmp_path: Path, normalisation: str
) -> None:
    shards = write_shards(tmp_path, random_utterances([9], 4), normalisation=normalisation)
    statistics = Sums.of(np.ones([4, 2], np.float32)).statistics
    wrong = None if normalisation == "corpus" else statistics
    with pytest.raises(AssertionError, match="statistics"):
        next(batches_of(evaluation_input_fn(shards, Batching(1, False), True, wrong), 1))


# --- An epoch of training -------------------------------------------------------------------------


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    frames=st.lists(st.one_of(st.integers(1, 60), st.sampled_from([9, 10, 20])), min_size=1)
    | st.lists(st.integers(1, 60), min_size=30, max_size=60),
    batch_size=st.integers(1, 7),
    static=st.booleans(),
    buffer=st.sampled_from([None, 8]),
)
def test_steps_per_epoch_are_the_batches_that_an_epoch_gives(
    frames: list[int], batch_size: int, static: bool, buffer: int | None
) -> None:
    """Counted as the batches in front of the one that begins a second epoch."""
    with TemporaryDirectory() as folder:
        shards = write_shards(Path(folder), random_utterances(frames, 4), partition_size=20)
        batching = Batching(batch_size, static)
        steps = steps_per_epoch(shards.index, batching)
        if not steps:
            assert static and len(frames) < batch_size
            return
        batches = list(islice(training_batches(shards, batching, buffer=buffer), 2 * steps))
    known = set(known_names(frames))
    for epoch in (batches[:steps], batches[steps:]):
        seen = names(epoch)
        assert len(set(seen)) == len(seen)
        assert set(seen) <= known
        assert len(seen) == (steps * batch_size if static else len(frames))


@pytest.mark.parametrize("batch_size", [1, 2, 4, 50])
def test_every_utterance_comes_once_an_epoch(shards: ShardSet, batch_size: int) -> None:
    batching = Batching(batch_size, static=False)
    steps = steps_per_epoch(shards.index, batching)
    batches = list(islice(training_batches(shards, batching), 2 * steps))
    assert sorted(names(batches[:steps])) == sorted(known_names())
    assert sorted(names(batches[steps:])) == sorted(known_names())
    assert all((batch["weight"] == 1).all() for batch in batches)


def test_batches_are_of_like_lengths_and_padded_to_their_longest(shards: ShardSet) -> None:
    batching = Batching(2, static=False)
    boundaries = bucket_boundaries(shards.index, batching)
    assert len(boundaries) == 3
    for number, batch in enumerate(islice(training_batches(shards, batching), 40)):
        if not number:
            # As long as any could be, so that it shows at once whether they fit into memory.
            assert batch["features"].shape[1] == max(FRAMES) == shards.index.longest_frames
            assert batch["label"].shape[1] == shards.index.longest_label
            assert not batch["features"][:, batch["feature_length"].max() :].any()
            batch = trimmed(batch)
        lengths = batch["feature_length"]
        assert batch["features"].shape == (len(lengths), lengths.max(), 4)
        assert batch["label"].shape == (len(lengths), batch["label_length"].max())
        assert len({int(np.searchsorted(boundaries, each, "right")) for each in lengths}) == 1


def test_buckets_hold_about_the_same_number_of_utterances(shards: ShardSet) -> None:
    boundaries = bucket_boundaries(shards.index, Batching(2, static=False))
    counts = np.bincount(np.searchsorted(boundaries, FRAMES, "right"))
    assert counts.min() >= len(FRAMES) / len(counts) / 2


@pytest.mark.parametrize("training", [True, False])
def test_static_batches_have_the_shapes_of_the_index(shards: ShardSet, training: bool) -> None:
    batching = Batching(8, static=True)
    if training:
        batches = list(islice(training_batches(shards, batching), 9))
    else:
        input_fn = evaluation_input_fn(shards, batching, for_prediction=True)
        batches = list(batches_of(input_fn, 8))
    for batch in batches:
        assert batch["features"].shape == (8, 64, 4)
        assert batch["label"].shape == (8, 12)
        assert batch["feature_length"].shape == batch["weight"].shape == (8,)


@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize("static", [True, False])
def test_features_and_labels_come_back_as_they_were_written(
    tmp_path: Path, padded: bool, static: bool
) -> None:
    utterances = random_utterances([12, 33, 64, 1, 20], 4)
    shards = write_shards(tmp_path, utterances, padded=padded)
    input_fn = evaluation_input_fn(shards, Batching(5, static), for_prediction=False)
    (batch,) = batches_of(input_fn, 5)
    for row, utterance in enumerate(utterances):
        frames, labels = len(utterance.features), len(utterance.transcript)
        assert batch["feature_length"][row] == frames
        assert batch["label_length"][row] == labels
        np.testing.assert_array_equal(batch["features"][row, :frames], utterance.features)
        assert not batch["features"][row, frames:].any()
        written = [ord(each) - ord("a") if each != " " else 26 for each in utterance.transcript]
        assert batch["label"][row, :labels].tolist() == written
    assert {key: value.dtype for key, value in batch.items()} == {
        "features": np.float32,
        "feature_length": np.int32,
        "label": np.int32,
        "label_length": np.int32,
        "weight": np.float32,
    }


# --- Order ----------------------------------------------------------------------------------------


def half(static: bool, masks: bool, buffer: bool, sorta_grad: bool) -> Any:
    """Any three of the four are there with all their values when half of all cases are run."""
    odd = (static + masks + buffer + sorta_grad) % 2
    name = "-".join(
        [
            "SortaGrad" if sorta_grad else "shuffled",
            "within 8" if buffer else "exact",
            "augmented" if masks else "plain",
            "static" if static else "not static",
        ]
    )
    return pytest.param(
        static,
        MASKS if masks else (),
        8 if buffer else None,
        sorta_grad,
        id=name,
        marks=[pytest.mark.slow] if odd else [],
    )


@pytest.mark.parametrize(
    ("static", "masks", "buffer", "sorta_grad"),
    itertools.starmap(half, itertools.product([False, True], repeat=4)),
)
def test_training_continues_where_it_was_to_the_byte(
    shards: ShardSet, static: bool, masks: tuple[str, ...], buffer: int | None, sorta_grad: bool
) -> None:
    batching = Batching(4, static)
    steps = steps_per_epoch(shards.index, batching)
    how: dict[str, Any] = {"masks": masks, "buffer": buffer, "sorta_grad": sorta_grad}
    undisturbed = list(islice(training_batches(shards, batching, **how), 2 * steps + 3))
    for start in (0, 1, steps - 1, steps, steps + 2, 2 * steps):
        continued = training_batches(shards, batching, start, **how)
        rest = undisturbed[start:]
        assert_same_batches(list(islice(continued, len(rest))), rest)


@pytest.mark.parametrize("buffer", [None, 8], ids=["read once", "read in parts"])
def test_first_epoch_of_sorta_grad_goes_from_short_to_long(
    shards: ShardSet, buffer: int | None
) -> None:
    batching = Batching(2, static=False)
    steps = steps_per_epoch(shards.index, batching)
    batches = list(
        islice(training_batches(shards, batching, sorta_grad=True, buffer=buffer), 2 * steps)
    )
    assert sorted(names(batches[:steps])) == sorted(names(batches[steps:])) == sorted(known_names())
    # Batches that their bucket couldn't fill come at the epoch's end.
    whole = [each["feature_length"] for each in batches[:steps] if len(each["feature_length"]) == 2]
    lengths = np.concatenate(whole).tolist()
    assert len(lengths) > 30 and lengths == sorted(lengths)
    later = np.concatenate([each["feature_length"] for each in batches[steps:]]).tolist()
    assert later != sorted(later)


def test_epochs_and_seeds_have_orders_of_their_own(shards: ShardSet) -> None:
    batching = Batching(4, static=False)
    steps = steps_per_epoch(shards.index, batching)
    first = list(islice(training_batches(shards, batching), 2 * steps))
    other = list(islice(training_batches(shards, batching, seed=2), steps))
    orders = [names(first[:steps]), names(first[steps:]), names(other)]
    assert len({tuple(order) for order in orders}) == 3
    assert len({tuple(sorted(order)) for order in orders}) == 1


def test_tempo_changes_lengths_within_bounds_and_no_epochs(shards: ShardSet) -> None:
    """Batches are those of the recorded lengths, so steps are counted and continued as ever."""
    batching = Batching(4, static=False)
    steps = steps_per_epoch(shards.index, batching)
    how: dict[str, Any] = {"masks": ("tempo[factor=1~0.5]",)}
    undisturbed = list(islice(training_batches(shards, batching, **how), 2 * steps + 2))
    for start in (1, steps, steps + 1):
        continued = training_batches(shards, batching, start, **how)
        rest = undisturbed[start:]
        assert_same_batches(list(islice(continued, len(rest))), rest)
    for epoch in (undisturbed[:steps], undisturbed[steps : 2 * steps]):
        lengths = np.concatenate([batch["feature_length"] for batch in epoch])
        assert len(lengths) == len(FRAMES)
        assert sorted(lengths) != sorted(FRAMES)
        assert max(lengths) > max(FRAMES) and max(lengths) <= 64


def test_tempo_keeps_what_a_network_of_a_larger_stride_has_to_align(shards: ShardSet) -> None:
    batching = Batching(len(FRAMES), static=True)
    input_fn = training_input_fn(
        TrainingInput(
            shards,
            batching,
            1,
            shuffle_buffer_size=8,
            augmentations=("tempo[factor=50]",),
            stride=5,
        )
    )
    batch = next(batches_of(input_fn, len(FRAMES)))
    assert batch["features"].shape[1] == 64
    for frames, label, length in zip(
        batch["feature_length"], batch["label"], batch["label_length"], strict=True
    ):
        repeats = (label[1:length] == label[: length - 1]).sum()
        needed = max((length + repeats - 1) * 5 + 1, 1)
        # One that couldn't be aligned as it was recorded isn't made shorter.
        assert frames == needed or (frames < needed and frames in FRAMES)


def test_start_of_a_range_is_of_the_first_step_and_its_end_of_the_last(shards: ShardSet) -> None:
    """Two epochs and a half: the later an utterance comes, the more of its bins are hidden."""
    batching = Batching(4, static=True)
    steps = steps_per_epoch(shards.index, batching)
    last = 5 * steps // 2
    augment = ("dropout[rate=0:1]",)
    input_fn = training_input_fn(
        TrainingInput(
            shards, batching, 1, shuffle_buffer_size=8, augmentations=augment, train_steps=last
        )
    )
    hidden = [
        np.mean(
            [
                (features[:length] == 0).mean()
                for features, length in zip(batch["features"], batch["feature_length"], strict=True)
            ]
        )
        for batch in islice(batches_of(input_fn, 4), last)
    ]
    np.testing.assert_allclose(hidden, (np.arange(last) + 0.4) / last, atol=0.12)
    assert hidden[0] < 0.06 and hidden[-1] > 0.9


def test_augmentation_hides_other_parts_in_another_epoch(shards: ShardSet) -> None:
    batching = Batching(len(FRAMES), static=False)
    epochs = list(islice(training_batches(shards, batching, masks=MASKS[:1]), 2))
    patterns = [
        {
            tuple(features[:length, 0] == 0.0)
            for features, length in zip(epoch["features"], epoch["feature_length"], strict=True)
        }
        for epoch in epochs
    ]
    assert all(any(any(pattern) for pattern in each) for each in patterns)
    assert len(patterns[0] & patterns[1]) < len(FRAMES) // 2


# --- Shuffling ------------------------------------------------------------------------------------


def many_shards(folder: Path, number: int = 240, partition_size: int = 20) -> ShardSet:
    return write_shards(
        folder, random_utterances([10] * number, 4), partition_size=partition_size, padded=False
    )


def order_of(batches: Iterator[Batch], shards: ShardSet, steps: int) -> list[int]:
    """The corpus positions of the utterances of so many batches."""
    position = {name: at for at, name in enumerate(known_names([10] * shards.index.records))}
    return [position[name] for name in names(list(islice(batches, steps)))]


def test_exact_shuffle_mixes_distant_utterances(tmp_path: Path) -> None:
    """No place in the corpus says anything about the place in an epoch.

    Of 240 places the correlation of a random order has a deviation of 0.065. A neighbour in the
    corpus is as far as any other, on average a third of the epoch.
    """
    shards = many_shards(tmp_path)
    orders = []
    for epoch in range(3):
        batches = training_batches(shards, Batching(16, True), 15 * epoch, buffer=None)
        order = order_of(batches, shards, 15)
        assert sorted(order) == list(range(240))
        assert abs(np.corrcoef(order, np.arange(240))[0, 1]) < 0.26
        places = np.argsort(order)
        assert 60 < np.abs(np.diff(places)).mean() < 100
        orders.append(order)
    assert abs(np.corrcoef(orders[0], orders[1])[0, 1]) < 0.26


def test_small_buffer_mixes_no_further_than_it_reaches(tmp_path: Path) -> None:
    """An utterance comes at most a buffer's length early."""
    shards = many_shards(tmp_path, partition_size=240)
    for buffer, early in ((8, 7), (100, 99)):
        order = order_of(training_batches(shards, Batching(16, True), buffer=buffer), shards, 15)
        assert sorted(order) == list(range(240))
        earliest = max(position - place for place, position in enumerate(order))
        assert early / 2 < earliest <= early


@settings(max_examples=10, deadline=None)
@given(
    number=st.integers(1, 60),
    partition_size=st.integers(1, 60),
    buffer=st.none() | st.integers(1, 70),
    seed=st.integers(0, 2**31),
)
def test_every_epoch_has_every_utterance_once_whatever_the_buffer(
    number: int, partition_size: int, buffer: int | None, seed: int
) -> None:
    with TemporaryDirectory() as folder:
        shards = many_shards(Path(folder), number, partition_size)
        batches = training_batches(shards, Batching(1, False), seed=seed, buffer=buffer)
        orders = [order_of(batches, shards, number) for _ in range(2)]
    assert [sorted(order) for order in orders] == [list(range(number))] * 2


def test_set_that_fits_into_the_buffer_is_read_once(tmp_path: Path) -> None:
    shards = many_shards(tmp_path)
    batches = training_batches(shards, Batching(16, True), buffer=None)
    first = order_of(batches, shards, 15)
    for file in shards.files:
        Path(file).unlink()
    assert sorted(order_of(batches, shards, 15)) == sorted(first)


def test_buffer_holds_as_many_utterances_as_its_bytes_allow(
    shards: ShardSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    batching = Batching(4, static=False)
    fits = shuffling(shards.index, batching, None)
    assert fits.exact and (fits.buffered, fits.records) == (len(FRAMES), len(FRAMES))
    mean = float(np.mean(FRAMES)) * 4 * 4  # bytes, of 4 bins
    assert mean <= fits.utterance_bytes <= mean + 10 * 4 * 4
    for utterances in (1, len(FRAMES) - 1, len(FRAMES)):
        budget = utterances * fits.utterance_bytes
        monkeypatch.setattr(constants, "SHUFFLE_BUFFER_BYTES", budget)
        limited = shuffling(shards.index, batching, None)
        assert limited.buffered == utterances and limited.exact == (utterances == len(FRAMES))
    monkeypatch.setattr(constants, "SHUFFLE_BUFFER_BYTES", 1)
    assert shuffling(shards.index, batching, None).buffered == 1
    assert shuffling(shards.index, batching, 8).buffered == 8
    assert shuffling(shards.index, batching, 1000).exact


def logged(shards: ShardSet, batching: Batching, buffer: int | None) -> str:
    with absltest.TestCase().assertLogs(level="INFO") as logs:
        log_reading(shards.index, batching, buffer)
    return "\n".join(record.getMessage() for record in logs.records)


def test_log_says_whether_the_shuffle_is_exact(shards: ShardSet) -> None:
    batching = Batching(4, static=False)
    assert logged(shards, batching, None) == (
        "Shuffles exactly: all 37 utterances fit into the buffer (0.0 MiB)"
    )
    within = logged(shards, batching, 8)
    assert "Shuffles within 8 of 37 utterances at a time" in within
    assert "raise --shuffle_buffer_size to 37" in within


def test_sizes_of_buffers_are_told_in_gibibytes() -> None:
    text = str(Shuffling(buffered=5000, records=28539, utterance_bytes=2**30 // 2500))
    assert "(2.0 GiB)" in text and "to 28539 (11.4 GiB)" in text


# --- Evaluation -----------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 5, 8, 64])
@pytest.mark.parametrize("static", [True, False])
def test_evaluation_gives_every_utterance_once_in_order(
    shards: ShardSet, static: bool, batch_size: int
) -> None:
    batching = Batching(batch_size, static)
    input_fn = evaluation_input_fn(shards, batching, for_prediction=False)
    batches = list(batches_of(input_fn, batch_size))
    assert len(batches) == evaluation_steps(shards.index, batching)
    weights = np.concatenate([batch["weight"] for batch in batches])
    assert counted(batches) == known_names()
    filling = -len(FRAMES) % batch_size if static else 0
    assert weights.tolist() == [1.0] * len(FRAMES) + [0.0] * filling


@pytest.mark.parametrize("partition_size", [1, 7, 100])
def test_evaluation_keeps_the_order_of_any_shards(tmp_path: Path, partition_size: int) -> None:
    """Also where a shard is longer than what is read ahead of the next one."""
    shards = many_shards(tmp_path, 100, partition_size)
    batches = batches_of(evaluation_input_fn(shards, Batching(8, False), True), 8)
    assert order_of(batches, shards, 13) == list(range(100))


def test_labels_stand_among_the_features_for_prediction(shards: ShardSet) -> None:
    batching = Batching(5, static=False)
    params = {"batch_size": 5}
    alone = evaluation_input_fn(shards, batching, for_prediction=True)(params).element_spec
    features, labels = evaluation_input_fn(shards, batching, False)(params).element_spec
    assert set(features) == {"features", "feature_length"}
    assert set(labels) == {"label", "label_length", "weight"}
    assert set(alone) == set(features) | set(labels) | {"utterance_number"}


def test_transcripts_are_in_the_order_of_evaluation(tmp_path: Path) -> None:
    utterances = random_utterances([20] * 12, 4, letters="abcdefgh'")
    shards = write_shards(tmp_path, utterances)
    assert transcripts(shards) == [(each.utterance_id, each.transcript) for each in utterances]


@pytest.mark.parametrize("static", [True, False])
def test_numbers_join_predictions_with_their_utterances(tmp_path: Path, static: bool) -> None:
    utterances = random_utterances([20] * 12, 4, letters="abcdefgh'")
    shards = write_shards(tmp_path, utterances, partition_size=5)
    input_fn = evaluation_input_fn(shards, Batching(7, static), for_prediction=True)
    batches = list(batches_of(input_fn, 7))
    assert batches[0]["utterance_number"].dtype == np.int32
    numbers = np.concatenate([batch["utterance_number"] for batch in batches])
    features = np.concatenate([batch["features"][:, :20] for batch in batches])
    assert numbers.tolist() == [*range(12), *[FILLING] * (2 if static else 0)]
    for number, each in zip(numbers[:12], features[:12], strict=True):
        np.testing.assert_array_equal(each, utterances[number].features)
        assert transcripts(shards)[number][0] == utterances[number].utterance_id


@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize("normalisation", ["utterance", "corpus"])
def test_stored_features_are_those_that_were_written(
    tmp_path: Path, padded: bool, normalisation: str
) -> None:
    utterances = random_utterances(FRAMES[:12], 4)
    shards = write_shards(tmp_path, utterances, padded=padded, normalisation=normalisation)
    for start, count in ((0, -1), (0, 3), (3, 4), (5, 5), (4, 7), (11, 5), (12, 1), (3, -1)):
        found = list(stored_features(shards, start, count))
        wanted = utterances[start:] if count < 0 else utterances[start : start + count]
        assert len(found) == len(wanted)
        for features, utterance in zip(found, wanted, strict=True):
            assert features.dtype == np.float32
            np.testing.assert_array_equal(features, utterance.features)


# --- Cores of a TPU, and hosts of a pod -----------------------------------------------------------

ON_TPU = Batching(2 * CORES, static=True)  # on one host two utterances a core, on two hosts one
ON_POD = replace(ON_TPU, hosts=2)


def summing_model_fn(features: Any, labels: Any, mode: str, params: Any) -> Any:
    """The least that TPUEstimator builds graphs for."""
    spec = tf.compat.v1.estimator.tpu.TPUEstimatorSpec
    total = tf.reduce_sum(features["features"], axis=[1, 2])
    total *= tf.compat.v1.get_variable("factor", [])
    if mode == tf.estimator.ModeKeys.PREDICT:
        return spec(mode, predictions={"total": total})
    loss = tf.reduce_mean(total)
    if mode == tf.estimator.ModeKeys.EVAL:
        mean = tf.compat.v1.metrics.mean
        return spec(mode, loss=loss, eval_metrics=(lambda each: {"total": mean(each)}, [total]))
    return spec(mode, loss=loss, train_op=tf.compat.v1.train.get_global_step().assign_add(1))


@pytest.mark.parametrize("mode", ["train", "evaluate", "predict"])
def test_fake_context_tells_what_tpu_estimator_tells(
    shards: ShardSet, tmp_path: Path, mode: str
) -> None:
    told = []

    def recording(input_fn: InputFn) -> InputFn:
        # TPUEstimator passes what an input_fn names as arguments.
        def record(params: Any) -> tf.data.Dataset:
            deployment = params["context"].current_input_fn_deployment()
            told.append((params["batch_size"], deployment))
            return input_fn(params)

        return record

    size = ON_TPU.batch_size
    run = tpu_estimator.RunSettings(str(tmp_path), train_batch_size=size, eval_batch_size=size)
    with faked_tpu.topology():
        built = tpu_estimator.build(summing_model_fn, run, faked_tpu.device())
    train = recording(
        training_input_fn(
            TrainingInput(shards, ON_TPU, 1, shuffle_buffer_size=8, augmentations=MASKS)
        )
    )
    look = recording(evaluation_input_fn(shards, ON_TPU, for_prediction=mode == "predict"))
    calls: dict[str, Callable[[], Any]] = {
        "train": lambda: built.train(train, max_steps=2),
        "evaluate": lambda: built.evaluate(look, steps=1, checkpoint_path="/x"),
        "predict": lambda: list(built.predict(look, checkpoint_path="/x")),
    }
    faked_tpu.graph_of(calls[mode])
    assert told
    for batch_size, (device, *numbers) in told:
        assert batch_size == size // CORES
        assert device is None or isinstance(device, str)
        assert (None, *numbers) == FakeContext().current_input_fn_deployment()
        assert numbers == [0, 1, CORES]


def test_fake_context_tells_what_the_hosts_of_a_pod_are_told(
    shards: ShardSet, tmp_path: Path
) -> None:
    told = []

    def record(params: Any) -> tf.data.Dataset:
        deployment = params["context"].current_input_fn_deployment()
        told.append((params["batch_size"], deployment[1:]))
        return training_input_fn(TrainingInput(shards, ON_POD, 1, augmentations=MASKS))(params)

    run = tpu_estimator.RunSettings(str(tmp_path), ON_POD.batch_size, ON_POD.batch_size)
    with faked_tpu.topology(2 * CORES, hosts=2):
        built = tpu_estimator.build(summing_model_fn, run, faked_tpu.device(cores=2 * CORES))
    faked_tpu.graph_of(lambda: built.train(record, max_steps=2), 2 * CORES, hosts=2)
    expected = [FakeContext(host, 2).current_input_fn_deployment()[1:] for host in (0, 1)]
    assert told == [(1, each) for each in expected]


def test_a_step_takes_a_batch_for_every_core_and_an_epoch_gives_an_utterance_once(
    shards: ShardSet,
) -> None:
    steps = steps_per_epoch(shards.index, ON_TPU)
    assert steps == 2
    input_fn = training_input_fn(TrainingInput(shards, ON_TPU, 1, shuffle_buffer_size=8))
    batches = list(islice(on_tpu(input_fn, ON_TPU), 3 * steps * CORES))
    assert all(batch["features"].shape == (2, 64, 4) for batch in batches)
    epochs = [
        names(batches[first : first + steps * CORES])
        for first in range(0, len(batches), steps * CORES)
    ]
    for epoch in epochs:
        assert len(epoch) == steps * ON_TPU.batch_size
        assert len(set(epoch)) == len(epoch) and set(epoch) <= set(known_names())
    # What one epoch left over, another has.
    assert set().union(*epochs) == set(known_names())
    # The cores together get what one device would.
    alone = list(islice(training_batches(shards, ON_TPU), 3 * steps))
    assert names(alone) == names(batches)


@pytest.mark.parametrize("masks", [(), MASKS], ids=["plain", "augmented"])
def test_training_on_a_tpu_continues_where_it_was(shards: ShardSet, masks: tuple[str, ...]) -> None:
    steps = steps_per_epoch(shards.index, ON_TPU)
    last = 2 * steps + 1
    input_fn = training_input_fn(
        TrainingInput(shards, ON_TPU, 1, shuffle_buffer_size=8, augmentations=masks)
    )
    undisturbed = list(islice(on_tpu(input_fn, ON_TPU), last * CORES))
    for start in range(last):
        continued = on_tpu(
            training_input_fn(
                TrainingInput(
                    shards, ON_TPU, 1, shuffle_buffer_size=8, augmentations=masks, start_step=start
                )
            ),
            ON_TPU,
        )
        rest = undisturbed[start * CORES :]
        assert_same_batches(list(islice(continued, len(rest))), rest)


def test_evaluation_on_a_tpu_gives_every_utterance_once_in_order(shards: ShardSet) -> None:
    input_fn = evaluation_input_fn(shards, ON_TPU, for_prediction=False)
    batches = list(on_tpu(input_fn, ON_TPU))
    assert len(batches) == CORES * evaluation_steps(shards.index, ON_TPU)
    weights = np.concatenate([batch["weight"] for batch in batches])
    assert weights.tolist() == [1.0] * len(FRAMES) + [0.0] * (-len(FRAMES) % ON_TPU.batch_size)
    assert counted(batches) == known_names()


# 8 shards of 5 utterances are divided evenly; 7 of them and one of 2 are not.
HALVES = pytest.mark.parametrize("number", [40, 37], ids=["own shards", "all shards"])


def training_on_pod(
    shards: ShardSet, host: int, start_step: int = 0, buffer: int | None = 8
) -> Iterator[Batch]:
    input_fn = training_input_fn(
        TrainingInput(shards, ON_POD, 1, shuffle_buffer_size=buffer, start_step=start_step)
    )
    return on_tpu(input_fn, ON_POD, host, 2)


@HALVES
@pytest.mark.parametrize("buffer", [None, 8], ids=["exact", "within 8"])
def test_hosts_of_a_pod_train_on_disjoint_halves(
    tmp_path: Path, number: int, buffer: int | None
) -> None:
    shards = write_shards(tmp_path, random_utterances([10] * number, 4))
    assert (host_shards(shards.index, 2) is not None) == (number == 40)
    steps = steps_per_epoch(shards.index, ON_POD)
    assert steps == 2
    seen = [
        names(list(islice(training_on_pod(shards, host, buffer=buffer), 5 * steps * CORES)))
        for host in (0, 1)
    ]
    size = steps * CORES  # utterances of a host's epoch, one a batch
    for first in range(0, 5 * size, size):
        both = seen[0][first : first + size] + seen[1][first : first + size]
        assert len(set(both)) == len(both) == 2 * size
    # What one epoch left over, another has.
    assert set(seen[0]) | set(seen[1]) == set(known_names([10] * number))


def test_host_reads_no_shard_of_another(tmp_path: Path) -> None:
    shards = write_shards(tmp_path, random_utterances([10] * 40, 4))
    divided = host_shards(shards.index, 2)
    assert divided
    for number in divided[1]:
        Path(shards.files[number]).unlink()
    steps = 3 * steps_per_epoch(shards.index, ON_POD)
    assert len(list(islice(training_on_pod(shards, host=0), steps * CORES))) == steps * CORES


@HALVES
@pytest.mark.parametrize("buffer", [None, 8], ids=["exact", "within 8"])
def test_training_on_a_pod_continues_where_it_was(
    tmp_path: Path, number: int, buffer: int | None
) -> None:
    shards = write_shards(tmp_path, random_utterances([10] * number, 4))
    for host in (0, 1):
        undisturbed, continued = (
            training_on_pod(shards, host, start, buffer=buffer) for start in (0, 3)
        )
        rest = list(islice(undisturbed, 6 * CORES))[3 * CORES :]
        assert_same_batches(list(islice(continued, 3 * CORES)), rest)


def index_of(records: list[int]) -> Index:
    """An index of shards of so many records."""
    shard = Shard("", 0, 0, 0, 0, "", 0.0, 10, 1, {}, {})
    shards = tuple(replace(shard, start=at, records=each) for at, each in enumerate(records))
    settings = ShardSettings(FrontEnd(), ENGLISH, 1, 64, 12, True, 2)
    return Index(settings, sum(records), "", shards)


@given(records=st.lists(st.integers(1, 50), min_size=1, max_size=80), hosts=st.integers(1, 8))
def test_shards_are_divided_whole_and_evenly_or_not_at_all(records: list[int], hosts: int) -> None:
    index = index_of(records)
    shares = host_records(index, hosts)
    divided = host_shards(index, hosts)
    assert sum(shares) == sum(records) and len(shares) == hosts
    if divided is None:
        assert max(shares) - min(shares) <= 1
    else:
        assert sorted(number for each in divided for number in each) == list(range(len(records)))
        assert [sum(records[number] for number in each) for each in divided] == shares
        assert min(shares) >= 0.95 * sum(records) / hosts
    # Every host has what the epoch's steps take of it.
    steps = steps_per_epoch(index, Batching(2 * hosts, static=True, hosts=hosts))
    assert steps == min(shares) // 2


def test_partition_size_that_the_log_advises_is_divided_evenly() -> None:
    index = index_of([10_000] * 14 + [1_234])
    assert host_shards(index, 4) is None
    with absltest.TestCase().assertLogs(level="WARNING") as logs:
        log_reading(index, Batching(64, static=True, hosts=4), None)
    (text,) = (record.getMessage() for record in logs.records)
    assert text.startswith("15 shards can't be divided evenly among 4 hosts")
    (advised,) = map(int, re.findall(r"--partition_size=(\d+)", text))
    for size in (advised, advised // 2):
        whole, rest = divmod(index.records, size)
        assert host_shards(index_of([size] * whole + [rest]), 4)


def test_log_says_that_hosts_read_their_own_shards(shards: ShardSet) -> None:
    text = logged(shards, replace(ON_POD, hosts=1), None)
    assert "hosts" not in text
    index = index_of([100] * 40)
    with absltest.TestCase().assertLogs(level="INFO") as logs:
        log_reading(index, ON_POD, None)
    exact, own = (record.getMessage() for record in logs.records)
    assert "all 2000 utterances" in exact
    assert own == "Each of 2 hosts reads shards of its own, 2000 to 2000 utterances"


def test_hosts_of_a_pod_evaluate_disjoint_halves(shards: ShardSet) -> None:
    input_fn = evaluation_input_fn(shards, ON_TPU, for_prediction=False)
    seen: list[bytes] = []
    for host in (0, 1):
        batches = list(on_tpu(input_fn, ON_TPU, host, 2))
        assert len(batches) == CORES * evaluation_steps(shards.index, ON_TPU)
        seen += counted(batches)
    assert sorted(seen) == sorted(known_names())
