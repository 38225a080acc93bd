"""Flags of training, and the settings that they give."""

from dataclasses import replace
from typing import Any

from absl import flags

import constants
from speech.engines import checkpoints
from speech.engines.engine import RunSettings
from speech.flags import kinds
from speech.flags.device import define_device_flags, define_distribution_flag, device_from_flags
from speech.flags.network import define_network_flags, network_from_flags
from speech.networks.config import SCHEDULES, TrainingConfig
from speech.system import command_line
from speech.training.dev_evaluation import METRICS
from speech.training.early_stopping import EarlyStopping
from speech.training.settings import (
    DataSettings,
    LoopSettings,
    StartSettings,
    TrainingSettings,
)
from utils import UserError

# --- Definitions ----------------------------------------------------------------------------------


def define_training_flags() -> None:
    """Defines the flags that `training_from_flags` reads."""
    _define_data_flags()
    _define_loop_flags()
    _define_optimisation_flags()
    define_early_stopping_flags()
    _define_run_flags()
    _define_start_flags()
    define_network_flags()
    define_device_flags()
    define_distribution_flag()
    command_line.define_logging_flag()


def _define_data_flags() -> None:
    flags.DEFINE_string(
        "train_data", constants.TRAIN_DATA, "Training shards, a glob or gs:// glob."
    )
    flags.DEFINE_string(
        "dev_data", constants.DEV_DATA, "Shards of the development set; empty for none."
    )
    flags.DEFINE_string(
        "model_dir", constants.MODEL_DIR, "Folder of checkpoints, config and curves."
    )
    kinds.define_alias("checkpoint_dir", "model_dir")
    flags.DEFINE_multi_string(
        "augment",
        [],
        "Augmentation of features, e.g. time_mask[p=0.5,n=2,size=100~50] or specaugment; "
        "see docs/augmentation.md.",
    )
    flags.DEFINE_string(
        "lexicon",
        None,
        "File of pronunciations: a word and its phones on each line, as in CMUdict. "
        "--network=conformer also learns to write the phones, for scorers of build_lm.py "
        "--lexicon.",
    )
    flags.DEFINE_bool(
        "sorta_grad", False, "Short utterances first in the first epoch (arXiv 1512.02595)."
    )
    kinds.define_integer(
        "shuffle_buffer_size",
        None,
        "Utterances shuffled at a time; default: as many as fit into "
        f"{constants.SHUFFLE_BUFFER_BYTES / 2**30:g} GiB.",
        lower_bound=1,
    )


def _define_loop_flags() -> None:
    kinds.define_number(
        "max_epochs",
        constants.MAX_EPOCHS,
        "Number of passes over the training data.",
        lower_bound=0,
        upper_bound=constants.MOST_EPOCHS,
    )
    kinds.define_integer(
        "train_steps",
        None,
        "Total number of steps, instead of --max_epochs.",
        lower_bound=1,
    )
    kinds.define_integer(
        "eval_steps",
        None,
        "Steps between two evaluations on the development set; default: an epoch.",
        lower_bound=1,
    )
    kinds.define_choice(
        "best_by",
        "wer",
        METRICS,
        "Development-set metric that selects the best checkpoint.",
    )
    flags.DEFINE_string(
        "average_checkpoints",
        None,
        "Checkpoints to average at the end: the number of the last ones, as in 5, or a weight for "
        "each, newest first, as in 3,2,1. eval.py --checkpoint=average uses the average.",
    )
    kinds.define_integer(
        "max_bad_steps",
        constants.MAX_BAD_STEPS,
        "Number of steps with a loss that isn't finite that may be skipped; one more ends the "
        "training.",
        lower_bound=0,
    )


def _define_optimisation_flags() -> None:
    kinds.define_number(
        "learning_rate", constants.LEARNING_RATE, "Peak learning rate of Adam.", lower_bound=0
    )
    kinds.define_choice(
        "learning_rate_schedule",
        constants.LEARNING_RATE_SCHEDULE,
        SCHEDULES,
        "Course of the learning rate: multiplied by --learning_rate_decay_factor after every "
        "epoch, along a cosine to 0 at the last step, or constant.",
    )
    kinds.define_integer(
        "warmup_steps",
        0,
        "Number of steps in which the learning rate rises from 0.",
        lower_bound=0,
    )
    kinds.define_number(
        "learning_rate_decay_factor",
        constants.LEARNING_RATE_DECAY_FACTOR,
        "Factor on the learning rate after every epoch (exponential).",
        lower_bound=0,
    )
    kinds.define_number(
        "clip_gradients",
        constants.CLIP_GRADIENTS,
        "Maximum norm of the gradient; 0: unclipped.",
        lower_bound=0,
    )
    kinds.define_random_seed("Seed of weights, order and dropout.")


