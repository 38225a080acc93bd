"""TPUEstimator on a TPU, or on whatever this machine has."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import tensorflow as tf
from absl import flags

import constants
from utils import UserError

_tpu = tf.compat.v1.estimator.tpu


@dataclass(frozen=True)
class TpuSettings:
    """Which TPU to use, if any."""

    use_tpu: bool
    name: str  # of the TPU, or its grpc:// address; local: of this TPU VM
    zone: str | None  # of a TPU that isn't local
    project: str | None  # of a TPU that isn't local
    cores: int  # the batch is divided among


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
    flags.DEFINE_integer(
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
    except tf.estimator.NanLossDuringTrainingError:
        raise UserError(
            f"The loss is no longer a number; the last checkpoint in {model_dir} is from before. "
            "Lower --learning_rate or --clip_gradients and run the same command again."
        ) from None
    except tf.errors.DataLossError as error:
        raise UserError(
            f"A file is damaged: {error.message} Prepare or copy the shards again; if it is a "
            f"checkpoint in {model_dir}, remove it."
        ) from None
    except (
        tf.errors.NotFoundError,
        tf.errors.PermissionDeniedError,
        tf.errors.UnavailableError,
    ) as error:
        raise UserError(
            f"A file can't be reached: {_first_line(error.message)} See that the bucket or folder "
            "is there and yours to use, then run the same command again: it continues from the "
            f"last checkpoint in {model_dir}."
        ) from None
    except tf.errors.ResourceExhaustedError as error:
        raise UserError(
            f"Out of memory or disk: {error.message[:300]} Lower --train_batch_size or "
            "--eval_batch_size, or make room."
        ) from None


def _first_line(message: str) -> str:
    """What TensorFlow says of an error, without the graph's nodes that it lists below."""
    return message.partition("\n")[0].strip()


def quieten(level: str) -> None:
    """Of TensorFlow's own words only errors are shown, unless the level is debug."""
    tf.get_logger().setLevel("DEBUG" if level == "debug" else "ERROR")


def latest_checkpoint(model_dir: str) -> str | None:
    """Path of a model directory's latest checkpoint."""
    return tf.train.latest_checkpoint(model_dir)


def steps_of(checkpoint: str | None) -> int:
    """Steps that a checkpoint was trained for; none are 0."""
    return int(tf.train.load_variable(checkpoint, "global_step")) if checkpoint else 0


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


def build(model_fn: Callable[..., Any], run: RunSettings, tpu: TpuSettings) -> Any:
    """A TPUEstimator.

    Raises:
        UserError: a batch size that the cores don't divide, or no TPU where one is asked for.
    """
    if tpu.use_tpu:
        _check_batch_sizes(run, tpu.cores)
    config = _tpu.RunConfig(
        cluster=_cluster(tpu) if tpu.use_tpu else None,
        model_dir=run.model_dir,
        tf_random_seed=run.random_seed,
        save_checkpoints_steps=run.save_checkpoints_steps,
        keep_checkpoint_max=run.keep_checkpoint_max,
        log_step_count_steps=None,
        tpu_config=_tpu.TPUConfig(
            iterations_per_loop=run.iterations_per_loop,
            per_host_input_for_training=_tpu.InputPipelineConfig.PER_HOST_V2,
        ),
    )
    return _tpu.TPUEstimator(
        model_fn=model_fn,
        config=config,
        use_tpu=tpu.use_tpu,
        # It wants one even if it is never to train.
        train_batch_size=run.train_batch_size or run.eval_batch_size,
        eval_batch_size=run.eval_batch_size,
        predict_batch_size=run.eval_batch_size,
        export_to_tpu=False,
    )


def hosts(tpu: TpuSettings) -> int:
    """Machines that feed the TPU, each with a part of the batch; 1 without a TPU.

    Raises:
        UserError: no TPU where one is asked for.
    """
    return int(_cluster(tpu).get_tpu_system_metadata().num_hosts) if tpu.use_tpu else 1


def _check_batch_sizes(run: RunSettings, cores: int) -> None:
    for flag in ("train_batch_size", "eval_batch_size"):
        size = getattr(run, flag)
        if size and size % cores:
            raise UserError(
                f"--{flag}={size} can't be divided among {cores} cores: choose a multiple of "
                f"{cores}, or give --num_tpu_cores."
            )


def _cluster(tpu: TpuSettings) -> Any:
    try:
        cluster = tf.distribute.cluster_resolver.TPUClusterResolver(tpu.name, tpu.zone, tpu.project)
    except Exception as error:  # whatever the cloud's client raises
        raise UserError(
            f"The TPU {tpu.name} can't be found: {error}. Check --tpu_name, --tpu_zone and "
            "--gcp_project."
        ) from None
    # The estimator asks the same question, but only when it is about to build a graph.
    cores = cluster.get_tpu_system_metadata().num_cores
    if not cores:
        raise UserError(
            f"TensorFlow {tf.__version__} finds no TPU cores (--tpu_name={tpu.name}). Leave out "
            "--use_tpu to run on this machine's CPU or GPU. On a TPU VM keep the TensorFlow that "
            "came with it, since PyPI's wheels can't drive a TPU. TPU v5e and later need the PJRT "
            "runtime, where tf.estimator is known to fail (github.com/tensorflow/tensorflow, issue "
            "90807): use a v2, v3 or v4."
        )
    if cores != tpu.cores:
        raise UserError(
            f"The TPU {tpu.name} has {cores} cores: give --num_tpu_cores={cores} instead of "
            f"{tpu.cores}, and batch sizes that they divide."
        )
    return cluster
