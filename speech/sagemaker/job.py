"""SageMaker's folder, /opt/ml: what a training job is to do, and the model that is to be served.

input/config/hyperparameters.json     flags by name, all values strings
input/config/inputdataconfig.json     the channels
input/config/resourceconfig.json      the machines
input/data/CHANNEL/                   a channel's files
checkpoints/                          kept in S3 while training goes on, if the job asks for it
model/                                becomes model.tar.gz, and is what an endpoint gets
output/failure                        why training failed
output/data/                          becomes output.tar.gz
"""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import constants
from speech.corpora.formats.registry import TABLE_SUFFIXES
from speech.decoding import scorer
from speech.system import typed_json
from utils import UserError

# SageMaker's own place for it; tests have another.
FOLDER_VARIABLE = "DEEP_SPEECH_SAGEMAKER_DIR"
DEFAULT_FOLDER = "/opt/ml"

TRAIN, DEV, TEST = "train", "dev", "test"
CHANNELS = (TRAIN, DEV, TEST)

# In front of a hyperparameter that is a flag of prepare_csv.py.
PREPARING = "prepare."

# The names of what SageMaker and its SDK add to hyperparameters begin so.
FOREIGN = ("_", "sagemaker_")

# Flags that the channels and the folder decide.
DECIDED = {
    "training.py": ("train_data", "dev_data", "model_dir"),
    "prepare_csv.py": (
        *("files_path", "train_files", "dev_files", "test_files", "split"),
        *("tfrecords_file", "tfrecords_dir", "upload_to"),
    ),
}

# What a model that is served may be, the best first.
SAVED_MODEL, MODEL_DIRECTORY, LITE = "SavedModel", "model directory", ".tflite file"


@dataclass(frozen=True)
class Folder:
    """Where things lie."""

    root: Path

    @property
    def config(self) -> Path:
        return self.root / "input" / "config"

    @property
    def data(self) -> Path:
        return self.root / "input" / "data"

    @property
    def model(self) -> Path:
        return self.root / "model"

    @property
    def checkpoints(self) -> Path:
        """There only if the job asks for it."""
        return self.root / "checkpoints"

    @property
    def failure(self) -> Path:
        return self.root / "output" / "failure"

    @property
    def report(self) -> Path:
        return self.root / "output" / "data" / "report"


@dataclass(frozen=True)
class Job:
    """What a training job is to do."""

    training: tuple[str, ...]  # flags of training.py
    preparing: tuple[str, ...]  # flags of prepare_csv.py
    shards: Mapping[str, str]  # channel -> pattern of its shards
    raw: Mapping[str, tuple[str, ...]]  # channel -> tables, or a folder, that shards are made of


def folder() -> Folder:
    return Folder(Path(os.environ.get(FOLDER_VARIABLE) or DEFAULT_FOLDER))


def read_job(where: Folder) -> Job:
    """What SageMaker has written into the folder.

    Raises:
        UserError: a file can't be read, a channel is missing, unknown or empty, a hyperparameter
            can't be one, or there are several machines.
    """
    check_machines(where)
    parameters = _read_json(where.config / "hyperparameters.json")
    training, preparing = {}, {}
    for name, value in parameters.items():
        if name.startswith(PREPARING):
            preparing[name.removeprefix(PREPARING)] = value
        elif not name.startswith(FOREIGN):
            training[name] = value
    shards, raw = {}, {}
    for channel in _channels(where):
        content = where.data / channel
        if pattern := _shards_in(content):
            shards[channel] = pattern
        else:
            raw[channel] = _corpus_in(content)
    if preparing and not raw:
        raise UserError(
            f"The hyperparameter {PREPARING}{next(iter(preparing))} is for channels that are yet "
            "to be prepared, and all of this job hold shards: leave it out."
        )
    return Job(
        _flags("training.py", training), _flags("prepare_csv.py", preparing, PREPARING), shards, raw
    )


def check_machines(where: Folder) -> None:
    """Raises UserError unless there is one machine."""
    path = where.config / "resourceconfig.json"
    hosts = _read_json(path).get("hosts", [])
    if not isinstance(hosts, list) or not all(isinstance(each, str) for each in hosts):
        raise UserError(f"{path} has the hosts {hosts!r}: write a list of names.")
    if len(hosts) > 1:
        raise UserError(
            f"The job has {len(hosts)} machines ({', '.join(hosts)}), which have no folder in "
            "common to train in: ask for InstanceCount=1; several GPUs of one machine train "
            "together by the hyperparameter distribution=mirrored."
        )


