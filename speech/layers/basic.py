"""What networks are made of: variables, their first values, dropout, dense layers, norms."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf
from tensorflow.python.tpu import tpu_function

import constants
from speech.layers import cross_replica
from speech.layers.convolutions import zero_padding

# What a call of a Dropout adds to the first number of its seed. Odd and far from any fraction of
# 2**32 with a small denominator: no call's seed is that of another call at a step nearby.
SEED_STRIDE = 0x61C88647


class Dropout:
    """Drops values of the non-recurrent layers; each call draws a mask of its own.

    The masks are a function of the seed, the order of the calls and the values' shape: the same
    step of a run that was resumed draws the same ones.
    """

    def __init__(self, rate: float, seed: tf.Tensor | None = None) -> None:
        """
        Args:
            rate: share that is dropped; 0 drops nothing and needs no seed.
            seed: int32 [2].
        """
        self._rate = rate
        self._seed = seed
        self._calls = 0

    def __call__(self, values: tf.Tensor) -> tf.Tensor:
        """float, any shape: zeros where dropped, what is kept is scaled up by what is missing."""
        if not self._rate:
            return values
        seed = self._seed + tf.constant([self._calls * SEED_STRIDE % 2**31, 0])
        self._calls += 1
        # Drawn in float32 whatever the values are in: bfloat16 has 128 numbers between 0.5 and 1,
        # a share of 0.05 would come out as 0.055.
        kept = tf.random.stateless_uniform(tf.shape(values), seed) >= self._rate
        return tf.where(kept, values / (1.0 - self._rate), tf.zeros([], values.dtype))


NO_DROPOUT = Dropout(0.0)


class Initializers:
    """Keras' initializers, each drawn with a seed of its own from one random seed."""

    def __init__(self, random_seed: int) -> None:
        self._next_seed = random_seed * 1000

    def _seed(self) -> int:
        self._next_seed += 1
        return self._next_seed

    def he(self) -> Callable[..., tf.Tensor]:
        return tf.keras.initializers.HeNormal(self._seed())

    def glorot(self) -> Callable[..., tf.Tensor]:
        return tf.keras.initializers.GlorotUniform(self._seed())

    def each(self, count: int, name: str) -> Callable[..., tf.Tensor]:
        """`count` matrices, each initialised by itself and stacked along the first axis."""
        draws = [
            tf.keras.initializers.get({"class_name": name, "config": {"seed": self._seed()}})
            for _ in range(count)
        ]
        return lambda shape: tf.stack([draw(shape[1:]) for draw in draws])


def variable(
    name: str, shape: list[int], initializer: Callable[..., tf.Tensor], trainable: bool = True
) -> Any:
    """A float32 variable; what isn't trainable is a moving average.

    The initial value is a function because TPUEstimator builds the network inside a loop, from
    which a value could not be taken out.
    """
    aggregation = tf.VariableAggregation
    return tf.Variable(
        lambda: initializer(shape),
        trainable,
        name=name,
        dtype=tf.float32,
        # All replicas have the same average. A mean would have to be taken by all when one saves.
        aggregation=aggregation.NONE if trainable else aggregation.ONLY_FIRST_REPLICA,
    )


class Dense(tf.Module):
    """A dense layer without activation: of every frame by itself, or of a window of frames."""

    def __init__(
        self,
        name: str,
        inputs: int,
        units: int,
        initializer: Callable[..., tf.Tensor],
        context: int = 1,
    ) -> None:
        """context: frames of a window."""
        super().__init__(name)
        self._context = context
        self.kernel = variable(f"{name}/kernel", [context * inputs, units], initializer)
        self.bias = variable(f"{name}/bias", [units], tf.zeros)

    def __call__(
        self, inputs: tf.Tensor, compute_dtype: tf.DType = tf.float32, stride: int = 1
    ) -> tf.Tensor:
        """[a, b, inputs] -> [a, b, units] in the compute type; the two axes in any order.

        A window goes over the second axis, `stride` on at a time, and begins and ends with it:
        b shrinks to as many windows as fit.
        """
        inputs, kernel = tf.cast(inputs, compute_dtype), tf.cast(self.kernel, compute_dtype)
        if self._context > 1 or stride > 1:
            kernel = tf.reshape(kernel, [self._context, inputs.shape[2], -1])
            outputs = tf.nn.conv1d(inputs, kernel, stride, "VALID")
        else:
            outputs = tf.tensordot(inputs, kernel, 1)
        return outputs + tf.cast(self.bias, compute_dtype)


