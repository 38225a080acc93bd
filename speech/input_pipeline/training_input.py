"""Input of training: endless shuffled, augmented batches.

The order of the data is a function of the random seed and the step, so a training that resumes
continues to read where it stopped. What is shuffled are parsed utterances without their padding. A
set that fits into the shuffle buffer is mixed evenly and stays there: it is read once.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise
from typing import Any

import numpy as np
import tensorflow as tf

from speech.augmentation import features as augment
from speech.augmentation.grammar import Specification
from speech.features.normalisation import Statistics
from speech.input_pipeline import parsing
from speech.input_pipeline.batching import (
    Batching,
    bucket_boundaries,
    host_shards,
    shuffling,
    steps_per_epoch,
)
from speech.input_pipeline.parsing import Batch
from speech.input_pipeline.phone_labels import phone_labels
from speech.shards.index import Index
from speech.shards.shard_set import ShardSet
from speech.text.lexicon import Lexicon

# (frames as they were recorded, the utterance, of which augmentation may have made more or fewer)
_Recorded = tuple[tf.Tensor, Batch]


@dataclass(frozen=True)
class TrainingInput:
    """Settings of a training's input."""

    shards: ShardSet
    batching: Batching
    random_seed: int
    start_step: int = 0  # steps that were trained before
    shuffle_buffer_size: int | None = None  # utterances; see `batching.shuffling`
    augmentations: tuple[str, ...] = ()  # in the grammar of augmentation/grammar.py
    # The first epoch goes from short utterances to long ones (Deep Speech 2, arXiv 1512.02595,
    # section 3.2).
    sorta_grad: bool = False
    with_ids: bool = False  # the labels also have "utterance_id", which a TPU can't take
    # The training's last step, at which augmentations reach their end; None: they stay at their
    # start.
    train_steps: int | None = None
    stride: int | None = None  # frames per output of the network; None: that of the shards
    statistics: Statistics | None = None  # of the model, if it has any
    lexicon: Lexicon | None = None  # whose phones the labels have, too

    def parse_augmentations(self) -> tuple[Specification, ...]:
        """Returns the parsed augmentations.

        Raises:
            UserError: one of them can't be parsed or doesn't suit the features.
        """
        return augment.parse_all(self.augmentations, self.shards.index.settings.front_end)


def training_input_fn(settings: TrainingInput) -> Callable[[Any], tf.data.Dataset]:
    """Returns an input_fn for TPUEstimator: endless shuffled batches from `start_step` on.

    The batches are (features, labels) as model.model_fn_builder describes them. The very first one
    of a training is padded to the longest utterance of all: if batches don't fit into memory it
    shows at once, and not when chance brings them.

    Raises:
        UserError: an augmentation can't be parsed or doesn't suit the features.
    """
    augmentations = settings.parse_augmentations()

    def input_fn(params: Any) -> tf.data.Dataset:
        # A shuffle's order depends on TensorFlow's seed too, whatever its own is. If that seed is
        # 0, `shuffle` compares its own with 0, which fails for a tensor.
        tf.random.set_seed(settings.random_seed % tf.int32.max or 1)
        return _HostInput(settings, augmentations, params).batches()

    return input_fn


