"""More than one device without a TPU: a machine's GPUs, or several machines.

TensorFlow's own strategies train the one model_fn: MirroredStrategy on all GPUs of this machine,
MultiWorkerMirroredStrategy in a process on each of several. Every process makes the same batches,
and each replica takes its part of them, so that loss and steps are those of one process.

The first worker is the chief. It decides what is trained next, looks at the development data and
saves; the others do what it orders. Orders go through queues on the workers' TensorFlow servers.
"""

import json
import logging as python_logging
import os
import signal
import socket
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass, replace
from typing import Any, NoReturn

import tensorflow as tf
from absl import logging

from speech.engines.stopping import Stopping
from speech.input_pipeline.batching import Batching
from speech.layers import cross_replica
from speech.system import command_line
from utils import UserError

MIRRORED = "mirrored"
MULTI_WORKER = "multi_worker"

# The variable by which TensorFlow and its launchers tell a process of its cluster.
TF_CONFIG = "TF_CONFIG"
EXAMPLE = (
    '{"cluster": {"worker": ["10.0.0.1:2222", "10.0.0.2:2222"]}, '
    '"task": {"type": "worker", "index": 0}}'
)

# Seconds between two looks whether another worker still listens, and how often it mayn't.
WATCH_SECONDS = 2.0
MISSES = 5

# Seconds between two looks into an empty queue.
POLL_SECONDS = 0.1


def define_distribution_flag() -> None:
    command_line.define_choice(
        "distribution",
        None,
        [MIRRORED, MULTI_WORKER],
        "Train on all GPUs of this machine, or on several machines, which TF_CONFIG names; "
        "--train_batch_size is over all of them.",
    )


# --- The cluster ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cluster:
    """The processes that train together."""

    workers: tuple[str, ...]  # host:port, the chief first
    index: int  # of this one

    @property
    def chief(self) -> bool:
        return self.index == 0


def parse_cluster(text: str) -> Cluster:
    """The cluster that a TF_CONFIG describes; a chief comes before the workers.

    Raises:
        UserError: it describes none, or this process isn't in it.
    """
    if not text:
        raise UserError(
            f"--distribution={MULTI_WORKER} wants the cluster in the environment variable "
            f"{TF_CONFIG}, with an index of its own for each process: {TF_CONFIG}='{EXAMPLE}'."
        )
    try:
        content = json.loads(text)
        jobs, task = dict(content["cluster"]), content["task"]
        kind, number = task["type"], int(task["index"])
        chiefs, workers = list(jobs.pop("chief", [])), list(jobs.pop("worker", []))
        ports = [int(each.rpartition(":")[2]) for each in (*chiefs, *workers)]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{TF_CONFIG}={text} can't be read ({error!r}): write it as in {EXAMPLE}."
        ) from None
    if jobs:
        raise UserError(
            f"{TF_CONFIG} has {', '.join(sorted(jobs))} in its cluster: give workers alone, of "
            "which the first one also looks at the development data."
        )
    if not ports or kind not in ("chief", "worker"):
        raise UserError(
            f"{TF_CONFIG} names {len(ports)} workers, and this process is a {kind!r}: name "
            f"workers, and be one of them, as in {EXAMPLE}."
        )
    own = chiefs if kind == "chief" else workers
    if not 0 <= number < len(own):
        raise UserError(
            f"{TF_CONFIG} says that this process is {kind} {number} of {len(own)}: count from 0."
        )
    index = number if kind == "chief" else len(chiefs) + number
    return Cluster((*chiefs, *workers), index)


# --- Replicas -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Replicas:
    """The devices that train one network together."""

    strategy: tf.distribute.Strategy
    count: int
    own: range  # of this process
    crew: "Crew | None" = None  # the other processes; None: there are none
    session_config: Any = None  # a ConfigProto

    @property
    def chief(self) -> bool:
        return self.crew is None or self.crew.cluster.chief

    def cut(self, batching: Batching) -> Batching:
        """Batches of which each replica takes a part."""
        return replace(batching, replicas=self.count, own_replicas=self.own)

    @property
    def master(self) -> str:
        """What sessions connect to."""
        return self.crew.master if self.crew else ""


