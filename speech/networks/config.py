"""The configuration of a model: config.json in its directory.

Front end and alphabet come from the shards that the model was trained on, so that evaluation and
everything later takes a model directory and nothing that could disagree with it.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import constants
from speech.features.front_end import CORPUS, FrontEnd
from speech.features.normalisation import Statistics
from speech.system import mistaken_paths, storage, typed_json
from speech.system.typed_json import FieldError
from utils import Alphabet, UserError

CONFIG_FORMAT = 1
CONFIG_FILE = "config.json"

# Courses of the learning rate after the warm-up.
SCHEDULES = ("exponential", "cosine", "constant")

# Limits of sizes, far beyond any network that fits into memory.
LARGEST_SIZE = 2**16
MOST_LAYERS = 100

# The sizes of all networks, which are fields of NetworkConfig.
SIZES = tuple(dict.fromkeys(size for sizes in constants.NETWORK_SIZES.values() for size in sizes))


@dataclass(frozen=True)
class NetworkConfig:
    """A network and its sizes; the same for training, evaluation and export.

    constants.NETWORK_SIZES describes each size and names those of each network. A size that the
    network doesn't have is 0, False or (). `of` fills in the network's default sizes.
    """

    bins: int  # of the features
    labels: int  # number of classes of the softmax, the blank among them
    name: str
    conv_channels: tuple[int, ...] = ()
    context_size: int = 0
    stride_size: int = 0
    dense_unit_size: int = 0
    recurrent_layers: int = 0
    recurrent_unit_size: int = 0
    layer_norm: bool = False
    layer_norm_epsilon: float = 0.0
    blocks: int = 0
    attention_heads: int = 0
    # The characters of a lexicon's pronunciations, which have a softmax of their own; (): none.
    phones: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for size, value in self.sizes.items():
            if isinstance(value, float):
                _check_epsilon(size, value)
            elif not isinstance(value, bool) and not _is_possible(size, value):
                raise UserError(
                    f"--{size}={as_flag(value)}: the network's sizes must be from 1 to "
                    f"{LARGEST_SIZE}, its layers from 1 to {MOST_LAYERS}."
                )
        for size in set(SIZES) - self.sizes.keys():
            if value := getattr(self, size):
                raise UserError(_foreign_size(size, value, self.name))
        if self.attention_heads:
            _check_blocks(self)
        elif self.phones:
            raise UserError(
                f"--lexicon: --network={self.name} has no output of phones: leave out --lexicon, "
                "or choose --network=conformer."
            )

    @classmethod
    def of(
        cls,
        bins: int,
        labels: int,
        name: str = constants.NETWORK,
        phones: tuple[str, ...] | None = None,
        **sizes: Any,
    ) -> "NetworkConfig":
        """Makes the config of a network.

        Args:
            phones: of a lexicon; None: there is none.
            sizes: those that differ from the network's defaults; None stands for the default.

        Raises:
            UserError: there is no such network, it doesn't have one of these sizes, or the size is
                out of range.
        """
        given = {size: value for size, value in sizes.items() if value is not None}
        defaults = default_sizes(name)
        for size, value in given.items():
            if size not in defaults:
                raise UserError(_foreign_size(size, value, name))
        return cls(bins, labels, name, phones=phones or (), **{**defaults, **given})

    @property
    def classes(self) -> int:
        """Number of classes of the output: those of the labels, then those of the phones."""
        return self.labels + (len(self.phones) + 1 if self.phones else 0)

    @property
    def sizes(self) -> dict[str, Any]:
        """The sizes that this network has, by their names."""
        return {size: getattr(self, size) for size in default_sizes(self.name)}

    def output_frames(self, frames: Any) -> Any:
        """Returns the number of outputs for a number of frames: an int or an integer tensor."""
        return (frames + self.stride_size - 1) // self.stride_size

    def to_json(self) -> dict[str, Any]:
        """Returns the JSON object of the config, in which a size that it doesn't have is null."""
        absent = dict.fromkeys(set(SIZES) - self.sizes.keys())
        return {**asdict(self), **absent, "phones": self.phones or None}


def default_sizes(name: str) -> dict[str, Any]:
    """Returns the sizes of a network where none are given.

    Raises:
        UserError: there is no such network.
    """
    if name not in constants.NETWORK_SIZES:
        raise UserError(
            f"--network={name} is unknown: choose among {', '.join(constants.NETWORK_SIZES)}."
        )
    return constants.NETWORK_SIZES[name]


def _foreign_size(size: str, value: Any, name: str) -> str:
    return (
        f"--{size}={as_flag(value)} is no size of --network={name}, which has "
        f"{' '.join(f'--{each}' for each in default_sizes(name))}: leave it out."
    )


