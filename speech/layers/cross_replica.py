"""Sums and means over the replicas of a tf.distribute strategy.

Without a strategy, and on a TPU, whose cores are summed over by other means, there is one replica
and nothing to do.

Replicas that reduce in different orders wait for each other for ever, and a session's graph has no
order of its own: there each reduction waits for the one that was built before it.
"""

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

_SUM = "SumOverReplicas"

# A graph's collection of what the reduction built last has given each of this process's replicas.
_LATEST = "speech/replicas/latest"


def count() -> int:
    """Replicas that train one network together."""
    return int(tf.distribute.get_replica_context().num_replicas_in_sync)


def total(values: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """The sum of each tensor over the replicas; gradients go through it."""
    if count() == 1:
        return list(values)
    if tf.compat.v1.executing_eagerly_outside_functions():
        context = tf.distribute.get_replica_context()
        return list(context.all_reduce(tf.distribute.ReduceOp.SUM, list(values)))
    # What all_reduce does, too; but in a session's graph it takes every variable that the other
    # replicas have read for its own, and fails.
    with tf.compat.v1.get_default_graph().gradient_override_map({"Identity": _SUM}):
        own = [tf.identity(each) for each in values]
    sums = _reduced(own, tf.distribute.ReduceOp.SUM)
    # The sum, of which a gradient sees this replica's part alone.
    return [each + tf.stop_gradient(all_ - each) for each, all_ in zip(own, sums, strict=True)]


@tf.RegisterGradient(_SUM)
def _gradient_of_total(operation: tf.Operation, gradient: tf.Tensor) -> tf.Tensor:
    """Each replica's part is in the sums of all, and so in the losses of all."""
    (summed,) = _reduced([gradient], tf.distribute.ReduceOp.SUM)
    return summed


def mean(values: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """The mean of each tensor over the replicas."""
    return _reduced(values, tf.distribute.ReduceOp.MEAN)


def _reduced(values: Sequence[tf.Tensor], how: tf.distribute.ReduceOp) -> list[tf.Tensor]:
    if count() == 1:
        return list(values)

    def reduce(strategy: tf.distribute.Strategy, *of_replicas: Any) -> list[Any]:
        latest = tf.compat.v1.get_default_graph().get_collection_ref(_LATEST)
        with tf.control_dependencies(latest):
            pairs = [(each, each) for each in of_replicas]
            reduced = list(strategy.extended.batch_reduce_to(how, pairs))
        local: Callable[[Any], Any] = strategy.experimental_local_results
        latest[:] = [part for each in reduced for part in local(each)]
        return reduced

    return list(tf.distribute.get_replica_context().merge_call(reduce, args=tuple(values)))
