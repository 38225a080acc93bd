"""How the processes of a cluster agree on what to train, when to stop, and who is still there.

The chief sends a command for each stretch of training, and the other workers execute it. Messages
go through queues on the workers' TensorFlow servers.
"""

import json
import logging as python_logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from typing import Any, NoReturn

import tensorflow as tf
from absl import logging

from speech.engines.cluster import TF_CONFIG, Cluster
from speech.engines.stopping import Stopping
from utils import UserError

# Seconds between two health checks of another worker, and failures tolerated before giving up.
CHECK_SECONDS = 2.0
TOLERATED_FAILURES = 5

# Seconds between two reads of an empty queue, and between two attempts to reach a worker.
POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Command:
    """A stretch of training that the chief has all workers execute."""

    step: int  # of the checkpoint that it starts from
    target: int  # its last step
    learning_rate_scale: float
    setup: dict[str, Any]  # settings that must be the same in all processes, as JSON has them

    def check(self, setup: dict[str, Any], step: int, model_dir: str) -> None:
        """Checks that this process trains as the chief does.

        Args:
            setup: settings of this process.
            step: step of the latest checkpoint that this process sees.
            model_dir: folder of the checkpoints.

        Raises:
            UserError: this process has other settings, or another model directory.
        """
        own = json.loads(json.dumps(setup))
        differences = [
            f"{key} is {own.get(key)} here and {self.setup.get(key)} there"
            for key in (*self.setup, *(own.keys() - self.setup.keys()))
            if own.get(key) != self.setup.get(key)
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


class Coordinator:
    """The connection of one worker to the others of its cluster.

    The chief is connected to all workers, the others to the chief alone.
    """

    def __init__(self, cluster: Cluster, session_config: Any) -> None:
        """Starts this worker's server, and waits for the others'.

        Args:
            cluster: all workers.
            session_config: a ConfigProto for the server.

        Raises:
            UserError: the server can't listen at its address.
        """
        self.cluster = cluster
        self._server = _start_server(cluster, session_config)
        self._watchdog = _Watchdog(cluster)
        self._watchdog.wait_for_all()
        self._watchdog.start()
        workers = [*self._watchdog.watched, cluster.index]
        self._commands, self._stops = (
            MessageQueue(self._server.target, kind, workers, cluster.index)
            for kind in ("commands", "stops")
        )

    @property
    def master(self) -> str:
        """Address of this worker's server, for sessions."""
        return str(self._server.target)

    def send(self, command: Command | None) -> None:
        """Sends a command from the chief to the other workers; None: the training has ended."""
        with self.explained_errors():
            for worker in self._watchdog.watched:
                self._commands.send(worker, asdict(command) if command else None)
        if command is None:
            self._watchdog.stop()  # the others may exit before this process does

    def receive(self) -> Command | None:
        """Waits for the chief's next command; None: the training has ended."""
        while not (messages := self._commands.receive()):
            time.sleep(POLL_SECONDS)
        (content,) = messages  # the chief sends the next one only when all workers are done
        if content is None:
            self._watchdog.stop()
            return None
        return Command(**content)

    def stop_hook(self, stopping: Stopping) -> tf.estimator.SessionRunHook:
        """Returns a hook that ends a stretch at the same step in all processes.

        Args:
            stopping: says whether this process was asked to stop.
        """
        return _AgreedStopHook(self._stops, self._watchdog.watched, self.cluster.chief, stopping)

    @contextmanager
    def explained_errors(self) -> Iterator[None]:
        """Raises a UserError that names the worker that is gone, if an error is due to that."""
        try:
            yield
        except (
            tf.errors.UnavailableError,
            tf.errors.AbortedError,
            tf.errors.CancelledError,
            tf.errors.InternalError,
            tf.errors.UnknownError,
        ):
            # The cause may be a process that only now begins to exit.
            deadline = time.monotonic() + CHECK_SECONDS * (TOLERATED_FAILURES + 1)
            while time.monotonic() < deadline:
                self._watchdog.check()
                time.sleep(POLL_SECONDS)
            raise

    def exit_process(self) -> NoReturn:
        """Ends this process successfully, at once.

        Threads of the server and the watchdog still run while Python shuts down, and one of them
        that then needs the interpreter would abort the process.
        """
        python_logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def _start_server(cluster: Cluster, session_config: Any) -> Any:
    """Starts this worker's TensorFlow server; raises UserError if its address is taken."""
    config = tf.compat.v1.ConfigProto()
    config.CopyFrom(session_config)
    del config.device_filters[:]
    spec = tf.train.ClusterSpec({"worker": cluster.workers})
    try:
        return tf.distribute.Server(spec, "worker", cluster.index, config=config)
    except tf.errors.OpError as error:
        raise UserError(
            f"Worker {cluster.index} can't listen at {cluster.workers[cluster.index]}, its address "
            f"in {TF_CONFIG}: {error.message} Make sure that no other process listens there."
        ) from None


class MessageQueue:
    """Queues of messages of one kind, one on the server of each worker."""

    def __init__(self, master: str, kind: str, workers: list[int], own: int) -> None:
        """
        Args:
            master: address of this worker's server.
            kind: distinguishes these queues from others.
            workers: numbers of the workers to exchange messages with, this one among them.
            own: number of this worker.
        """
        with tf.Graph().as_default() as graph:
            self._message = tf.compat.v1.placeholder(tf.string, [])
            queues = {}
            for worker in workers:
                with tf.device(f"/job:worker/task:{worker}/cpu:0"):
                    queues[worker] = tf.queue.FIFOQueue(
                        1000, [tf.string], [[]], shared_name=f"{kind}_for_worker_{worker}"
                    )
            self._send = {worker: queue.enqueue(self._message) for worker, queue in queues.items()}
            self._receive = queues[own].dequeue_up_to(queues[own].size())
        filters = [f"/job:worker/task:{worker}" for worker in workers]
        config = tf.compat.v1.ConfigProto(device_filters=filters)
        self._session = tf.compat.v1.Session(master, graph, config)

    def send(self, worker: int, message: Any) -> None:
        """Sends what JSON can hold; returns when it is in the worker's queue."""
        self._session.run(self._send[worker], {self._message: json.dumps(message)})

    def receive(self) -> list[Any]:
        """Returns the messages that have arrived for this worker, without waiting for any."""
        return [json.loads(each) for each in self._session.run(self._receive)]


class _Watchdog:
    """Checks the health of other workers: whether they accept connections.

    Attributes:
        watched: their numbers.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._workers = cluster.workers
        self._stopped = threading.Event()
        self.watched = [
            each
            for each in range(len(cluster.workers))
            if each != cluster.index and (cluster.chief or each == 0)
        ]

    def wait_for_all(self) -> None:
        """Returns when all watched workers accept connections."""
        for worker in self.watched:
            if not self._listens(worker):
                logging.info("Waits for %s.", self._name(worker))
            while not self._listens(worker):
                time.sleep(POLL_SECONDS)

    def start(self) -> None:
        """Ends this process when a worker is gone: TensorFlow would wait for it forever."""
        threading.Thread(target=self._watch, daemon=True).start()

    def stop(self) -> None:
        """Lets workers exit from now on."""
        self._stopped.set()

    def check(self) -> None:
        """Raises a UserError that names a worker that doesn't accept connections."""
        for worker in self.watched:
            if not self._listens(worker):
                raise UserError(self._is_gone(worker)) from None

    def _watch(self) -> None:
        failures = dict.fromkeys(self.watched, 0)
        while not self._stopped.wait(CHECK_SECONDS):
            for worker in self.watched:
                failures[worker] = 0 if self._listens(worker) else failures[worker] + 1
                if failures[worker] >= TOLERATED_FAILURES and not self._stopped.is_set():
                    print(f"error: {self._is_gone(worker)}", file=sys.stderr, flush=True)
                    # No exception reaches the main thread while an operation in it waits.
                    os._exit(1)

    def _listens(self, worker: int) -> bool:
        host, _, port = self._workers[worker].rpartition(":")
        with suppress(OSError):
            socket.create_connection((host, int(port)), CHECK_SECONDS).close()
            return True
        return False

    def _name(self, worker: int) -> str:
        return f"worker {worker} at {self._workers[worker]}"

    def _is_gone(self, worker: int) -> str:
        return (
            f"{self._name(worker)} is gone; its own output says why. Run the same command in "
            "every process again: training continues from the last checkpoint."
        )


class _AgreedStopHook(tf.estimator.SessionRunHook):
    """Agrees with the other processes on a last step when one of them is asked to stop.

    That worker notifies the chief. Before its next step, the chief tells all workers that this
    step is the last one: none can finish that step before the chief has begun it.
    """

    def __init__(
        self, queue: MessageQueue, others: list[int], chief: bool, stopping: Stopping
    ) -> None:
        """
        Args:
            queue: queue for messages about stopping.
            others: numbers of the workers that this one exchanges messages with.
            chief: whether this is the chief.
            stopping: says whether this process was asked to stop.
        """
        self._queue = queue
        self._others = others
        self._chief = chief
        self._stopping = stopping
        self._last: int | None = None
        self._notified = False

    def begin(self) -> None:
        self._step = tf.compat.v1.train.get_global_step()

    def after_run(self, run_context: Any, run_values: Any) -> None:
        step = int(run_context.session.run(self._step))
        messages = self._queue.receive()
        if self._chief:
            self._decide(step, asked=bool(messages))
        else:
            self._last = messages[-1] if messages else self._last
            if self._stopping.signal is not None and not self._notified:
                self._notified = True
                self._queue.send(0, None)
        if self._last is not None and step >= self._last:
            run_context.request_stop()

    def _decide(self, step: int, asked: bool) -> None:
        """Announces the last step if this process or another one was asked to stop."""
        if self._last is None and (asked or self._stopping.signal is not None):
            # Set also if this stretch ends before that step, so that no other one follows.
            self._stopping.signal = self._stopping.signal or signal.SIGTERM
            self._last = step + 1
            for worker in self._others:
                self._queue.send(worker, self._last)
