"""Reads SageMaker's folder, /opt/ml: the training job, and the model to serve.

input/config/hyperparameters.json     flags by name, with string values
input/config/inputdataconfig.json     the channels
input/config/resourceconfig.json      the machines
input/data/CHANNEL/                   files of a channel
checkpoints/                          copied to S3 during training, if the job requests it
model/                                becomes model.tar.gz, the content of an endpoint
output/failure                        reason of a failed training
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

# Tests use another folder.
FOLDER_VARIABLE = "DEEP_SPEECH_SAGEMAKER_DIR"
DEFAULT_FOLDER = "/opt/ml"

TRAIN, DEV, TEST = "train", "dev", "test"
CHANNELS = (TRAIN, DEV, TEST)

# Prefix of hyperparameters that are flags of prepare_csv.py.
PREPARING = "prepare."

# Prefixes of hyperparameters that SageMaker and its SDK add.
FOREIGN = ("_", "sagemaker_")

# Flags that the channels and the folder determine.
DETERMINED = {
    "training.py": ("train_data", "dev_data", "model_dir"),
    "prepare_csv.py": (
        *("files_path", "train_files", "dev_files", "test_files", "split"),
        *("tfrecords_file", "tfrecords_dir", "upload_to"),
    ),
}

# Kinds of models to serve, the preferred one first.
SAVED_MODEL, MODEL_DIRECTORY, LITE = "SavedModel", "model directory", ".tflite file"


@dataclass(frozen=True)
class Folder:
    """The paths in SageMaker's folder."""

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
        """Exists only if the job requests it."""
        return self.root / "checkpoints"

    @property
    def failure(self) -> Path:
        return self.root / "output" / "failure"

    @property
    def report(self) -> Path:
        return self.root / "output" / "data" / "report"


@dataclass(frozen=True)
class Job:
    """The settings of a training job."""

    training: tuple[str, ...]  # flags of training.py
    preparing: tuple[str, ...]  # flags of prepare_csv.py
    shards: Mapping[str, str]  # channel -> pattern of its shards
    raw: Mapping[str, tuple[str, ...]]  # channel -> tables, or a folder, to prepare


def folder() -> Folder:
    """Returns the folder that the environment variable names, else SageMaker's default."""
    return Folder(Path(os.environ.get(FOLDER_VARIABLE) or DEFAULT_FOLDER))


def read_job(where: Folder) -> Job:
    """Reads the job that SageMaker has written to the folder.

    Raises:
        UserError: a file can't be read, a channel is missing, unknown or empty, a hyperparameter
            is invalid, or there are several machines.
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
            f"The hyperparameter {PREPARING}{next(iter(preparing))} applies to the preparation of "
            "channels, but all channels of this job contain shards: leave it out."
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
            f"The job has {len(hosts)} machines ({', '.join(hosts)}) without a shared folder: "
            "request InstanceCount=1; several GPUs of one machine train together with the "
            "hyperparameter distribution=mirrored."
        )


def _channels(where: Folder) -> list[str]:
    """Returns the names in SageMaker's list of channels, else of the folders."""
    path = where.config / "inputdataconfig.json"
    listed = _read_json(path)
    names = list(listed) or sorted(path.name for path in where.data.glob("*") if path.is_dir())
    unknown = [name for name in names if name not in CHANNELS]
    if unknown or TRAIN not in names:
        raise UserError(
            f"The job has the channels {', '.join(names) or 'none'}: name them "
            f"{', '.join(CHANNELS)}; {TRAIN} is required."
        )
    for name in names:
        settings = listed.get(name) or {}
        if not isinstance(settings, dict):
            raise UserError(f"{path} has {settings!r} for the channel {name}: write an object.")
        mode = settings.get("TrainingInputMode", "File")
        if mode == "Pipe":
            raise UserError(
                f"The channel {name} has TrainingInputMode=Pipe: choose File or FastFile."
            )
    return names


def _shards_in(channel: Path) -> str:
    """Returns the pattern of a channel's shards; empty if it has none."""
    indexes = sorted(channel.glob(f"*{constants.INDEX_SUFFIX}"))
    if len(indexes) > 1:
        raise UserError(
            f"{channel} contains several sets of shards "
            f"({', '.join(each.name for each in indexes)}): give each its own channel."
        )
    return str(indexes[0]).removesuffix(constants.INDEX_SUFFIX) + ".*" if indexes else ""


def _corpus_in(channel: Path) -> tuple[str, ...]:
    """Returns the tables of a channel, else its folder, for prepare_csv.py."""
    tables = sorted(path for path in channel.glob("*") if path.suffix.lower() in TABLE_SUFFIXES)
    if not any(channel.glob("*")):
        raise UserError(
            f"{channel} is empty: add shards with their {constants.INDEX_SUFFIX}, or a corpus "
            "(docs/corpora.md)."
        )
    return tuple(map(str, tables)) or (str(channel),)


def _flags(door: str, parameters: Mapping[str, Any], prefix: str = "") -> tuple[str, ...]:
    """Returns hyperparameters as flags of a door; a JSON list repeats a flag."""
    flags = []
    for name, value in parameters.items():
        if name in DETERMINED[door]:
            raise UserError(
                f"The hyperparameter {prefix}{name} can't be set, the channels and folders of the "
                "job determine it: leave it out."
            )
        for each in _values(value):
            if re.search("[\0\ud800-\udfff]", name + each):
                raise UserError(
                    f"The hyperparameter {prefix + name!r} is {each!r}, with a character that a "
                    "command line can't contain: leave it out."
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
    """Reads the JSON object in a file; empty if there is no file, as without SageMaker."""
    try:
        return typed_json.parse_object(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UserError(f"{path} can't be read: {error}. Write an object in JSON.") from None


def find_model(below: Path) -> Path:
    """Finds the model to serve: a SavedModel, else a model directory, else a .tflite file.

    Raises:
        UserError: there is none, or several of the preferred kind.
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
                f"{below} contains several models ({', '.join(map(str, paths))}), each a {kind}: "
                "keep the one to serve."
            )
        if paths:
            return paths[0]
    raise UserError(
        f"{below} contains no model: add a SavedModel or a .tflite file of export.py, or a model "
        "directory of training.py, anywhere below."
    )


def find_scorer(below: Path) -> Path | None:
    """Finds the scorer of the model to serve, if there is one.

    Raises:
        UserError: there are several.
    """
    found = [
        path for path in sorted(below.rglob("*")) if path.is_file() and scorer.is_scorer(str(path))
    ]
    if len(found) > 1:
        raise UserError(
            f"{below} contains several scorers ({', '.join(map(str, found))}): keep the one to use."
        )
    return found[0] if found else None
