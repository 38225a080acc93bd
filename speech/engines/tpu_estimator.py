"""TPUEstimator on a TPU, or on whatever this machine has."""

import contextlib
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import tensorflow as tf
from absl import flags, logging

import constants
from speech.engines import checkpoints
from speech.engines.distributed import DistributedEstimator, replica_model_fn
from speech.engines.replicas import Replicas, find_replicas
from speech.system import command_line, storage
from utils import UserError

_tpu = tf.compat.v1.estimator.tpu

# How long a TPU elsewhere may take to answer. TensorFlow itself would try for a day, and silently.
CONNECT_SECONDS = 10.0


@dataclass(frozen=True)
class TpuSettings:
    """Which TPU to use, if any."""

    use_tpu: bool
    name: str  # of the TPU, or its grpc:// address; local: of this TPU VM
    zone: str | None  # of a TPU that isn't local
    project: str | None  # of a TPU that isn't local
    cores: int  # the batch is divided among

    @property
    def remote(self) -> bool:
        """Whether another machine than this one feeds the TPU and writes its checkpoints."""
        here = urlsplit(self.name).hostname in ("localhost", "127.0.0.1")  # of grpc://...
        return self.use_tpu and self.name != "local" and not here


def define_tpu_flags() -> None:
    """The flags that training and evaluation share; see `TpuSettings`."""
    flags.DEFINE_bool("use_tpu", False, "Run on a TPU instead of this machine's CPU or GPU.")
    flags.DEFINE_string(
        "tpu_name",
        constants.TPU_NAME,
        "The TPU's name or grpc:// address; local on a TPU VM.",
    )
    flags.DEFINE_string("tpu_zone", None, "Zone of a TPU that isn't local, e.g. us-central1-b.")
    flags.DEFINE_string("gcp_project", None, "Project of a TPU that isn't local.")
    command_line.define_integer(
        "num_tpu_cores", constants.NUM_TPU_CORES, "Cores of the TPU.", lower_bound=1
    )


def tpu_settings(values: Any) -> TpuSettings:
    """The settings of parsed flags; values: absl's FLAGS."""
    return TpuSettings(
        values.use_tpu,
        values.tpu_name,
        values.tpu_zone,
        values.gcp_project,
        values.num_tpu_cores,
    )


@contextlib.contextmanager
def explained_errors(model_dir: str) -> Iterator[None]:
    """Turns what a person can mend among TensorFlow's errors into a UserError."""
    try:
        yield
    except tf.errors.DataLossError as error:
        raise UserError(
            f"A file is damaged: {error.message} Prepare or copy the shards again; if it is a "
            f"checkpoint in {model_dir}, remove it."
        ) from None
    except tf.errors.NotFoundError as error:
        if "not found in checkpoint" in error.message:
            raise UserError(
                f"A checkpoint in {model_dir} lacks a variable of this network: "
                f"{_first_line(error.message)}. Another version of this program made it, or "
                "another network: train anew in another --model_dir."
            ) from None
        raise _unreachable(error, model_dir) from None
    except (
        tf.errors.PermissionDeniedError,
        tf.errors.UnavailableError,
    ) as error:
        raise _unreachable(error, model_dir) from None
    except tf.errors.ResourceExhaustedError as error:
        raise UserError(
            f"Out of memory or disk: {error.message[:300]} Lower --train_batch_size or "
            "--eval_batch_size, or make room."
        ) from None


def _unreachable(error: tf.errors.OpError, model_dir: str) -> UserError:
    return UserError(
        f"A file can't be reached: {_first_line(error.message)}. See that the bucket or folder is "
        "there and yours to use, then run the same command again: it continues from the last "
        f"checkpoint in {model_dir}."
    )


def _first_line(message: str) -> str:
    """What TensorFlow says of an error, without a bucket's whole answer and the graph's nodes."""
    return message.partition("\n")[0].partition(" with body")[0].strip().rstrip(".")


def quieten(level: str) -> None:
    """Limits TensorFlow's own messages to errors, unless the level is debug."""
    tf.get_logger().setLevel("DEBUG" if level == "debug" else "ERROR")
    tf.get_logger().propagate = False  # absl's handler would write each a second time


@dataclass(frozen=True)
class RunSettings:
    """How an estimator runs; nothing in it changes what a model is."""

    model_dir: str
    eval_batch_size: int  # over all cores, also for prediction
    train_batch_size: int | None = None  # over all cores; None: the estimator doesn't train
    iterations_per_loop: int = constants.ITERATIONS_PER_LOOP
    save_checkpoints_steps: int = constants.SAVE_CHECKPOINTS_STEPS
    keep_checkpoint_max: int = constants.KEEP_CHECKPOINT_MAX
    random_seed: int = constants.RANDOM_SEED


@dataclass(frozen=True)
class Device:
    """What an estimator runs on, as `find_device` has found it."""

    cluster: Any = None  # a TPUClusterResolver; None: this machine's CPU or GPU
    cores: int = 1  # the batch is divided among
    hosts: int = 1  # machines that feed the cores, each with a part of the batch
    replicas: Replicas | None = None  # that train without a TPU; None: one device does

    @property
    def is_tpu(self) -> bool:
        return self.cluster is not None


