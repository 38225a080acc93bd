"""Sums and means over the replicas that train one network together.

What a replica is depends on what runs the step: a device of a tf.distribute strategy, a core of a
TPU that TPUEstimator drives, or a device that runs a program compiled by XLA.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import tensorflow as tf


class Replicas(ABC):
    """The replicas that train one network, as one of them reaches the others."""

    @property
    @abstractmethod
    def count(self) -> int:
        """The number of replicas."""

    @abstractmethod
    def _total(self, values: list[tf.Tensor]) -> list[tf.Tensor]:
        pass

    def total(self, values: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """Sums each tensor, of any shape, over the replicas; differentiable."""
        return self._total(list(values)) if self.count > 1 else list(values)

    def mean(self, values: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """Returns the mean of each tensor, of any shape, over the replicas."""
        return self.total([each / self.count for each in values] if self.count > 1 else values)


class SingleReplica(Replicas):
    """One replica, which has nothing to sum."""

    count = 1

    def _total(self, values: list[tf.Tensor]) -> list[tf.Tensor]:
        return values


ALONE = SingleReplica()


class StrategyReplicas(Replicas):
    """The replicas of the tf.distribute strategy in whose replica context the step is traced."""

    @property
    def count(self) -> int:
        return int(tf.distribute.get_replica_context().num_replicas_in_sync)

    def _total(self, values: list[tf.Tensor]) -> list[tf.Tensor]:
        context = tf.distribute.get_replica_context()
        return list(context.all_reduce(tf.distribute.ReduceOp.SUM, values))


class TpuCores(Replicas):
    """The cores of a TPU that TPUEstimator drives."""

    def __init__(self, count: int) -> None:
        self._count = count

    @property
    def count(self) -> int:
        return self._count

    def _total(self, values: list[tf.Tensor]) -> list[tf.Tensor]:
        return [tf.compat.v1.tpu.cross_replica_sum(each) for each in values]


class XlaReplicas(TpuCores):
    """The replicas of a program that XLA compiles for several devices."""

    def _total(self, values: list[tf.Tensor]) -> list[tf.Tensor]:
        return [self._sum(each) for each in values]

    def _sum(self, value: tf.Tensor) -> tf.Tensor:
        # The only TensorFlow operation that lowers to HLO's all-reduce has no public name.
        from tensorflow.compiler.tf2xla.ops import gen_xla_ops

        @tf.custom_gradient
        def total(value: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
            def reduce(each: tf.Tensor) -> tf.Tensor:
                groups = [list(range(self.count))]
                return gen_xla_ops.xla_all_reduce(each, groups, "Add", "CrossReplica")

            # Each replica's part is in the sums, and so in the losses, of all.
            return reduce(value), reduce

        return total(value)
