"""Shards -> batches, for training and evaluation.

On a TPU every batch has one static shape, padded to the lengths in the shards' index. On a CPU or
GPU a batch is padded to its longest utterance, and in training batches are put together from
utterances of like lengths. The order of the data is a function of the random seed and the step, so
training that continues reads on where it was.
"""

import bisect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from speech import augment
from speech.records import Index, ShardSet

# Batches that a bucket of like lengths gives at least in an epoch, on average: fewer, longer
# buckets pad more; more, smaller buckets leave more batches incomplete at an epoch's end.
BATCHES_PER_BUCKET = 4
MOST_BUCKETS = 16

# Shards that are read at once.
PARALLEL_SHARDS = 8

FEATURE_KEYS = ("features", "feature_length")


@dataclass(frozen=True)
class Batching:
    """How utterances become batches."""

    batch_size: int  # over all cores
    static: bool  # one shape for all batches: a TPU's need


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

    With static batches the utterances that don't fill a batch wait for the next epoch's shuffle.
    """
    if batching.static:
        return index.records // batching.batch_size
    boundaries = bucket_boundaries(index, batching)
    counts = [0] * (len(boundaries) + 1)
    for frames, count in index.frames_histogram.items():
        counts[bisect.bisect_right(boundaries, frames)] += count
    return sum(-(-count // batching.batch_size) for count in counts)


def training_input_fn(
    shards: ShardSet,
    batching: Batching,
    random_seed: int,
    shuffle_buffer_size: int,
    augmentations: tuple[str, ...],
    start_step: int,
) -> Callable[[Any], tf.data.Dataset]:
    """An input_fn for TPUEstimator: endless shuffled batches from `start_step` on.

    The batches are (features, labels) as model.model_fn_builder describes them.
    """
    masks = [augment.parse(specification) for specification in augmentations]
    step_seconds = shards.index.settings.front_end.step_seconds
    epoch_steps = steps_per_epoch(shards.index, batching)
    first_epoch, skipped = divmod(start_step, epoch_steps)

    def input_fn(params: Any) -> tf.data.Dataset:
        batches_per_step = _batches_per_step(batching, params)

        def epoch_of(epoch: tf.Tensor) -> tf.data.Dataset:
            seed = random_seed * 1_000_003 + epoch

            def hide(number: tf.Tensor, utterance: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
                own = tf.cast(tf.stack([seed, number]) % (2**31 - 1), tf.int32)
                hidden = augment.apply_all(masks, utterance["features"], own, step_seconds)
                return {**utterance, "features": hidden}

            records = _records(shards, seed).shuffle(
                shuffle_buffer_size, seed, reshuffle_each_iteration=False
            )
            records = _share_of_this_host(records, params)
            utterances = records.map(_parser(shards.index), tf.data.AUTOTUNE)
            if masks:
                utterances = utterances.enumerate().map(hide, tf.data.AUTOTUNE)
            batches = _training_batches(utterances, shards.index, batching, params["batch_size"])
            # On a pod one host may have an utterance more than another: their epochs are as long.
            return batches.take(epoch_steps * batches_per_step)

        epochs = tf.data.Dataset.range(first_epoch, 2**31)
        batches = epochs.flat_map(epoch_of).skip(skipped * batches_per_step)
        return batches.map(_split).prefetch(tf.data.AUTOTUNE)

    return input_fn


def evaluation_input_fn(
    shards: ShardSet, batching: Batching, for_prediction: bool
) -> Callable[[Any], tf.data.Dataset]:
    """An input_fn for TPUEstimator: every utterance once, in the corpus's order.

    Static batches are filled up with examples of weight 0. For prediction the labels stand among
    the features.
    """
    missing = -shards.index.records % batching.batch_size if batching.static else 0

    def input_fn(params: Any) -> tf.data.Dataset:
        utterances = _records(shards).map(_parser(shards.index), tf.data.AUTOTUNE)
        filling = utterances.take(1).map(lambda one: {**one, "weight": 0.0}).repeat(missing)
        utterances = _share_of_this_host(utterances.concatenate(filling), params)
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
    examples = _records(shards).map(
        lambda record: tf.io.parse_single_example(record, specification), tf.data.AUTOTUNE
    )
    return [
        (example["utterance_id"].decode(), example["transcript"].decode())
        for example in examples.as_numpy_iterator()
    ]


def _records(shards: ShardSet, seed: tf.Tensor | None = None) -> tf.data.Dataset:
    """Serialised examples: in the corpus's order, or of shards in a random order side by side."""
    files = tf.data.Dataset.from_tensor_slices(list(shards.files))
    if seed is None:
        return files.flat_map(tf.data.TFRecordDataset)
    files = files.shuffle(len(shards.files), seed, reshuffle_each_iteration=False)
    return files.interleave(
        tf.data.TFRecordDataset,
        cycle_length=min(PARALLEL_SHARDS, len(shards.files)),
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    )


