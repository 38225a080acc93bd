"""Shards -> checkpoints.

  python training.py --use_tpu
  python training.py --train_data=data/train.tfrecords.* --dev_data=data/dev.tfrecords.*

Sizes and lengths of the data come from the shards' index. The same command run again continues
from the last checkpoint.
"""

import math
from typing import Any

from absl import flags, logging

import constants
import model
from speech import augment, command_line, dataset, estimator, networks
from speech.config import (
    ModelConfig,
    TrainingConfig,
    check_same_front_end,
    define_network_flags,
    network_config,
    save_config,
)
from speech.progress import ProgressHook
from speech.records import ShardSet, find_shards
from utils import UserError

FLAGS = flags.FLAGS


def define_flags() -> None:
    flags.DEFINE_string(
        "train_data", constants.TRAIN_DATA, "Training shards, a glob or gs:// glob."
    )
    flags.DEFINE_string("dev_data", constants.DEV_DATA, "Development shards; empty for none.")
    flags.DEFINE_string("model_dir", constants.MODEL_DIR, "Checkpoints, config and curves.")
    flags.DEFINE_integer(
        "train_batch_size", constants.TRAIN_BATCH_SIZE, "Over all cores.", lower_bound=1
    )
    flags.DEFINE_integer(
        "eval_batch_size", constants.EVAL_BATCH_SIZE, "Over all cores.", lower_bound=1
    )
    flags.DEFINE_float(
        "max_epochs", constants.MAX_EPOCHS, "Passes over the training data.", lower_bound=0
    )
    flags.DEFINE_integer(
        "train_steps", None, "Steps in all, instead of --max_epochs.", lower_bound=1
    )
    flags.DEFINE_integer(
        "eval_steps",
        None,
        "Steps between two looks at the development data; default: an epoch.",
        lower_bound=1,
    )
    flags.DEFINE_float(
        "learning_rate", constants.LEARNING_RATE, "Of Adam, at the start.", lower_bound=0
    )
    flags.DEFINE_float(
        "learning_rate_decay_factor",
        constants.LEARNING_RATE_DECAY_FACTOR,
        "The learning rate is multiplied by it after every epoch.",
        lower_bound=0,
    )
    flags.DEFINE_float(
        "clip_gradients",
        constants.CLIP_GRADIENTS,
        "Largest norm of the gradient; 0: unclipped.",
        lower_bound=0,
    )
    flags.DEFINE_multi_string(
        "augment", [], "Augmentation, e.g. time_mask[p=1,n=2,size=100]; see speech/augment.py."
    )
    flags.DEFINE_integer(
        "iterations_per_loop",
        constants.ITERATIONS_PER_LOOP,
        "Steps a TPU takes by itself; --save_checkpoints_steps is a multiple of it.",
        lower_bound=1,
    )
    flags.DEFINE_integer(
        "save_checkpoints_steps",
        constants.SAVE_CHECKPOINTS_STEPS,
        "Steps between two checkpoints.",
        lower_bound=1,
    )
    flags.DEFINE_integer(
        "keep_checkpoint_max", constants.KEEP_CHECKPOINT_MAX, "Checkpoints kept.", lower_bound=1
    )
    flags.DEFINE_integer(
        "shuffle_buffer_size",
        None,
        "Utterances shuffled at a time; default: as many as fit into "
        f"{constants.SHUFFLE_BUFFER_BYTES / 2**30:g} GiB.",
        lower_bound=1,
    )
    flags.DEFINE_integer("random_seed", constants.RANDOM_SEED, "Of weights, order and dropout.")
    define_network_flags()
    estimator.define_tpu_flags()
    command_line.define_logging_flag()


def model_config(train: ShardSet, batching: dataset.Batching) -> ModelConfig:
    """The model and training that flags and shards ask for."""
    settings = train.index.settings
    steps_per_epoch = dataset.steps_per_epoch(train.index, batching)
    if not steps_per_epoch:
        raise UserError(
            f"--train_batch_size={FLAGS.train_batch_size} is more than the {train.index.records} "
            f"utterances of {FLAGS.train_data}: choose a smaller one, or prepare more."
        )
    for specification in FLAGS.augment:
        augment.parse(specification)  # a bad one is told of before anything is written
    network = network_config(FLAGS, settings.front_end, settings.alphabet)
    training = TrainingConfig(
        train_batch_size=FLAGS.train_batch_size,
        steps_per_epoch=steps_per_epoch,
        learning_rate=FLAGS.learning_rate,
        learning_rate_decay_factor=FLAGS.learning_rate_decay_factor,
        clip_gradients=FLAGS.clip_gradients,
        dropout=FLAGS.dropout,
        augment=tuple(FLAGS.augment),
        bfloat16=FLAGS.bfloat16,
        random_seed=FLAGS.random_seed,
    )
    return ModelConfig(settings.front_end, settings.alphabet, network, training)


