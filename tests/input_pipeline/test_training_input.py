"""Batches of training: every utterance, in a reproducible order, in the right shapes."""

import itertools
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import faked_tpu
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from input_batches import (
    CORES,
    FRAMES,
    MASKS,
    ON_POD,
    ON_TPU,
    Batch,
    FakeContext,
    InputFn,
    assert_same_batches,
    batches_of,
    known_names,
    many_shards,
    names,
    on_tpu,
    order_of,
    training_batches,
    trimmed,
)
from tiny_shards import random_utterances, write_shards

from speech.features.normalisation import Statistics
from speech.input_pipeline.batching import (
    Batching,
    bucket_boundaries,
    host_shards,
    steps_per_epoch,
)
from speech.input_pipeline.evaluation_input import evaluation_input_fn
from speech.input_pipeline.training_input import TrainingInput, training_input_fn
from speech.shards.shard_set import ShardSet

# --- Normalisation over the corpus ----------------------------------------------------------------


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


@pytest.mark.parametrize("buffer", [8, 64], ids=["streamed", "kept"])
def test_the_order_depends_on_no_seed_that_was_set_before(shards: ShardSet, buffer: int) -> None:
    orders = []
    for seed in (5, 6):
        tf.random.set_seed(seed)
        batches = training_batches(shards, Batching(4, static=False), buffer=buffer)
        orders.append(names(list(islice(batches, 4))))
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        settings = TrainingInput(shards, Batching(4, False), 1, shuffle_buffer_size=buffer)
        dataset = training_input_fn(settings)({"batch_size": 4})
        iterator = tf.compat.v1.data.make_initializable_iterator(dataset)
        session.run(iterator.initializer)
        following = iterator.get_next()
        orders.append(names([session.run(following)[0] for _ in range(4)]))
    assert orders[0] == orders[1] == orders[2]


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


# --- Cores of a TPU, and hosts of a pod -----------------------------------------------------------


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


@pytest.mark.estimator
@pytest.mark.parametrize("mode", ["train", "evaluate", "predict"])
def test_the_fake_context_equals_that_of_tpu_estimator(
    shards: ShardSet, tmp_path: Path, mode: str
) -> None:
    from speech.engines import tpu_estimator

    contexts = []

    def recording(input_fn: InputFn) -> InputFn:
        # TPUEstimator passes what an input_fn names as arguments.
        def record(params: Any) -> tf.data.Dataset:
            deployment = params["context"].current_input_fn_deployment()
            contexts.append((params["batch_size"], deployment))
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
    assert contexts
    for batch_size, (device, *numbers) in contexts:
        assert batch_size == size // CORES
        assert device is None or isinstance(device, str)
        assert (None, *numbers) == FakeContext().current_input_fn_deployment()
        assert numbers == [0, 1, CORES]


@pytest.mark.estimator
def test_fake_context_tells_what_the_hosts_of_a_pod_are_reported(
    shards: ShardSet, tmp_path: Path
) -> None:
    from speech.engines import tpu_estimator

    contexts = []

    def record(params: Any) -> tf.data.Dataset:
        deployment = params["context"].current_input_fn_deployment()
        contexts.append((params["batch_size"], deployment[1:]))
        return training_input_fn(TrainingInput(shards, ON_POD, 1, augmentations=MASKS))(params)

    run = tpu_estimator.RunSettings(str(tmp_path), ON_POD.batch_size, ON_POD.batch_size)
    with faked_tpu.topology(2 * CORES, hosts=2):
        built = tpu_estimator.build(summing_model_fn, run, faked_tpu.device(cores=2 * CORES))
    faked_tpu.graph_of(lambda: built.train(record, max_steps=2), 2 * CORES, hosts=2)
    expected = [FakeContext(host, 2).current_input_fn_deployment()[1:] for host in (0, 1)]
    assert contexts == [(1, each) for each in expected]


def test_a_step_takes_a_batch_for_every_core_and_an_epoch_gives_an_utterance_once(
    shards: ShardSet,
) -> None:
    steps = steps_per_epoch(shards.index, ON_TPU)
    assert steps == 2
    input_fn = training_input_fn(TrainingInput(shards, ON_TPU, 1, shuffle_buffer_size=8))
    batches = list(islice(on_tpu(input_fn, ON_TPU), 6 * steps * CORES))
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
    alone = list(islice(training_batches(shards, ON_TPU), 6 * steps))
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
