"""Shards -> checkpoints.

  python training.py --use_tpu
  python training.py --train_data=data/train.tfrecords.* --dev_data=data/dev.tfrecords.*

Sizes and lengths of the data come from the shards' index. The same command run again continues
from the last checkpoint, as if it had never been stopped.
"""

import math
import signal
from dataclasses import asdict, dataclass, replace
from typing import Any

from absl import flags, logging

import constants
import model
from speech.augmentation import features
from speech.engines import checkpoints, distributed, tpu_estimator
from speech.engines.stopping import StopHook, Stopping
from speech.input_pipeline.batching import Batching, log_reading, steps_per_epoch
from speech.input_pipeline.training_input import TrainingInput, training_input_fn, utterance_ids
from speech.networks import registry
from speech.networks.config import (
    SCHEDULES,
    ModelConfig,
    TrainingConfig,
    check_same_front_end,
    continued,
    define_network_flags,
    network_config,
    save_config,
)
from speech.shards.shard_set import ShardSet, find_shards
from speech.system import command_line, storage
from speech.system.lock import Lock, exclusive
from speech.training import curves, dev_evaluation, tensorboard, transfer
from speech.training.bad_steps import BadStepHook
from speech.training.early_stopping import Patience, Verdict, verdict
from speech.training.history import History
from speech.training.progress import HistoryListener, ProgressHook, Recorder
from utils import UserError

FLAGS = flags.FLAGS


def define_flags() -> None:
    flags.DEFINE_string(
        "train_data", constants.TRAIN_DATA, "Training shards, a glob or gs:// glob."
    )
    flags.DEFINE_string("dev_data", constants.DEV_DATA, "Development shards; empty for none.")
    flags.DEFINE_string("model_dir", constants.MODEL_DIR, "Checkpoints, config and curves.")
    command_line.define_batch_size("train_batch_size", constants.TRAIN_BATCH_SIZE)
    command_line.define_batch_size("eval_batch_size", constants.EVAL_BATCH_SIZE)
    command_line.define_number(
        "max_epochs",
        constants.MAX_EPOCHS,
        "Passes over the training data.",
        lower_bound=0,
        upper_bound=constants.MOST_EPOCHS,
    )
    command_line.define_integer(
        "train_steps",
        None,
        "Steps in all, instead of --max_epochs.",
        lower_bound=1,
    )
    command_line.define_integer(
        "eval_steps",
        None,
        "Steps between two looks at the development data; default: an epoch.",
        lower_bound=1,
    )
    command_line.define_choice(
        "best_by",
        "wer",
        dev_evaluation.MEASURES,
        "By what of the development data a checkpoint is kept as the best one.",
    )
    command_line.define_number(
        "learning_rate", constants.LEARNING_RATE, "Of Adam, at its highest.", lower_bound=0
    )
    command_line.define_choice(
        "learning_rate_schedule",
        constants.LEARNING_RATE_SCHEDULE,
        SCHEDULES,
        "How the learning rate falls: by --learning_rate_decay_factor after every epoch, along a "
        "cosine to 0 at the last step, or not at all.",
    )
    command_line.define_integer(
        "warmup_steps",
        0,
        "Steps in which the learning rate rises from 0.",
        lower_bound=0,
    )
    command_line.define_number(
        "learning_rate_decay_factor",
        constants.LEARNING_RATE_DECAY_FACTOR,
        "The learning rate is multiplied by it after every epoch (exponential).",
        lower_bound=0,
    )
    define_patience_flags()
    flags.DEFINE_string(
        "average_checkpoints",
        None,
        "At the end also average the last checkpoints: their number, as in 5, or a weight for "
        "each, newest first, as in 3,2,1. eval.py --checkpoint=average takes it.",
    )
    command_line.define_number(
        "clip_gradients",
        constants.CLIP_GRADIENTS,
        "Largest norm of the gradient; 0: unclipped.",
        lower_bound=0,
    )
    flags.DEFINE_multi_string(
        "augment",
        [],
        "Augmentation of features, e.g. time_mask[p=0.5,n=2,size=100~50] or specaugment; "
        "see docs/augmentation.md.",
    )
    flags.DEFINE_bool(
        "sorta_grad", False, "Short utterances first in the first epoch (arXiv 1512.02595)."
    )
    command_line.define_integer(
        "max_bad_steps",
        constants.MAX_BAD_STEPS,
        "Steps whose loss isn't finite that may be skipped; one more ends the training.",
        lower_bound=0,
    )
    command_line.define_integer(
        "iterations_per_loop",
        constants.ITERATIONS_PER_LOOP,
        "Steps a TPU takes by itself; --save_checkpoints_steps is a multiple of it.",
        lower_bound=1,
    )
    command_line.define_integer(
        "save_checkpoints_steps",
        constants.SAVE_CHECKPOINTS_STEPS,
        "Steps between two checkpoints.",
        lower_bound=1,
    )
    command_line.define_integer(
        "keep_checkpoint_max",
        constants.KEEP_CHECKPOINT_MAX,
        "Checkpoints kept.",
        lower_bound=1,
        upper_bound=constants.MOST_CHECKPOINTS,
    )
    command_line.define_integer(
        "shuffle_buffer_size",
        None,
        "Utterances shuffled at a time; default: as many as fit into "
        f"{constants.SHUFFLE_BUFFER_BYTES / 2**30:g} GiB.",
        lower_bound=1,
    )
    command_line.define_random_seed("Seed of weights, order and dropout.")
    flags.DEFINE_string(
        "init_checkpoint",
        None,
        "A trained model's folder, or a checkpoint: the new model begins with its variables.",
    )
    command_line.define_integer(
        "drop_layers", 0, "Last layers that aren't taken from --init_checkpoint.", lower_bound=0
    )
    define_network_flags()
    tpu_estimator.define_tpu_flags()
    distributed.define_distribution_flag()
    command_line.define_logging_flag()


