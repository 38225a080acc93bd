"""TensorFlow's strategies: one device, this machine's GPUs, or the devices of several processes."""

import os
import signal
from dataclasses import dataclass, replace
from typing import Any

import tensorflow as tf

from speech.engines.cluster import MIRRORED, MULTI_WORKER, TF_CONFIG, Cluster, parse_cluster
from speech.input_pipeline.batching import Batching
from utils import UserError


@dataclass(frozen=True)
class Distribution:
    """The devices that train one network together."""

    strategy: tf.distribute.Strategy
    count: int = 1  # replicas in all processes
    own: range = range(1)  # replicas of this process
    cluster: Cluster | None = None  # of the processes; None: there is only this one

    def cut(self, batching: Batching) -> Batching:
        """Returns batches of which each replica takes a part.

        Raises:
            UserError: the replicas don't divide the batch.
        """
        if batching.batch_size % self.count:
            raise UserError(
                f"--train_batch_size={batching.batch_size} can't be divided among the {self.count} "
                f"devices of --distribution: choose a multiple of {self.count}."
            )
        return replace(batching, replicas=self.count, own_replicas=self.own)


def find_distribution(name: str | None) -> Distribution:
    """Returns the devices of --distribution, or else one device; waits until all workers are there.

    Raises:
        UserError: there are no GPUs, or no cluster.
    """
    if name is None:
        return Distribution(tf.distribute.get_strategy())
    gpus = [f"/gpu:{number}" for number, _ in enumerate(tf.config.list_physical_devices("GPU"))]
    if name == MULTI_WORKER:
        return multi_worker(parse_cluster(os.environ.get(TF_CONFIG, "")), len(gpus))
    if not gpus:
        raise UserError(
            f"--distribution={MIRRORED} is for GPUs, and TensorFlow finds none here: leave it out, "
            "or make sure that nvidia-smi lists them and that TensorFlow was installed by "
            "pip install -e '.[gpu]'."
        )
    return mirrored(gpus)


def mirrored(devices: list[str]) -> Distribution:
    """Returns a replica on each of this machine's devices.

    Args:
        devices: as TensorFlow names them, /gpu:0.
    """
    return Distribution(tf.distribute.MirroredStrategy(devices), len(devices), range(len(devices)))


def multi_worker(cluster: Cluster, gpus: int) -> Distribution:
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
    try:
        strategy: Any = tf.distribute.MultiWorkerMirroredStrategy(resolver)
    except tf.errors.OpError as error:
        raise UserError(
            f"Worker {cluster.index} can't listen at {cluster.workers[cluster.index]}, its address "
            f"in {TF_CONFIG}: {error.message} Make sure that no other process listens there."
        ) from None
    # TensorFlow has put a handler of its own under Python's, which would no longer be called.
    signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM))
    here = max(gpus, 1)
    own = range(cluster.index * here, (cluster.index + 1) * here)
    return Distribution(strategy, here * len(cluster.workers), own, cluster)
