"""What a model directory says of itself: config.json.

Front end and alphabet come from the shards that the model was trained on, so that evaluation and
everything later takes a model directory and nothing that could disagree with it.
"""

import json
import math
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from absl import flags

import constants
from speech import storage
from speech.features import CORPUS, FrontEnd
from speech.normalisation import Statistics
from utils import Alphabet, AlphabetError, UserError

CONFIG_FORMAT = 1
CONFIG_FILE = "config.json"

# What the learning rate does after the warm-up.
SCHEDULES = ("exponential", "cosine", "constant")


@dataclass(frozen=True)
class NetworkConfig:
    """The size of a network; the same for training, evaluation and export."""

    bins: int  # of the features
    labels: int  # classes it puts out, the blank among them
    name: str = "deep_speech_1"
    conv_channels: tuple[int, ...] = constants.CONV_CHANNELS  # one number a convolution
    context_size: int = constants.CONTEXT_SIZE  # frames a convolution's kernel sees
    stride_size: int = constants.STRIDE_SIZE  # frames between two outputs
    recurrent_unit_size: int = constants.RECURRENT_UNIT_SIZE

    def __post_init__(self) -> None:
        sizes = (*self.conv_channels, self.context_size, self.stride_size, self.recurrent_unit_size)
        if not self.conv_channels or min(sizes) < 1:
            raise UserError(
                f"The network's sizes must be positive: --conv_channels={self.conv_channels} "
                f"--context_size={self.context_size} --stride_size={self.stride_size} "
                f"--recurrent_unit_size={self.recurrent_unit_size}."
            )

    def output_frames(self, frames: Any) -> Any:
        """Outputs for a number of frames: an int or an integer tensor."""
        return (frames + self.stride_size - 1) // self.stride_size


def define_network_flags() -> None:
    """The flags that decide what a training step computes; training and its check share them."""
    flags.DEFINE_list(
        "conv_channels",
        [str(each) for each in constants.CONV_CHANNELS],
        "One number a convolution.",
    )
    flags.DEFINE_integer("context_size", constants.CONTEXT_SIZE, "Frames a convolution sees.")
    flags.DEFINE_integer("stride_size", constants.STRIDE_SIZE, "Frames between two outputs.")
    flags.DEFINE_integer(
        "recurrent_unit_size", constants.RECURRENT_UNIT_SIZE, "Units of each direction."
    )
    flags.DEFINE_float(
        "dropout",
        constants.DROPOUT,
        "Of the non-recurrent layers' outputs.",
        lower_bound=0,
        upper_bound=0.95,
    )
    flags.DEFINE_bool("bfloat16", False, "Matrix work in bfloat16; variables stay float32.")


def network_config(values: Any, front_end: FrontEnd, alphabet: Alphabet) -> NetworkConfig:
    """The network of parsed flags; values: absl's FLAGS.

    Raises:
        UserError: a size that can't be one.
    """
    try:
        conv_channels = tuple(int(each) for each in values.conv_channels)
    except ValueError:
        raise UserError(
            f"--conv_channels={','.join(values.conv_channels)} must be whole numbers, as in "
            "32,32,96."
        ) from None
    return NetworkConfig(
        bins=front_end.bins,
        labels=alphabet.size,
        conv_channels=conv_channels,
        context_size=values.context_size,
        stride_size=values.stride_size,
        recurrent_unit_size=values.recurrent_unit_size,
    )


@dataclass(frozen=True)
class TrainingConfig:
    """How a network is trained; may change from one call to the next."""

    train_batch_size: int = constants.TRAIN_BATCH_SIZE  # over all cores
    steps_per_epoch: int = 1
    learning_rate: float = constants.LEARNING_RATE
    learning_rate_schedule: str = constants.LEARNING_RATE_SCHEDULE  # of SCHEDULES
    learning_rate_decay_factor: float = constants.LEARNING_RATE_DECAY_FACTOR  # per epoch
    warmup_steps: int = 0  # over which the learning rate rises
    train_steps: int = 1  # of the whole training: where a cosine ends
    clip_gradients: float = constants.CLIP_GRADIENTS  # global norm; 0: unclipped
    dropout: float = constants.DROPOUT  # share of the non-recurrent layers' outputs
    augment: tuple[str, ...] = ()  # in the grammar of speech/augment.py
    bfloat16: bool = False  # matrix work in bfloat16, variables and loss in float32
    random_seed: int = constants.RANDOM_SEED

    def learning_rate_at(self, step: Any, functions: Any = np) -> Any:
        """The learning rate at a step.

        Args:
            step: a number, or a float32 tensor.
            functions: numpy for a number, tensorflow for a tensor.
        """
        rate = self.learning_rate
        if self.learning_rate_schedule == "exponential":
            rate *= self.learning_rate_decay_factor ** (step // float(self.steps_per_epoch))
        elif self.learning_rate_schedule == "cosine":
            # arXiv 1608.03983, equation 5, without restarts.
            behind = functions.maximum(step - float(self.warmup_steps), 0.0)
            share = functions.minimum(behind / max(self.train_steps - self.warmup_steps, 1), 1.0)
            rate *= 0.5 * (1.0 + functions.cos(math.pi * share))
        if self.warmup_steps:
            rate *= functions.minimum((step + 1.0) / self.warmup_steps, 1.0)
        return rate


@dataclass(frozen=True)
class ModelConfig:
    """Everything that a model directory carries beside its checkpoints."""

    front_end: FrontEnd
    alphabet: Alphabet
    network: NetworkConfig
    training: TrainingConfig
    # Of the shards it was first trained on, by which all its data is normalised; None unless the
    # front end normalises over the corpus.
    statistics: Statistics | None = None

    def to_json(self) -> str:
        return (
            json.dumps(
                {
                    "format": CONFIG_FORMAT,
                    "front_end": asdict(self.front_end),
                    "alphabet": self.alphabet.to_json(),
                    "network": asdict(self.network),
                    "training": asdict(self.training),
                    "statistics": asdict(self.statistics) if self.statistics else None,
                },
                indent=1,
                ensure_ascii=False,
            )
            + "\n"
        )

    @classmethod
    def from_json(cls, text: str, path: str) -> "ModelConfig":
        """The config in `text`; `path` is for the message of the UserError if it is none."""
        try:
            content = json.loads(text)
            if content["format"] != CONFIG_FORMAT:
                raise UserError(
                    f"{path} has format {content['format']}, this program reads format "
                    f"{CONFIG_FORMAT}: train the model with this version."
                )
            statistics = content.get("statistics")  # the first version had none
            config = cls(
                front_end=FrontEnd.from_json(content["front_end"]),
                alphabet=Alphabet.from_json(content["alphabet"]),
                network=NetworkConfig(**_with_tuple(content["network"], "conv_channels")),
                training=TrainingConfig(**_with_tuple(content["training"], "augment")),
                statistics=None if statistics is None else Statistics.from_json(statistics),
            )
            _check_statistics(config)
            return config
        except AlphabetError as error:
            raise UserError(f"{path}: {error}") from None
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path} is not a model's config: {error!r}.") from None


