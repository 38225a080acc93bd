"""The default network's arithmetic."""

import numpy as np
import tensorflow as tf

import constants
from speech.networks import registry
from speech.networks.config import NetworkConfig
from utils import ENGLISH

BINS = 8
NETWORK = NetworkConfig.of(
    bins=BINS, labels=ENGLISH.size, conv_channels=(2, 3), recurrent_unit_size=8, context_size=5
)


# --- Lengths and padding --------------------------------------------------------------------------


def test_padding_to_the_maximum_length_changes_nothing() -> None:
    network = registry.build(NETWORK)
    rng = np.random.default_rng(1)
    batch = rng.normal(size=[2, constants.MAX_SEQUENCE_LENGTH, BINS]).astype(np.float32)
    logits, output_length = network(batch, tf.constant([constants.MAX_SEQUENCE_LENGTH, 111]))
    assert output_length.numpy().tolist() == [865, 56] and logits.shape[1] == 865
    for row, length in enumerate([constants.MAX_SEQUENCE_LENGTH, 111]):
        alone, _ = network(batch[row : row + 1, :length], tf.constant([length]))
        np.testing.assert_allclose(logits[row, : alone.shape[1]], alone[0], atol=1e-4)


# --- The network ----------------------------------------------------------------------------------


def test_parameters_are_those_counted_by_hand() -> None:
    # Three convolutions of 11 frames reduce 80 bins to 40, 20 and 10: the RNN reads 10 x 96.
    by_hand = (
        (11 * 41 * 1 * 32 + 32)
        + (11 * 21 * 32 * 32 + 32)
        + (11 * 21 * 32 * 96 + 96)
        + 2 * (10 * 96 * 512 + 512 * 512 + 512)
        + (512 * 29 + 29)
    )
    assert by_hand == 2_483_997
    network = registry.build(NetworkConfig.of(bins=80, labels=29))
    assert sum(int(np.prod(each.shape)) for each in network.trainable_variables) == by_hand


def test_forward_flops_are_those_counted_by_hand() -> None:
    """For NETWORK, whose kernels are wider than its 8 bins: each output reaches all inputs."""
    convolutions = 5 * 1 * 2 * (8 * 4) + 5 * 2 * 3 * (4 * 2)  # context, channels, bins in and out
    # Both directions read 2 bins of 3 channels and have 8 units.
    recurrent = 2 * (2 * 3 * 8 + 8 * 8)
    an_output = 2 * (convolutions + recurrent + 8 * 29)
    network = registry.build(NETWORK)
    assert network.forward_flops(1) == an_output == 2032
    assert network.forward_flops(865) == 865 * an_output


def test_forward_flops_leave_out_products_with_padding() -> None:
    """For the default network, where most kernels reach beyond the bins."""
    network = registry.build(NetworkConfig.of(bins=80, labels=29))
    taps = []
    for bins, frequencies in ((80, 41), (40, 21), (20, 21)):
        # A convolution of ones counts the taps.
        ones, kernel = tf.ones([1, 1, bins, 1]), tf.ones([1, frequencies, 1, 1])
        taps.append(int(tf.reduce_sum(tf.nn.conv2d(ones, kernel, [1, 1, 2, 1], "SAME"))))
    by_hand = (
        11 * (1 * 32 * taps[0] + 32 * 32 * taps[1] + 32 * 96 * taps[2])
        + 2 * (960 * 512 + 512 * 512)
        + 512 * 29
    )
    assert network.forward_flops(865) == 2 * 865 * by_hand


def test_random_seed_determines_the_weights() -> None:
    one, same, other = (registry.build(NETWORK, seed) for seed in (1, 1, 2))
    for left, right in zip(one.trainable_variables, same.trainable_variables, strict=True):
        np.testing.assert_array_equal(left, right)
    assert not np.array_equal(one.rnn_kernel, other.rnn_kernel)
    assert not np.array_equal(one.rnn_kernel[0], one.rnn_kernel[1])
