"""The English model that comes with this project, for programs that are given no model.

models/README.md is its card.
"""

import os
import sys

import constants
from speech.export.loading import GRAPH_FILE
from speech.networks.config import CONFIG_FILE
from utils import UserError

# Beside constants.py in a checkout; where pip puts setup.cfg's data_files if it is installed.
FOLDERS = (
    os.path.join(os.path.dirname(os.path.abspath(constants.__file__)), "models"),
    os.path.join(sys.prefix, "share", "deep-speech-tpu", "models"),
)
MODEL_FILE, SCORER_FILE = "english.tflite", "english.scorer"


def english_model() -> tuple[str, str]:
    """Returns the paths of the model and its scorer.

    Raises:
        UserError: they were removed.
    """
    for folder in FOLDERS:
        model, scorer = (os.path.join(folder, name) for name in (MODEL_FILE, SCORER_FILE))
        if os.path.exists(model) and os.path.exists(scorer):
            return model, scorer
    raise UserError(
        f"There is no model: {constants.MODEL_DIR}, the default, doesn't exist, nor does the "
        f"English one that comes with this project, {FOLDERS[0]}. Train a model with training.py, "
        "or name one with --model."
    )


def default_model() -> tuple[str, str | None]:
    """Returns the model for a program that is given none, and a scorer if it has one.

    That is training.py's default folder, if it has a model or the environment names it, else the
    English model.

    Raises:
        UserError: there is neither.
    """
    # Whoever names a place wants no other model than the one there: loading says if it has none.
    is_named = constants.MODEL_DIR != constants.LOCAL_MODEL_DIR
    files = (os.path.join(constants.MODEL_DIR, name) for name in (CONFIG_FILE, GRAPH_FILE))
    if is_named or any(map(os.path.exists, files)):
        return constants.MODEL_DIR, None
    return english_model()