def _check_statistics(config: ModelConfig) -> None:
    """Raises ValueError unless there are statistics of every bin where they are needed."""
    front_end = config.front_end
    wanted = front_end.bins if front_end.normalisation == CORPUS else 0
    found = len(config.statistics.mean) if config.statistics else 0
    if found != wanted:
        raise ValueError(f"statistics are of {found} bins, not of {wanted}")


def _with_tuple(content: dict[str, Any], key: str) -> dict[str, Any]:
    return {**content, key: tuple(content[key])}


def config_path(model_dir: str) -> str:
    return storage.join(model_dir, CONFIG_FILE)


def read_config(model_dir: str) -> ModelConfig:
    """The config of a model directory.

    Raises:
        UserError: it has none, or it can't be read.
    """
    path = config_path(model_dir)
    if not storage.exists(path):
        raise UserError(
            f"{model_dir} is not a model directory, it has no {CONFIG_FILE}: train one with "
            f"python training.py --model_dir={model_dir}"
        )
    return ModelConfig.from_json(storage.read_text(path), path)


def save_config(model_dir: str, config: ModelConfig) -> None:
    storage.write_text(config_path(model_dir), config.to_json())


def continued(model_dir: str, config: ModelConfig) -> ModelConfig:
    """The config with which the model in a directory is trained on as `config` asks.

    It keeps the statistics that it has learnt with, whatever shards it goes on with.

    Raises:
        UserError: the directory holds a model with another front end, alphabet or network.
    """
    saved = read_config(model_dir)
    check_same_model(saved, config, model_dir)
    return replace(config, statistics=saved.statistics)


def check_same_model(saved: ModelConfig, asked: ModelConfig, model_dir: str) -> None:
    """Raises a UserError that names what differs in front end, alphabet or network."""
    differences = [
        *differing_fields(saved.front_end, asked.front_end, "asked for", "front_end."),
        *differing_fields(saved.network, asked.network, "asked for", "network."),
        *_differing_alphabets(saved.alphabet, asked.alphabet, "asked for"),
    ]
    if differences:
        raise UserError(
            f"The model in {model_dir} doesn't match: {'; '.join(differences)}. Use the flags and "
            "shards it was trained with, or another --model_dir."
        )


def check_same_front_end(
    config: ModelConfig, front_end: FrontEnd, alphabet: Alphabet, shards: str, model_dir: str
) -> None:
    """Raises a UserError if shards were made with another front end or alphabet than a model's."""
    differences = [
        *differing_fields(config.front_end, front_end, "in the shards"),
        *_differing_alphabets(config.alphabet, alphabet, "in the shards"),
    ]
    if differences:
        raise UserError(
            f"The shards {shards} don't match the model in {model_dir}: {'; '.join(differences)}. "
            "Prepare them with the model's settings, or name another --model_dir."
        )


def differing_fields(saved: Any, other: Any, where: str, prefix: str = "") -> list[str]:
    """What differs between two settings of one dataclass; `where` says where the other is from."""
    before, now = asdict(saved), asdict(other)
    return [
        f"{prefix}{key} {before[key]} in the model, {now[key]} {where}"
        for key in now
        if before[key] != now[key]
    ]


def _differing_alphabets(saved: Alphabet, other: Alphabet, where: str) -> list[str]:
    if saved == other:
        return []
    before, now = "".join(saved.characters), "".join(other.characters)
    return [f"alphabet {before!r} in the model, {now!r} {where}"]
