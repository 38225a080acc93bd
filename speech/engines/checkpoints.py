"""Checkpoints of a model directory: the latest, the best, and averages of several.

The best is copied into best/, where later ones don't replace it; an average is in average/.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from absl import logging
from google.protobuf import text_format
from tensorflow.python.training.checkpoint_state_pb2 import CheckpointState

import constants
from speech.engines.errors import first_line
from speech.system import storage
from utils import UserError

BEST = "best"
AVERAGE = "average"
LATEST = "latest"

# TensorFlow's file of the names of a folder's checkpoints.
STATE_FILE = "checkpoint"


def refuse_pattern(folder: str) -> None:
    """Raises a UserError if TensorFlow would take a folder's name for a pattern."""
    if set(folder) & set("*?[]"):
        raise UserError(
            f"{folder} has one of *?[] in its name, which TensorFlow takes for a pattern: give the "
            "folder another name."
        )


def latest_checkpoint(folder: str) -> str | None:
    """Returns the path of a folder's latest checkpoint; None without one, or if it is missing.

    Raises:
        UserError: the file of the checkpoints' names can't be read.
    """
    paths = kept_checkpoints(folder)
    return paths[0] if paths and tf.io.gfile.exists(f"{paths[0]}.index") else None


def latest_step(folder: str) -> int:
    """Returns the step of a folder's latest checkpoint; 0 without one.

    Raises:
        UserError: it can't be read.
    """
    return steps_of(latest_checkpoint(folder))


def steps_of(checkpoint: str | None) -> int:
    """Returns the number of steps that a checkpoint was trained for; 0 for None.

    Raises:
        UserError: it can't be read.
    """
    if not checkpoint:
        return 0
    try:
        return int(tf.train.load_variable(checkpoint, "global_step"))
    except (tf.errors.OpError, IndexError, RuntimeError, ValueError) as error:
        raise UserError(
            f"The checkpoint {checkpoint} can't be read: {error}. Restore it, or use another one "
            "(eval.py --checkpoint); training.py continues from the one before."
        ) from None


def find_checkpoint(model_dir: str, which: str | None) -> str:
    """Returns the path of a checkpoint.

    Args:
        which: best, average, latest, or a path; None for the best, or the latest if there is none.

    Raises:
        UserError: there is no such checkpoint.
    """
    refuse_pattern(model_dir)
    if which and which.lower() in (BEST, AVERAGE, LATEST):
        which = which.lower()
    if which is None:
        best = latest_checkpoint(storage.join(model_dir, BEST))
        which = BEST if best else LATEST
    if which in (BEST, AVERAGE, LATEST):
        folder = model_dir if which == LATEST else storage.join(model_dir, which)
        found = latest_checkpoint(folder)
    else:
        found = which if tf.io.gfile.exists(f"{which}.index") else None
    if found:
        return found
    if which not in (BEST, AVERAGE, LATEST):
        raise UserError(
            f"There is no checkpoint {which}: give best, average or latest, or a path without its "
            f"ending, as in {storage.join(model_dir, 'model.ckpt-1000')}."
        )
    more = " --average_checkpoints=5" if which == AVERAGE else ""
    raise UserError(
        f"{model_dir} has no checkpoint that is the {which}: python training.py "
        f"--model_dir={model_dir}{more} makes one."
    )


@dataclass(frozen=True)
class CheckpointChoice:
    """Which of a model's checkpoints a program uses."""

    which: str | None = None  # as `find_checkpoint` takes it
    average_weights: tuple[float, ...] = ()  # newest first; of an average to make, if there are any

    def find(self, model_dir: str) -> str:
        """Returns the checkpoint's path; makes the average if that is the choice.

        Raises:
            UserError: there is no such checkpoint, or there are too few to average.
        """
        if self.average_weights:
            return average(model_dir, self.average_weights)
        return find_checkpoint(model_dir, self.which)


def replace_copy(checkpoint: str, folder: str) -> None:
    """Copies a checkpoint into a folder, in place of the one that is there.

    Whenever the process ends, the folder names the old one or the new one, complete.
    """
    tf.io.gfile.makedirs(folder)
    kept = _inside(folder, checkpoint)
    for path in _files_of(checkpoint):
        tf.io.gfile.copy(path, kept + path.removeprefix(checkpoint), overwrite=True)
    _announce(folder, [kept])
    stay = {storage.join(folder, STATE_FILE), *_files_of(kept)}
    for name in tf.io.gfile.listdir(folder):
        path = storage.join(folder, name)
        if path not in stay:
            tf.io.gfile.remove(path)


