"""Checkpoints of a model directory: the latest, the best, and averages of several.

The best lies apart, in best/, where later ones don't push it out; an average in average/.
"""

import os
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from absl import flags, logging
from google.protobuf import text_format
from tensorflow.python.training.checkpoint_state_pb2 import CheckpointState

import constants
from speech.system import storage
from utils import UserError

BEST = "best"
AVERAGE = "average"
LATEST = "latest"

# TensorFlow's, which names a folder's checkpoints.
STATE_FILE = "checkpoint"


def refuse_pattern(folder: str) -> None:
    """Refuses a folder's name that TensorFlow would take for a pattern.

    Raises:
        UserError: it has one of *?[].
    """
    if set(folder) & set("*?[]"):
        raise UserError(
            f"{folder} has one of *?[] in its name, by which TensorFlow looks for its files "
            "elsewhere: give the folder another name."
        )


def latest_checkpoint(folder: str) -> str | None:
    """Returns the path of a folder's latest checkpoint; None if it names none, or one that is gone.

    Raises:
        UserError: what names the folder's checkpoints can't be read.
    """
    paths = kept_checkpoints(folder)
    return paths[0] if paths and tf.io.gfile.exists(f"{paths[0]}.index") else None


def steps_of(checkpoint: str | None) -> int:
    """Steps that a checkpoint was trained for; none are 0.

    Raises:
        UserError: it can't be read.
    """
    if not checkpoint:
        return 0
    try:
        return int(tf.train.load_variable(checkpoint, "global_step"))
    except (tf.errors.OpError, IndexError, RuntimeError, ValueError) as error:
        raise UserError(
            f"The checkpoint {checkpoint} can't be read: {error}. Bring it back, or take another "
            "one (eval.py --checkpoint); training.py goes on from the one before."
        ) from None


def find_checkpoint(model_dir: str, which: str | None) -> str:
    """Path of a checkpoint.

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
            f"There is no checkpoint {which}: name best, average or latest, or a path without its "
            f"ending, as in {storage.join(model_dir, 'model.ckpt-1000')}."
        )
    more = " --average_checkpoints=5" if which == AVERAGE else ""
    raise UserError(
        f"{model_dir} has no checkpoint that is the {which}: python training.py "
        f"--model_dir={model_dir}{more} makes one."
    )


def define_checkpoint_flags() -> None:
    """Which of a model's checkpoints a door takes; `asked_checkpoint` finds it."""
    flags.DEFINE_string(
        "checkpoint",
        None,
        "best (on the development data), latest, average, or a path; default: the best, if "
        "training looked at development data, else the latest.",
    )
    flags.DEFINE_string(
        "average_checkpoints",
        None,
        "Take the average of the last checkpoints: their number, as in 5, or a weight for each, "
        "newest first, as in 3,2,1.",
    )


def asked_checkpoint(model_dir: str, which: str | None, averaged: str | None) -> str:
    """Path of the checkpoint that --checkpoint and --average_checkpoints ask for.

    Raises:
        UserError: both are given, or there is no such checkpoint.
    """
    if not averaged:
        return find_checkpoint(model_dir, which)
    if which:
        raise UserError("--checkpoint and --average_checkpoints are two: give one.")
    return average(model_dir, parse_weights(averaged))


def keep_apart(checkpoint: str, folder: str) -> None:
    """Copies a checkpoint into a folder of its own, in place of the one that is there.

    Stopped at any moment, the folder names the old one or the new one, whole.
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
    """Weights of an average, newest checkpoint first: "5" is five equal ones, "3,2,1" three.

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
    """Path of the weighted mean of a model directory's last checkpoints, newest first.

    It is written into average/. Integers, such as the step, are the newest one's.

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
    names = sorted(readers[0].get_variable_to_shape_map())
    tensors = [_mean([reader.get_tensor(name) for reader in readers], shares) for name in names]
    folder = storage.join(model_dir, AVERAGE)
    path = _inside(folder, kept[0])
    tf.io.gfile.makedirs(folder)
    tf.raw_ops.SaveV2(
        prefix=path, tensor_names=names, shape_and_slices=[""] * len(names), tensors=tensors
    )
    _announce(folder, [path])
    return path


def _mean(values: Sequence[np.ndarray], shares: np.ndarray) -> np.ndarray:
    if not np.issubdtype(values[0].dtype, np.floating):
        return values[0]
    total = sum(
        share * value.astype(np.float64) for share, value in zip(shares, values, strict=True)
    )
    return np.asarray(total, values[0].dtype)


def _inside(folder: str, checkpoint: str) -> str:
    return storage.join(folder, checkpoint.rpartition("/")[2])


def _announce(folder: str, checkpoints: Sequence[str]) -> None:
    """Makes these the folder's checkpoints, oldest first, by name alone: it may be moved.

    TensorFlow's own function takes a name for a path from where the process runs.
    """
    names = [path.rpartition("/")[2] for path in checkpoints]
    lines = [f'model_checkpoint_path: "{names[-1]}"']
    lines += [f'all_model_checkpoint_paths: "{name}"' for name in names]
    storage.write_text(storage.join(folder, STATE_FILE), "".join(f"{line}\n" for line in lines))


def _files_of(checkpoint: str) -> list[str]:
    folder, _, prefix = checkpoint.rpartition("/")
    names = tf.io.gfile.listdir(folder)
    return [storage.join(folder, name) for name in names if name.startswith(f"{prefix}.")]


# --- What happens to checkpoints ------------------------------------------------------------------


def kept_checkpoints(folder: str) -> list[str]:
    """Returns the paths of the checkpoints that a folder names, newest first.

    Not by tf.train.get_checkpoint_state, for which a file that is damaged is one that is not there:
    a training would begin again in the place of the old one.

    Raises:
        UserError: what names them can't be read.
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
            f"{path} doesn't name the folder's checkpoints ({error}): bring it back, or write the "
            'newest one\'s name into it, as in model_checkpoint_path: "model.ckpt-1000".'
        ) from None
    latest = state.model_checkpoint_path
    older = [each for each in reversed(state.all_model_checkpoint_paths) if each != latest]
    return [
        each if os.path.isabs(each) else storage.join(folder, each) for each in (latest, *older)
    ]


def trained_checkpoints(folder: str) -> list[str]:
    """Those of `kept_checkpoints` that were trained for a step at least."""
    return [path for path in kept_checkpoints(folder) if not path.endswith("-0")]


def give_up_damaged(folder: str) -> None:
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
        logging.warning("%s can't be read and is given up: %s", path, problem)
    if kept:
        raise UserError(
            f"No checkpoint in {folder} can be read, the newest is {kept[0]}: bring one back, or "
            f"remove {storage.join(folder, STATE_FILE)} to begin anew."
        )


def _problem(checkpoint: str) -> str:
    """Why a checkpoint can't be read; empty if it can."""
    try:
        reader = tf.train.load_checkpoint(checkpoint)
        for name in reader.get_variable_to_shape_map():
            reader.get_tensor(name)
    except (tf.errors.OpError, IndexError, RuntimeError, ValueError) as error:
        return str(error).partition("\n")[0] or type(error).__name__
    return ""
