"""Batches of evaluation and prediction: every utterance once, in order."""

from pathlib import Path

import numpy as np
import pytest
from input_batches import (
    CORES,
    FRAMES,
    ON_TPU,
    batches_of,
    counted,
    known_names,
    many_shards,
    on_tpu,
    order_of,
)
from tiny_shards import random_utterances, write_shards

from speech.input_pipeline.batching import (
    Batching,
)
from speech.input_pipeline.evaluation_input import FILLING, evaluation_input_fn, evaluation_steps
from speech.input_pipeline.parsing import transcripts
from speech.shards.shard_set import ShardSet

# --- Normalisation over the corpus ----------------------------------------------------------------


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


def test_labels_and_numbers_are_among_the_features_for_prediction(shards: ShardSet) -> None:
    batching = Batching(5, static=False)
    params = {"batch_size": 5}
    alone = evaluation_input_fn(shards, batching, for_prediction=True)(params).element_spec
    features, labels = evaluation_input_fn(shards, batching, False)(params).element_spec
    assert set(features) == {"features", "feature_length"}
    assert set(labels) == {"label", "label_length", "weight"}
    assert set(alone) == set(features) | set(labels) | {"utterance_number"}


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


# --- Cores of a TPU, and hosts of a pod -----------------------------------------------------------


def test_evaluation_on_a_tpu_gives_every_utterance_once_in_order(shards: ShardSet) -> None:
    input_fn = evaluation_input_fn(shards, ON_TPU, for_prediction=False)
    batches = list(on_tpu(input_fn, ON_TPU))
    assert len(batches) == CORES * evaluation_steps(shards.index, ON_TPU)
    weights = np.concatenate([batch["weight"] for batch in batches])
    assert weights.tolist() == [1.0] * len(FRAMES) + [0.0] * (-len(FRAMES) % ON_TPU.batch_size)
    assert counted(batches) == known_names()


def test_hosts_of_a_pod_evaluate_disjoint_halves(shards: ShardSet) -> None:
    input_fn = evaluation_input_fn(shards, ON_TPU, for_prediction=False)
    seen: list[bytes] = []
    for host in (0, 1):
        batches = list(on_tpu(input_fn, ON_TPU, host, 2))
        assert len(batches) == CORES * evaluation_steps(shards.index, ON_TPU)
        seen += counted(batches)
    assert sorted(seen) == sorted(known_names())