def run_settings() -> estimator.RunSettings:
    return estimator.RunSettings(
        model_dir=FLAGS.model_dir,
        train_batch_size=FLAGS.train_batch_size,
        eval_batch_size=FLAGS.eval_batch_size,
        iterations_per_loop=FLAGS.iterations_per_loop,
        save_checkpoints_steps=FLAGS.save_checkpoints_steps,
        keep_checkpoint_max=FLAGS.keep_checkpoint_max,
        random_seed=FLAGS.random_seed,
    )


def train_and_look(
    trainer: Any,
    training: TrainingConfig,
    batching: dataset.Batching,
    train: ShardSet,
    dev: ShardSet | None,
) -> None:
    """Trains to the last step; looks at the development data on the way."""
    last_step = FLAGS.train_steps
    if last_step is None:
        last_step = math.ceil(FLAGS.max_epochs * training.steps_per_epoch)
    look = FLAGS.eval_steps or training.steps_per_epoch
    step = estimator.steps_of(estimator.latest_checkpoint(FLAGS.model_dir))
    if step >= last_step:
        logging.info("Trained for %d of %d steps: nothing to do.", step, last_step)
    elif step:
        logging.info("Continues from the checkpoint of step %d, to step %d.", step, last_step)
    while step < last_step:
        target = min(last_step, (step // look + 1) * look)
        batches = dataset.training_input_fn(
            train,
            batching,
            training.random_seed,
            FLAGS.shuffle_buffer_size,
            training.augment,
            start_step=step,
        )
        hook = ProgressHook(training, train.index.audio_seconds, last_step)
        with estimator.explained_errors(FLAGS.model_dir):
            trainer.train(batches, max_steps=target, hooks=[hook])
            step = target
            if dev:
                looking = dataset.Batching(FLAGS.eval_batch_size, batching.static)
                evaluate(trainer, dev, looking, training)


def evaluate(
    trainer: Any, dev: ShardSet, batching: dataset.Batching, training: TrainingConfig
) -> None:
    metrics = trainer.evaluate(
        dataset.evaluation_input_fn(dev, batching, for_prediction=False),
        steps=dataset.evaluation_steps(dev.index, batching),
    )
    step = metrics["global_step"]
    logging.info(
        "epoch %.2f  step %d  dev loss %.2f",
        step / training.steps_per_epoch,
        step,
        metrics["ctc_loss"],
    )
    if metrics["unalignable_utterances"]:
        logging.warning(
            "%d of the %d utterances have more labels than the network has outputs and are in no "
            "loss: lower --stride_size.",
            metrics["unalignable_utterances"],
            dev.index.records,
        )


def main() -> None:
    estimator.quieten(FLAGS.logging)
    tpu = estimator.tpu_settings(FLAGS)
    estimator.check_batch_sizes(
        tpu, train_batch_size=FLAGS.train_batch_size, eval_batch_size=FLAGS.eval_batch_size
    )
    estimator.check_paths(
        tpu, train_data=FLAGS.train_data, dev_data=FLAGS.dev_data, model_dir=FLAGS.model_dir
    )
    train = find_shards(FLAGS.train_data)
    dev = find_shards(FLAGS.dev_data) if FLAGS.dev_data else None
    device = estimator.find_device(tpu)
    batching = dataset.Batching(FLAGS.train_batch_size, device.is_tpu, device.hosts)
    config = model_config(train, batching)
    if dev:
        settings = dev.index.settings
        check_same_front_end(
            config, settings.front_end, settings.alphabet, FLAGS.dev_data, FLAGS.model_dir
        )
    model_fn = model.model_fn_builder(config, FLAGS.model_dir)
    trainer = estimator.build(model_fn, run_settings(), device)
    estimator.check_writable(FLAGS.model_dir)
    trained = estimator.latest_checkpoint(FLAGS.model_dir) is not None
    save_config(FLAGS.model_dir, config, trained)
    logging.info(
        "%s: %d utterances, %.2f hours, %d steps an epoch",
        FLAGS.train_data,
        train.index.records,
        train.index.audio_seconds / 3600,
        config.training.steps_per_epoch,
    )
    for line in networks.table(networks.sketch(config.network)):
        logging.info("%s", line)
    dataset.log_reading(train.index, batching, FLAGS.shuffle_buffer_size)
    train_and_look(trainer, config.training, batching, train, dev)
    logging.info("The model is in %s", FLAGS.model_dir)


if __name__ == "__main__":
    define_flags()
    command_line.run(main)
