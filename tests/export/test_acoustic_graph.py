"""A checkpoint's variables in a graph to be exported."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tiny_models import STEP, tiny_config, write_model

from speech.export.acoustic_graph import AcousticGraph, restore
from speech.networks.config import NetworkConfig
from speech.text.lexicon import SPACE, UNKNOWN
from utils import ENGLISH, UserError


def test_all_variables_have_the_checkpoints_values(tmp_path: Path) -> None:
    config = write_model(tmp_path / "model", "conv_gru")
    checkpoint = f"{tmp_path}/model/model.ckpt-{STEP}"
    variables = restore(config, checkpoint).network.variables
    assert any("moving_mean" in each.name for each in variables)
    for each in variables:
        wanted = tf.train.load_variable(checkpoint, each.name.partition(":")[0])
        np.testing.assert_array_equal(each.numpy(), wanted)


def test_features_of_a_corpus_are_normalised_by_the_models_statistics() -> None:
    config = tiny_config(normalisation="corpus")
    statistics = config.statistics
    assert statistics is not None
    graph = AcousticGraph(config)
    features = np.random.default_rng(0).normal(size=[1, 20, 8]).astype(np.float32)
    length = tf.constant([20])
    normalised = (features - statistics.mean) / statistics.deviation
    logits, _ = graph.network(tf.constant(normalised, tf.float32), length)
    log_probs, output_length = graph.of_features(tf.constant(features), length)
    np.testing.assert_allclose(log_probs, tf.nn.log_softmax(logits), atol=1e-5)
    assert output_length.numpy().tolist() == [10]


def test_exported_letters_and_phones_are_each_certain_together() -> None:
    sizes = {"dense_unit_size": 8, "attention_heads": 2, "blocks": 2}
    phones = (SPACE, *"abc", UNKNOWN)
    network = NetworkConfig.of(8, ENGLISH.size, "conformer", phones, **sizes)
    graph = AcousticGraph(replace(tiny_config(), network=network))
    samples = np.random.default_rng(0).normal(scale=2000, size=[1, 16000]).astype(np.float32)
    log_probs, _ = graph.of_samples(tf.constant(samples), tf.constant([16000]))
    assert log_probs.shape[2] == ENGLISH.size + 6
    letters, of_phones = np.split(np.exp(log_probs), [ENGLISH.size], axis=2)
    for part in (letters, of_phones):
        np.testing.assert_allclose(part.sum(axis=2), 1.0, rtol=1e-5)
        assert part.max() < 0.99


@pytest.mark.parametrize(
    "other",
    [
        {"recurrent_unit_size": 9},
        {"name": "conv_gru", "conv_channels": (6,)},
        {"recurrent_unit_size": 2**16},  # more than any machine's memory
    ],
)
def test_checkpoint_of_another_network_is_refused(tmp_path: Path, other: dict) -> None:
    config = write_model(tmp_path / "model")
    network = NetworkConfig.of(8, config.alphabet.size, **{"context_size": 5, **other})
    checkpoint = f"{tmp_path}/model/model.ckpt-{STEP}"
    with pytest.raises(UserError, match=r"model\.ckpt-7 can't be read as a model of its config"):
        restore(replace(config, network=network), checkpoint)
