"""The devices that train one network together: a machine's GPUs, or those of several machines."""

import os
from dataclasses import dataclass, replace
from typing import Any

import tensorflow as tf

from speech.engines.cluster import MIRRORED, MULTI_WORKER, TF_CONFIG, Cluster, parse_cluster
from speech.engines.coordinator import Coordinator
from speech.input_pipeline.batching import Batching
from utils import UserError


@dataclass(frozen=True)
class Replicas:
    """The devices that train one network together."""

    strategy: tf.distribute.Strategy
    count: int  # in all processes
    own: range  # of this process
    coordinator: Coordinator | None = None  # of the processes; None: there is only this one
    session_config: Any = None  # a ConfigProto

    @property
    def chief(self) -> bool:
        """Whether this process evaluates and saves."""
        return self.coordinator is None or self.coordinator.cluster.chief

    @property
    def master(self) -> str:
        """Address that sessions connect to."""
        return self.coordinator.master if self.coordinator else ""

    def cut(self, batching: Batching) -> Batching:
        """Returns batches of which each replica takes a part."""
        return replace(batching, replicas=self.count, own_replicas=self.own)


def find_replicas(distribution: str) -> Replicas:
    """Returns the replicas of --distribution; waits until all workers are there.

    Raises:
        UserError: there are no GPUs, or no cluster.
    """
    gpus = [f"/gpu:{number}" for number, _ in enumerate(tf.config.list_physical_devices("GPU"))]
    if distribution == MULTI_WORKER:
        # Removed from the environment: the estimator that evaluates must run in this process alone.
        return multi_worker(parse_cluster(os.environ.pop(TF_CONFIG, "")), len(gpus))
    if not gpus:
        raise UserError(
            f"--distribution={MIRRORED} is for GPUs, and TensorFlow finds none here: leave it out, "
            "or make sure that nvidia-smi lists them and that TensorFlow was installed by "
            "pip install -e '.[gpu]'."
        )
    return mirrored(gpus)


def mirrored(devices: list[str]) -> Replicas:
    """Returns a replica on each of this machine's devices.

    Args:
        devices: as TensorFlow names them, /gpu:0.
    """
    # A strategy that is made in a graph is one for sessions. One device adds up for all: collective
    # operations would wait for each other in a session of several replicas.
    with tf.Graph().as_default():
        strategy = tf.distribute.MirroredStrategy(devices, tf.distribute.ReductionToOneDevice())
    cpus = sum("cpu" in each.lower() for each in devices)
    config = tf.compat.v1.ConfigProto(
        allow_soft_placement=True, device_count={"CPU": cpus} if cpus else None
    )
    return Replicas(strategy, len(devices), range(len(devices)), session_config=config)


def multi_worker(cluster: Cluster, gpus: int) -> Replicas:
    """Returns a replica on each GPU of every worker, or on its CPU if it has none.

    Args:
        cluster: all workers.
        gpus: number of GPUs of each worker.

    Raises:
        UserError: this worker can't listen at its address.
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
    coordinator = Coordinator(cluster, config)
    here = max(gpus, 1)
    own = range(cluster.index * here, (cluster.index + 1) * here)
    return Replicas(strategy, here * len(cluster.workers), own, coordinator, config)
