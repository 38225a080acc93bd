"""How the processes of a cluster agree on what to train.

The chief sends a command for each stretch of training, and the other workers execute it. A message
is a sum over all processes, to which the chief alone contributes.
"""

import json
import logging as python_logging
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from speech.engines.cluster import Cluster
from speech.engines.strategies import Distribution
from utils import UserError

# Seconds in which a worker that is there accepts a connection.
ANSWER_SECONDS = 2.0


@dataclass(frozen=True)
class Command:
    """A stretch of training that the chief has all workers execute."""

    step: int  # of the checkpoint that it starts from
    until: int  # its last step
    learning_rate_scale: float
    settings: dict[str, Any]  # that must be the same in all processes, as JSON represents them

    def check(self, settings: dict[str, Any], step: int, model_dir: str) -> None:
        """Checks that this process trains as the chief does.

        Args:
            settings: of this process.
            step: of the latest checkpoint that this process sees.

        Raises:
            UserError: this process has other settings, or another model directory.
        """
        own = json.loads(json.dumps(settings))
        differences = [
            f"{key} is {own.get(key)} here and {self.settings.get(key)} there"
            for key in (*self.settings, *(own.keys() - self.settings.keys()))
            if own.get(key) != self.settings.get(key)
        ]
        if differences:
            raise UserError(
                f"The settings of this worker differ from worker 0's: {'; '.join(differences)}. "
                "Give all workers the same flags and shards."
            )
        if step != self.step:
            raise UserError(
                f"The latest checkpoint in --model_dir={model_dir} is of step {step} here, of step "
                f"{self.step} for worker 0: give a folder or bucket that all workers share."
            )


class Workers:
    """The connection of this process to the others of its cluster."""

    def __init__(self, distribution: Distribution) -> None:
        assert distribution.cluster
        self._cluster: Cluster = distribution.cluster
        self._strategy = distribution.strategy
        self._replicas = len(distribution.own)
        self._sum = tf.function(self._sum_of_all, autograph=False, reduce_retracing=True)

    def send(self, command: Command | None) -> None:
        """Sends a command from the chief to the other workers; None: the training has ended."""
        self._exchange(json.dumps(asdict(command) if command else None).encode())

    def receive(self) -> Command | None:
        """Waits for the chief's next command; None: the training has ended."""
        content = json.loads(self._exchange(b""))
        return Command(**content) if content else None

    def _exchange(self, message: bytes) -> bytes:
        """Returns the chief's message; the others' are empty."""
        with self.explained_errors():
            (length,) = self._sum(tf.constant([len(message)], tf.float32)).numpy()
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
        if self._cluster.chief:
            self.send(None)
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