def find_replicas(distribution: str) -> Replicas:
    """The replicas of --distribution; waits until all workers are there.

    Raises:
        UserError: there are no GPUs, or no cluster.
    """
    gpus = [f"/gpu:{number}" for number, _ in enumerate(tf.config.list_physical_devices("GPU"))]
    if distribution == MULTI_WORKER:
        # Taken away: the estimator that looks at the development data is to run here alone.
        return multi_worker(parse_cluster(os.environ.pop(TF_CONFIG, "")), len(gpus))
    if not gpus:
        raise UserError(
            f"--distribution={MIRRORED} is for GPUs, and TensorFlow finds none here: leave it out, "
            "or see that nvidia-smi lists them and that pip install -e '.[gpu]' was the one used."
        )
    return mirrored(gpus)


def mirrored(devices: list[str]) -> Replicas:
    """A replica on each of this machine's devices."""
    # Made in a graph, a strategy is one for sessions. One device adds up for all: collective
    # operations would wait for each other in a session of two replicas and more.
    with tf.Graph().as_default():
        strategy = tf.distribute.MirroredStrategy(devices, tf.distribute.ReductionToOneDevice())
    cpus = sum("cpu" in each.lower() for each in devices)
    config = tf.compat.v1.ConfigProto(
        allow_soft_placement=True, device_count={"CPU": cpus} if cpus else None
    )
    return Replicas(strategy, len(devices), range(len(devices)), session_config=config)


def multi_worker(cluster: Cluster, gpus: int) -> Replicas:
    """A replica on each GPU of every worker, or on its CPU if it has none.

    All workers have equally many.
    """
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec({"worker": cluster.workers}),
        task_type="worker",
        task_id=cluster.index,
        num_accelerators={"GPU": gpus},
        rpc_layer="grpc",
    )
    with tf.Graph().as_default():
        strategy = tf.distribute.MultiWorkerMirroredStrategy(resolver)
    config = strategy.update_config_proto(tf.compat.v1.ConfigProto(allow_soft_placement=True))
    crew = Crew(cluster, config)
    here = max(gpus, 1)
    own = range(cluster.index * here, (cluster.index + 1) * here)
    return Replicas(strategy, here * len(cluster.workers), own, crew, config)


# --- The crew -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Order:
    """A stretch of training that the chief orders."""

    step: int  # of the checkpoint that it goes on from
    target: int  # its last step
    learning_rate_scale: float
    setup: dict[str, Any]  # what has to be the same in all processes, as JSON has it

    def check(self, setup: dict[str, Any], step: int, model_dir: str) -> None:
        """Checks that this process trains as the chief does.

        Args:
            setup: this process's.
            step: of the latest checkpoint that this process sees.

        Raises:
            UserError: it was started otherwise, or sees another model directory.
        """
        own = json.loads(json.dumps(setup))
        differences = [
            f"{key} is {own.get(key)} here and {self.setup.get(key)} there"
            for key in (*self.setup, *(own.keys() - self.setup.keys()))
            if own.get(key) != self.setup.get(key)
        ]
        if differences:
            raise UserError(
                f"This worker would train otherwise than worker 0: {'; '.join(differences)}. Give "
                "all of them the same flags and shards."
            )
        if step != self.step:
            raise UserError(
                f"The latest checkpoint in --model_dir={model_dir} is of step {step} here, of step "
                f"{self.step} for worker 0: give a folder or bucket that all workers share."
            )


