"""Reads checkpoints of DeepSpeech and Coqui STT, with the flags that are written beside them."""

import json
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from speech.mozilla.foreign_model import ForeignModel, Frames
from speech.system import mistaken_paths, storage
from speech.system.mistaken_paths import FLAGS_FILE, STATE_FILES
from speech.text import alphabets
from utils import UTF_8, Alphabet, UserError, lines_of

# The alphabet that Coqui STT writes beside its checkpoints.
ALPHABET_FILE = "alphabet.txt"

# Variables of the optimizer, and counters.
_OF_TRAINING = ("/Adam", "/Adam_1", "beta1_power", "beta2_power", "learning_rate", "global_step")


def read(path: str) -> ForeignModel:
    """Reads a checkpoint: its best or else last one of a folder, or one that is named.

    Args:
        path: folder or prefix of a checkpoint's files, local or gs://.

    Raises:
        UserError: there is no checkpoint, or it can't be read.
    """
    checkpoint = _find(path)
    folder = checkpoint.rpartition("/")[0]
    try:
        reader = tf.train.load_checkpoint(checkpoint)
        values = {
            name: reader.get_tensor(name)
            for name in reader.get_variable_to_shape_map()
            if not name.endswith(_OF_TRAINING)
        }
    except (tf.errors.OpError, IndexError, RuntimeError, ValueError) as error:
        raise UserError(
            f"The checkpoint {checkpoint} can't be read ({error}): copy it again."
        ) from None
    flags_path = storage.join(folder, FLAGS_FILE)
    try:
        flags = read_flags(flags_path)
        frames = Frames(
            int(flags.get("audio_sample_rate", Frames.sample_rate)),
            int(flags.get("feature_win_len", Frames.window_milliseconds)),
            int(flags.get("feature_win_step", Frames.step_milliseconds)),
        )
        clip = float(flags["relu_clip"]) if "relu_clip" in flags else None
    except (TypeError, ValueError) as error:
        raise UserError(
            f"{flags_path} can't be read ({error}): restore it, or remove it, if the model was "
            "trained with DeepSpeech's defaults."
        ) from None
    alphabet: Alphabet | None = None
    if flags.get("bytes_output_mode") in (True, "true"):
        alphabet = UTF_8
    elif storage.exists(storage.join(folder, ALPHABET_FILE)):
        alphabet = alphabets.read_alphabet(storage.join(folder, ALPHABET_FILE))
    return ForeignModel(checkpoint, values, alphabet, frames, relu_clip=clip)


def _find(path: str) -> str:
    path = path.removesuffix(".index")
    if storage.exists(f"{path}.index"):
        return path
    for name in STATE_FILES:
        state = tf.train.get_checkpoint_state(path, name)
        # The folder may have been moved: the state may have another one's path.
        named = state.model_checkpoint_path.rpartition("/")[2] if state else ""
        if named and storage.exists(storage.join(path, f"{named}.index")):
            return storage.join(path, named)
    if path.lower().endswith(mistaken_paths.SCORER_SUFFIX):
        raise UserError(mistaken_paths.explain_model(path))
    raise UserError(
        f"{path} has no checkpoint: name a folder with the file {STATE_FILES[1]}, a checkpoint "
        "without its ending, as in model/best_dev-1466475, or a .pb, .pbmm or .tflite file."
    )


def read_flags(path: str) -> Mapping[str, Any]:
    """Returns the flags of a training, name -> value; none if there is no such file."""
    if not storage.exists(path):
        return {}
    text = storage.read_text(path)
    if text.lstrip().startswith("{"):
        found: dict[str, Any] = json.loads(text)
        return found
    values: dict[str, Any] = {}
    for line in lines_of(text):
        name, given, value = line.removeprefix("--").partition("=")
        values[name] = value if given else True
    return values
