"""A training's task: the model, its data and its settings, made of flags' settings and shards."""

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

from absl import logging

from speech.augmentation import features
from speech.engines import checkpoints
from speech.engines.devices import Device
from speech.engines.engine import InitialValues, InputFn
from speech.input_pipeline.batching import Batching, log_reading, steps_per_epoch
from speech.input_pipeline.parsing import transcripts
from speech.input_pipeline.training_input import TrainingInput, training_input_fn, utterance_ids
from speech.networks import registry
from speech.networks.config import (
    ModelConfig,
    check_same_front_end,
    config_path,
    read_config,
    resume_config,
)
from speech.shards.shard_set import ShardSet, find_shards
from speech.system import mistaken_paths, storage
from speech.text.lexicon import Lexicon, read_lexicon
from speech.training import transfer
from speech.training.settings import DataSettings, TrainingSettings
from utils import UserError, Utf8Alphabet

FIRST_UTTERANCES = 1000  # that a lexicon is compared with


@dataclass(frozen=True)
class Data:
    """The shards to train and evaluate on."""

    train: ShardSet
    dev: ShardSet | None  # None: there is no development set
    lexicon: Lexicon | None = None  # whose phones the network learns


@dataclass(frozen=True)
class Task:
    """What is trained, on which data and how."""

    settings: TrainingSettings
    config: ModelConfig
    data: Data
    batching: Batching
    dev_batching: Batching
    initial_values: InitialValues | None = None  # of a new model; None: the network's own

    @property
    def model_dir(self) -> str:
        return self.settings.run.model_dir

    def batches_from(self, step: int, with_ids: bool = False) -> InputFn:
        """Returns the input function of the batches after `step`."""
        settings = TrainingInput(
            self.data.train,
            self.batching.uncut if with_ids else self.batching,
            self.config.training.random_seed,
            start_step=step,
            shuffle_buffer_size=self.settings.data.shuffle_buffer_size,
            augmentations=self.config.training.augment,
            sorta_grad=self.settings.data.sorta_grad,
            with_ids=with_ids,
            train_steps=self.config.training.train_steps,
            stride=self.config.network.stride_size,
            statistics=self.config.statistics,
            lexicon=None if with_ids else self.data.lexicon,
        )
        return training_input_fn(settings)

    def utterances_of(self, step: int) -> list[str]:
        """Returns the ids of the utterances that step number `step` trains on; none on a pod."""
        if self.batching.hosts > 1:
            return []
        return utterance_ids(self.batches_from(step - 1, with_ids=True), self.batching.batch_size)

    def shared_settings(self) -> dict[str, Any]:
        """Returns what must be the same in all processes that train together."""
        return {
            "shards": self.data.train.index.corpus_digest,
            **asdict(self.settings.start),
            "statistics": self.config.statistics and asdict(self.config.statistics),
            "alphabet": self.config.alphabet.to_json(),
            **asdict(self.config.front_end),
            **asdict(self.config.network),
            **asdict(self.config.training),
            "shuffle_buffer_size": self.settings.data.shuffle_buffer_size,
            "sorta_grad": self.settings.data.sorta_grad,
            "lexicon": self.data.lexicon and self.data.lexicon.digest,
        }


def find_data(settings: DataSettings) -> Data:
    """Finds the shards and reads the lexicon; raises a UserError if there are none."""
    train = find_shards(settings.train_data)
    dev = find_shards(settings.dev_data) if settings.dev_data else None
    return Data(train, dev, read_lexicon(settings.lexicon) if settings.lexicon else None)


def make_task(settings: TrainingSettings, data: Data, device: Device) -> Task:
    """Makes the task of a new training, or of one that is resumed; writes nothing.

    Only damaged checkpoints are dropped from the list of those of the model directory.

    Raises:
        UserError: settings and data don't fit together, or don't fit the model that is resumed.
    """
    batching = device.training_batching(settings.optimisation.train_batch_size)
    model_dir, start = settings.run.model_dir, settings.start.init_checkpoint
    is_trained = checkpoints.latest_checkpoint(model_dir) is not None
    source = transfer.find_source(start) if start and not is_trained else None
    if data.lexicon:
        check_lexicon(data.lexicon, data.train, settings.data.lexicon or "")
        network = replace(settings.network, phones=data.lexicon.alphabet.characters)
        settings = replace(settings, network=network)
    settings = with_known_network(settings, source)
    config = model_config(settings, data.train, batching)
    if data.dev:
        shards = data.dev.index.settings
        check_same_front_end(
            config, shards.front_end, shards.alphabet, settings.data.dev_data, model_dir
        )
    if not storage.exists(config_path(model_dir)) and (
        mistaken := mistaken_paths.explain_model(model_dir)
    ):
        raise UserError(mistaken)
    checkpoints.drop_damaged(model_dir)
    if is_trained:
        config = resume_config(model_dir, config)
    planned = plan_transfer(settings, config, source)
    if planned:
        # Its first layers have learnt to read features that are normalised so.
        config = replace(config, statistics=planned.source.config.statistics)
    return Task(
        settings,
        config,
        data,
        batching,
        device.batching(settings.run.eval_batch_size),
        planned.initial_values() if planned else None,
    )


