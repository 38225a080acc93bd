"""What a network runs on: a TPU, several GPUs or machines, or this machine's CPU or GPU."""

import socket
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

import tensorflow as tf
from absl import logging

import constants
from speech.engines.errors import first_line
from speech.engines.strategies import Distribution, find_distribution
from speech.input_pipeline.batching import Batching
from speech.system import storage
from utils import UserError

# Values of --engine: what runs the training step.
AUTO = "auto"
ESTIMATOR = "estimator"  # TensorFlow's TPUEstimator
EAGER = "eager"  # TensorFlow's functions and strategies
PJRT = "pjrt"  # jaxlib runs what TensorFlow lowered
ENGINES = (AUTO, ESTIMATOR, EAGER, PJRT)

# How long a TPU elsewhere may take to answer. TensorFlow itself would try for a day, and silently.
CONNECT_SECONDS = 10.0


@dataclass(frozen=True)
class TpuSettings:
    """Which TPU to use, if any."""

    use_tpu: bool = False
    name: str = "local"  # of the TPU, or its grpc:// address; local: the TPU of this TPU VM
    zone: str | None = None  # of a TPU that isn't local
    project: str | None = None  # of a TPU that isn't local
    cores: int = constants.NUM_TPU_CORES  # among which a batch is divided

    @property
    def remote(self) -> bool:
        """Whether another machine than this one feeds the TPU and writes its checkpoints."""
        here = urlsplit(self.name).hostname in ("localhost", "127.0.0.1")  # of grpc://...
        return self.use_tpu and self.name != "local" and not here


@dataclass(frozen=True)
class DeviceSettings:
    """What to run a network on, and by which engine."""

    tpu: TpuSettings = TpuSettings()
    engine: str = AUTO  # one of ENGINES
    distribution: str | None = None  # a value of --distribution; None: one device


@dataclass(frozen=True)
class Device:
    """What an engine runs on, as `find_device` has found it."""

    engine: str = EAGER  # ESTIMATOR, EAGER or PJRT
    cluster: Any = None  # a TPUClusterResolver, for ESTIMATOR; None: this machine's CPU or GPU
    cores: int = 1  # among which a batch is divided
    hosts: int = 1  # machines that feed the cores, each with a part of the batch
    distribution: Distribution | None = None  # for EAGER
    jax_cores: Any = None  # tpu.cores.Cores, for PJRT

    @property
    def is_tpu(self) -> bool:
        return self.cluster is not None

    def batching(self, batch_size: int) -> Batching:
        """Returns how utterances become batches for evaluation; batch_size: over all cores."""
        if self.engine == PJRT:  # evaluates on the leading host alone
            return Batching(batch_size, static=True)
        return Batching(batch_size, self.is_tpu, self.hosts)

    def training_batching(self, batch_size: int) -> Batching:
        """Returns how utterances become batches for training; batch_size: over all devices.

        Raises:
            UserError: the replicas don't divide the batch.
        """
        batching = replace(self.batching(batch_size), hosts=self.hosts)
        return self.distribution.cut(batching) if self.distribution else batching


def has_estimator() -> bool:
    """Returns whether this TensorFlow has tf.estimator, which 2.16 dropped."""
    return hasattr(tf, "estimator")


def choose_engine(settings: DeviceSettings) -> str:
    """Chooses the engine, and logs which one and why.

    Raises:
        UserError: the engine can't run here, or not on what is wanted.
    """
    use_tpu = settings.tpu.use_tpu
    tensorflow = f"TensorFlow {tf.__version__}"
    chosen = settings.engine
    if chosen == AUTO:
        chosen = (ESTIMATOR if has_estimator() else PJRT) if use_tpu else EAGER
        why = {
            ESTIMATOR: f"{tensorflow} has TPUEstimator, which drives a TPU v2 to v4",
            PJRT: f"{tensorflow} can't drive a TPU, and jax drives v5e and later",
            EAGER: "it runs on CPUs and GPUs",
        }
        logging.info("Engine %s: %s.", chosen, why[chosen])
    if chosen == ESTIMATOR and not has_estimator():
        raise UserError(
            f"--engine={ESTIMATOR} needs tf.estimator, and {tensorflow} has none: make an "
            "environment with Python 3.11 and TensorFlow 2.15, or leave out --engine."
        )
    if chosen == EAGER and use_tpu:
        raise UserError(
            f"--engine={EAGER} is for CPUs and GPUs: leave it out, or leave out --use_tpu."
        )
    if settings.distribution and chosen != EAGER:
        wanted = "--use_tpu" if use_tpu else f"--engine={chosen}"
        raise UserError(
            f"--distribution={settings.distribution} is for GPUs and CPUs, and {wanted} takes all "
            "cores of a TPU by itself: leave out one of the two."
        )
    return chosen


def find_device(settings: DeviceSettings) -> Device:
    """Finds the TPU or the devices that are wanted, or else this machine's CPU or GPU.

    Raises:
        UserError: the engine can't run here; there is no such TPU, it doesn't answer, or it has
            another number of cores; the devices of --distribution can't be had.
    """
    engine = choose_engine(settings)
    if engine == EAGER:
        return Device(engine, distribution=find_distribution(settings.distribution))
    if engine == PJRT:
        return _find_jax_cores(settings.tpu)
    if not settings.tpu.use_tpu:
        return Device(engine)
    return _find_tpu(settings.tpu)


def _find_jax_cores(tpu: TpuSettings) -> Device:
    # jax is there for this engine alone.
    from speech.tpu.cores import host_cores, tpu_cores

    if tpu.remote:
        raise UserError(
            f"--engine={PJRT} drives the TPU of the machine that it runs on, and --tpu_name="
            f"{tpu.name} is another one: leave it out, and run this on the TPU VM."
        )
    found = tpu_cores() if tpu.use_tpu else host_cores()
    if tpu.use_tpu:
        _check_cores(tpu, found.count)
    return Device(PJRT, cores=found.count, hosts=found.hosts, jax_cores=found)


def _find_tpu(tpu: TpuSettings) -> Device:
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
    return Device(ESTIMATOR, cluster, found.num_cores, found.num_hosts)


def _check_cores(tpu: TpuSettings, found: int) -> None:
    if not found:
        raise UserError(
            f"TensorFlow {tf.__version__} finds no TPU cores (--tpu_name={tpu.name}). Leave out "
            "--use_tpu to run on this machine's CPU or GPU. On a TPU VM keep the TensorFlow that "
            "came with it, since PyPI's wheels can't drive a TPU. On TPU v5e and later "
            "tf.estimator is known to fail (github.com/tensorflow/tensorflow, issue 90807): use "
            "--engine=pjrt, which needs Python 3.12 or newer and pip install -e '.[tpu]'."
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
