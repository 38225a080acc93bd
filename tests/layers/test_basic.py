"""Dropout, dense layers, and batch normalisation over replicas."""

import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from doors import ROOT

from speech.layers.basic import (
    NO_DROPOUT,
    BatchNorm,
    DenseStack,
    Dropout,
    Initializers,
    LayerNorm,
)
from speech.layers.cross_replica import ALONE

# --- Dropout --------------------------------------------------------------------------------------


def seed(first: int = 1, second: int = 2) -> tf.Tensor:
    return tf.constant([first, second])


@pytest.mark.parametrize("dtype", [tf.float32, tf.bfloat16])
def test_dropout_drops_the_share_and_scales_up_the_rest(dtype: tf.DType) -> None:
    """In bfloat16 too, which has too few numbers to draw with such a probability."""
    dropped = Dropout(0.05, seed())(tf.ones([1000, 300], dtype))
    assert dropped.dtype == dtype
    values = tf.cast(dropped, tf.float32).numpy()
    assert (values == 0).mean() == pytest.approx(0.05, abs=0.002)
    assert values.mean() == pytest.approx(1.0, abs=0.005)
    assert len(np.unique(values)) == 2


def test_dropout_draws_the_same_masks_with_the_same_seed() -> None:
    values = tf.ones([50, 40])
    one, same = Dropout(0.5, seed()), Dropout(0.5, seed())
    first, second = one(values), one(values)
    np.testing.assert_array_equal(first, same(values))
    np.testing.assert_array_equal(second, same(values))
    assert np.mean(first == second) == pytest.approx(0.5, abs=0.1)
    for other in (seed(1, 3), seed(2, 2)):
        assert np.mean(first == Dropout(0.5, other)(values)) == pytest.approx(0.5, abs=0.1)


def test_masks_differ_between_calls_and_steps() -> None:
    masks = set()
    for step in range(20):
        dropout = Dropout(0.5, seed(step, 7))
        masks |= {dropout(tf.ones([64])).numpy().tobytes() for _ in range(20)}
    assert len(masks) == 400


def test_no_dropout_returns_its_argument() -> None:
    values = tf.ones([3])
    assert NO_DROPOUT(values) is values


# --- Dense layers ---------------------------------------------------------------------------------


@pytest.mark.parametrize("norm_epsilon", [0.0, 1e-5, 0.5])
def test_dense_stack_is_clipped_products_of_windows(norm_epsilon: float) -> None:
    stack = DenseStack(["a", "b"], 3, 4, Initializers(1).he, 5, norm_epsilon)
    inputs = 20 * np.random.default_rng(0).normal(size=[2, 11, 3]).astype(np.float32)
    windows = np.stack([inputs[:, at : at + 5].reshape(2, -1) for at in (0, 2, 4, 6)], axis=1)
    expected = windows
    for dense in stack.dense:
        dense.bias.assign([1.0, -1.0, 0.0, 30.0])  # the last one is cut off
        expected = np.clip(expected @ dense.kernel.numpy() + dense.bias.numpy(), 0, 20)
        if norm_epsilon:
            mean, deviation = expected.mean(-1, keepdims=True), expected.std(-1, keepdims=True)
            expected = (expected - mean) / np.sqrt(deviation**2 + norm_epsilon)
    found = stack(tf.constant(inputs), NO_DROPOUT, tf.float32, stride=2)
    assert found.shape == (2, 4, 4)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_dense_stack_drops_out_after_each_layer() -> None:
    stack = DenseStack(["a", "b"], 3, 4, Initializers(1).he)
    calls = []

    class Counted(Dropout):
        def __call__(self, values: tf.Tensor) -> tf.Tensor:
            calls.append(values.shape)
            return values

    stack(tf.ones([2, 5, 3]), Counted(0.5), tf.float32)
    assert calls == [(2, 5, 4), (2, 5, 4)]


# --- Layer normalisation --------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "tolerance"), [(tf.float32, 1e-5), (tf.bfloat16, 2e-2)])
def test_layer_norm_has_the_gradient_that_tensorflow_derives(
    dtype: tf.DType, tolerance: float
) -> None:
    norm = LayerNorm("norm", 6, 1e-3)
    rng = np.random.default_rng(0)
    norm.scale.assign(rng.normal(size=6))
    norm.offset.assign(rng.normal(size=6))
    values = tf.cast(rng.normal(2, 3, [2, 5, 6]), dtype)
    weights = tf.cast(rng.normal(size=[2, 5, 6]), tf.float32)

    def derived(values: tf.Tensor) -> tf.Tensor:
        mean, variance = tf.nn.moments(values, [-1], keepdims=True)
        return tf.nn.batch_normalization(values, mean, variance, norm.offset, norm.scale, 1e-3)

    results = []
    for function, inputs in ((norm, values), (derived, tf.cast(values, tf.float32))):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = tf.cast(function(inputs), tf.float32)
            total = tf.reduce_sum(weights * outputs)
        sources = [inputs, norm.scale, norm.offset]
        results.append(
            [outputs, *(tf.cast(each, tf.float32) for each in tape.gradient(total, sources))]
        )
    for found, expected in zip(*results, strict=True):
        np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


# --- Batch normalisation --------------------------------------------------------------------------

REPLICAS = """
import sys
import numpy as np
import tensorflow as tf
from speech.layers.basic import BatchNorm
from speech.layers.cross_replica import ALONE, StrategyReplicas

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, 2 * [tf.config.LogicalDeviceConfiguration()])
strategy = tf.distribute.MirroredStrategy(["cpu:0", "cpu:1"])
rng = np.random.default_rng(0)
values = rng.normal(size=[4, 7, 3]).astype(np.float32)
length = np.array([7, 2, 5, 1], np.int32)
weights = rng.normal(size=[4, 7, 3]).astype(np.float32)
real = np.arange(7)[None, :, None] < length[:, None, None]

def run(norm, values, length, weights):
    with tf.GradientTape() as tape:
        tape.watch(values)
        normal, updates = norm(values, length, True)
        loss = tf.reduce_sum(normal * weights)
    for variable, value in updates:
        variable.assign(value)
    return normal, tape.gradient(loss, values)

with strategy.scope():
    shared = BatchNorm("norm", 3, StrategyReplicas())

@tf.function
def step():
    def replica(context):
        rows = tf.range(2) + 2 * context.replica_id_in_sync_group
        return run(shared, *(tf.gather(each, rows) for each in (values, length, weights * real)))
    return strategy.run(lambda: replica(tf.distribute.get_replica_context()))

parts = [strategy.experimental_local_results(each) for each in step()]
found = [tf.concat(part, 0) for part in parts]
alone = BatchNorm("norm", 3, ALONE)
expected = run(alone, tf.constant(values), tf.constant(length), tf.constant(weights * real))
for one, other in zip(found, expected):
    np.testing.assert_allclose(one * real, other * real, atol=1e-5)
for one, other in zip(shared.variables, alone.variables):
    np.testing.assert_allclose(one, other, atol=1e-6)
assert np.abs(alone.moving_mean).max() > 1e-4
"""


def test_batch_normalisation_averages_over_all_replicas() -> None:
    """Two replicas of two utterances give the values and gradients of one of four."""
    result = subprocess.run(
        [sys.executable, "-c", REPLICAS], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr[-2000:]


def test_batch_normalisation_without_real_frames_is_finite() -> None:
    norm = BatchNorm("norm", 2, ALONE)
    normal, updates = norm(tf.ones([1, 3, 2]), tf.constant([0]), True)
    assert np.isfinite(normal).all()
    assert all(np.isfinite(value).all() for _, value in updates)