def check_paths(tpu: TpuSettings, **paths: str) -> None:
    """Checks that the TPU's host sees what it is to read and write, before the TPU is looked for.

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


def find_device(tpu: TpuSettings, distribution: str | None = None) -> Device:
    """The TPU or the replicas that are asked for, or else this machine's CPU or GPU.

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
            f"The TPU {tpu.name} can't be found: {_first_line(str(error))}. Check --tpu_name, "
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
            f"The TPU {tpu.name} doesn't answer: {_first_line(str(error))}. Check --tpu_name, and "
            "that the TPU runs and this machine is in its network."
        ) from None
    if not found.num_cores:
        raise UserError(
            f"TensorFlow {tf.__version__} finds no TPU cores (--tpu_name={tpu.name}). Leave out "
            "--use_tpu to run on this machine's CPU or GPU. On a TPU VM keep the TensorFlow that "
            "came with it, since PyPI's wheels can't drive a TPU. TPU v5e and later need the PJRT "
            "runtime, where tf.estimator is known to fail (github.com/tensorflow/tensorflow, issue "
            "90807): use a v2, v3 or v4."
        )
    if found.num_cores != tpu.cores:
        raise UserError(
            f"The TPU {tpu.name} has {found.num_cores} cores: give "
            f"--num_tpu_cores={found.num_cores} instead of {tpu.cores}, and batch sizes that they "
            "divide."
        )
    return Device(cluster, found.num_cores, found.num_hosts)


def check_batch_sizes(tpu: TpuSettings, **sizes: int) -> None:
    """Checks batch sizes over all cores; without a TPU any will do.

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


def check_writable(model_dir: str) -> None:
    """Writes and removes a file, as TensorFlow will do with checkpoints.

    It reaches a bucket by ways and credentials of its own, which needn't be those of
    speech/system/storage.py.

    Raises:
        UserError: it can't.
    """
    checkpoints.refuse_pattern(model_dir)
    path = storage.join(model_dir, ".writable")
    try:
        if not storage.in_bucket(model_dir):  # which needs no folders
            tf.io.gfile.makedirs(model_dir)
        with tf.io.gfile.GFile(path, "w") as file:
            file.write("This file may be removed.\n")
        tf.io.gfile.remove(path)
    except tf.errors.OpError as error:
        remedy = "Choose another folder, or make room and see that you may write there"
        if storage.in_bucket(model_dir):
            remedy = (
                "Check the bucket's name, log in (gcloud auth application-default login), or give "
                "this account the role Storage Object Admin on the bucket"
            )
        raise UserError(
            f"TensorFlow can't write into --model_dir={model_dir}: {_first_line(error.message)}. "
            f"{remedy}."
        ) from None


def build(
    model_fn: Callable[..., Any], run: RunSettings, device: Device, warm_start: Any = None
) -> Any:
    """A TPUEstimator.

    Args:
        warm_start: tf.estimator.WarmStartSettings of variables that begin with another model's
            values; None for none. A checkpoint in the model's folder goes first.

    Raises:
        UserError: a TPU couldn't save checkpoints when it is to.
    """
    config = _tpu.RunConfig(
        cluster=device.cluster,
        model_dir=run.model_dir,
        tf_random_seed=run.random_seed,
        save_checkpoints_steps=run.save_checkpoints_steps,
        keep_checkpoint_max=run.keep_checkpoint_max,
        log_step_count_steps=None,
        tpu_config=_tpu.TPUConfig(
            iterations_per_loop=_iterations_per_loop(run) if device.is_tpu else 1,
            per_host_input_for_training=_tpu.InputPipelineConfig.PER_HOST_V2,
        ),
    )
    estimator = _tpu.TPUEstimator(
        model_fn=model_fn,
        config=config,
        use_tpu=device.is_tpu,
        # It wants one even if it is never to train.
        train_batch_size=run.train_batch_size or run.eval_batch_size,
        eval_batch_size=run.eval_batch_size,
        predict_batch_size=run.eval_batch_size,
        export_to_tpu=False,
        warm_start_from=warm_start,
    )
    if device.replicas is None:
        return estimator
    trainer = _distributed(model_fn, run, device.replicas, warm_start)
    return DistributedEstimator(trainer, estimator, device.replicas.coordinator)


def _distributed(
    model_fn: Callable[..., Any], run: RunSettings, replicas: Replicas, warm_start: Any
) -> tf.estimator.Estimator:
    assert run.train_batch_size
    # The TPU's config, because it takes a master; nothing else in it is of a TPU.
    config = _tpu.RunConfig(
        master=replicas.master,
        model_dir=run.model_dir,
        tf_random_seed=run.random_seed,
        save_checkpoints_steps=run.save_checkpoints_steps if replicas.chief else None,
        keep_checkpoint_max=run.keep_checkpoint_max,
        save_summary_steps=0,
        log_step_count_steps=None,
        session_config=replicas.session_config,
        train_distribute=replicas.strategy,
    )
    with tf.Graph().as_default():  # as the strategy was made: it is copied here
        return tf.estimator.Estimator(
            replica_model_fn(model_fn),
            config=config,
            params={"batch_size": run.train_batch_size // replicas.count, "use_tpu": False},
            warm_start_from=warm_start,
        )


def _iterations_per_loop(run: RunSettings) -> int:
    """Steps that a TPU takes by itself between two checkpoints, or in a part of that time.

    Nothing is saved within a loop. If loops and checkpoints didn't fit, TensorFlow would save at
    the end of the next loop, later than was asked for. The looks at the development data and the
    last step need no such care: a loop that would go beyond them is cut short.
    """
    save, loop = run.save_checkpoints_steps, run.iterations_per_loop
    if loop > save:
        logging.info(
            "A TPU takes %d steps by itself instead of --iterations_per_loop=%d, since checkpoints "
            "are saved in between (--save_checkpoints_steps=%d).",
            save,
            loop,
            save,
        )
        return save
    if save % loop:
        fitting = max(steps for steps in range(1, loop) if save % steps == 0)
        raise UserError(
            f"--save_checkpoints_steps={save} is no multiple of --iterations_per_loop={loop}, and "
            f"a TPU saves only between two loops: give --save_checkpoints_steps="
            f"{save + -save % loop} or --iterations_per_loop={fitting}."
        )
    return loop
