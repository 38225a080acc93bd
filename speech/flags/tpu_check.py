"""Flags of check_tpu.py, and the settings that they make."""

from dataclasses import replace

from absl import flags

import constants
from speech.engines.devices import check_divisible
from speech.features.front_end import FrontEnd
from speech.flags import kinds
from speech.flags.network import NETWORK_FLAGS, define_network_flags, network_from_flags
from speech.networks.config import (
    ModelConfig,
    TrainingConfig,
    check_same_front_end,
    read_config,
)
from speech.shards.shard_set import ShardSet, find_shards
from speech.tpu.check import CheckSettings
from speech.tpu.estimate import TOPOLOGIES
from speech.tpu.table import BatchShape
from utils import ENGLISH, UserError, is_number


def define_tpu_check_flags() -> None:
    flags.DEFINE_string(
        "model_dir", None, "Model directory; default: a network of the other flags."
    )
    flags.DEFINE_string(
        "train_data",
        None,
        "Shards that give the lengths of a batch; default: the limits of prepare_libri.py.",
    )
    kinds.define_choices("topology", list(TOPOLOGIES), TOPOLOGIES, "TPUs to compile for.")
    flags.DEFINE_list(
        "train_batch_size",
        [str(constants.TRAIN_BATCH_SIZE)],
        "Utterances in a batch, over all cores; each of several sizes gets a table.",
    )
    kinds.define_integer(
        "num_tpu_cores", constants.NUM_TPU_CORES, "Cores that share a batch.", lower_bound=1
    )
    flags.DEFINE_bool("find_batch", False, "Search for the largest batch that fits a core.")
    flags.DEFINE_string(
        "compiler_python",
        None,
        "Python of an environment with jax and libtpu; default: this one, or one made for them.",
    )
    define_network_flags()


def check_settings_from_flags(values: flags.FlagValues) -> CheckSettings:
    """Returns the settings of parsed flags.

    Raises:
        UserError: the flags contradict each other, a batch can't be divided among the cores, or the
            model or the shards can't be read.
    """
    shards = find_shards(values.train_data) if values.train_data else None
    return CheckSettings(
        config=_model_config(values, shards),
        shape=_batch_shape(shards),
        topologies=tuple(values.topology),
        batches=_batches(values),
        cores=values.num_tpu_cores,
        find_batch=values.find_batch,
        compiler_python=values.compiler_python,
    )


def _batch_shape(shards: ShardSet | None) -> BatchShape:
    """Returns the shape of batches of these shards, or of the longest utterances allowed."""
    if not shards:
        seconds = constants.MAX_SEQUENCE_LENGTH * constants.STEP_SECONDS
        return BatchShape(constants.MAX_SEQUENCE_LENGTH, constants.MAX_LABEL_LENGTH, seconds)
    settings = shards.index.settings
    seconds = shards.index.audio_seconds / max(shards.index.records, 1)
    return BatchShape(settings.max_sequence_length, settings.max_label_length, seconds)


def _model_config(values: flags.FlagValues, shards: ShardSet | None) -> ModelConfig:
    """Returns the config of --model_dir, or else that of the network's flags."""
    settings = shards.index.settings if shards else None
    front_end = settings.front_end if settings else FrontEnd()
    alphabet = settings.alphabet if settings else ENGLISH
    if not values.model_dir:
        network = network_from_flags(values).config(front_end, alphabet)
        training = TrainingConfig(dropout=values.dropout, bfloat16=values.bfloat16)
        return ModelConfig(front_end, alphabet, network, training)
    for flag in NETWORK_FLAGS:
        if values[flag].present:
            raise UserError(
                f"--{flag} can't be combined with --model_dir={values.model_dir}, whose model has "
                "its own: leave out one of them."
            )
    config = read_config(values.model_dir)
    if shards:
        check_same_front_end(config, front_end, alphabet, values.train_data, values.model_dir)
    # A later call of training.py may change these, too.
    training = config.training
    if values["bfloat16"].present:
        training = replace(training, bfloat16=values.bfloat16)
    if values["dropout"].present:
        training = replace(training, dropout=values.dropout)
    return replace(config, training=training)


def _batches(values: flags.FlagValues) -> tuple[int, ...]:
    """Returns the utterances of a core for each --train_batch_size."""
    batches = []
    for text in values.train_batch_size or [""]:
        size = int(text) if is_number(text) else 0
        if not size:
            raise UserError(f"--train_batch_size={text} must be whole numbers, as in 32,64.")
        check_divisible("train_batch_size", size, values.num_tpu_cores)
        batches.append(size // values.num_tpu_cores)
    return tuple(batches)
