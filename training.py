"""Shards -> checkpoints.

  python training.py --use_tpu
  python training.py --train_data=data/train.tfrecords.* --dev_data=data/dev.tfrecords.*

Sizes and lengths of the data come from the shards' index. The same command run again continues
from the last checkpoint, as if it had never been stopped.
"""

import signal

from absl import flags

import model
from speech.engines import choice, devices
from speech.engines.engine import Engine
from speech.engines.stopping import Stopping
from speech.flags import recipes
from speech.flags.training import define_training_flags, training_from_flags
from speech.system import command_line, tensorflow_import
from speech.training import loop
from speech.training.settings import TrainingSettings
from speech.training.task import Task, find_data, make_task

FLAGS = flags.FLAGS


def define_flags() -> None:
    define_training_flags()
    recipes.define_recipe_flag()


def prepare(settings: TrainingSettings) -> tuple[Task, Engine]:
    """Finds the data and the device, and checks all settings before anything is trained."""
    tpu, run, data = settings.device.tpu, settings.run, settings.data
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
    device = devices.find_device(settings.device)
    task = make_task(settings, shards, device)
    engine = choice.make_engine(
        device,
        task.config,
        run,
        model.model_fn_builder,
        task.initial_values,
        task.shared_settings(),
        settings.describe_steps,
    )
    return task, engine


def main() -> None:
    tensorflow_import.quieten(FLAGS.logging)
    recipes.apply_recipe(FLAGS)
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