def parse_weights(text: str) -> tuple[float, ...]:
    """Parses the weights of an average, newest checkpoint first.

    Args:
        text: "5" for five equal weights, "3,2,1" for these three.

    Raises:
        UserError: the text is neither.
    """
    try:
        numbers = tuple(float(each) for each in text.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) == 1 and numbers[0] in range(1, constants.MOST_CHECKPOINTS + 1):
        return (1.0,) * int(numbers[0])
    if len(numbers) > 1 and min(numbers) >= 0 and 0 < sum(numbers) < float("inf"):
        return numbers
    raise UserError(
        f"--average_checkpoints={text}: give a number of checkpoints, as in 5, or a weight for "
        "each, newest first, as in 3,2,1."
    )


def average(model_dir: str, weights: Sequence[float]) -> str:
    """Writes the weighted mean of a model directory's last checkpoints into average/.

    Integers, such as the step, are the newest checkpoint's.

    Args:
        weights: newest checkpoint first.

    Returns:
        The path of the average.

    Raises:
        UserError: fewer checkpoints are kept than weights are given.
    """
    kept = trained_checkpoints(model_dir)
    if len(kept) < len(weights):
        raise UserError(
            f"--average_checkpoints asks for {len(weights)} checkpoints, {model_dir} keeps "
            f"{len(kept)}: lower it, or train with a larger --keep_checkpoint_max."
        )
    readers = [tf.train.load_checkpoint(path) for path in kept[: len(weights)]]
    shares = np.asarray(weights) / np.sum(weights)
    values = {
        name: _mean([reader.get_tensor(name) for reader in readers], shares)
        for name in sorted(readers[0].get_variable_to_shape_map())
    }
    folder = storage.join(model_dir, AVERAGE)
    path = _inside(folder, kept[0])
    _write(path, values)
    _announce(folder, [path])
    return path


def _mean(values: Sequence[np.ndarray], shares: np.ndarray) -> np.ndarray:
    if not np.issubdtype(values[0].dtype, np.floating):
        return values[0]
    total = sum(
        share * value.astype(np.float64) for share, value in zip(shares, values, strict=True)
    )
    return np.asarray(total, values[0].dtype)


def save(folder: str, values: Mapping[str, Any], keep: int) -> str:
    """Saves variables as a folder's latest checkpoint.

    Args:
        values: variable's name -> array; `global_step` is the checkpoint's step.
        keep: number of checkpoints that remain; older ones are removed.

    Returns:
        The path of the checkpoint.
    """
    path = storage.join(folder, f"model.ckpt-{int(values['global_step'])}")
    _write(path, values)
    kept = [*(each for each in reversed(kept_checkpoints(folder)) if each != path), path]
    _announce(folder, kept[-keep:])
    for old in kept[:-keep]:
        for file in _files_of(old):
            tf.io.gfile.remove(file)
    return path


def restore(checkpoint: str, variables: Mapping[str, Any]) -> None:
    """Assigns a checkpoint's values to variables.

    Args:
        variables: name in the checkpoint -> tf.Variable.

    Raises:
        tf.errors.NotFoundError: the checkpoint has no value for one of them.
        UserError: the value of one has another shape.
    """
    reader = tf.train.load_checkpoint(checkpoint)
    shapes = reader.get_variable_to_shape_map()
    for name, variable in variables.items():
        own = variable.shape.as_list()
        if name in shapes and shapes[name] != own:
            raise UserError(
                f"{checkpoint} has {name} of the shape {shapes[name]}, this network's is {own}: it "
                "is of another network, or its config.json was changed."
            )
        variable.assign(reader.get_tensor(name))


def _write(path: str, values: Mapping[str, Any]) -> None:
    tf.io.gfile.makedirs(path.rpartition("/")[0])
    tf.raw_ops.SaveV2(
        prefix=path,
        tensor_names=list(values),
        shape_and_slices=[""] * len(values),
        tensors=list(values.values()),
    )


def _inside(folder: str, checkpoint: str) -> str:
    return storage.join(folder, checkpoint.rpartition("/")[2])


