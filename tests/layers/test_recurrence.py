"""The recurrence without gradients, as exported models use it."""

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from speech.layers.recurrence import BLOCK_FRAMES, forward_only
from speech.layers.rnn import bidirectional_rnn, gru, lstm

INPUTS, UNITS = 5, 6
LAYERS: dict[str, Any] = {"rnn": bidirectional_rnn, "lstm": lstm, "gru": gru}


def case(cell: str, frames: int) -> list[tf.Tensor]:
    """Returns inputs [2, frames, inputs], kernel, recurrent kernel and bias of both directions."""
    rng = np.random.default_rng(frames)
    gates = {"rnn": 1, "lstm": 4, "gru": 3}[cell] * UNITS
    bias = [2, 2, gates] if cell == "gru" else [2, gates]
    shapes = [[2, frames, INPUTS], [2, INPUTS, gates], [2, UNITS, gates], bias]
    return [tf.constant(rng.normal(size=shape), tf.float32) for shape in shapes]


@pytest.mark.parametrize("in_blocks", [True, False], ids=["in blocks", "in one table"])
@pytest.mark.parametrize("frames", [1, BLOCK_FRAMES, BLOCK_FRAMES + 1, 2 * BLOCK_FRAMES + 6])
@pytest.mark.parametrize("cell", list(LAYERS))
def test_outputs_and_states_are_the_same_without_a_gradient(
    cell: str, frames: int, in_blocks: bool
) -> None:
    inputs, *weights = case(cell, frames)
    length = tf.constant([frames, (frames + 1) // 2])
    expected = LAYERS[cell](inputs, length, *weights, tf.float32)
    with forward_only(in_blocks):
        found = LAYERS[cell](inputs, length, *weights, tf.float32)
    for one, other in zip(tf.nest.flatten(found), tf.nest.flatten(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-6)


def test_layers_built_after_the_context_have_gradients() -> None:
    arguments, length = case("rnn", 9), tf.constant([9, 4])

    def layer() -> tf.Tensor:
        inputs, *weights = arguments
        return LAYERS["rnn"](inputs, length, *weights, tf.float32)

    with forward_only():
        layer()
    with tf.GradientTape() as tape:
        tape.watch(arguments)
        outputs = layer()
    assert all(np.any(each) for each in tape.gradient(outputs, arguments))
