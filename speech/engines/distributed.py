"""Training on several devices without a TPU: a machine's GPUs, or several machines.

TensorFlow's strategies train the same model_fn: MirroredStrategy on all GPUs of this machine,
MultiWorkerMirroredStrategy in one process on each of several. Every process reads the same batches,
and each replica takes its part of them, so that loss and steps are those of one process.

The first worker is the chief: it decides what to train next, evaluates on the development set and
saves checkpoints. The others execute its commands (coordinator.py).
"""

import warnings
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import tensorflow as tf

from speech.engines.coordinator import Coordinator
from speech.layers import cross_replica


class DistributedEstimator:
    """An estimator that trains on all replicas and evaluates on this process's first device."""

    def __init__(
        self,
        trainer: tf.estimator.Estimator,
        evaluator: Any,
        coordinator: Coordinator | None = None,
    ) -> None:
        """
        Args:
            trainer: estimator with a strategy.
            evaluator: TPUEstimator without one.
            coordinator: that of the processes; None: there is only this one.
        """
        self._trainer = trainer
        self._evaluator = evaluator
        self._coordinator = coordinator

    def train(self, *arguments: Any, **more: Any) -> None:
        """Trains; arguments are those of tf.estimator.Estimator.train.

        Raises:
            UserError: another worker is gone.
        """
        explained = self._coordinator.explained_errors() if self._coordinator else nullcontext()
        # In a graph, like the one that the strategy was made in.
        with explained, warnings.catch_warnings(), tf.Graph().as_default():
            # The estimator reads the options of a dataset.
            warnings.filterwarnings("ignore", ".*preserve tf.data options")
            self._trainer.train(*arguments, **more)

    def evaluate(self, *arguments: Any, **more: Any) -> Any:
        """Evaluates; see tf.estimator.Estimator.evaluate."""
        return self._evaluator.evaluate(*arguments, **more)

    def predict(self, *arguments: Any, **more: Any) -> Any:
        """Predicts; see tf.estimator.Estimator.predict."""
        return self._evaluator.predict(*arguments, **more)


def replica_model_fn(model_fn: Callable[..., Any]) -> Callable[..., Any]:
    """Converts a TPUEstimator's model_fn to one that a strategy calls for each replica."""

    @tf.autograph.experimental.do_not_convert
    def of_replica(features: Any, labels: Any, mode: str, params: Any) -> Any:
        spec = model_fn(features, labels, mode, params)
        _list_variables_once()
        # The estimator adds up the replicas' losses, and each of them is the whole batch's. The sum
        # comes after the step, because reductions must have an order (layers/cross_replica.py).
        with tf.control_dependencies([spec.train_op]):
            loss = spec.loss / cross_replica.count()
        write, curves = spec.host_call
        replica = tf.get_static_value(tf.distribute.get_replica_context().replica_id_in_sync_group)
        if replica != 0:  # the curves are the same for all
            write = _write_nothing
        # A new one, because TensorFlow keeps the host_call of the one made last.
        return type(spec)(
            mode, loss=loss, train_op=spec.train_op, host_call=(write, curves)
        ).as_estimator_spec()

    # The estimator inspects the argument names, which the decorator above hides.
    def distributed(features: Any, labels: Any, mode: str, params: Any) -> Any:
        return of_replica(features, labels, mode, params)

    return distributed


def _write_nothing(*unused: tf.Tensor) -> tf.Operation:
    return tf.no_op()


def _list_variables_once() -> None:
    """Removes the replicas' copies from the graph's lists of variables, which checkpoints follow.

    TensorFlow does so by itself for variables of its first version alone.
    """
    graph, strategy = tf.compat.v1.get_default_graph(), tf.distribute.get_strategy()
    for key in (
        tf.compat.v1.GraphKeys.GLOBAL_VARIABLES,
        tf.compat.v1.GraphKeys.TRAINABLE_VARIABLES,
    ):
        listed = graph.get_collection_ref(key)
        copies = {
            id(copy)
            for variable in listed
            if isinstance(variable, tf.distribute.DistributedValues)
            for copy in strategy.experimental_local_results(variable)
        }
        listed[:] = [variable for variable in listed if id(variable) not in copies]