def _announce(folder: str, checkpoints: Sequence[str]) -> None:
    """Names a folder's checkpoints in its file, oldest first.

    Without their folder, which may be moved: TensorFlow's own function takes a name for a path from
    where the process runs.
    """
    names = [path.rpartition("/")[2] for path in checkpoints]
    lines = [f'model_checkpoint_path: "{names[-1]}"']
    lines += [f'all_model_checkpoint_paths: "{name}"' for name in names]
    storage.write_text(storage.join(folder, STATE_FILE), "".join(f"{line}\n" for line in lines))


def _files_of(checkpoint: str) -> list[str]:
    folder, _, prefix = checkpoint.rpartition("/")
    names = tf.io.gfile.listdir(folder)
    return [storage.join(folder, name) for name in names if name.startswith(f"{prefix}.")]


# --- The checkpoints of a folder ------------------------------------------------------------------


def kept_checkpoints(folder: str) -> list[str]:
    """Returns the paths of the checkpoints that a folder's file names, newest first.

    Not by tf.train.get_checkpoint_state, which takes a damaged file for a missing one: a training
    would start from the beginning and replace the old one.

    Raises:
        UserError: the file can't be read.
    """
    path = storage.join(folder, STATE_FILE)
    if not storage.exists(path):
        return []
    state = CheckpointState()
    try:
        text_format.Merge(storage.read_text(path), state)
        if not state.model_checkpoint_path:
            raise ValueError("it has no model_checkpoint_path")
    except (text_format.ParseError, ValueError) as error:
        raise UserError(
            f"{path} doesn't name the folder's checkpoints ({error}): restore it, or write the "
            'newest one\'s name into it, as in model_checkpoint_path: "model.ckpt-1000".'
        ) from None
    latest = state.model_checkpoint_path
    older = [each for each in reversed(state.all_model_checkpoint_paths) if each != latest]
    return [
        each if os.path.isabs(each) else storage.join(folder, each) for each in (latest, *older)
    ]


def trained_checkpoints(folder: str) -> list[str]:
    """Returns those of `kept_checkpoints` that were trained for at least one step."""
    return [path for path in kept_checkpoints(folder) if not path.endswith("-0")]


def drop_damaged(folder: str) -> None:
    """Makes the newest checkpoint that can be read the latest one of a folder.

    Raises:
        UserError: the folder names checkpoints, none of which can be read.
    """
    kept = kept_checkpoints(folder)
    for number, path in enumerate(kept):
        problem = _problem(path)
        if not problem:
            if number:
                _announce(folder, list(reversed(kept[number:])))
            return
        logging.warning("%s can't be read and is dropped: %s", path, problem)
    if kept:
        raise UserError(
            f"No checkpoint in {folder} can be read, the newest is {kept[0]}: restore one, or "
            f"remove {storage.join(folder, STATE_FILE)} to start training from the beginning."
        )


def _problem(checkpoint: str) -> str:
    """Returns why a checkpoint can't be read; empty if it can."""
    try:
        reader = tf.train.load_checkpoint(checkpoint)
        for name in reader.get_variable_to_shape_map():
            reader.get_tensor(name)
    except (tf.errors.OpError, IndexError, RuntimeError, ValueError) as error:
        return str(error).partition("\n")[0] or type(error).__name__
    return ""


def check_writable(model_dir: str) -> None:
    """Writes and removes a file, in the way in which TensorFlow will write checkpoints.

    TensorFlow reaches a bucket by its own code and credentials, which can differ from those of
    speech/system/storage.py.

    Raises:
        UserError: TensorFlow can't write there.
    """
    refuse_pattern(model_dir)
    path = storage.join(model_dir, ".writable")
    try:
        if not storage.in_bucket(model_dir):  # which needs no folders
            tf.io.gfile.makedirs(model_dir)
        with tf.io.gfile.GFile(path, "w") as file:
            file.write("This file may be removed.\n")
        tf.io.gfile.remove(path)
    except tf.errors.OpError as error:
        remedy = "Choose another folder, or make room and check that you may write there"
        if storage.in_bucket(model_dir):
            remedy = (
                "Check the bucket's name, log in (gcloud auth application-default login), or give "
                "this account the role Storage Object Admin on the bucket"
            )
        raise UserError(
            f"TensorFlow can't write into --model_dir={model_dir}: {first_line(error.message)}. "
            f"{remedy}."
        ) from None
