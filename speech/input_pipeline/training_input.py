"""Shards -> batches, for training and evaluation.

On a TPU every batch has one static shape, padded to the lengths in the shards' index. On a CPU or
GPU a batch is padded to its longest utterance, and in training batches are put together from
utterances of like lengths. The order of the data is a function of the random seed and the step, so
training that continues reads on where it was.

Many shards are read at once, and what is shuffled are parsed utterances without their padding. A
set that fits into the shuffle buffer is mixed evenly and stays there: it is read once.
"""

import bisect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import tensorflow as tf
from absl import logging

import constants
from speech.augmentation import features as augment
from speech.features.front_end import CORPUS
from speech.features.normalisation import Statistics
from speech.shards.records import FRAMES_BAR, Index, ShardSet

Batch = dict[str, tf.Tensor]

# Batches that a bucket of like lengths gives at least in an epoch, on average: fewer, longer
# buckets pad more; more, smaller buckets leave more batches incomplete at an epoch's end.
BATCHES_PER_BUCKET = 4
MOST_BUCKETS = 16

# Shards that training reads at once, wherever they lie: the order of the data depends on it. One
# stream from a bucket brings a small part of what a TPU asks for.
PARALLEL_SHARDS = 16

# Records that each of these streams reads ahead: what the others' turns take out of it while it
# waits for a bucket's next block (see constants.py).
READ_AHEAD = 16

# Hosts of a pod read shards of their own if the host with fewest utterances gets at least this
# share of the mean; what others have more is left out of an epoch.
LEAST_SHARE = 0.95

FEATURE_KEYS = ("features", "feature_length")

# (frames as they were recorded, the utterance, of which augmentation may have made more or fewer)
_Recorded = tuple[tf.Tensor, dict[str, tf.Tensor]]


@dataclass(frozen=True)
class Batching:
    """How utterances become batches."""

    batch_size: int  # over all cores
    static: bool  # one shape for all batches: a TPU's need
    hosts: int = 1  # that feed the batch's parts; several only on a TPU pod
    replicas: int = 1  # of speech/engines/distributed.py, for which training batches are cut
    own_replicas: range = range(1)  # those that this process feeds

    @property
    def uncut(self) -> "Batching":
        """The same batches, each in one piece."""
        return replace(self, replicas=1, own_replicas=range(1))


@dataclass(frozen=True)
class Shuffling:
    """How far the utterances that one host reads are mixed in an epoch."""

    buffered: int  # utterances, of which the next one is drawn
    records: int  # utterances of a host in an epoch
    utterance_bytes: int  # of an average one, without padding

    @property
    def exact(self) -> bool:
        """Whether every order of the epoch is equally likely."""
        return self.buffered >= self.records

    def __str__(self) -> str:
        if self.exact:
            return (
                f"Shuffles exactly: all {self.records} utterances fit into the buffer "
                f"({self._size(self.records)})"
            )
        return (
            f"Shuffles within {self.buffered} of {self.records} utterances at a time "
            f"({self._size(self.buffered)}): raise --shuffle_buffer_size to {self.records} "
            f"({self._size(self.records)}) for an exact shuffle, or make smaller partitions"
        )

    def _size(self, utterances: int) -> str:
        size = utterances * self.utterance_bytes
        return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.1f} MiB"


