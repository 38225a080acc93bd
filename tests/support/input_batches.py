"""Makes shards and batches for the tests of the input pipeline."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import faked_tpu
import numpy as np
import tensorflow as tf
from tiny_shards import random_utterances, write_shards

from speech.input_pipeline.batching import (
    Batching,
)
from speech.input_pipeline.training_input import TrainingInput, training_input_fn
from speech.shards.shard_set import ShardSet

Batch = dict[str, np.ndarray]


InputFn = Callable[[Any], tf.data.Dataset]


MASKS = ("time_mask[n=2,size=50~50]", "frequency_mask[p=0.5,size=1]")


# Various lengths, for several buckets.
FRAMES = [int(frames) for frames in np.random.default_rng(0).integers(9, 60, 37)]


CORES = faked_tpu.CORES  # of each host


class FakeContext:
    """The context that TPUEstimator passes to an input_fn, for one host."""

    def __init__(self, host: int = 0, hosts: int = 1) -> None:
        self.host, self.hosts = host, hosts

    def current_input_fn_deployment(self) -> tuple[None, int, int, int]:
        """Returns (device, this host, hosts, replicas of this host)."""
        return None, self.host, self.hosts, CORES


def on_tpu(input_fn: InputFn, batching: Batching, host: int = 0, hosts: int = 1) -> Iterator[Batch]:
    """Yields the batches of one host's cores."""
    size = batching.batch_size // (CORES * hosts)
    return batches_of(input_fn, size, context=FakeContext(host, hosts))


def batches_of(input_fn: InputFn, batch_size: int, **params: Any) -> Iterator[Batch]:
    """Yields batches, with (features, labels) merged."""
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
    """Returns a unique name of each utterance: the bytes of its features without padding."""
    return [
        features[:length].tobytes()
        for batch in batches
        for features, length in zip(batch["features"], batch["feature_length"], strict=True)
    ]


def trimmed(batch: Batch) -> Batch:
    """Returns a batch without the padding that all its utterances have."""
    frames, labels = batch["feature_length"].max(), batch["label_length"].max()
    return {**batch, "features": batch["features"][:, :frames], "label": batch["label"][:, :labels]}


def counted(batches: list[Batch]) -> list[bytes]:
    """Returns the names of utterances with a weight above 0."""
    weights = np.concatenate([batch["weight"] for batch in batches])
    return [name for name, weight in zip(names(batches), weights, strict=True) if weight]


def known_names(frames: list[int] = FRAMES) -> list[bytes]:
    return [each.features.tobytes() for each in random_utterances(frames, 4)]


def assert_same_batches(one: list[Batch], other: list[Batch]) -> None:
    """Asserts equal batches, except for the length that they are padded to."""
    assert len(one) == len(other)
    for left, right in zip(map(trimmed, one), map(trimmed, other), strict=True):
        assert left.keys() == right.keys()
        for key in left:
            assert left[key].shape == right[key].shape
            assert left[key].tobytes() == right[key].tobytes()


# --- Shuffling ------------------------------------------------------------------------------------


def many_shards(folder: Path, number: int = 240, partition_size: int = 20) -> ShardSet:
    return write_shards(
        folder, random_utterances([10] * number, 4), partition_size=partition_size, padded=False
    )


def order_of(batches: Iterator[Batch], shards: ShardSet, steps: int) -> list[int]:
    """Returns the corpus positions of the utterances of `steps` batches."""
    position = {name: at for at, name in enumerate(known_names([10] * shards.index.records))}
    return [position[name] for name in names(list(islice(batches, steps)))]


# --- Cores of a TPU, and hosts of a pod -----------------------------------------------------------


ON_TPU = Batching(2 * CORES, static=True)  # two utterances per core on one host, one on two hosts


ON_POD = replace(ON_TPU, hosts=2)
