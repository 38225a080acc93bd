"""Outputs and losses of loaded models for sets of shards."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tiny_models import STEP, write_model
from tiny_shards import random_utterances, write_shards

from speech.export.loading import load
from speech.export.recogniser import ModelRecogniser
from utils import ENGLISH


def test_outputs_are_the_models_in_the_sets_order_with_tensorflows_loss(tmp_path: Path) -> None:
    write_model(tmp_path / "model", mel_filters=4)
    utterances = random_utterances([60, 40, 6, 50, 31], 4)
    utterances[2] = replace(utterances[2], transcript="abc")  # three labels, three outputs
    utterances[3] = replace(utterances[3], transcript="a" * 20)  # no alignment
    shards = write_shards(tmp_path / "shards", utterances, longest=(64, 20))
    model = load(str(tmp_path / "model"))
    recogniser = ModelRecogniser(model, str(tmp_path / "model"), batch_size=2)
    assert recogniser.step == STEP
    found = recogniser.outputs_of(shards)
    assert len(found) == 5 and found[3].loss is None
    for output, utterance in zip(found, utterances, strict=True):
        assert (output.utterance_id, output.reference) == (
            utterance.utterance_id,
            utterance.transcript,
        )
        alone = model.of_features(utterance.features)
        np.testing.assert_allclose(output.log_probs, alone, rtol=1e-5, atol=1e-5)
        if output.loss is not None:
            labels = ENGLISH.encode(utterance.transcript)
            expected = tf.nn.ctc_loss(
                tf.constant([labels]),
                tf.constant(alone)[:, tf.newaxis],
                [len(labels)],
                [len(alone)],
                blank_index=ENGLISH.blank,
            )
            assert output.loss == pytest.approx(float(expected[0]), rel=1e-4)
