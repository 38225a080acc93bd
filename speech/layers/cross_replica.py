"""Sums and means over the replicas of a tf.distribute strategy, or the cores of a TPU.

Without a strategy, and on a TPU, there is one replica. Only `total_over_cores` also sums over a
TPU's cores.

Replicas that reduce in different orders wait for each other forever, and a session runs a graph's
operations in any order. Each reduction therefore waits for the one that was built before it.
"""

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf
from tensorflow.python.tpu import tpu_function

_SUM = "SumOverReplicas"

# A graph's collection of the results of its latest reduction, one for each replica of this process.
_LATEST = "speech/replicas/latest"


def count() -> int:
    """Returns the number of replicas that train one network together."""
    return int(tf.distribute.get_replica_context().num_replicas_in_sync)


def total(values: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """Sums each tensor, of any shape, over the replicas; differentiable."""
    if count() == 1:
        return list(values)
    if tf.compat.v1.executing_eagerly_outside_functions():
        context = tf.distribute.get_replica_context()
        return list(context.all_reduce(tf.distribute.ReduceOp.SUM, list(values)))
    # all_reduce would do the same; but in a session's graph it takes every variable that the other
    # replicas have read for this replica's, and fails.
    with tf.compat.v1.get_default_graph().gradient_override_map({"Identity": _SUM}):
        own = [tf.identity(each) for each in values]
    sums = _reduce(own, tf.distribute.ReduceOp.SUM)
    # Equal to the sum, but its gradient sees this replica's part alone.
    return [each + tf.stop_gradient(all_ - each) for each, all_ in zip(own, sums, strict=True)]


@tf.RegisterGradient(_SUM)
def _gradient_of_total(operation: tf.Operation, gradient: tf.Tensor) -> tf.Tensor:
    """Sums the gradients of all replicas: each one's part is in the sums and losses of all."""
    (summed,) = _reduce([gradient], tf.distribute.ReduceOp.SUM)
    return summed


def mean(values: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """Returns the mean of each tensor, of any shape, over the replicas."""
    return _reduce(values, tf.distribute.ReduceOp.MEAN)


def total_over_cores(value: tf.Tensor, on_tpu: bool) -> tf.Tensor:
    """Sums a tensor of any shape over the cores of a TPU, or else over the replicas."""
    if on_tpu:
        # A single core has nothing to sum, and the operation compiles only for a TPU.
        cores = tpu_function.get_tpu_context().number_of_shards or 1
        return tf.compat.v1.tpu.cross_replica_sum(value) if cores > 1 else value
    (summed,) = total([value])
    return summed


def _reduce(values: Sequence[tf.Tensor], how: tf.distribute.ReduceOp) -> list[tf.Tensor]:
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
