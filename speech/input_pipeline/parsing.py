"""Records of shards -> utterances and padded batches, as TensorFlow datasets."""

import bisect
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from speech.features.front_end import CORPUS
from speech.features.normalisation import Statistics
from speech.shards.index import Index
from speech.shards.shard_set import ShardSet

# One utterance, or a batch of them, by the names of its tensors.
Batch = dict[str, tf.Tensor]

# Shards that training reads in parallel, local or in a bucket: the order of the data depends on it.
# One stream from a bucket gives a small part of the data rate that a TPU needs.
PARALLEL_SHARDS = 16

# Records that each of these streams reads ahead: what the others' turns take out of it while it
# waits for a bucket's next block (see constants.py).
READ_AHEAD = 16

# Tensors that the network reads; the others are labels.
FEATURE_KEYS = ("features", "feature_length")


def record_dataset(
    files: Sequence[str], seed: tf.Tensor | None = None, streams: int = PARALLEL_SHARDS
) -> tf.data.Dataset:
    """Returns the serialised examples of shards as a dataset of strings.

    Args:
        seed: shuffles the shards; None: they keep their order.
        streams: shards that are read in turn, a record each; 1 gives the set's order.
    """
    streams = min(streams, len(files))
    if streams == 1:
        # Not an interleave of one stream: ending it early can hang TensorFlow 2.15.
        return tf.data.TFRecordDataset(_in_order(files, seed)).prefetch(READ_AHEAD)
    return _in_order(files, seed).interleave(
        lambda file: tf.data.TFRecordDataset(file).prefetch(READ_AHEAD),
        cycle_length=streams,
        num_parallel_calls=streams,  # they wait for disks and buckets, whatever the cores
        deterministic=True,
    )


def _in_order(files: Sequence[str], seed: tf.Tensor | None) -> tf.data.Dataset:
    dataset = tf.data.Dataset.from_tensor_slices(list(files))
    if seed is None:
        return dataset
    return dataset.shuffle(len(files), seed, reshuffle_each_iteration=False)


# The fields of a record that hold its features.
_STORED_FEATURES = {
    "features": tf.io.FixedLenSequenceFeature([], tf.float32, allow_missing=True),
    "feature_length": tf.io.FixedLenFeature([], tf.int64),
}


def _unpadded_features(example: Batch, bins: int) -> tf.Tensor:
    """Returns the features of a parsed record as they are stored, float32 [frames, bins]."""
    stored = tf.reshape(example["features"], [bins, -1])  # [bins, padded frames]
    return tf.transpose(stored[:, : example["feature_length"]])


def stored_features(
    shards: ShardSet, start: int = 0, count: int = -1
) -> Iterator[npt.NDArray[np.float32]]:
    """Yields the features of utterances as they are stored, in the set's order.

    They are what an exported model takes: it normalises them over the corpus itself.

    Args:
        start: number of the first utterance.
        count: maximum number of utterances; -1: all that follow.

    Yields:
        float32 [frames, bins].
    """
    bins = shards.index.settings.front_end.bins
    ends = list(accumulate(shard.records for shard in shards.index.shards))
    shard = bisect.bisect_right(ends, start)  # the first one that is read
    if shard == len(ends):
        return
    skipped = start - ends[shard] + shards.index.shards[shard].records
    records = record_dataset(shards.files[shard:], streams=1).skip(skipped).take(count)
    features = records.map(
        lambda record: _unpadded_features(
            tf.io.parse_single_example(record, _STORED_FEATURES), bins
        ),
        tf.data.AUTOTUNE,
    )
    yield from features.as_numpy_iterator()


def transcripts(shards: ShardSet, count: int = -1) -> list[tuple[str, str]]:
    """Returns (utterance id, transcript) of every utterance; the place is the utterance's number.

    They are read on their own because strings can't go to a TPU with the features;
    `evaluation_input_fn` gives the numbers that join both.

    Args:
        count: maximum number of utterances, the set's first; -1: all.
    """
    keys = ("utterance_id", "transcript")
    specification = {key: tf.io.FixedLenFeature([], tf.string) for key in keys}
    examples = (
        record_dataset(shards.files, streams=1)
        .take(count)
        .map(lambda record: tf.io.parse_single_example(record, specification), tf.data.AUTOTUNE)
    )
    return [
        (example["utterance_id"].decode(), example["transcript"].decode())
        for example in examples.as_numpy_iterator()
    ]


def utterance_parser(
    index: Index, statistics: Statistics | None, with_ids: bool = False
) -> Callable[[tf.Tensor], Batch]:
    """Returns a function that parses a record into an utterance without padding.

    Args:
        statistics: of the model, if features are normalised over a corpus.
        with_ids: the utterance also has "utterance_id", which a TPU can't take.

    Returns:
        a function of a string [] that returns features float32 [frames, bins], feature_length
        int32 [], label int32 [labels], label_length int32 [] and weight float32 [].
    """
    front_end = index.settings.front_end
    over_corpus = front_end.normalisation == CORPUS
    assert over_corpus == (statistics is not None), "a model's statistics are for its input"
    specification = {
        **_STORED_FEATURES,
        "label": tf.io.FixedLenSequenceFeature([], tf.int64, allow_missing=True),
        "label_length": tf.io.FixedLenFeature([], tf.int64),
    }
    if with_ids:
        specification["utterance_id"] = tf.io.FixedLenFeature([], tf.string)

    def parse(record: tf.Tensor) -> Batch:
        example = tf.io.parse_single_example(record, specification)
        features = _unpadded_features(example, front_end.bins)
        if statistics is not None:
            features = (features - tf.constant(statistics.mean)) / statistics.deviation
        ids = {"utterance_id": example["utterance_id"]} if with_ids else {}
        labels = tf.cast(example["label_length"], tf.int32)
        return {
            **ids,
            "features": features,
            "feature_length": tf.cast(example["feature_length"], tf.int32),
            "label": tf.cast(example["label"][:labels], tf.int32),
            "label_length": labels,
            "weight": tf.constant(1.0),
        }

    return parse


def padded_shapes(keys: Iterable[str], index: Index, static: bool) -> dict[str, list[int | None]]:
    """Returns the shapes that utterances are padded to; None: the longest of the batch."""
    settings = index.settings
    shapes: dict[str, list[int | None]] = {
        "features": [settings.max_sequence_length if static else None, settings.front_end.bins],
        "label": [settings.max_label_length if static else None],
    }
    return {key: shapes.get(key, []) for key in keys}


def padded_batches(
    utterances: tf.data.Dataset, index: Index, size: int, static: bool
) -> tf.data.Dataset:
    """Returns batches of `size` utterances in their order; static ones are never incomplete."""
    return utterances.padded_batch(
        size, padded_shapes(utterances.element_spec, index, static), drop_remainder=static
    )


def split_labels(batch: Batch) -> tuple[Batch, Batch]:
    """Returns a batch as (features, labels)."""
    features = {key: batch[key] for key in FEATURE_KEYS}
    return features, {key: batch[key] for key in batch if key not in FEATURE_KEYS}


def host_of(params: Any) -> tuple[int, int]:
    """Returns this host's number and the number of hosts of a TPU; (0, 1) without one.

    Args:
        params: of an input_fn, from TPUEstimator.
    """
    if "context" not in params:
        return 0, 1
    _, host, hosts, _ = params["context"].current_input_fn_deployment()
    return host, hosts