def define_patience_flags() -> None:
    """Mozilla DeepSpeech's names, meanings and defaults."""
    flags.DEFINE_bool("early_stop", False, "Stop when the development data's loss gets no better.")
    command_line.define_number(
        "es_epochs",
        constants.ES_EPOCHS,
        "Epochs without a better loss after which training stops.",
        lower_bound=0,
    )
    command_line.define_number(
        "es_min_delta",
        constants.ES_MIN_DELTA,
        "By how much a loss must be lower to be better.",
        lower_bound=0,
    )
    flags.DEFINE_bool(
        "reduce_lr_on_plateau",
        False,
        "Lower the learning rate when the development data's loss gets no better.",
    )
    command_line.define_number(
        "plateau_epochs",
        constants.PLATEAU_EPOCHS,
        "Epochs without a better loss after which the learning rate is lowered.",
        lower_bound=0,
    )
    command_line.define_number(
        "plateau_reduction",
        constants.PLATEAU_REDUCTION,
        "The learning rate is multiplied by it then.",
        lower_bound=0,
        upper_bound=1,
    )


def model_config(train: ShardSet, batching: Batching) -> ModelConfig:
    """The model and training that flags and shards ask for."""
    settings = train.index.settings
    epoch_steps = steps_per_epoch(train.index, batching)
    if not epoch_steps:
        raise UserError(
            f"--train_batch_size={FLAGS.train_batch_size} is more than the {train.index.records} "
            f"utterances of {FLAGS.train_data}: choose a smaller one, or prepare more."
        )
    # A bad one is told of before anything is written.
    features.parse_all(FLAGS.augment, settings.front_end)
    network = network_config(FLAGS, settings.front_end, settings.alphabet)
    training = TrainingConfig(
        train_batch_size=FLAGS.train_batch_size,
        steps_per_epoch=epoch_steps,
        learning_rate=FLAGS.learning_rate,
        learning_rate_schedule=FLAGS.learning_rate_schedule,
        learning_rate_decay_factor=FLAGS.learning_rate_decay_factor,
        warmup_steps=FLAGS.warmup_steps,
        train_steps=FLAGS.train_steps or math.ceil(FLAGS.max_epochs * epoch_steps),
        clip_gradients=FLAGS.clip_gradients,
        dropout=FLAGS.dropout,
        augment=tuple(FLAGS.augment),
        bfloat16=FLAGS.bfloat16,
        random_seed=FLAGS.random_seed,
    )
    return ModelConfig(
        settings.front_end, settings.alphabet, network, training, train.index.statistics
    )


def run_settings() -> tpu_estimator.RunSettings:
    return tpu_estimator.RunSettings(
        model_dir=FLAGS.model_dir,
        train_batch_size=FLAGS.train_batch_size,
        eval_batch_size=FLAGS.eval_batch_size,
        iterations_per_loop=FLAGS.iterations_per_loop,
        save_checkpoints_steps=FLAGS.save_checkpoints_steps,
        keep_checkpoint_max=FLAGS.keep_checkpoint_max,
        random_seed=FLAGS.random_seed,
    )


