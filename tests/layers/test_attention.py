"""Self-attention against its equations, and what its rotary positions promise."""

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from speech.layers.attention import SelfAttention, rotate
from speech.layers.basic import Initializers

Array = npt.NDArray[np.float32]


def random(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def rotated(values: Array) -> npt.NDArray[np.complex128]:
    """Rotates [frames, size] as complex numbers (arXiv 2104.09864, equation 14)."""
    half = values.shape[1] // 2
    speeds = 10000.0 ** (-np.arange(half) / half)
    turns = np.exp(1j * np.arange(len(values))[:, np.newaxis] * speeds)
    return (values[:, :half] + 1j * values[:, half:]) * turns


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 40))
def test_score_of_two_frames_depends_on_their_distance_only(
    first: int, second: int, shift: int
) -> None:
    query, key = random(1, 8), random(2, 8)

    def score(one: int, other: int) -> float:
        values = np.zeros([2, 1, 81, 8], np.float32)
        values[0, 0, one], values[1, 0, other] = query, key
        queries, keys = rotate(tf.constant(values))[:, 0].numpy()
        return float(queries[one] @ keys[other])

    np.testing.assert_allclose(
        score(first, second), score(first + shift, second + shift), rtol=1e-3, atol=1e-4
    )


def test_attention_computes_its_equations() -> None:
    attention = SelfAttention("attention", 12, 3, Initializers(1))
    for number, variable in enumerate(attention.trainable_variables):
        variable.assign(random(number, *variable.shape))
    values, length = random(9, 2, 6, 12), [6, 4]
    found = attention(tf.constant(values), tf.constant(length), tf.float32).numpy()
    for row, frames in enumerate(length):
        real = values[row, :frames]
        projected = real @ attention.inputs.kernel.numpy() + attention.inputs.bias.numpy()
        parts = projected.reshape(frames, 3, 3, 4)  # queries, keys and contents of each head
        heads = []
        for head in range(3):
            queries, keys = rotated(parts[:, 0, head]), rotated(parts[:, 1, head])
            scores = np.exp((queries @ keys.conj().T).real / 2.0)  # size ** 0.5
            heads.append(scores / scores.sum(1, keepdims=True) @ parts[:, 2, head])
        expected = np.concatenate(heads, 1) @ attention.outputs.kernel.numpy()
        expected += attention.outputs.bias.numpy()
        np.testing.assert_allclose(found[row, :frames], expected, rtol=1e-3, atol=1e-3)