def _channels(where: Folder) -> list[str]:
    """The names of the channels; without SageMaker's list of them, of the folders there."""
    path = where.config / "inputdataconfig.json"
    told = _read_json(path)
    names = list(told) or sorted(path.name for path in where.data.glob("*") if path.is_dir())
    unknown = [name for name in names if name not in CHANNELS]
    if unknown or TRAIN not in names:
        raise UserError(
            f"The job has the channels {', '.join(names) or 'none'}: name them "
            f"{', '.join(CHANNELS)}, of which {TRAIN} is needed."
        )
    for name in names:
        settings = told.get(name) or {}
        if not isinstance(settings, dict):
            raise UserError(f"{path} has {settings!r} for the channel {name}: write an object.")
        mode = settings.get("TrainingInputMode", "File")
        if mode == "Pipe":
            raise UserError(
                f"The channel {name} comes by TrainingInputMode=Pipe: choose File or FastFile."
            )
    return names


def _shards_in(channel: Path) -> str:
    """The pattern of a channel's shards; empty if it has none."""
    indexes = sorted(channel.glob(f"*{constants.INDEX_SUFFIX}"))
    if len(indexes) > 1:
        raise UserError(
            f"{channel} holds several sets of shards ({', '.join(each.name for each in indexes)}): "
            "give each a channel of its own."
        )
    return str(indexes[0]).removesuffix(constants.INDEX_SUFFIX) + ".*" if indexes else ""


def _corpus_in(channel: Path) -> tuple[str, ...]:
    """A channel's tables, or without any the channel itself, as prepare_csv.py takes them."""
    tables = sorted(path for path in channel.glob("*") if path.suffix.lower() in TABLE_SUFFIXES)
    if not any(channel.glob("*")):
        raise UserError(
            f"{channel} is empty: it is to hold shards with their {constants.INDEX_SUFFIX}, or a "
            "corpus (docs/corpora.md)."
        )
    return tuple(map(str, tables)) or (str(channel),)


def _flags(door: str, parameters: Mapping[str, Any], prefix: str = "") -> tuple[str, ...]:
    """Hyperparameters as a door's flags; a list in JSON is a flag that is given several times."""
    flags = []
    for name, value in parameters.items():
        if name in DECIDED[door]:
            raise UserError(
                f"The hyperparameter {prefix}{name} can't be set, the job's channels and folders "
                "decide it: leave it out."
            )
        for each in _values(value):
            if re.search("[\0\ud800-\udfff]", name + each):
                raise UserError(
                    f"The hyperparameter {prefix + name!r} is {each!r}, with a character that no "
                    "command line takes: leave it out."
                )
            flags.append(f"--{name}={each}")
    return tuple(flags)


def _values(value: Any) -> list[str]:
    if isinstance(value, str) and value.startswith("["):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return [value]
    return [str(each) for each in value] if isinstance(value, list) else [str(value)]


def _read_json(path: Path) -> dict[str, Any]:
    """The object in a file; empty if there is no file, as where nobody but Docker starts it."""
    try:
        return typed_json.parse_object(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UserError(f"{path} can't be read: {error}. Write an object in JSON.") from None


def find_model(below: Path) -> Path:
    """The model to serve: a SavedModel before a model directory before a .tflite file.

    Raises:
        UserError: there is none, or several of the best kind.
    """
    found: dict[str, list[Path]] = {SAVED_MODEL: [], MODEL_DIRECTORY: [], LITE: []}
    for path in sorted(below.rglob("*")):
        if path.name == "saved_model.pb":
            found[SAVED_MODEL].append(path.parent)
        elif path.name == "config.json":
            found[MODEL_DIRECTORY].append(path.parent)
        elif path.suffix == ".tflite":
            found[LITE].append(path)
    for kind, paths in found.items():
        if len(paths) > 1:
            raise UserError(
                f"{below} holds several models ({', '.join(map(str, paths))}), each a {kind}: "
                "keep the one to be served."
            )
        if paths:
            return paths[0]
    raise UserError(
        f"{below} holds no model: it is to have a SavedModel or a .tflite file of export.py, or a "
        "model directory of training.py, anywhere below."
    )


def find_scorer(below: Path) -> Path | None:
    """The language model beside the model to serve, if there is one.

    Raises:
        UserError: there are several.
    """
    found = [path for path in sorted(below.rglob("*")) if path.is_file() and _is_scorer(path)]
    if len(found) > 1:
        raise UserError(
            f"{below} holds several scorers ({', '.join(map(str, found))}): keep the one to be "
            "used."
        )
    return found[0] if found else None


def _is_scorer(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(len(scorer.MAGIC)) == scorer.MAGIC