def beginning(config: ModelConfig, trained: bool) -> tuple[ModelConfig, Any]:
    """The config, and what a new model takes from --init_checkpoint, told in a table; or None."""
    if not FLAGS.init_checkpoint:
        if FLAGS.drop_layers:
            raise UserError(f"--drop_layers={FLAGS.drop_layers} wants an --init_checkpoint.")
        return config, None
    if trained:
        logging.info(
            "Training goes on in %s, and --init_checkpoint is not read again.", FLAGS.model_dir
        )
        return config, None
    source = transfer.find_source(FLAGS.init_checkpoint)
    taken = transfer.plan(source, config, FLAGS.drop_layers)
    logging.info("From %s:\n%s", source.checkpoint, taken.table())
    # Its first layers have learnt to read features that are normalised so.
    return replace(config, statistics=source.config.statistics), taken.settings()


def patience() -> Patience:
    return Patience(
        early_stop=FLAGS.early_stop,
        es_epochs=FLAGS.es_epochs,
        es_min_delta=FLAGS.es_min_delta,
        reduce_lr_on_plateau=FLAGS.reduce_lr_on_plateau,
        plateau_epochs=FLAGS.plateau_epochs,
        plateau_reduction=FLAGS.plateau_reduction,
    )


@dataclass(frozen=True)
class Task:
    """What is trained, on what, and where."""

    config: ModelConfig
    train: ShardSet
    batching: Batching
    device: tpu_estimator.Device
    warm_start: Any  # tf.estimator.WarmStartSettings; None where a model begins with its own values

    def trainer(self, learning_rate_scale: float) -> Any:
        """A TPUEstimator; raises UserError if a TPU couldn't save checkpoints when it is to."""
        model_fn = model.model_fn_builder(
            self.config, FLAGS.model_dir, learning_rate_scale, described=FLAGS.logging == "debug"
        )
        return tpu_estimator.build(model_fn, run_settings(), self.device, self.warm_start)

    def batches_from(self, step: int, with_ids: bool = False) -> Any:
        """The input_fn of the steps behind `step`."""
        settings = TrainingInput(
            self.train,
            self.batching.uncut if with_ids else self.batching,
            self.config.training.random_seed,
            start_step=step,
            shuffle_buffer_size=FLAGS.shuffle_buffer_size,
            augmentations=self.config.training.augment,
            sorta_grad=FLAGS.sorta_grad,
            with_ids=with_ids,
            train_steps=self.config.training.train_steps,
            stride=self.config.network.stride_size,
            statistics=self.config.statistics,
        )
        return training_input_fn(settings)

    def utterances_of(self, step: int) -> list[str]:
        """Ids of the utterances that step number `step` trains on; none of a pod's."""
        if self.batching.hosts > 1:
            return []
        return utterance_ids(self.batches_from(step - 1, True), FLAGS.train_batch_size)

    @property
    def crew(self) -> distributed.Crew | None:
        """The processes that train together; None: this one trains alone."""
        return self.device.replicas.crew if self.device.replicas else None

    def setup(self) -> dict[str, Any]:
        """What has to be the same in all of them."""
        return {
            "shards": self.train.index.corpus_digest,
            "init_checkpoint": FLAGS.init_checkpoint,
            "drop_layers": FLAGS.drop_layers,
            "statistics": self.config.statistics and asdict(self.config.statistics),
            "alphabet": self.config.alphabet.to_json(),
            **asdict(self.config.front_end),
            **asdict(self.config.network),
            **asdict(self.config.training),
            "shuffle_buffer_size": FLAGS.shuffle_buffer_size,
            "sorta_grad": FLAGS.sorta_grad,
        }