def check_lexicon(lexicon: Lexicon, train: ShardSet, path: str) -> None:
    """Logs how many words of the first utterances the lexicon has.

    Raises:
        UserError: it has none of them, or the alphabet can't write words.
    """
    alphabet = train.index.settings.alphabet
    if " " not in alphabet.characters or isinstance(alphabet, Utf8Alphabet):
        raise UserError(
            "--lexicon requires words: an alphabet of characters with a space. Leave out --lexicon."
        )
    texts = transcripts(train, FIRST_UTTERANCES)
    words = [word for _, text in texts for word in text.lower().split()]
    known = sum(word in lexicon.pronunciations for word in words)
    if not known:
        raise UserError(
            f"--lexicon={path} has none of the first {len(words)} words of the training data: "
            "name a lexicon of their language."
        )
    logging.info(
        "%s: %d words, %d phones; it has %.1f%% of the first %d words of the training data",
        *(path, len(lexicon.pronunciations), len(lexicon.alphabet.characters) - 2),
        *(100 * known / len(words), len(words)),
    )


def with_known_network(
    settings: TrainingSettings, source: transfer.Source | None
) -> TrainingSettings:
    """Returns the settings with the network and the sizes of --init_checkpoint, unless given.

    Args:
        source: the model of --init_checkpoint; None: there is none, or training is resumed.

    Raises:
        UserError: there is no config of the model that is resumed.
    """
    if not settings.start.init_checkpoint:
        return settings
    known = source.config if source else read_config(settings.run.model_dir)
    return replace(settings, network=settings.network.like(known.network))


def model_config(settings: TrainingSettings, train: ShardSet, batching: Batching) -> ModelConfig:
    """Returns the config of a new model.

    Raises:
        UserError: the settings can't be followed, or the shards don't fill a batch.
    """
    shards, size = train.index.settings, batching.batch_size
    steps = steps_per_epoch(train.index, batching)
    if not steps:
        raise UserError(
            f"--train_batch_size={size} is more than the {train.index.records} utterances of "
            f"{settings.data.train_data}: choose a smaller one, or prepare more."
        )
    # Fails now, before anything is written.
    features.parse_all(settings.optimisation.augment, shards.front_end)
    training = replace(
        settings.optimisation,
        steps_per_epoch=steps,
        train_steps=settings.loop.train_steps or math.ceil(settings.loop.max_epochs * steps),
    )
    network = settings.network.config(shards.front_end, shards.alphabet)
    return ModelConfig(shards.front_end, shards.alphabet, network, training, train.index.statistics)


def plan_transfer(
    settings: TrainingSettings, config: ModelConfig, source: transfer.Source | None
) -> transfer.Transfer | None:
    """Plans and logs what a new model takes from --init_checkpoint; None without one.

    Args:
        source: see `with_known_network`.

    Raises:
        UserError: the model doesn't fit.
    """
    start = settings.start
    if not start.init_checkpoint:
        if start.drop_layers:
            raise UserError(f"--drop_layers={start.drop_layers} requires --init_checkpoint.")
        return None
    if source is None:
        logging.info(
            "Training in %s is resumed, and --init_checkpoint is not read again.",
            settings.run.model_dir,
        )
        return None
    planned = transfer.plan(source, config, start.drop_layers)
    logging.info("From %s:\n%s", source.checkpoint, planned.table())
    return planned


def log_task(task: Task) -> None:
    """Logs the data, the network's parameters and how the data are read."""
    index, pattern = task.data.train.index, task.settings.data.train_data
    logging.info(
        "%s: %d utterances, %.2f hours, %d steps an epoch",
        pattern,
        index.records,
        index.audio_seconds / 3600,
        task.config.training.steps_per_epoch,
    )
    if task.config.statistics != index.statistics:
        logging.info(
            "Features are normalised by the statistics in the model's config.json, with which it "
            "was trained so far, not by those of %s.",
            pattern,
        )
    for line in registry.table(registry.sketch(task.config.network)):
        logging.info("%s", line)
    log_reading(index, task.batching, task.settings.data.shuffle_buffer_size)