def define_early_stopping_flags() -> None:
    """Defines flags with Mozilla DeepSpeech's names, meanings and defaults."""
    flags.DEFINE_bool(
        "early_stop", False, "Early stopping when the development set's loss doesn't improve."
    )
    kinds.define_number(
        "es_epochs",
        constants.ES_EPOCHS,
        "Epochs without a better loss after which training stops.",
        lower_bound=0,
    )
    kinds.define_number(
        "es_min_delta",
        constants.ES_MIN_DELTA,
        "Difference by which a loss must be lower to be better.",
        lower_bound=0,
    )
    flags.DEFINE_bool(
        "reduce_lr_on_plateau",
        False,
        "Reduction of the learning rate when the development set's loss doesn't improve.",
    )
    kinds.define_number(
        "plateau_epochs",
        constants.PLATEAU_EPOCHS,
        "Epochs without a better loss after which the learning rate is lowered.",
        lower_bound=0,
    )
    kinds.define_number(
        "plateau_reduction",
        constants.PLATEAU_REDUCTION,
        "Factor on the learning rate on a plateau.",
        lower_bound=0,
        upper_bound=1,
    )


def _define_run_flags() -> None:
    kinds.define_batch_size("train_batch_size", constants.TRAIN_BATCH_SIZE)
    kinds.define_batch_size("eval_batch_size", constants.EVAL_BATCH_SIZE)
    kinds.define_alias("dev_batch_size", "eval_batch_size")
    kinds.define_integer(
        "iterations_per_loop",
        constants.ITERATIONS_PER_LOOP,
        "Steps between two returns from the TPU to its host; --save_checkpoints_steps is a "
        "multiple of it.",
        lower_bound=1,
    )
    kinds.define_integer(
        "save_checkpoints_steps",
        constants.SAVE_CHECKPOINTS_STEPS,
        "Steps between two checkpoints.",
        lower_bound=1,
    )
    kinds.define_integer(
        "keep_checkpoint_max",
        constants.KEEP_CHECKPOINT_MAX,
        "Number of latest checkpoints that are kept.",
        lower_bound=1,
        upper_bound=constants.MOST_CHECKPOINTS,
    )
    kinds.define_alias("max_to_keep", "keep_checkpoint_max")


def _define_start_flags() -> None:
    flags.DEFINE_string(
        "init_checkpoint",
        None,
        "Folder or checkpoint of a trained model, with whose variables the new model starts.",
    )
    kinds.define_integer(
        "drop_layers",
        0,
        "Number of last layers that aren't loaded from --init_checkpoint.",
        lower_bound=0,
    )
    kinds.define_alias("drop_source_layers", "drop_layers")


# --- Settings -------------------------------------------------------------------------------------


def training_from_flags(values: Any) -> TrainingSettings:
    """Reads the flags of training; values: absl's FLAGS.

    Raises:
        UserError: values exclude each other, or one can't be parsed.
    """
    return TrainingSettings(
        data=DataSettings(
            values.train_data,
            values.dev_data,
            values.shuffle_buffer_size,
            values.sorta_grad,
            values.lexicon,
        ),
        network=replace(network_from_flags(values), is_default=not values["network"].present),
        optimisation=TrainingConfig(
            train_batch_size=values.train_batch_size,
            learning_rate=values.learning_rate,
            learning_rate_schedule=values.learning_rate_schedule,
            learning_rate_decay_factor=values.learning_rate_decay_factor,
            warmup_steps=values.warmup_steps,
            clip_gradients=values.clip_gradients,
            dropout=values.dropout,
            augment=tuple(values.augment),
            bfloat16=values.bfloat16,
            random_seed=values.random_seed,
        ),
        loop=LoopSettings(
            train_steps=values.train_steps,
            max_epochs=values.max_epochs,
            eval_steps=values.eval_steps,
            best_by=values.best_by,
            early_stopping=_early_stopping(values),
            average_weights=_average_weights(values),
            max_bad_steps=values.max_bad_steps,
        ),
        start=StartSettings(values.init_checkpoint, values.drop_layers),
        run=RunSettings(
            model_dir=values.model_dir,
            train_batch_size=values.train_batch_size,
            eval_batch_size=values.eval_batch_size,
            iterations_per_loop=values.iterations_per_loop,
            save_checkpoints_steps=values.save_checkpoints_steps,
            keep_checkpoint_max=values.keep_checkpoint_max,
        ),
        device=device_from_flags(values),
        describe_steps=values.logging == "debug",
    )


def _early_stopping(values: Any) -> EarlyStopping:
    settings = EarlyStopping(
        early_stop=values.early_stop,
        es_epochs=values.es_epochs,
        es_min_delta=values.es_min_delta,
        reduce_lr_on_plateau=values.reduce_lr_on_plateau,
        plateau_epochs=values.plateau_epochs,
        plateau_reduction=values.plateau_reduction,
    )
    if settings.enabled and not values.dev_data:
        raise UserError(
            "--early_stop and --reduce_lr_on_plateau require a development set: give --dev_data."
        )
    return settings


def _average_weights(values: Any) -> tuple[float, ...]:
    if not values.average_checkpoints:
        return ()
    weights = checkpoints.parse_weights(values.average_checkpoints)
    if len(weights) > values.keep_checkpoint_max:
        raise UserError(
            f"--average_checkpoints={values.average_checkpoints} requires {len(weights)} "
            f"checkpoints, and --keep_checkpoint_max={values.keep_checkpoint_max} are kept: raise "
            "that or lower this."
        )
    return weights
