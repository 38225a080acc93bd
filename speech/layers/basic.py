"""Variables and their initial values, dropout, dense layers and normalisation."""

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

import constants
from speech.layers.convolutions import zero_padding
from speech.layers.cross_replica import Replicas
from speech.layers.rnn import clipped_relu

# Added to the first number of a Dropout's seed at each call. It is odd and far from any fraction of
# 2**32 with a small denominator, so that no two calls at steps near each other have the same seed.
SEED_STRIDE = 0x61C88647


class Dropout:
    """Dropout of the non-recurrent layers' outputs (arXiv 1207.0580); each call draws a new mask.

    The masks are a function of the seed, the order of the calls and the values' shape, so that a
    resumed run draws the same masks at the same step.
    """

    def __init__(self, rate: float, seed: tf.Tensor | None = None) -> None:
        """
        Args:
            rate: share of the values to drop; 0 drops nothing and needs no seed.
            seed: int32 [2].
        """
        self._rate = rate
        self._seed = seed
        self._calls = 0

    def __call__(self, values: tf.Tensor) -> tf.Tensor:
        """Zeros a share of float values of any shape and divides the others by 1 - rate."""
        if not self._rate:
            return values
        seed = self._seed + tf.constant([self._calls * SEED_STRIDE % 2**31, 0])
        self._calls += 1
        # Drawn in float32 whatever the type of the values: bfloat16 has 128 numbers between 0.5 and
        # 1, which would turn a rate of 0.05 into 0.055.
        kept = tf.random.stateless_uniform(tf.shape(values), seed) >= self._rate
        return tf.where(kept, values / (1.0 - self._rate), tf.zeros([], values.dtype))


NO_DROPOUT = Dropout(0.0)


class Initializers:
    """Keras' initializers, each with its own seed, derived from one random seed.

    The seeds depend on the order of the calls.
    """

    def __init__(self, random_seed: int) -> None:
        self._next_seed = random_seed * 1000

    def _seed(self) -> int:
        self._next_seed += 1
        return self._next_seed

    def he(self) -> Callable[..., tf.Tensor]:
        """Returns a normal initializer (He et al., arXiv 1502.01852)."""
        return tf.keras.initializers.HeNormal(self._seed())

    def glorot(self) -> Callable[..., tf.Tensor]:
        """Returns a uniform initializer (Glorot and Bengio, AISTATS 2010)."""
        return tf.keras.initializers.GlorotUniform(self._seed())

    def each(self, count: int, name: str) -> Callable[..., tf.Tensor]:
        """Returns an initializer of `count` matrices, drawn one by one and stacked.

        Args:
            count: size of the first axis.
            name: Keras' name of the initializer of one matrix.
        """
        draws = [
            tf.keras.initializers.get({"class_name": name, "config": {"seed": self._seed()}})
            for _ in range(count)
        ]
        return lambda shape: tf.stack([draw(shape[1:]) for draw in draws])


def variable(
    name: str, shape: list[int], initializer: Callable[..., tf.Tensor], trainable: bool = True
) -> Any:
    """Creates a float32 variable; one that isn't trainable is a moving average.

    The initial value is passed as a function, because TPUEstimator builds the network inside a
    loop, whose values can't be used outside of it.
    """
    aggregation = tf.VariableAggregation
    return tf.Variable(
        lambda: initializer(shape),
        trainable,
        name=name,
        dtype=tf.float32,
        # All replicas have the same average. To save a mean, all of them would have to compute it.
        aggregation=aggregation.NONE if trainable else aggregation.ONLY_FIRST_REPLICA,
    )


class Dense(tf.Module):
    """A dense layer without activation, over one frame or a window of frames."""

    def __init__(
        self,
        name: str,
        inputs: int,
        units: int,
        initializer: Callable[..., tf.Tensor],
        context: int = 1,
    ) -> None:
        """
        Args:
            name: prefix of the names of its variables.
            inputs: units of a frame.
            units: units of an output.
            initializer: initializer of the kernel; the bias is zero.
            context: frames of a window.
        """
        super().__init__()
        self._context = context
        self.kernel = variable(f"{name}/kernel", [context * inputs, units], initializer)
        self.bias = variable(f"{name}/bias", [units], tf.zeros)

    def __call__(
        self, inputs: tf.Tensor, compute_dtype: tf.DType = tf.float32, stride: int = 1
    ) -> tf.Tensor:
        """Computes W x + b at every frame, or at every `stride`-th window of frames.

        Args:
            inputs: float [batch, frames, inputs]. With a context of 1 and a stride of 1, batch and
                frames may be swapped.
            compute_dtype: type of the computation.
            stride: frames between the beginnings of two windows.

        Returns:
            compute_dtype [batch, outputs, units], one output for each window that fits the frames.
        """
        inputs, kernel = tf.cast(inputs, compute_dtype), tf.cast(self.kernel, compute_dtype)
        if self._context > 1 or stride > 1:
            kernel = tf.reshape(kernel, [self._context, inputs.shape[2], -1])
            outputs = tf.nn.conv1d(inputs, kernel, stride, "VALID")
        else:
            outputs = tf.tensordot(inputs, kernel, 1)
        return outputs + tf.cast(self.bias, compute_dtype)


