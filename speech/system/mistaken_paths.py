"""Says what a path is that was given for a model directory, a model or a scorer."""

import os

from speech.system import storage

MODEL_SUFFIXES = (".pb", ".pbmm", ".tflite")
SCORER_SUFFIX = ".scorer"

# Files of DeepSpeech that name the checkpoints of a folder: of the best one and of the last, as
# `--load_evaluate auto` takes them.
STATE_FILES = ("best_dev_checkpoint", "checkpoint")
# The file of its flags: absl's --name=value lines of DeepSpeech, or JSON of Coqui STT.
FLAGS_FILE = "flags.txt"
# What only our checkpoints are called.
_OUR_NAME = "model.ckpt"


def explain_model(path: str) -> str:
    """Returns what a path that is no model directory is instead, and what to do; empty: unknown.

    Args:
        path: without config.json, local or gs://.
    """
    importing = f"python import_deepspeech.py {path} --model_dir=NEW"
    if path.lower().endswith(SCORER_SUFFIX):
        return f"{path} is a scorer: give it with --scorer, and a model here."
    if path.lower().endswith(MODEL_SUFFIXES):
        return (
            f"{path} is a model's file, and a model directory is needed here. {importing} makes "
            "one of a model of DeepSpeech; transcribe.py and eval.py --model take the file as it "
            "is."
        )
    if _has_deepspeechs_checkpoints(path):
        return (
            f"{path} has checkpoints of DeepSpeech: {importing} --alphabet=alphabet.txt makes a "
            "model directory of them. Name that here."
        )
    return ""


def explain_scorer(path: str) -> str:
    """Returns that a path for a scorer is a model's file; empty: it isn't."""
    if path.lower().endswith(MODEL_SUFFIXES):
        return f"{path} is a model's file: give it as the model, and a scorer here."
    return ""


def _has_deepspeechs_checkpoints(path: str) -> bool:
    if storage.exists(f"{path.removesuffix('.index')}.index"):
        return _OUR_NAME not in path.rpartition("/")[2]
    if any(storage.exists(storage.join(path, name)) for name in (STATE_FILES[0], FLAGS_FILE)):
        return True
    state = storage.join(path, STATE_FILES[-1])
    return (
        bool(storage.size(state))
        and not os.path.isdir(state)
        and _OUR_NAME.encode() not in storage.read_bytes(state)
    )