class LayerNorm(tf.Module):
    """Layer normalisation (arXiv 1607.06450): every frame over its units."""

    def __init__(self, name: str, units: int) -> None:
        super().__init__(name)
        self.scale = variable(f"{name}/scale", [units], tf.ones)
        self.offset = variable(f"{name}/offset", [units], tf.zeros)

    def __call__(self, values: tf.Tensor) -> tf.Tensor:
        """float [..., units] -> the same shape and type; computed in float32."""
        mean, variance = tf.nn.moments(tf.cast(values, tf.float32), [-1], keepdims=True)
        normal = tf.nn.batch_normalization(
            tf.cast(values, tf.float32),
            *(mean, variance, self.offset, self.scale, constants.LAYER_NORM_EPSILON),
        )
        return tf.cast(normal, values.dtype)


class BatchNorm(tf.Module):
    """Batch normalisation (arXiv 1502.03167) over the real frames of a batch, on all replicas."""

    def __init__(self, name: str, units: int, on_tpu: bool) -> None:
        super().__init__(name)
        self._on_tpu = on_tpu
        self.scale = variable(f"{name}/scale", [units], tf.ones)
        self.offset = variable(f"{name}/offset", [units], tf.zeros)
        self.moving_mean = variable(f"{name}/moving_mean", [units], tf.zeros, trainable=False)
        self.moving_variance = variable(
            f"{name}/moving_variance", [units], tf.ones, trainable=False
        )

    def __call__(
        self, values: tf.Tensor, length: tf.Tensor, training: bool
    ) -> tuple[tf.Tensor, list[tuple[tf.Variable, tf.Tensor]]]:
        """Normalises by the batch in training, otherwise by the moving averages.

        Args:
            values: float [batch, frames, units].
            length: int32 [batch], real frames.
            training: whether to use the batch's mean and variance.

        Returns:
            values of the same shape and type, computed in float32; in training also new values
            for the moving averages.
        """
        mean, variance = self.moving_mean, self.moving_variance
        updates = []
        wide = tf.cast(values, tf.float32)
        if training:
            mean, variance = self._moments(wide, length)
            momentum = constants.BATCH_NORM_MOMENTUM
            for moving, new in ((self.moving_mean, mean), (self.moving_variance, variance)):
                kept = momentum * moving + (1.0 - momentum) * tf.stop_gradient(new)
                updates.append((moving, kept))
        normal = tf.nn.batch_normalization(
            wide, mean, variance, self.offset, self.scale, constants.BATCH_NORM_EPSILON
        )
        return tf.cast(normal, values.dtype), updates

    def _moments(self, values: tf.Tensor, length: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Mean and variance, float32 [units] each, over the real frames of all replicas."""
        frames = over_replicas(tf.cast(tf.reduce_sum(length), tf.float32), self._on_tpu)
        frames = tf.maximum(frames, 1.0)
        mean = over_replicas(tf.reduce_sum(zero_padding(values, length), [0, 1]), self._on_tpu)
        mean /= frames
        squares = zero_padding(tf.square(values - mean), length)
        variance = over_replicas(tf.reduce_sum(squares, [0, 1]), self._on_tpu) / frames
        return mean, variance


def over_replicas(value: tf.Tensor, on_tpu: bool) -> tf.Tensor:
    """The sum of a value, any shape, over the cores of a TPU or the replicas of tf.distribute."""
    if on_tpu:
        # One core alone has nothing to sum; elsewhere the op couldn't be compiled.
        shards = tpu_function.get_tpu_context().number_of_shards or 1
        return tf.compat.v1.tpu.cross_replica_sum(value) if shards > 1 else value
    (summed,) = cross_replica.total([value])
    return summed
