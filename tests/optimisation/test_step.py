"""The training step's own parts; tests/test_model.py and tests/engines run it whole."""

import tensorflow as tf

from speech.optimisation.step import dropout_seed


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
