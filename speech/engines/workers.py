"""The processes of a cluster, which are connected by a strategy of TensorFlow.

A message is a sum over all processes, to which the leader alone contributes.
"""

import logging as python_logging
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import numpy as np
import tensorflow as tf

from speech.engines.cluster import Cluster
from speech.engines.processes import Processes
from speech.engines.strategies import Distribution
from utils import UserError

# Seconds in which a worker that is there accepts a connection.
ANSWER_SECONDS = 2.0


class Workers(Processes):
    """The processes of a cluster, as this one is connected to the others."""

    def __init__(self, distribution: Distribution) -> None:
        assert distribution.cluster
        self._cluster: Cluster = distribution.cluster
        self._strategy = distribution.strategy
        self._replicas = len(distribution.own)
        self._sum = tf.function(self._sum_of_all, autograph=False, reduce_retracing=True)

    @property
    def several(self) -> bool:
        return True

    @property
    def is_leader(self) -> bool:
        return self._cluster.chief

    def broadcast(self, message: bytes) -> bytes:
        message = message if self.is_leader else b""
        with self.explained_errors():
            (length,) = self._sum(tf.constant([len(message)], tf.float32)).numpy()
            if not length:  # TensorFlow crashes on a sum of nothing
                return b""
            values = np.zeros(round(length), np.float32)
            values[: len(message)] = np.frombuffer(message, np.uint8)
            summed = self._sum(tf.constant(values)).numpy()
        return np.rint(summed).astype(np.uint8).tobytes()

    def _sum_of_all(self, values: tf.Tensor) -> tf.Tensor:
        def of_replica() -> tf.Tensor:
            context = tf.distribute.get_replica_context()
            # A process has several replicas, each of which contributes its share.
            return context.all_reduce(tf.distribute.ReduceOp.SUM, values / self._replicas)

        return self._strategy.experimental_local_results(self._strategy.run(of_replica))[0]

    @contextmanager
    def explained_errors(self) -> Iterator[None]:
        """Raises a UserError that names the worker that is gone, if an error is due to that."""
        try:
            yield
        except tf.errors.OpError:
            for number, address in enumerate(self._cluster.workers):
                if number != self._cluster.index and not _listens(address):
                    raise UserError(
                        f"worker {number} at {address} is gone; its own output says why. Run the "
                        "same command in every process again: training continues from the last "
                        "checkpoint."
                    ) from None
            raise

    def close(self) -> None:
        """Ends the training in all processes, and this process successfully, at once.

        Threads of TensorFlow's servers still run while Python shuts down, and one of them that then
        needs the interpreter would abort the process.
        """
        if self.is_leader:
            self.broadcast(b"")
        python_logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def _listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    with suppress(OSError):
        socket.create_connection((host, int(port)), ANSWER_SECONDS).close()
        return True
    return False
