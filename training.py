"""Shards -> checkpoints.

  python training.py --use_tpu
  python training.py --train_data=data/train.tfrecords.* --dev_data=data/dev.tfrecords.*

Sizes and lengths of the data come from the shards' index. The same command run again continues
from the last checkpoint, as if it had never been stopped.
"""

import functools
import signal

from absl import flags

import model
from speech.engines import devices, errors
from speech.engines.stopping import Stopping
from speech.engines.tpu_estimator import TpuEstimatorEngine
from speech.flags.training import define_training_flags, training_from_flags
from speech.system import command_line
from speech.training import loop
from speech.training.settings import TrainingSettings
from speech.training.task import Task, find_data, make_task

FLAGS = flags.FLAGS


def define_flags() -> None:
    define_training_flags()


def prepare(settings: TrainingSettings) -> tuple[Task, TpuEstimatorEngine]:
    """Finds the data and the device, and checks all settings before anything is trained."""
    tpu, run, data = settings.tpu, settings.run, settings.data
    devices.check_batch_sizes(
        tpu,
        train_batch_size=settings.optimisation.train_batch_size,
        eval_batch_size=run.eval_batch_size,
    )
    devices.check_paths(
        tpu,
        train_data=data.train_data,
        dev_data=data.dev_data,
        model_dir=run.model_dir,
        init_checkpoint=settings.start.init_checkpoint or "",
    )
    shards = find_data(data)
    device = devices.find_device(tpu, settings.distribution)
    task = make_task(settings, shards, device)
    engine = TpuEstimatorEngine(
        functools.partial(
            model.model_fn_builder, task.config, run.model_dir, described=settings.describe_steps
        ),
        run,
        device,
        task.initial_values,
        task.shared_settings(),
    )
    return task, engine


def main() -> None:
    errors.quieten(FLAGS.logging)
    settings = training_from_flags(FLAGS)
    stopping = Stopping()
    with stopping.listening():
        task, engine = prepare(settings)
        loop.run(task, engine, stopping)
        engine.close()
    if stopping.signal == signal.SIGINT:
        raise KeyboardInterrupt


if __name__ == "__main__":
    define_flags()
    command_line.run(main)
