"""Input of evaluation and prediction: every utterance once, in the set's order."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from speech.features.normalisation import Statistics
from speech.input_pipeline import parsing
from speech.input_pipeline.batching import Batching
from speech.shards.index import Index
from speech.shards.shard_set import ShardSet

# The utterance number of a row that only fills up a static batch.
FILLING = -1


def evaluation_input_fn(
    shards: ShardSet,
    batching: Batching,
    for_prediction: bool,
    statistics: Statistics | None = None,
) -> Callable[[Any], tf.data.Dataset]:
    """Returns an input_fn for TPUEstimator that gives every utterance once, in the set's order.

    Static batches are filled up with rows of weight 0.

    Args:
        for_prediction: the labels are among the features, and so is "utterance_number" int32
            [batch], which the model returns with its predictions. The utterance of a row is
            `parsing.transcripts(shards)[number]`; FILLING marks a row that has none.
        statistics: of the model, if it has any; not those of these shards.
    """
    missing = -shards.index.records % batching.batch_size if batching.static else 0

    def input_fn(params: Any) -> tf.data.Dataset:
        records = parsing.record_dataset(shards.files, streams=1)
        parse = parsing.utterance_parser(shards.index, statistics)
        utterances = records.map(parse, tf.data.AUTOTUNE)
        if for_prediction:
            utterances = utterances.enumerate().map(_with_number)
        filling = utterances.take(1).map(_as_filling).repeat(missing)
        host, hosts = parsing.host_of(params)
        utterances = utterances.concatenate(filling).shard(hosts, host)
        size = params["batch_size"]
        batches = parsing.padded_batches(utterances, shards.index, size, batching.static)
        if not for_prediction:
            batches = batches.map(parsing.split_labels)
        return batches.prefetch(tf.data.AUTOTUNE)

    return input_fn


def _with_number(number: tf.Tensor, utterance: parsing.Batch) -> parsing.Batch:
    return {**utterance, "utterance_number": tf.cast(number, tf.int32)}


def _as_filling(utterance: parsing.Batch) -> parsing.Batch:
    filling = {**utterance, "weight": tf.constant(0.0)}
    if "utterance_number" in utterance:
        filling["utterance_number"] = tf.constant(FILLING)
    return filling


def evaluation_steps(index: Index, batching: Batching) -> int:
    """Returns the number of batches of an evaluation."""
    return -(-index.records // batching.batch_size)
