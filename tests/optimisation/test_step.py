"""The training step's own parts; tests/test_model.py and tests/engines run it whole."""

import numpy as np
import pytest
import tensorflow as tf

from speech.layers.cross_replica import ALONE
from speech.networks import registry
from speech.networks.config import NetworkConfig
from speech.optimisation.step import batch_loss, dropout_seed
from speech.text.lexicon import SPACE, UNKNOWN


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


LETTERS, PHONES = 5, (SPACE, *"abc", UNKNOWN)
LABELS = {
    "label": tf.constant([[0, 1, 3], [2, 2, 0], [1, 0, 0]]),
    "label_length": tf.constant([3, 2, 1]),
    "weight": tf.constant([1.0, 1.0, 0.0]),
}
OF_PHONES = {
    "phone": tf.constant([[4, 0, 1, 3, 1, 2], [3, 1, 0, 3, 0, 0], [0, 0, 0, 0, 0, 0]]),
    "phone_length": tf.constant([6, 4, 0]),
}


def conformer_output(phones: tuple[str, ...]) -> tuple[tf.Tensor, list[tf.Tensor], tf.Tensor]:
    """Returns logits, intermediate logits, and the number of outputs of three utterances."""
    sizes = {"dense_unit_size": 4, "attention_heads": 1, "blocks": 2}
    network = registry.build(NetworkConfig.of(4, LETTERS, "conformer", phones, **sizes))
    features = tf.random.stateless_normal([3, 40, 4], [1, 2])
    logits, length = network(features, tf.constant([40, 33, 36]))
    assert logits.shape[2] == (LETTERS + 6 if phones else LETTERS)
    return logits, network.intermediate_logits, length


def reference_loss(logits: tf.Tensor, length: tf.Tensor, label: str) -> tf.Tensor:
    """Returns TensorFlow's mean CTC loss of the first two utterances; label: "label", "phone"."""
    labels = {**LABELS, **OF_PHONES}
    rows = [each[:2] for each in (labels[label], logits, labels[f"{label}_length"], length)]
    losses = tf.nn.ctc_loss(*rows, logits_time_major=False, blank_index=logits.shape[2] - 1)
    return tf.reduce_mean(losses)


def test_loss_is_the_mean_of_those_of_letters_and_phones() -> None:
    logits, _, length = conformer_output(PHONES)
    found, unaligned = batch_loss(logits, [], length, {**LABELS, **OF_PHONES}, LETTERS, ALONE)
    letters = reference_loss(logits[..., :LETTERS], length, "label")
    phones = reference_loss(logits[..., LETTERS:], length, "phone")
    assert abs(letters - phones) > 0.1
    np.testing.assert_allclose(found, (letters + phones) / 2, rtol=1e-5)
    assert unaligned == 0


@pytest.mark.parametrize("phones", [(), PHONES])
def test_loss_is_a_mean_of_those_of_last_and_intermediate_logits(phones: tuple[str, ...]) -> None:
    logits, (intermediate,), length = conformer_output(phones)
    labels = {**LABELS, **OF_PHONES} if phones else LABELS

    def loss_of(logits: tf.Tensor) -> tf.Tensor:
        loss = reference_loss(logits[..., :LETTERS], length, "label")
        if not phones:
            return loss
        return (loss + reference_loss(logits[..., LETTERS:], length, "phone")) / 2

    found, _ = batch_loss(logits, [intermediate], length, labels, LETTERS, ALONE)
    last, middle = loss_of(logits), loss_of(intermediate)
    assert abs(last - middle) > 0.1
    np.testing.assert_allclose(found, 0.7 * last + 0.3 * middle, rtol=1e-5)


def test_letters_alone_are_trained_without_a_lexicon() -> None:
    logits, intermediate, length = conformer_output(PHONES)
    with tf.GradientTape() as tape:
        tape.watch([logits, *intermediate])
        found, _ = batch_loss(logits, intermediate, length, LABELS, LETTERS, ALONE)
    last, middle = (
        reference_loss(each[..., :LETTERS], length, "label") for each in (logits, *intermediate)
    )
    np.testing.assert_allclose(found, 0.7 * last + 0.3 * middle, rtol=1e-5)
    for gradient in tape.gradient(found, [logits, *intermediate]):
        letters, phones = np.split(gradient, [LETTERS], axis=2)
        assert np.any(letters[:2]) and not np.any(phones)
        assert not np.any(letters[2])
