"""Sums and means over the replicas of a tf.distribute strategy, inside a model_fn.

Without a strategy, and on a TPU, whose cores model.py sums over by itself, there is one replica and
nothing to do. Replicas that reduce in different orders wait for each other for ever, and a graph
has no order of its own: each reduction has to depend on the one before it.
"""

import tensorflow as tf


def count() -> int:
    """Replicas that train one network together."""
    return int(tf.distribute.get_replica_context().num_replicas_in_sync)


def total(values: list[tf.Tensor]) -> list[tf.Tensor]:
    """The sum of each tensor over the replicas."""
    return _reduced(values, tf.distribute.ReduceOp.SUM)


def mean(values: list[tf.Tensor]) -> list[tf.Tensor]:
    """The mean of each tensor over the replicas."""
    return _reduced(values, tf.distribute.ReduceOp.MEAN)


def _reduced(values: list[tf.Tensor], how: tf.distribute.ReduceOp) -> list[tf.Tensor]:
    if count() == 1:
        return values

    # ReplicaContext.all_reduce would be all of this, but in a graph it takes every variable that
    # its replica has read for one of its own and fails.
    def reduce(strategy: tf.distribute.Strategy, *of_replicas: tf.Tensor) -> list[tf.Tensor]:
        return strategy.extended.batch_reduce_to(how, [(each, each) for each in of_replicas])

    return list(tf.distribute.get_replica_context().merge_call(reduce, args=tuple(values)))