class DenseStack(tf.Module):
    """Dense layers of clipped ReLUs, the first over a window of frames.

    As in Deep Speech (arXiv 1412.5567, section 2). Layer normalisation, if there is any, and
    dropout follow each layer.
    """

    def __init__(
        self,
        names: Sequence[str],
        inputs: int,
        units: int,
        draw: Callable[[], Callable[..., tf.Tensor]],
        context: int = 1,
        norm_epsilon: float = 0.0,
    ) -> None:
        """
        Args:
            names: one for each layer, the prefixes of the names of its variables.
            inputs: units of a frame.
            units: units of each layer.
            draw: returns the initializer of a layer's kernel.
            context: frames that the first layer reads.
            norm_epsilon: of the normalisation of the outputs; 0: they are not normalised.
        """
        super().__init__()
        self.dense = [Dense(names[0], inputs, units, draw(), context)]
        self.dense += [Dense(name, units, units, draw()) for name in names[1:]]
        self.norms = [LayerNorm(name, units, norm_epsilon) for name in names if norm_epsilon]

    def __call__(
        self, inputs: tf.Tensor, dropout: Dropout, compute_dtype: tf.DType, stride: int = 1
    ) -> tf.Tensor:
        """float [batch, frames, inputs] -> compute_dtype [batch, outputs, units]; see `Dense`."""
        hidden = inputs
        for layer, dense in enumerate(self.dense):
            hidden = clipped_relu(dense(hidden, compute_dtype, 1 if layer else stride))
            hidden = dropout(self.norms[layer](hidden) if self.norms else hidden)
        return hidden


class LayerNorm(tf.Module):
    """Layer normalisation (arXiv 1607.06450): each frame is normalised over its units."""

    def __init__(self, name: str, units: int, epsilon: float) -> None:
        super().__init__()
        self._epsilon = epsilon
        self.scale = variable(f"{name}/scale", [units], tf.ones)
        self.offset = variable(f"{name}/offset", [units], tf.zeros)

    def __call__(self, values: tf.Tensor) -> tf.Tensor:
        """Normalises float [..., units]; keeps shape and type, computes in float32."""
        scale, offset = tf.convert_to_tensor(self.scale), tf.convert_to_tensor(self.offset)
        return _layer_norm(values, scale, offset, self._epsilon)


def _layer_norm(
    values: tf.Tensor, scale: tf.Tensor, offset: tf.Tensor, epsilon: float
) -> tf.Tensor:
    """Computes `LayerNorm`, with a gradient of fewer operations than TensorFlow derives."""

    @tf.custom_gradient
    def normalise(
        values: tf.Tensor, scale: tf.Tensor, offset: tf.Tensor
    ) -> tuple[tf.Tensor, Callable[[tf.Tensor], tuple[tf.Tensor, ...]]]:
        wide = tf.cast(values, tf.float32)
        centred = wide - _mean(wide)
        inverse = tf.math.rsqrt(_mean(tf.square(centred)) + epsilon)
        normal = centred * inverse

        def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, ...]:
            upstream = tf.cast(upstream, tf.float32)
            of_normal, others = upstream * scale, list(range(values.shape.rank - 1))
            slope = of_normal - _mean(of_normal) - normal * _mean(of_normal * normal)
            of_scale = tf.reduce_sum(upstream * normal, others)
            of_values = tf.cast(slope * inverse, values.dtype)
            return of_values, of_scale, tf.reduce_sum(upstream, others)

        return tf.cast(normal * scale + offset, values.dtype), gradient

    return normalise(values, scale, offset)


def _mean(values: tf.Tensor) -> tf.Tensor:
    """[..., units] -> [..., 1]."""
    return tf.reduce_mean(values, -1, keepdims=True)


class BatchNorm(tf.Module):
    """Batch normalisation (arXiv 1502.03167) over the real frames of a batch of all replicas."""

    def __init__(self, name: str, units: int, replicas: Replicas) -> None:
        super().__init__()
        self._replicas = replicas
        self.scale = variable(f"{name}/scale", [units], tf.ones)
        self.offset = variable(f"{name}/offset", [units], tf.zeros)
        self.moving_mean = variable(f"{name}/moving_mean", [units], tf.zeros, trainable=False)
        self.moving_variance = variable(
            f"{name}/moving_variance", [units], tf.ones, trainable=False
        )

    def __call__(
        self, values: tf.Tensor, length: tf.Tensor, training: bool
    ) -> tuple[tf.Tensor, list[tuple[tf.Variable, tf.Tensor]]]:
        """Normalises with the batch's statistics in training, else with the moving averages.

        Args:
            values: float [batch, frames, units].
            length: int32 [batch], real frames.
            training: whether to use the batch's mean and variance.

        Returns:
            Values of the same shape and type, computed in float32, and pairs of a moving average
            and its new value, none unless in training.
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
        """Returns mean and variance, float32 [units] each, of the real frames of all replicas."""
        frames, sums = self._replicas.total(
            [
                tf.cast(tf.reduce_sum(length), tf.float32),
                tf.reduce_sum(zero_padding(values, length), [0, 1]),
            ]
        )
        frames = tf.maximum(frames, 1.0)
        mean = sums / frames
        squares = zero_padding(tf.square(values - mean), length)
        (variance,) = self._replicas.total([tf.reduce_sum(squares, [0, 1])])
        return mean, variance / frames