@dataclass(frozen=True)
class NetworkChoice:
    """A network and its sizes before the data are known."""

    name: str = constants.NETWORK
    sizes: Mapping[str, Any] = field(default_factory=dict)  # None: the network's default
    is_default: bool = False  # nobody has chosen the network
    phones: tuple[str, ...] = ()  # of a lexicon, if there is one

    def config(self, front_end: FrontEnd, alphabet: Alphabet) -> NetworkConfig:
        """Returns the network's config for certain data; errors are those of NetworkConfig.of."""
        sizes = {"phones": self.phones, **self.sizes}
        return NetworkConfig.of(front_end.bins, alphabet.size, self.name, **sizes)

    def like(self, model: NetworkConfig) -> "NetworkChoice":
        """Returns the choice with a model's network and sizes, where none are chosen."""
        if self.name != model.name and not self.is_default:
            return self
        sizes = {size: getattr(model, size) for size in constants.NETWORK_SIZES[model.name]}
        chosen = {size: value for size, value in self.sizes.items() if value is not None}
        phones = self.phones or model.phones
        return NetworkChoice(model.name, {**sizes, **chosen}, phones=phones)


def _check_epsilon(size: str, value: float) -> None:
    if not 0 < value <= 1:
        raise UserError(f"--{size}={value:g} must be above 0 and at most 1, as in 1e-5.")


def _is_possible(size: str, value: int | tuple[int, ...]) -> bool:
    sizes = value if isinstance(value, tuple) else (value,)
    layers = sizes[0] if size in ("recurrent_layers", "blocks") else len(sizes)
    return 1 <= layers <= MOST_LAYERS and min(sizes) >= 1 and max(sizes) <= LARGEST_SIZE


def _check_blocks(config: NetworkConfig) -> None:
    if config.dense_unit_size % (2 * config.attention_heads):
        raise UserError(
            f"--dense_unit_size={config.dense_unit_size} must be a multiple of twice "
            f"--attention_heads={config.attention_heads}."
        )


def as_flag(value: Any) -> str:
    """Formats a size as its flag takes it."""
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value).lower()


@dataclass(frozen=True)
class TrainingConfig:
    """How a network is trained; may change when training is resumed."""

    train_batch_size: int = constants.TRAIN_BATCH_SIZE  # over all cores
    steps_per_epoch: int = 1
    learning_rate: float = constants.LEARNING_RATE
    learning_rate_schedule: str = constants.LEARNING_RATE_SCHEDULE  # one of SCHEDULES
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
                f"--learning_rate_schedule={self.learning_rate_schedule} is unknown: choose "
                f"among {', '.join(SCHEDULES)}."
            )


