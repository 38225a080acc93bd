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
from speech.features.front_end import CORPUS, FrontEnd
from speech.features.normalisation import Statistics
from speech.system import command_line, storage, typed_json
from speech.system.typed_json import FieldError
from utils import Alphabet, UserError

CONFIG_FORMAT = 1
CONFIG_FILE = "config.json"

# What the learning rate does after the warm-up.
SCHEDULES = ("exponential", "cosine", "constant")

# Limits of sizes, far beyond any network that fits into memory.
LARGEST_SIZE = 2**16
MOST_LAYERS = 100

# The flags, and fields of a NetworkConfig, that make a network what it is.
SIZES = tuple(dict.fromkeys(size for sizes in constants.NETWORK_SIZES.values() for size in sizes))
NETWORK_FLAGS = ("network", *SIZES)

# A size that isn't given. Without a type of its own, so that a size that is there is a number.
_OWN: Any = None


@dataclass(frozen=True)
class NetworkConfig:
    """A network and its sizes; the same for training, evaluation and export.

    What a size is says constants.NETWORK_SIZES. One that isn't given is the network's own; one that
    the network hasn't is None.
    """

    bins: int  # of the features
    labels: int  # classes it puts out, the blank among them
    name: str = constants.NETWORK
    conv_channels: tuple[int, ...] = _OWN
    context_size: int = _OWN
    stride_size: int = _OWN
    dense_unit_size: int = _OWN
    recurrent_layers: int = _OWN
    recurrent_unit_size: int = _OWN
    layer_norm: bool = _OWN

    def __post_init__(self) -> None:
        if self.name not in constants.NETWORK_SIZES:
            raise UserError(
                f"--network={self.name} is not known: choose among "
                f"{', '.join(constants.NETWORK_SIZES)}."
            )
        own = constants.NETWORK_SIZES[self.name]
        for size in SIZES:
            value = getattr(self, size)
            if value is None:
                object.__setattr__(self, size, own.get(size))
            elif size not in own:
                raise UserError(
                    f"--{size}={_as_flag(value)} is no size of --network={self.name}, which has "
                    f"{' '.join(f'--{each}' for each in own)}: leave it out."
                )
            elif not isinstance(value, bool) and not _is_possible(size, value):
                raise UserError(
                    f"--{size}={_as_flag(value)}: the network's sizes must be from 1 to "
                    f"{LARGEST_SIZE}, its layers from 1 to {MOST_LAYERS}."
                )

    def output_frames(self, frames: Any) -> Any:
        """Outputs for a number of frames: an int or an integer tensor."""
        return (frames + self.stride_size - 1) // self.stride_size


def _is_possible(size: str, value: int | tuple[int, ...]) -> bool:
    sizes = value if isinstance(value, tuple) else (value,)
    layers = value if isinstance(value, int) and size == "recurrent_layers" else len(sizes)
    return 1 <= layers <= MOST_LAYERS and min(sizes) >= 1 and max(sizes) <= LARGEST_SIZE


def _as_flag(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value).lower()


def define_network_flags() -> None:
    """The flags that decide what a training step computes; training and its check share them."""
    command_line.define_choice(
        "network",
        constants.NETWORK,
        constants.NETWORK_SIZES,
        "Acoustic model. Each has some of the sizes that follow.",
    )
    for define, size, meaning in (
        (flags.DEFINE_list, "conv_channels", "One number a convolution."),
        (
            command_line.define_integer,
            "context_size",
            "Frames a convolution or the first layer sees.",
        ),
        (command_line.define_integer, "stride_size", "Frames between two outputs."),
        (command_line.define_integer, "dense_unit_size", "Units of a dense layer."),
        (command_line.define_integer, "recurrent_layers", "How many there are."),
        (command_line.define_integer, "recurrent_unit_size", "Units of each direction."),
        (flags.DEFINE_bool, "layer_norm", "Normalises what the dense layers put out."),
    ):
        define(size, None, f"{meaning} Default: {_defaults(size)}.")
    command_line.define_number(
        "dropout",
        constants.DROPOUT,
        "Of the non-recurrent layers' outputs.",
        lower_bound=0,
        upper_bound=0.95,
    )
    flags.DEFINE_bool("bfloat16", False, "Matrix work in bfloat16; variables stay float32.")


def _defaults(size: str) -> str:
    """What it is in the networks that have it."""
    return "; ".join(
        f"{name} {_as_flag(sizes[size])}"
        for name, sizes in constants.NETWORK_SIZES.items()
        if size in sizes
    )


def network_config(values: Any, front_end: FrontEnd, alphabet: Alphabet) -> NetworkConfig:
    """The network of parsed flags; values: absl's FLAGS.

    Raises:
        UserError: a network that isn't there, a size that it hasn't, or that can't be one.
    """
    sizes = {size: getattr(values, size) for size in SIZES}
    if sizes["conv_channels"] is not None:
        try:
            sizes["conv_channels"] = tuple(int(each) for each in values.conv_channels)
        except ValueError:
            raise UserError(
                f"--conv_channels={','.join(values.conv_channels)} must be whole numbers, as in "
                "32,32,96."
            ) from None
    return NetworkConfig(front_end.bins, alphabet.size, values.network, **sizes)


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
    augment: tuple[str, ...] = ()  # in the grammar of speech/augmentation/features.py
    bfloat16: bool = False  # matrix work in bfloat16, variables and loss in float32
    random_seed: int = constants.RANDOM_SEED

    def __post_init__(self) -> None:
        if self.learning_rate_schedule not in SCHEDULES:
            raise UserError(
                f"--learning_rate_schedule={self.learning_rate_schedule} is not known: choose "
                f"among {', '.join(SCHEDULES)}."
            )

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

    @property
    def output_seconds(self) -> float:
        """Between two of the network's outputs."""
        return self.network.stride_size * self.front_end.step_seconds

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
        remedy = "copy it again, or train the model with this version of the program"
        with typed_json.explained(path, "a model's config", remedy):
            return cls.from_object(typed_json.parse_object(text))

    @classmethod
    def from_object(cls, content: Any) -> "ModelConfig":
        """The config in a JSON object.

        Raises:
            FieldError: it is none.
            UserError: it has a value that a flag couldn't have.
        """
        typed_json.check_format(content, CONFIG_FORMAT)
        file = typed_json.read(_ConfigFile, content, "config", smallest=-typed_json.LARGEST)
        _check_consistent(file)
        return cls(file.front_end, file.alphabet, file.network, file.training, file.statistics)


@dataclass(frozen=True)
class _ConfigFile:
    """The fields of a config's JSON."""

    format: int
    front_end: FrontEnd
    alphabet: Alphabet
    network: NetworkConfig
    training: TrainingConfig
    statistics: Statistics | None = None  # the first version had none


def _check_consistent(file: _ConfigFile) -> None:
    """Raises FieldError where a config was changed into one that no training writes."""
    front_end, network = file.front_end, file.network
    wanted = front_end.bins if front_end.normalisation == CORPUS else 0
    found = len(file.statistics.mean) if file.statistics else 0
    if found != wanted:
        raise FieldError(f"statistics are of {found} bins, not of {wanted}")
    if (network.bins, network.labels) != (front_end.bins, file.alphabet.size):
        raise FieldError(
            f"network: {network.bins} bins and {network.labels} labels don't fit the front end's "
            f"{front_end.bins} and the alphabet's {file.alphabet.size}"
        )


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
    return [f"alphabet {str(saved)!r} in the model, {str(other)!r} {where}"]