def train_and_look(
    task: Task, looker: dev_evaluation.Looker | None, stopping: Stopping, lock: Lock
) -> None:
    """Trains to the last step, or until it is stopped; looks at the development data on the way."""
    training = task.config.training
    last_step, interval = training.train_steps, FLAGS.eval_steps or training.steps_per_epoch
    step = checkpoints.steps_of(checkpoints.latest_checkpoint(FLAGS.model_dir))
    history = History(FLAGS.model_dir, step)
    if 0 < step < last_step:
        logging.info("Continues from the checkpoint of step %d, to step %d.", step, last_step)
    with tpu_estimator.explained_errors(FLAGS.model_dir):
        while not stopping.signal:
            lock.check()
            due = step > 0 and (step % interval == 0 or step == last_step)
            if looker and due and not history.looked_at(step):
                look_at(task, looker, history, step, stopping)
                continue
            judged = verdict(history.looks, patience(), training.steps_per_epoch)
            if step >= last_step or judged.stop:
                tell_end(step, last_step, judged)
                break
            target = min(last_step, (step // interval + 1) * interval)
            train(task, history, judged, step, target, stopping, lock)
            step = checkpoints.steps_of(checkpoints.latest_checkpoint(FLAGS.model_dir))
        if task.crew:
            task.crew.order(None)
        draw(history, training.steps_per_epoch)
        if FLAGS.average_checkpoints and not stopping.signal:
            average(task, looker, history, step, stopping)
    if stopping.signal:
        logging.info("Stopped at step %d. The same command continues from here.", step)


def train(
    task: Task,
    history: History,
    judged: Verdict,
    step: int,
    target: int,
    stopping: Stopping,
    lock: Lock,
) -> None:
    """Trains from step to step; a checkpoint is saved at the end, also if it is stopped."""
    training, scale = task.config.training, judged.learning_rate_scale
    recorder = Recorder(training, scale, history)
    if task.crew:
        task.crew.order(distributed.Order(step, target, scale, task.setup()))
    task.trainer(scale).train(
        task.batches_from(step),
        max_steps=target,
        hooks=[
            ProgressHook(recorder, task.train.index.audio_seconds, training.train_steps),
            BadStepHook(FLAGS.max_bad_steps, task.utterances_of),
            task.crew.stop_hook(stopping) if task.crew else StopHook(stopping),
        ],
        saving_listeners=[HistoryListener(recorder, lock)],
    )


def follow(task: Task, crew: distributed.Crew, stopping: Stopping) -> None:
    """Trains what the chief orders, until it orders the end."""
    with tpu_estimator.explained_errors(FLAGS.model_dir):
        while order := crew.next_order():
            checkpoint = checkpoints.latest_checkpoint(FLAGS.model_dir)
            order.check(task.setup(), checkpoints.steps_of(checkpoint), FLAGS.model_dir)
            task.trainer(order.learning_rate_scale).train(
                task.batches_from(order.step),
                max_steps=order.target,
                hooks=[
                    BadStepHook(FLAGS.max_bad_steps, task.utterances_of),
                    crew.stop_hook(stopping),
                ],
            )
    logging.info("Worker 0 has ended the training.")


def look_at(
    task: Task, looker: dev_evaluation.Looker, history: History, step: int, stopping: Stopping
) -> None:
    """Looks at the development data with the latest checkpoint, which is kept if it is the best."""
    training = task.config.training
    checkpoint = checkpoints.find_checkpoint(FLAGS.model_dir, checkpoints.LATEST)
    seen = looker.look(
        task.trainer(1.0), checkpoint, step, history.best, lambda: bool(stopping.signal)
    )
    if not seen:
        return
    logging.info("%s", dev_evaluation.told(seen.look, training.steps_per_epoch))
    if seen.look.best:
        checkpoints.keep_apart(checkpoint, storage.join(FLAGS.model_dir, checkpoints.BEST))
    folder = storage.join(FLAGS.model_dir, "dev")
    tensorboard.write_look(folder, seen.look, seen.samples, task.config.alphabet, checkpoint)
    history.add(seen.look)
    history.save()
    draw(history, training.steps_per_epoch)


def draw(history: History, steps_per_epoch: int) -> None:
    picture = curves.draw(history.training, history.looks, steps_per_epoch)
    storage.write_bytes(storage.join(FLAGS.model_dir, curves.CURVES_FILE), picture)


def average(
    task: Task,
    looker: dev_evaluation.Looker | None,
    history: History,
    step: int,
    stopping: Stopping,
) -> None:
    """Averages the last checkpoints, and tells what the average makes of the development data."""
    weights = checkpoints.parse_weights(FLAGS.average_checkpoints)
    weights = weights[: len(checkpoints.trained_checkpoints(FLAGS.model_dir))]
    if not sum(weights):
        logging.warning("There are no checkpoints to average yet.")
        return
    checkpoint = checkpoints.average(FLAGS.model_dir, weights)
    logging.info("The average of the last %d checkpoints: %s", len(weights), checkpoint)
    if looker:
        seen = looker.look(
            task.trainer(1.0), checkpoint, step, history.best, lambda: bool(stopping.signal)
        )
        if seen:
            logging.info("%s", dev_evaluation.told(seen.look, task.config.training.steps_per_epoch))


def tell_end(step: int, last_step: int, judged: Verdict) -> None:
    if judged.stop:
        logging.info(
            "Stops early at step %d: no better loss on the development data for %g epochs.",
            step,
            FLAGS.es_epochs,
        )
    else:
        logging.info("Trained for %d of %d steps.", step, last_step)


def check_average() -> None:
    """Tells of a bad --average_checkpoints before hours of training."""
    if not FLAGS.average_checkpoints:
        return
    wanted = len(checkpoints.parse_weights(FLAGS.average_checkpoints))
    if wanted > FLAGS.keep_checkpoint_max:
        raise UserError(
            f"--average_checkpoints={FLAGS.average_checkpoints} asks for {wanted} checkpoints, and "
            f"--keep_checkpoint_max={FLAGS.keep_checkpoint_max} are kept: raise that or lower this."
        )


def tell_data(task: Task) -> None:
    logging.info(
        "%s: %d utterances, %.2f hours, %d steps an epoch",
        FLAGS.train_data,
        task.train.index.records,
        task.train.index.audio_seconds / 3600,
        task.config.training.steps_per_epoch,
    )
    if task.config.statistics != task.train.index.statistics:
        logging.info(
            "Features are normalised by the statistics that the model has learnt with, in its "
            "config.json, not by those of %s.",
            FLAGS.train_data,
        )
    for line in registry.table(registry.sketch(task.config.network)):
        logging.info("%s", line)
    log_reading(task.train.index, task.batching, FLAGS.shuffle_buffer_size)


def main() -> None:
    stopping = Stopping()
    with stopping.listening():
        run(stopping)
    if stopping.signal == signal.SIGINT:
        raise KeyboardInterrupt


def run(stopping: Stopping) -> None:
    tpu_estimator.quieten(FLAGS.logging)
    tpu = tpu_estimator.tpu_settings(FLAGS)
    tpu_estimator.check_batch_sizes(
        tpu, train_batch_size=FLAGS.train_batch_size, eval_batch_size=FLAGS.eval_batch_size
    )
    tpu_estimator.check_paths(
        tpu,
        train_data=FLAGS.train_data,
        dev_data=FLAGS.dev_data,
        model_dir=FLAGS.model_dir,
        init_checkpoint=FLAGS.init_checkpoint or "",
    )
    train = find_shards(FLAGS.train_data)
    dev = find_shards(FLAGS.dev_data) if FLAGS.dev_data else None
    device = tpu_estimator.find_device(tpu, FLAGS.distribution)
    batching = Batching(FLAGS.train_batch_size, device.is_tpu, device.hosts)
    if device.replicas:
        tpu_estimator.check_replicas(FLAGS.train_batch_size, device.replicas)
        batching = device.replicas.cut(batching)
    config = model_config(train, batching)
    if dev:
        settings = dev.index.settings
        check_same_front_end(
            config, settings.front_end, settings.alphabet, FLAGS.dev_data, FLAGS.model_dir
        )
    elif FLAGS.early_stop or FLAGS.reduce_lr_on_plateau:
        raise UserError(
            "--early_stop and --reduce_lr_on_plateau look at development data: give --dev_data."
        )
    check_average()
    checkpoints.give_up_damaged(FLAGS.model_dir)
    trained = checkpoints.latest_checkpoint(FLAGS.model_dir) is not None
    if trained:
        config = continued(FLAGS.model_dir, config)
    config, warm_start = beginning(config, trained)
    task = Task(config, train, batching, device, warm_start)
    task.trainer(1.0)  # checkpoints out of a TPU's step are told of now
    if task.crew and not task.crew.cluster.chief:
        follow(task, task.crew, stopping)
        task.crew.leave()
    tpu_estimator.check_writable(FLAGS.model_dir)
    with exclusive(storage.join(FLAGS.model_dir, ".lock"), "this model", "--model_dir") as lock:
        save_config(FLAGS.model_dir, config)
        tell_data(task)
        looker = None
        if dev:
            looking = Batching(FLAGS.eval_batch_size, device.is_tpu, device.hosts)
            looker = dev_evaluation.Looker(dev, looking, config, FLAGS.best_by)
        train_and_look(task, looker, stopping, lock)
    logging.info("The model is in %s", FLAGS.model_dir)
    if task.crew:
        task.crew.leave()


if __name__ == "__main__":
    define_flags()
    command_line.run(main)