class _HostInput:
    """The batches that one host trains on, stage by stage."""

    def __init__(
        self, settings: TrainingInput, augmentations: tuple[Specification, ...], params: Any
    ) -> None:
        """params: of an input_fn, from TPUEstimator."""
        self._settings = settings
        self._batching = settings.batching
        self._index = settings.shards.index
        self._augmentations = augmentations
        self._host, hosts = parsing.host_of(params)
        assert hosts == self._batching.hosts, (
            f"{hosts} hosts, not the {self._batching.hosts} of the epochs"
        )
        # Utterances of a batch: on a TPU the part of one core.
        self._size = params["batch_size"] * self._batching.replicas
        self._step_batches = self._batching.batch_size // (self._size * hosts)
        self._epoch_steps = steps_per_epoch(self._index, self._batching)
        self._shuffling = shuffling(self._index, self._batching, settings.shuffle_buffer_size)
        # What fits is read once. The shuffle buffers of all epochs hold references to it.
        self._kept = self._utterances(None).cache() if self._shuffling.exact else None

    def batches(self) -> tf.data.Dataset:
        """Returns endless batches from the start step on, as (features, labels)."""
        settings, batching = self._settings, self._batching
        first_epoch, skipped = divmod(settings.start_step, self._epoch_steps)
        sorted_epochs = 1 if settings.sorta_grad and first_epoch == 0 else 0
        batches = tf.data.Dataset.range(first_epoch + sorted_epochs, 2**31).flat_map(self._epoch)
        if sorted_epochs:
            batches = self._epoch(tf.constant(0, tf.int64), by_length=True).concatenate(batches)
        batches = batches.skip(skipped * self._step_batches)
        if settings.start_step == 0 and not batching.static:
            # Not when training resumes: the masks of dropout depend on a batch's shape.
            batches = batches.enumerate().map(_pad_first_to(self._longest()))
        if batching.replicas > 1:
            batches = batches.map(_cut_for_replicas(batching), tf.data.AUTOTUNE).unbatch()
        if settings.lexicon:
            add_phones = phone_labels(settings.lexicon, self._index.settings.alphabet)
            batches = batches.map(add_phones, tf.data.AUTOTUNE)
        return batches.map(parsing.split_labels).prefetch(tf.data.AUTOTUNE)

    def _epoch(self, epoch: tf.Tensor, by_length: bool = False) -> tf.data.Dataset:
        """Returns the batches of one epoch; epoch: int64 []."""
        seed = self._settings.random_seed * 1_000_003 + epoch
        utterances = self._utterances(seed) if self._kept is None else self._kept
        buffered = self._shuffling.buffered
        utterances = utterances.shuffle(buffered, seed, reshuffle_each_iteration=False)
        if by_length:
            utterances = _sort_by_length(utterances, self._index, buffered)
        augmented = utterances.enumerate().map(self._augment(epoch, seed), tf.data.AUTOTUNE)
        # On a pod one host may have more utterances than another: their epochs are as long.
        return self._batch(augmented).take(self._epoch_steps * self._step_batches)

    def _utterances(self, seed: tf.Tensor | None) -> tf.data.Dataset:
        """Returns the parsed utterances that this host trains on; a seed shuffles the shards."""
        files, hosts = self._settings.shards.files, self._batching.hosts
        divided = host_shards(self._index, hosts)
        if divided is None:
            records = parsing.record_dataset(files, seed).shard(hosts, self._host)
        else:
            own = [files[number] for number in divided[self._host]]
            records = parsing.record_dataset(own, seed)
        parse = parsing.utterance_parser(
            self._index, self._settings.statistics, self._settings.with_ids
        )
        return records.map(parse, tf.data.AUTOTUNE)

    def _augment(
        self, epoch: tf.Tensor, seed: tf.Tensor
    ) -> Callable[[tf.Tensor, Batch], _Recorded]:
        """Returns a function that augments utterance `number` of an epoch."""
        shards = self._index.settings
        stride = self._settings.stride or shards.stride
        conditions = augment.Conditions(shards.front_end, shards.max_sequence_length, stride)
        records, train_steps = self._shuffling.records, self._settings.train_steps

        def augment_one(number: tf.Tensor, utterance: Batch) -> _Recorded:
            own_seed = tf.cast(tf.stack([seed, number]) % (2**31 - 1), tf.int32)
            epochs = tf.cast(epoch, tf.float32) + tf.cast(number, tf.float32) / records
            progress = epochs * self._epoch_steps / train_steps if train_steps else 0.0 * epochs
            return utterance["feature_length"], augment.apply_all(
                self._augmentations, utterance, own_seed, tf.minimum(progress, 1.0), conditions
            )

        return augment_one

    def _batch(self, recorded: tf.data.Dataset) -> tf.data.Dataset:
        """Returns one epoch in batches.

        Args:
            recorded: of _Recorded. Batches are put together by lengths before augmentation, so
                that an epoch has the batches that `steps_per_epoch` counts.
        """
        if self._batching.static:
            utterances = recorded.map(lambda _, utterance: utterance)
            return parsing.padded_batches(utterances, self._index, self._size, static=True)
        boundaries = bucket_boundaries(self._index, self._batching)
        shapes = parsing.padded_shapes(recorded.element_spec[1], self._index, static=False)
        batches = recorded.bucket_by_sequence_length(
            lambda frames, _: frames,
            boundaries,
            [self._size] * (len(boundaries) + 1),
            padded_shapes=([], shapes),
        )
        return batches.map(lambda _, batch: batch)

    def _longest(self) -> dict[str, int]:
        """Returns the most frames and labels that an utterance of an epoch can have."""
        frames = self._index.longest_frames
        if any(each.kind == "tempo" for each in self._augmentations):
            frames = self._index.settings.max_sequence_length
        return {"features": frames, "label": self._index.longest_label}


