"""The training step's own parts; tests/test_model.py and tests/engines run it whole."""

import numpy as np
import tensorflow as tf

from speech.layers.cross_replica import ALONE
from speech.layers.ctc_loss import ctc_loss
from speech.networks import registry
from speech.networks.config import NetworkConfig
from speech.optimisation.step import batch_loss, dropout_seed


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


def test_loss_is_a_mean_of_those_of_last_and_intermediate_logits() -> None:
    sizes = {"dense_unit_size": 4, "attention_heads": 1, "blocks": 2}
    network = registry.build(NetworkConfig.of(4, 5, "conformer", **sizes))
    features = tf.random.stateless_normal([2, 20, 4], [1, 2])
    logits, length = network(features, tf.constant([20, 17]))
    label, label_length = tf.constant([[0, 1, 3], [2, 2, 0]]), tf.constant([3, 2])
    labels = {"label": label, "label_length": label_length, "weight": tf.ones([2])}
    (intermediate,) = network.intermediate_logits
    found, _ = batch_loss(logits, [intermediate], length, labels, ALONE)
    last, middle = (
        tf.reduce_mean(ctc_loss(each, length, label, label_length))
        for each in (logits, intermediate)
    )
    assert abs(last - middle) > 0.1
    np.testing.assert_allclose(found, 0.7 * last + 0.3 * middle, rtol=1e-5)