def bucket_boundaries(index: Index, batching: Batching) -> list[int]:
    """Frames at which the buckets of like lengths part; [] is one bucket for all.

    They lie on the bars of the index's histogram and hold about the same number of utterances.
    """
    buckets = min(index.records // (BATCHES_PER_BUCKET * batching.batch_size), MOST_BUCKETS)
    if batching.static or buckets < 2:
        return []
    boundaries: list[int] = []
    seen = 0
    for frames, count in index.frames_histogram.items():
        if (
            len(boundaries) < buckets - 1
            and seen >= index.records * (len(boundaries) + 1) / buckets
        ):
            boundaries.append(frames)
        seen += count
    return boundaries


def steps_per_epoch(index: Index, batching: Batching) -> int:
    """Batches of one epoch of training, exactly: incomplete ones count unless batches are static.

    With static batches the utterances that don't fill a batch wait for the next epoch's shuffle,
    and so do those that a host of a pod has more than another.
    """
    if batching.static:
        return min(host_records(index, batching.hosts)) * batching.hosts // batching.batch_size
    boundaries = bucket_boundaries(index, batching)
    counts = [0] * (len(boundaries) + 1)
    for frames, count in index.frames_histogram.items():
        counts[bisect.bisect_right(boundaries, frames)] += count
    return sum(-(-count // batching.batch_size) for count in counts)


def host_shards(index: Index, hosts: int) -> list[list[int]] | None:
    """Numbers of the shards that each host reads; None if whole shards can't be divided evenly.

    Even is what LEAST_SHARE says. The largest shards are dealt out first, each to the host that has
    the fewest utterances so far.
    """
    numbers: list[list[int]] = [[] for _ in range(hosts)]
    records = [0] * hosts
    sizes = [shard.records for shard in index.shards]
    for number in sorted(range(len(sizes)), key=lambda each: (-sizes[each], each)):
        host = records.index(min(records))
        numbers[host].append(number)
        records[host] += sizes[number]
    even = min(records) >= LEAST_SHARE * index.records / hosts
    return [sorted(each) for each in numbers] if even else None


def host_records(index: Index, hosts: int) -> list[int]:
    """Utterances that each host has: those of its shards, or every `hosts`th of the set."""
    divided = host_shards(index, hosts)
    if divided is None:
        return [len(range(host, index.records, hosts)) for host in range(hosts)]
    return [sum(index.shards[number].records for number in numbers) for numbers in divided]


def shuffling(index: Index, batching: Batching, shuffle_buffer_size: int | None) -> Shuffling:
    """How training shuffles; shuffle_buffer_size: utterances, None for as many as fit.

    What fits is decided by the index alone, so that the order is the same on every machine.
    """
    records = max(host_records(index, batching.hosts))
    # A bar's upper edge: never less than there is.
    frames = sum((edge + FRAMES_BAR) * count for edge, count in index.frames_histogram.items())
    utterance_bytes = frames * index.settings.front_end.bins * 4 // max(index.records, 1)
    size = shuffle_buffer_size or max(constants.SHUFFLE_BUFFER_BYTES // max(utterance_bytes, 1), 1)
    return Shuffling(min(size, max(records, 1)), records, utterance_bytes)


def log_reading(index: Index, batching: Batching, shuffle_buffer_size: int | None) -> None:
    """Says how training shuffles, and which host of a pod reads what."""
    logging.info("%s", shuffling(index, batching, shuffle_buffer_size))
    if batching.hosts == 1:
        return
    records = host_records(index, batching.hosts)
    if host_shards(index, batching.hosts):
        logging.info(
            "Each of %d hosts reads shards of its own, %d to %d utterances",
            batching.hosts,
            min(records),
            max(records),
        )
    else:
        # So many shards a host that one more or less is at most 1 - LEAST_SHARE of them.
        shards = round(1 / (1 - LEAST_SHARE)) * batching.hosts
        logging.warning(
            "%d shards can't be divided evenly among %d hosts: each reads all of them for its part "
            "of the utterances. Prepare with --partition_size=%d or less to spare them that.",
            len(index.shards),
            batching.hosts,
            max(index.records // shards, 1),
        )


def training_input_fn(
    shards: ShardSet,
    batching: Batching,
    random_seed: int,
    shuffle_buffer_size: int | None,
    augmentations: tuple[str, ...],
    start_step: int,
    sorta_grad: bool = False,
    with_ids: bool = False,
    train_steps: int | None = None,
    stride: int | None = None,
    statistics: Statistics | None = None,
) -> Callable[[Any], tf.data.Dataset]:
    """An input_fn for TPUEstimator: endless shuffled batches from `start_step` on.

    The batches are (features, labels) as model.model_fn_builder describes them. The very first one
    of a training is padded to the longest utterance of all: if batches don't fit into memory it
    shows at once, and not when chance brings them.

    Args:
        shuffle_buffer_size: see `shuffling`.
        sorta_grad: the first epoch goes from short utterances to long ones (Deep Speech 2, arXiv
            1512.02595, section 3.2).
        with_ids: the labels also have "utterance_id", which a TPU couldn't take.
        train_steps: the training's last step, at which augmentations reach their end; None: they
            stay at their start.
        stride: frames for one output of the network; None: what the shards were checked against.
        statistics: the model's, if it has any.
    """
    settings = shards.index.settings
    augmented_by = augment.parse_all(augmentations, settings.front_end)
    conditions = augment.Conditions(
        settings.front_end, settings.max_sequence_length, stride or settings.stride
    )
    epoch_steps = steps_per_epoch(shards.index, batching)
    first_epoch, skipped = divmod(start_step, epoch_steps)

    shuffled = shuffling(shards.index, batching, shuffle_buffer_size)

    def input_fn(params: Any) -> tf.data.Dataset:
        _, hosts = _host(params)
        assert hosts == batching.hosts, f"{hosts} hosts, not the {batching.hosts} of the epochs"
        batches_per_step = _batches_per_step(batching, params)

        def utterances_of(seed: tf.Tensor | None) -> tf.data.Dataset:
            records = _share_of_this_host(shards, params, seed)
            return records.map(_parser(shards.index, statistics, with_ids), tf.data.AUTOTUNE)

        # What fits is read once. The shuffle buffers of all epochs hold references to it.
        kept = utterances_of(None).cache() if shuffled.exact else None

        def epoch_of(epoch: tf.Tensor, by_length: bool = False) -> tf.data.Dataset:
            seed = random_seed * 1_000_003 + epoch

            def augmented(number: tf.Tensor, utterance: Batch) -> _Recorded:
                own = tf.cast(tf.stack([seed, number]) % (2**31 - 1), tf.int32)
                epochs = tf.cast(epoch, tf.float32) + tf.cast(number, tf.float32) / shuffled.records
                progress = epochs * epoch_steps / train_steps if train_steps else 0.0 * epochs
                return utterance["feature_length"], augment.apply_all(
                    augmented_by, utterance, own, tf.minimum(progress, 1.0), conditions
                )

            utterances = utterances_of(seed) if kept is None else kept
            utterances = utterances.shuffle(shuffled.buffered, seed, reshuffle_each_iteration=False)
            if by_length:
                utterances = _by_length(utterances, shards.index, shuffled.buffered)
            recorded = utterances.enumerate().map(augmented, tf.data.AUTOTUNE)
            size = params["batch_size"] * batching.replicas
            batches = _training_batches(recorded, shards.index, batching, size)
            # On a pod one host may have more utterances than another: their epochs are as long.
            return batches.take(epoch_steps * batches_per_step)

        sorted_epochs = 1 if sorta_grad and first_epoch == 0 else 0
        batches = tf.data.Dataset.range(first_epoch + sorted_epochs, 2**31).flat_map(epoch_of)
        if sorted_epochs:
            batches = epoch_of(tf.constant(0, tf.int64), by_length=True).concatenate(batches)
        batches = batches.skip(skipped * batches_per_step)
        if start_step == 0 and not batching.static:
            # Not when training goes on: the masks of dropout depend on a batch's shape.
            longest = shards.index.longest_frames
            if any(each.kind == "tempo" for each in augmented_by):
                longest = settings.max_sequence_length
            lengths = {"features": longest, "label": shards.index.longest_label}
            batches = batches.enumerate().map(_first_one_as_long_as(lengths))
        if batching.replicas > 1:
            batches = batches.map(_cut(batching), tf.data.AUTOTUNE).unbatch()
        return batches.map(_split).prefetch(tf.data.AUTOTUNE)

    return input_fn


def _by_length(utterances: tf.data.Dataset, index: Index, buffered: int) -> tf.data.Dataset:
    """The utterances from short to long; those of one length in the order they come in.

    Of a set that doesn't fit into the shuffle buffer it reads as much of the shortest as does, then
    again for what follows, and so on.
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
    whole = parts[0]
    for part in parts[1:]:
        whole = whole.concatenate(part)
    return whole


def _first_one_as_long_as(lengths: dict[str, int]) -> Callable[[tf.Tensor, Batch], Batch]:
    """Pads batch number 0 to frames and labels; the others stay."""

    def pad(number: tf.Tensor, batch: Batch) -> Batch:
        padded = dict(batch)
        for key, length in lengths.items():
            missing = tf.where(tf.equal(number, 0), length - tf.shape(batch[key])[1], 0)
            others = [[0, 0]] * (batch[key].shape.rank - 2)
            padded[key] = tf.pad(batch[key], [[0, 0], [0, missing], *others])
        return padded

    return pad


def utterance_ids(input_fn: Callable[[Any], tf.data.Dataset], batch_size: int) -> list[str]:
    """Ids of the first step's utterances; of those alone whose features aren't finite, if any.

    Args:
        input_fn: from `training_input_fn`, with ids, that starts at the step.
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


def evaluation_input_fn(
    shards: ShardSet,
    batching: Batching,
    for_prediction: bool,
    statistics: Statistics | None = None,
) -> Callable[[Any], tf.data.Dataset]:
    """An input_fn for TPUEstimator: every utterance once, in the corpus's order.

    Static batches are filled up with examples of weight 0. For prediction the labels stand among
    the features. statistics: the model's, if it has any; not those of these shards.
    """
    missing = -shards.index.records % batching.batch_size if batching.static else 0

    def input_fn(params: Any) -> tf.data.Dataset:
        records = _records(shards.files, streams=1)
        utterances = records.map(_parser(shards.index, statistics), tf.data.AUTOTUNE)
        filling = utterances.take(1).map(lambda one: {**one, "weight": 0.0}).repeat(missing)
        host, hosts = _host(params)
        utterances = utterances.concatenate(filling).shard(hosts, host)
        batches = _padded_batches(utterances, shards.index, params["batch_size"], batching.static)
        if not for_prediction:
            batches = batches.map(_split)
        return batches.prefetch(tf.data.AUTOTUNE)

    return input_fn


def evaluation_steps(index: Index, batching: Batching) -> int:
    return -(-index.records // batching.batch_size)


def transcripts(shards: ShardSet) -> list[tuple[str, str]]:
    """(utterance id, transcript) of every utterance in the corpus's order.

    They are read by themselves because strings can't go to a TPU with the features.
    """
    keys = ("utterance_id", "transcript")
    specification = {key: tf.io.FixedLenFeature([], tf.string) for key in keys}
    examples = _records(shards.files, streams=1).map(
        lambda record: tf.io.parse_single_example(record, specification), tf.data.AUTOTUNE
    )
    return [
        (example["utterance_id"].decode(), example["transcript"].decode())
        for example in examples.as_numpy_iterator()
    ]


def _records(
    files: Sequence[str], seed: tf.Tensor | None = None, streams: int = PARALLEL_SHARDS
) -> tf.data.Dataset:
    """Serialised examples of `streams` shards side by side; a seed shuffles the shards.

    One stream gives the corpus's order. The shards behind it are opened and begun meanwhile.
    """
    dataset = tf.data.Dataset.from_tensor_slices(list(files))
    if seed is not None:
        dataset = dataset.shuffle(len(files), seed, reshuffle_each_iteration=False)
    streams = min(streams, len(files))
    return dataset.interleave(
        lambda file: tf.data.TFRecordDataset(file).prefetch(READ_AHEAD),
        cycle_length=streams,
        num_parallel_calls=streams,  # they wait for disks and buckets, whatever the cores
        deterministic=True,
    )


def _host(params: Any) -> tuple[int, int]:
    """This host's number and the number of hosts that feed a TPU; (0, 1) without one."""
    if "context" not in params:
        return 0, 1
    _, host, hosts, _ = params["context"].current_input_fn_deployment()
    return host, hosts


def _share_of_this_host(shards: ShardSet, params: Any, seed: tf.Tensor | None) -> tf.data.Dataset:
    """The records that this host trains on; a seed shuffles the shards."""
    host, hosts = _host(params)
    divided = host_shards(shards.index, hosts)
    if divided is None:
        return _records(shards.files, seed).shard(hosts, host)
    return _records([shards.files[number] for number in divided[host]], seed)


def _batches_per_step(batching: Batching, params: Any) -> int:
    """Batches that one step takes from this host: on a TPU one for each of its cores."""
    _, hosts = _host(params)
    return batching.batch_size // (params["batch_size"] * batching.replicas * hosts)


def _parser(
    index: Index, statistics: Statistics | None, with_ids: bool = False
) -> Callable[[tf.Tensor], Batch]:
    front_end = index.settings.front_end
    bins = front_end.bins
    over_corpus = front_end.normalisation == CORPUS
    assert over_corpus == (statistics is not None), "a model's statistics are for its input"
    specification = {
        "features": tf.io.FixedLenSequenceFeature([], tf.float32, allow_missing=True),
        "feature_length": tf.io.FixedLenFeature([], tf.int64),
        "label": tf.io.FixedLenSequenceFeature([], tf.int64, allow_missing=True),
        "label_length": tf.io.FixedLenFeature([], tf.int64),
    }
    if with_ids:
        specification["utterance_id"] = tf.io.FixedLenFeature([], tf.string)

    def parse(record: tf.Tensor) -> Batch:
        """One utterance without padding."""
        example = tf.io.parse_single_example(record, specification)
        frames = tf.cast(example["feature_length"], tf.int32)
        labels = tf.cast(example["label_length"], tf.int32)
        features = tf.reshape(example["features"], [bins, -1])[:, :frames]  # [bins, frames]
        features = tf.transpose(features)  # [frames, bins]
        if statistics is not None:
            features = (features - tf.constant(statistics.mean)) / statistics.deviation
        ids = {"utterance_id": example["utterance_id"]} if with_ids else {}
        return {
            **ids,
            "features": features,
            "feature_length": frames,
            "label": tf.cast(example["label"][:labels], tf.int32),
            "label_length": labels,
            "weight": tf.constant(1.0),
        }

    return parse


def _padded_shapes(keys: Iterable[str], index: Index, static: bool) -> dict[str, list[int | None]]:
    settings = index.settings
    shapes: dict[str, list[int | None]] = {
        "features": [settings.max_sequence_length if static else None, settings.front_end.bins],
        "feature_length": [],
        "label": [settings.max_label_length if static else None],
        "label_length": [],
        "weight": [],
        "utterance_id": [],
    }
    return {key: shapes[key] for key in keys}


def _training_batches(
    recorded: tf.data.Dataset, index: Index, batching: Batching, size: int
) -> tf.data.Dataset:
    """One epoch in batches of `size`: the whole batch, or on a TPU that of one core.

    Args:
        recorded: of _Recorded. What is batched together are like lengths before augmentation, so
            that an epoch has the batches that `steps_per_epoch` counts.
    """
    if batching.static:
        utterances = recorded.map(lambda _, utterance: utterance)
        return _padded_batches(utterances, index, size, static=True)
    boundaries = bucket_boundaries(index, batching)
    batches = recorded.bucket_by_sequence_length(
        lambda frames, _: frames,
        boundaries,
        [size] * (len(boundaries) + 1),
        padded_shapes=([], _padded_shapes(recorded.element_spec[1], index, static=False)),
    )
    return batches.map(lambda _, batch: batch)


def _padded_batches(
    utterances: tf.data.Dataset, index: Index, size: int, static: bool
) -> tf.data.Dataset:
    return utterances.padded_batch(
        size, _padded_shapes(utterances.element_spec, index, static), drop_remainder=static
    )


def _cut(batching: Batching) -> Callable[[Batch], Batch]:
    """Cuts a batch into a part for each replica, and takes those of this process.

    The parts have equally many rows. What an incomplete batch lacks is its last row again, of
    length and weight 0: so batches, steps and losses are the same for any number of replicas.
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


def _split(batch: Batch) -> tuple[Batch, Batch]:
    """A batch as (features, labels)."""
    features = {key: batch[key] for key in FEATURE_KEYS}
    return features, {key: batch[key] for key in batch if key not in FEATURE_KEYS}