@dataclass(frozen=True)
class ModelConfig:
    """Everything that a model directory holds beside its checkpoints."""

    front_end: FrontEnd
    alphabet: Alphabet
    network: NetworkConfig
    training: TrainingConfig
    # Of the shards that it was first trained on, by which all its data is normalised; None unless
    # the front end normalises over the corpus.
    statistics: Statistics | None = None

    @property
    def phonetic_alphabet(self) -> Alphabet | None:
        """The alphabet of pronunciations; None if the network writes none."""
        return Alphabet(self.network.phones) if self.network.phones else None

    @property
    def output_seconds(self) -> float:
        """Seconds between two of the network's outputs."""
        return self.network.stride_size * self.front_end.step_seconds

    def to_json(self) -> str:
        return (
            json.dumps(
                {
                    "format": CONFIG_FORMAT,
                    "front_end": asdict(self.front_end),
                    "alphabet": self.alphabet.to_json(),
                    "network": self.network.to_json(),
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
        """Parses a config; raises a UserError that names `path` if the text is none."""
        remedy = "copy it again, or train the model with this version of the program"
        with typed_json.explain_errors(path, "a model's config", remedy):
            return cls.from_object(typed_json.parse_object(text))

    @classmethod
    def from_object(cls, content: Any) -> "ModelConfig":
        """Reads a config from a JSON object.

        Raises:
            FieldError: it is none.
            UserError: it has a value that a flag couldn't have.
        """
        typed_json.check_format(content, CONFIG_FORMAT)
        file = typed_json.read(_ConfigFile, content, "config", smallest=-typed_json.LARGEST)
        network = NetworkConfig.of(**vars(file.network))
        _check_consistent(file.front_end, file.alphabet, network, file.statistics)
        return cls(file.front_end, file.alphabet, network, file.training, file.statistics)


@dataclass(frozen=True)
class _NetworkFile:
    """The fields of a network's JSON; a size that is null or missing has its default."""

    bins: int
    labels: int
    name: str = constants.NETWORK
    conv_channels: tuple[int, ...] | None = None
    context_size: int | None = None
    stride_size: int | None = None
    dense_unit_size: int | None = None
    recurrent_layers: int | None = None
    recurrent_unit_size: int | None = None
    layer_norm: bool | None = None
    layer_norm_epsilon: float | None = None
    blocks: int | None = None
    attention_heads: int | None = None
    phones: tuple[str, ...] | None = None


@dataclass(frozen=True)
class _ConfigFile:
    """The fields of a config's JSON."""

    format: int
    front_end: FrontEnd
    alphabet: Alphabet
    network: _NetworkFile
    training: TrainingConfig
    statistics: Statistics | None = None  # the first version had none


def _check_consistent(
    front_end: FrontEnd, alphabet: Alphabet, network: NetworkConfig, statistics: Statistics | None
) -> None:
    """Raises FieldError where a config was changed into one that no training writes."""
    expected = front_end.bins if front_end.normalisation == CORPUS else 0
    found = len(statistics.mean) if statistics else 0
    if found != expected:
        raise FieldError(f"statistics are of {found} bins, not of {expected}")
    if (network.bins, network.labels) != (front_end.bins, alphabet.size):
        raise FieldError(
            f"network: {network.bins} bins and {network.labels} labels don't fit the front end's "
            f"{front_end.bins} and the alphabet's {alphabet.size}"
        )
    if network.phones and (network.phones[0] != " " or max(map(len, network.phones)) > 1):
        raise FieldError("network: phones are not a space and single characters")


def config_path(model_dir: str) -> str:
    return storage.join(model_dir, CONFIG_FILE)


def read_config(model_dir: str) -> ModelConfig:
    """Reads the config of a model directory.

    Raises:
        UserError: it has none, or it can't be read.
    """
    path = config_path(model_dir)
    if not storage.exists(path):
        raise UserError(
            mistaken_paths.explain_model(model_dir)
            or f"{model_dir} is not a model directory, it has no {CONFIG_FILE}: train a model with "
            f"python training.py --model_dir={model_dir}, or import one of DeepSpeech with python "
            "import_deepspeech.py"
        )
    return ModelConfig.from_json(storage.read_text(path), path)


def save_config(model_dir: str, config: ModelConfig) -> None:
    storage.write_text(config_path(model_dir), config.to_json())


def resume_config(model_dir: str, config: ModelConfig) -> ModelConfig:
    """Returns the config with which the training of a directory's model is resumed.

    That is `config` with the statistics by which the model's data was normalised so far, whatever
    the shards are now.

    Raises:
        UserError: the directory holds a model with another front end, alphabet or network.
    """
    saved = read_config(model_dir)
    check_same_model(saved, config, model_dir)
    return replace(config, statistics=saved.statistics)


def check_same_model(saved: ModelConfig, given: ModelConfig, model_dir: str) -> None:
    """Raises a UserError that names what differs in front end, alphabet or network."""
    network = replace(given.network, phones=saved.network.phones)
    differences = [
        *differing_fields(saved.front_end, given.front_end, "given", "front_end."),
        *differing_fields(saved.network, network, "given", "network."),
        *_differing_phones(saved.network.phones, given.network.phones),
        *_differing_alphabets(saved.alphabet, given.alphabet, "given"),
    ]
    if differences:
        raise UserError(
            f"The model in {model_dir} doesn't match: {'; '.join(differences)}. Use the flags and "
            "shards it was trained with, or another --model_dir."
        )


def check_same_front_end(
    config: ModelConfig, front_end: FrontEnd, alphabet: Alphabet, shards: str, model_dir: str
) -> None:
    """Raises a UserError if shards have another front end or alphabet than a model."""
    differences = [
        *differing_fields(config.front_end, front_end, "in the shards"),
        *_differing_alphabets(config.alphabet, alphabet, "in the shards"),
    ]
    if differences:
        raise UserError(
            f"The shards {shards} don't match the model in {model_dir}: {'; '.join(differences)}. "
            "Prepare them with the model's settings, or give another --model_dir."
        )


def differing_fields(saved: Any, other: Any, where: str, prefix: str = "") -> list[str]:
    """Describes what differs between two settings of one dataclass.

    Args:
        where: where the other setting is from, as in "in the shards".
    """
    before, now = asdict(saved), asdict(other)
    return [
        f"{prefix}{key} {before[key]} in the model, {now[key]} {where}"
        for key in now
        if before[key] != now[key]
    ]


def _differing_phones(saved: tuple[str, ...], given: tuple[str, ...]) -> list[str]:
    if saved == given:
        return []
    here = f"those of --lexicon are {' '.join(given[1:-1])}" if given else "there is no --lexicon"
    return [f"the model's phones are {' '.join(saved[1:-1]) or 'none'}, {here}"]


def _differing_alphabets(saved: Alphabet, other: Alphabet, where: str) -> list[str]:
    if saved == other:
        return []
    return [f"alphabet {str(saved)!r} in the model, {str(other)!r} {where}"]