def _sort_by_length(utterances: tf.data.Dataset, index: Index, buffered: int) -> tf.data.Dataset:
    """Returns the utterances from short to long; those of one length keep their order.

    Of a set that doesn't fit into the shuffle buffer it reads as many of the shortest as do, then
    again for the next ones, and so on.
    """

    def sorted_between(low: int, high: int) -> tf.data.Dataset:
        inside = utterances.filter(
            lambda each: tf.logical_and(
                low <= each["feature_length"], each["feature_length"] < high
            )
        )
        # At the input's end the groups, one a length, come out in the order of their keys.
        return inside.group_by_window(
            lambda each: tf.cast(each["feature_length"], tf.int64),
            lambda _, group: group,
            window_size=2**62,
        )

    edges, held = [0], 0
    for frames, count in index.frames_histogram.items():
        if held and held + count > buffered:
            edges.append(frames)
            held = 0
        held += count
    edges.append(2**31 - 1)
    parts = [sorted_between(low, high) for low, high in pairwise(edges)]
    return reduce(lambda whole, part: whole.concatenate(part), parts)


def _pad_first_to(lengths: dict[str, int]) -> Callable[[tf.Tensor, Batch], Batch]:
    """Returns a function that pads batch number 0 to `lengths`, by key; other batches stay."""

    def pad(number: tf.Tensor, batch: Batch) -> Batch:
        padded = dict(batch)
        for key, length in lengths.items():
            missing = tf.where(tf.equal(number, 0), length - tf.shape(batch[key])[1], 0)
            others = [[0, 0]] * (batch[key].shape.rank - 2)
            padded[key] = tf.pad(batch[key], [[0, 0], [0, missing], *others])
        return padded

    return pad


def _cut_for_replicas(batching: Batching) -> Callable[[Batch], Batch]:
    """Returns a function that cuts a batch into a part for each replica of this process.

    The parts have equally many rows. An incomplete batch is filled up with its last row, of length
    and weight 0: so batches, steps and losses are the same for any number of replicas.
    """
    own = batching.own_replicas

    def cut(batch: Batch) -> Batch:
        rows = tf.shape(batch["weight"])[0]
        part = -(-rows // batching.replicas)
        position = tf.range(own.start * part, own.stop * part)
        taken = {
            key: tf.gather(each, tf.minimum(position, rows - 1)) for key, each in batch.items()
        }
        taken["weight"] *= tf.cast(position < rows, tf.float32)
        taken["feature_length"] *= tf.cast(position < rows, tf.int32)
        return {
            # [own replicas, rows of a part, ...]
            key: tf.reshape(each, tf.concat([[len(own), part], tf.shape(each)[1:]], axis=0))
            for key, each in taken.items()
        }

    return cut


def utterance_ids(input_fn: Callable[[Any], tf.data.Dataset], batch_size: int) -> list[str]:
    """Returns the ids of the first step's utterances.

    If the features of some of them aren't finite, it returns the ids of these alone.

    Args:
        input_fn: from `training_input_fn` with ids; it starts at the step.
        batch_size: over all cores.
    """
    # A hook that asks for it runs in another graph.
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        batches = input_fn({"batch_size": batch_size})
        iterator = tf.compat.v1.data.make_initializable_iterator(batches)
        session.run(iterator.initializer)
        features, labels = session.run(iterator.get_next())
    ids = [each.decode() for each in labels["utterance_id"]]
    finite = np.isfinite(features["features"]).all(axis=(1, 2))  # [batch]
    damaged = [each for each, good in zip(ids, finite, strict=True) if not good]
    return damaged or ids
