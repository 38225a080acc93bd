"""What networks are made of: variables, their first values, dropout."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from speech.config import NetworkConfig

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


class Network(tf.Module):
    """What all networks have; see speech.networks.build.

    Attributes:
        layers: first to last, each the prefix of the names of its variables.
        moving_updates: (variable, new value) of the moving averages that a call with training=True
            computes. They change only when whoever trains assigns them.
    """

    def __init__(self, config: NetworkConfig, random_seed: int, on_tpu: bool) -> None:
        """on_tpu: computes as a TPU does it fastest; the same variables, the same numbers."""
        super().__init__()
        self.config = config
        self.layers: list[str] = []
        self.moving_updates: list[tuple[tf.Variable, tf.Tensor]] = []
        self._on_tpu = on_tpu
        self._initializers = Initializers(random_seed)

    def __call__(
        self,
        features: tf.Tensor,
        feature_length: tf.Tensor,
        dropout: Dropout = NO_DROPOUT,
        compute_dtype: tf.DType = tf.float32,
        training: bool = False,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Logits of a batch of utterances.

        Args:
            features: float32 [batch, frames, bins], padded.
            feature_length: int32 [batch], real frames.
            dropout: falls on the outputs of the non-recurrent layers.
            compute_dtype: of the matrix products and convolutions.
            training: whether what behaves otherwise in training does so.

        Returns:
            logits float32 [batch, outputs, labels] and their lengths int32 [batch].
        """
        raise NotImplementedError

    def forward_flops(self, outputs: int) -> float:
        """Multiplications and additions that an utterance of so many outputs asks for.

        Kernels count as far as they reach real bins; activations don't count.
        """
        raise NotImplementedError

    @staticmethod
    def _variable(name: str, shape: list[int], initializer: Callable[..., tf.Tensor]) -> Any:
        # The initial value is a function because TPUEstimator builds the network inside a loop,
        # from which a value could not be taken out.
        return tf.Variable(lambda: initializer(shape), name=name, dtype=tf.float32)