class Crew:
    """The workers of a cluster as one of them sees them."""

    def __init__(self, cluster: Cluster, session_config: Any) -> None:
        """Starts this worker's server, and waits for the others'.

        Raises:
            UserError: the server can't listen at its address.
        """
        self.cluster = cluster
        spec = tf.train.ClusterSpec({"worker": cluster.workers})
        config = tf.compat.v1.ConfigProto()
        config.CopyFrom(session_config)
        del config.device_filters[:]
        try:
            self._server = tf.distribute.Server(spec, "worker", cluster.index, config=config)
        except tf.errors.OpError as error:
            raise UserError(
                f"Worker {cluster.index} can't listen at {cluster.workers[cluster.index]}, its "
                f"address in {TF_CONFIG}: {error.message} See that no other process does."
            ) from None
        # The chief knows all, the others the chief.
        self._known = [
            each
            for each in range(len(cluster.workers))
            if each != cluster.index and (cluster.chief or each == 0)
        ]
        for worker in self._known:
            self._await(worker)
        self._over = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()
        workers = [*self._known, cluster.index]
        self._orders, self._stops = (
            _Post(self._server.target, kind, workers, cluster.index) for kind in ("orders", "stops")
        )

    @property
    def master(self) -> str:
        """This worker's server, for sessions."""
        return str(self._server.target)

    def order(self, order: Order | None) -> None:
        """The chief's: has the others train a stretch, or end."""
        with self.explained_errors():
            for worker in self._known:
                self._orders.send(worker, asdict(order) if order else None)
        if order is None:
            self._over.set()  # they may be gone before this process is

    def next_order(self) -> Order | None:
        """The others': waits for what the chief orders; None: to end."""
        while not (messages := self._orders.receive()):
            time.sleep(POLL_SECONDS)
        (order,) = messages  # the next one comes only when it is done
        if order is None:
            self._over.set()
            return None
        return Order(**order)

    def leave(self) -> NoReturn:
        """Ends this process well, at once.

        While Python goes down, threads of the server and the watch still run, and one of them that
        asks for Python then aborts the process.
        """
        python_logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)

    def stop_hook(self, stopping: Stopping) -> tf.estimator.SessionRunHook:
        """Ends a stretch at the same step in all processes when one of them is asked to stop."""
        return _StopHook(self._stops, self._known, self.cluster.chief, stopping)

    @contextmanager
    def explained_errors(self) -> Iterator[None]:
        """Tells of a worker that is gone where TensorFlow tells of a connection that is."""
        try:
            yield
        except (
            tf.errors.UnavailableError,
            tf.errors.AbortedError,
            tf.errors.CancelledError,
            tf.errors.InternalError,
            tf.errors.UnknownError,
        ):
            # One of the others' may end because of the same, and a while later.
            deadline = time.monotonic() + WATCH_SECONDS * (MISSES + 1)
            while time.monotonic() < deadline:
                for worker in self._known:
                    if not self._listens(worker):
                        raise UserError(self._gone(worker)) from None
                time.sleep(POLL_SECONDS)
            raise

    def _address(self, worker: int) -> str:
        return f"worker {worker} at {self.cluster.workers[worker]}"

    def _gone(self, worker: int) -> str:
        return (
            f"{self._address(worker)} is gone; its own output says why. Run the same command in "
            "every process again: training continues from the last checkpoint."
        )

    def _listens(self, worker: int) -> bool:
        host, _, port = self.cluster.workers[worker].rpartition(":")
        with suppress(OSError):
            socket.create_connection((host, int(port)), WATCH_SECONDS).close()
            return True
        return False

    def _await(self, worker: int) -> None:
        told = False
        while not self._listens(worker):
            if not told:
                logging.info("Waits for %s.", self._address(worker))
            told = True
            time.sleep(POLL_SECONDS)

    def _watch(self) -> None:
        """Ends this process when another one is gone: TensorFlow would wait for it for ever."""
        missed = dict.fromkeys(self._known, 0)
        while not self._over.wait(WATCH_SECONDS):
            for worker in self._known:
                missed[worker] = 0 if self._listens(worker) else missed[worker] + 1
                if missed[worker] >= MISSES and not self._over.is_set():
                    print(f"error: {self._gone(worker)}", file=sys.stderr, flush=True)
                    # The main thread can't be woken in the midst of an operation that waits.
                    os._exit(1)


class _Post:
    """Queues of messages of one kind, one on each worker's server."""

    def __init__(self, master: str, kind: str, workers: list[int], own: int) -> None:
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
        """Returns when the message is in the worker's queue."""
        self._session.run(self._send[worker], {self._message: json.dumps(message)})

    def receive(self) -> list[Any]:
        """What has come for this worker."""
        return [json.loads(each) for each in self._session.run(self._receive)]


