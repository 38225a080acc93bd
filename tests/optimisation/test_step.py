"""The training step's own parts; tests/test_model.py and tests/engines run it whole."""

import numpy as np
import pytest
import tensorflow as tf

from speech.layers.cross_replica import ALONE
from speech.layers.ctc_loss import ctc_loss
from speech.networks import registry
from speech.networks.config import NetworkConfig
from speech.networks.network import Network
from speech.optimisation.step import batch_loss, dropout_seed, intermediate_logits


def test_dropout_of_other_steps_seeds_and_batches_is_another() -> None:
    lengths = ([100, 200, 300], [200, 100, 300], [100, 200, 301], [100, 200])

    def seeds(step: int) -> set[tuple[int, ...]]:
        found = [
            dropout_seed(
                random_seed, tf.constant(step, tf.int64), {"feature_length": tf.constant(each)}
            )
            for random_seed in (1, 1000)
            for each in lengths
        ]
        assert all(each.dtype == tf.int32 and each.shape == [2] for each in found)
        return {tuple(each.numpy()) for each in found}

    assert seeds(0) == seeds(0)
    assert len(seeds(0)) == len(seeds(1)) == 2 * len(lengths) and not seeds(0) & seeds(1)


def small_conformer(phones: tuple[str, ...] = ()) -> Network:
    sizes = {"dense_unit_size": 4, "attention_heads": 1, "blocks": 2}
    return registry.build(NetworkConfig.of(4, 5, "conformer", phones=phones, **sizes))


@pytest.mark.parametrize("phones", [(), tuple("abcde")])
def test_loss_is_a_mean_of_those_of_last_and_intermediate_logits(phones: tuple[str, ...]) -> None:
    network = small_conformer(phones)
    features = tf.random.stateless_normal([2, 20, 4], [1, 2])
    logits, length = network(features, tf.constant([20, 17]))
    label, label_length = tf.constant([[0, 1, 3], [2, 2, 0]]), tf.constant([3, 2])
    labels = {"label": label, "label_length": label_length, "weight": tf.ones([2])}
    other, other_length = label, label_length
    if phones:
        other, other_length = tf.constant([[5, 0], [4, 0]]), tf.constant([2, 1])
        labels |= {"phone": other, "phone_length": other_length}
    (intermediate,) = intermediate_logits(network, labels)
    assert intermediate.shape[2] == (7 if phones else 5)
    found, _ = batch_loss(logits, [intermediate], length, labels, ALONE)
    last = tf.reduce_mean(ctc_loss(logits, length, label, label_length))
    middle = tf.reduce_mean(ctc_loss(intermediate, length, other, other_length))
    assert abs(last - middle) > 0.1
    np.testing.assert_allclose(found, 0.7 * last + 0.3 * middle, rtol=1e-5)


def test_layer_of_phones_is_not_trained_without_a_lexicon() -> None:
    network = small_conformer(tuple("abcde"))
    network(tf.zeros([1, 20, 4]), tf.constant([20]))
    assert intermediate_logits(network, {"label": tf.constant([[0, 1]])}) == []
