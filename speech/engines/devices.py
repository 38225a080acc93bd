"""What a network runs on: a TPU, several replicas, or this machine's CPU or GPU."""

import socket
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import tensorflow as tf

from speech.engines.errors import first_line
from speech.engines.replicas import Replicas, find_replicas
from speech.input_pipeline.batching import Batching
from speech.system import storage
from utils import UserError

# How long a TPU elsewhere may take to answer. TensorFlow itself would try for a day, and silently.
CONNECT_SECONDS = 10.0


@dataclass(frozen=True)
class TpuSettings:
    """Which TPU to use, if any."""

    use_tpu: bool
    name: str  # of the TPU, or its grpc:// address; local: the TPU of this TPU VM
    zone: str | None  # of a TPU that isn't local
    project: str | None  # of a TPU that isn't local
    cores: int  # among which a batch is divided

    @property
    def remote(self) -> bool:
        """Whether another machine than this one feeds the TPU and writes its checkpoints."""
        here = urlsplit(self.name).hostname in ("localhost", "127.0.0.1")  # of grpc://...
        return self.use_tpu and self.name != "local" and not here


@dataclass(frozen=True)
class Device:
    """What an engine runs on, as `find_device` has found it."""

    cluster: Any = None  # a TPUClusterResolver; None: this machine's CPU or GPU
    cores: int = 1  # among which a batch is divided
    hosts: int = 1  # machines that feed the cores, each with a part of the batch
    replicas: Replicas | None = None  # that train without a TPU; None: one device does

    @property
    def is_tpu(self) -> bool:
        return self.cluster is not None

    def batching(self, batch_size: int) -> Batching:
        """Returns how utterances become batches for evaluation; batch_size: over all cores."""
        return Batching(batch_size, self.is_tpu, self.hosts)

    def training_batching(self, batch_size: int) -> Batching:
        """Returns how utterances become batches for training; batch_size: over all devices.

        Raises:
            UserError: the replicas don't divide the batch.
        """
        batching = self.batching(batch_size)
        if self.replicas is None:
            return batching
        check_replicas(batch_size, self.replicas)
        return self.replicas.cut(batching)


def find_device(tpu: TpuSettings, distribution: str | None = None) -> Device:
    """Finds the TPU or the replicas that are wanted, or else this machine's CPU or GPU.

    Raises:
        UserError: there is no such TPU, it doesn't answer, or it has another number of cores; the
            replicas can't be had.
    """
    if not tpu.use_tpu:
        return Device(replicas=find_replicas(distribution) if distribution else None)
    if distribution:
        raise UserError(
            f"--distribution={distribution} is for GPUs and CPUs, and --use_tpu takes all cores of "
            "a TPU by itself: leave out one of the two."
        )
    try:
        cluster = tf.distribute.cluster_resolver.TPUClusterResolver(tpu.name, tpu.zone, tpu.project)
        addresses = cluster.cluster_spec().as_dict().get("worker", [])  # a local TPU has none
    except Exception as error:  # whatever the cloud's client raises
        raise UserError(
            f"The TPU {tpu.name} can't be found: {first_line(str(error))}. Check --tpu_name, "
            "--tpu_zone and --gcp_project."
        ) from None
    try:
        for address in addresses:
            host, _, port = address.rpartition(":")
            socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
        # In a graph, where the estimator asks the same: eagerly TensorFlow would name the devices
        # of this machine, whatever the TPU's address is.
        with tf.Graph().as_default():
            found = cluster.get_tpu_system_metadata()
    except (OSError, ValueError, tf.errors.OpError) as error:
        raise UserError(
            f"The TPU {tpu.name} doesn't answer: {first_line(str(error))}. Check --tpu_name, and "
            "that the TPU runs and this machine is in its network."
        ) from None
    _check_cores(tpu, found.num_cores)
    return Device(cluster, found.num_cores, found.num_hosts)


def _check_cores(tpu: TpuSettings, found: int) -> None:
    if not found:
        raise UserError(
            f"TensorFlow {tf.__version__} finds no TPU cores (--tpu_name={tpu.name}). Leave out "
            "--use_tpu to run on this machine's CPU or GPU. On a TPU VM keep the TensorFlow that "
            "came with it, since PyPI's wheels can't drive a TPU. TPU v5e and later need the PJRT "
            "runtime, where tf.estimator is known to fail (github.com/tensorflow/tensorflow, issue "
            "90807): use a v2, v3 or v4."
        )
    if found != tpu.cores:
        raise UserError(
            f"The TPU {tpu.name} has {found} cores: give --num_tpu_cores={found} instead of "
            f"{tpu.cores}, and batch sizes that they divide."
        )


def check_paths(tpu: TpuSettings, **paths: str) -> None:
    """Checks that the TPU's host can reach what it will read and write.

    Args:
        paths: flag -> its value; an empty one isn't used.

    Raises:
        UserError: the TPU is another machine's, and a path is this one's.
    """
    for flag, path in paths.items():
        if tpu.remote and path and not storage.in_bucket(path):
            raise UserError(
                f"--{flag}={path} is on this machine, but --tpu_name={tpu.name} is another one, "
                "which reads shards and writes checkpoints by itself. Give a path in a bucket, "
                "gs://... (prepare_libri.py --upload_to=gs://... copies shards there), or run on "
                "the TPU VM with --tpu_name=local."
            )


def check_batch_sizes(tpu: TpuSettings, **sizes: int) -> None:
    """Checks batch sizes over all cores; without a TPU any is possible.

    Args:
        sizes: flag -> its value.

    Raises:
        UserError: the cores don't divide one.
    """
    if tpu.use_tpu:
        for flag, size in sizes.items():
            check_divisible(flag, size, tpu.cores)


def check_divisible(flag: str, size: int, cores: int) -> None:
    """Raises a UserError that names the flag if the cores don't divide a batch size."""
    if size % cores:
        raise UserError(
            f"--{flag}={size} can't be divided among {cores} cores: choose a multiple of {cores}, "
            "or give --num_tpu_cores."
        )


def check_replicas(train_batch_size: int, replicas: Replicas) -> None:
    """Raises a UserError if the replicas don't divide the batch."""
    if train_batch_size % replicas.count:
        raise UserError(
            f"--train_batch_size={train_batch_size} can't be divided among the {replicas.count} "
            f"devices of --distribution: choose a multiple of {replicas.count}."
        )