class _StopHook(tf.estimator.SessionRunHook):
    """Agrees on a last step.

    A worker that is asked to stop tells the chief. The chief, before it begins its next step, tells
    all that this step is the last one: none can finish that step before the chief has begun it.
    """

    def __init__(self, post: _Post, known: list[int], chief: bool, stopping: Stopping) -> None:
        self._post = post
        self._known = known
        self._chief = chief
        self._stopping = stopping
        self._last: int | None = None
        self._told = False

    def begin(self) -> None:
        self._step = tf.compat.v1.train.get_global_step()

    def after_run(self, run_context: Any, run_values: Any) -> None:
        step = int(run_context.session.run(self._step))
        messages = self._post.receive()
        if self._chief:
            self._decide(step, asked=bool(messages))
        else:
            self._last = messages[-1] if messages else self._last
            if self._stopping.signal is not None and not self._told:
                self._told = True
                self._post.send(0, None)
        if self._last is not None and step >= self._last:
            run_context.request_stop()

    def _decide(self, step: int, asked: bool) -> None:
        if self._last is None and (asked or self._stopping.signal is not None):
            # Also where this stretch ends before that step.
            self._stopping.signal = self._stopping.signal or signal.SIGTERM
            self._last = step + 1
            for worker in self._known:
                self._post.send(worker, self._last)


# --- The estimator --------------------------------------------------------------------------------


class DistributedEstimator:
    """Trains on all replicas; looks at data on this process's first device alone."""

    def __init__(
        self, trainer: tf.estimator.Estimator, alone: Any, crew: Crew | None = None
    ) -> None:
        """trainer: with a strategy. alone: a TPUEstimator without one."""
        self._trainer = trainer
        self._alone = alone
        self._crew = crew

    def train(self, *arguments: Any, **more: Any) -> None:
        """As tf.estimator.Estimator has it."""
        explained = self._crew.explained_errors() if self._crew else nullcontext()
        # In a graph, as the strategy was made.
        with explained, warnings.catch_warnings(), tf.Graph().as_default():
            # The estimator asks for the options of a dataset.
            warnings.filterwarnings("ignore", ".*preserve tf.data options")
            self._trainer.train(*arguments, **more)

    def evaluate(self, *arguments: Any, **more: Any) -> Any:
        return self._alone.evaluate(*arguments, **more)

    def predict(self, *arguments: Any, **more: Any) -> Any:
        return self._alone.predict(*arguments, **more)


def replica_model_fn(model_fn: Callable[..., Any]) -> Callable[..., Any]:
    """A TPUEstimator's model_fn for an Estimator whose strategy calls it for each replica."""

    @tf.autograph.experimental.do_not_convert
    def of_replica(features: Any, labels: Any, mode: str, params: Any) -> Any:
        spec = model_fn(features, labels, mode, params)
        _forget_copies()
        # The estimator adds up the replicas' losses, of which each one is the whole batch's; behind
        # the step, as speech/layers/cross_replica.py asks for.
        with tf.control_dependencies([spec.train_op]):
            loss = spec.loss / cross_replica.count()
        write, curves = spec.host_call
        replica = tf.get_static_value(tf.distribute.get_replica_context().replica_id_in_sync_group)
        if replica != 0:  # the curves are the same for all
            write = _write_nothing
        # Anew, because TensorFlow keeps the host_call of the last one that was made.
        return type(spec)(
            mode, loss=loss, train_op=spec.train_op, host_call=(write, curves)
        ).as_estimator_spec()

    # A function of its own, since the estimator looks at its arguments.
    def distributed(features: Any, labels: Any, mode: str, params: Any) -> Any:
        return of_replica(features, labels, mode, params)

    return distributed


def _write_nothing(*unused: tf.Tensor) -> tf.Operation:
    return tf.no_op()


def _forget_copies() -> None:
    """Has the graph list each variable once, as checkpoints are to hold it.

    TensorFlow does so with the variables of its first version alone; of the others it also lists
    every replica's copy.
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