def _host(params: Any) -> tuple[int, int]:
    """This host's number and the number of hosts that feed a TPU; (0, 1) without one."""
    if "context" not in params:
        return 0, 1
    _, host, hosts, _ = params["context"].current_input_fn_deployment()
    return host, hosts


def _share_of_this_host(dataset: tf.data.Dataset, params: Any) -> tf.data.Dataset:
    """On a TPU pod, the elements that this host feeds."""
    host, hosts = _host(params)
    return dataset.shard(hosts, host) if hosts > 1 else dataset


def _batches_per_step(batching: Batching, params: Any) -> int:
    """Batches that one step takes from this host: on a TPU one for each of its cores."""
    _, hosts = _host(params)
    return batching.batch_size // (params["batch_size"] * hosts)


def _parser(index: Index) -> Callable[[tf.Tensor], dict[str, tf.Tensor]]:
    bins = index.settings.front_end.bins
    specification = {
        "features": tf.io.FixedLenSequenceFeature([], tf.float32, allow_missing=True),
        "feature_length": tf.io.FixedLenFeature([], tf.int64),
        "label": tf.io.FixedLenSequenceFeature([], tf.int64, allow_missing=True),
        "label_length": tf.io.FixedLenFeature([], tf.int64),
    }

    def parse(record: tf.Tensor) -> dict[str, tf.Tensor]:
        """One utterance without padding."""
        example = tf.io.parse_single_example(record, specification)
        frames = tf.cast(example["feature_length"], tf.int32)
        labels = tf.cast(example["label_length"], tf.int32)
        features = tf.reshape(example["features"], [bins, -1])[:, :frames]  # [bins, frames]
        return {
            "features": tf.transpose(features),  # [frames, bins]
            "feature_length": frames,
            "label": tf.cast(example["label"][:labels], tf.int32),
            "label_length": labels,
            "weight": tf.constant(1.0),
        }

    return parse


def _padded_shapes(index: Index, static: bool) -> dict[str, list[int | None]]:
    settings = index.settings
    return {
        "features": [settings.max_sequence_length if static else None, settings.front_end.bins],
        "feature_length": [],
        "label": [settings.max_label_length if static else None],
        "label_length": [],
        "weight": [],
    }


def _training_batches(
    utterances: tf.data.Dataset, index: Index, batching: Batching, size: int
) -> tf.data.Dataset:
    """One epoch in batches of `size`: the whole batch, or on a TPU that of one core."""
    if batching.static:
        return _padded_batches(utterances, index, size, static=True)
    boundaries = bucket_boundaries(index, batching)
    return utterances.bucket_by_sequence_length(
        lambda utterance: utterance["feature_length"],
        boundaries,
        [size] * (len(boundaries) + 1),
        padded_shapes=_padded_shapes(index, static=False),
    )


def _padded_batches(
    utterances: tf.data.Dataset, index: Index, size: int, static: bool
) -> tf.data.Dataset:
    return utterances.padded_batch(size, _padded_shapes(index, static), drop_remainder=static)


def _split(batch: dict[str, tf.Tensor]) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
    """A batch as (features, labels)."""
    features = {key: batch[key] for key in FEATURE_KEYS}
    return features, {key: batch[key] for key in batch if key not in FEATURE_KEYS}
