"""Records come back as they were written, normalised where they should be."""

from pathlib import Path

import numpy as np
import pytest
from input_batches import FRAMES, batches_of
from tiny_shards import random_utterances, write_shards

from speech.features.normalisation import Statistics, Sums
from speech.input_pipeline.batching import (
    Batching,
)
from speech.input_pipeline.evaluation_input import evaluation_input_fn
from speech.input_pipeline.parsing import stored_features, transcripts
from speech.input_pipeline.training_input import TrainingInput, training_input_fn

# --- Normalisation over the corpus ----------------------------------------------------------------


@pytest.mark.parametrize("static", [True, False])
@pytest.mark.parametrize("padded", [True, False])
def test_features_are_normalised_by_the_statistics_given(
    tmp_path: Path, static: bool, padded: bool
) -> None:
    """They are a model's, though these shards have others; padding after the end stays 0."""
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


# --- Evaluation -----------------------------------------------------------------------------------


def test_transcripts_are_in_the_order_of_evaluation(tmp_path: Path) -> None:
    utterances = random_utterances([20] * 12, 4, letters="abcdefgh'")
    shards = write_shards(tmp_path, utterances)
    assert transcripts(shards) == [(each.utterance_id, each.transcript) for each in utterances]


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
