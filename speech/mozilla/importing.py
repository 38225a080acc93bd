"""Imports models of DeepSpeech and Coqui STT: any of their files -> a model directory."""

import numpy as np
from absl import logging
from tabulate import tabulate

from speech.engines import checkpoints
from speech.mozilla import checkpoint_folder, conversion, graph_file, lite_file
from speech.mozilla.foreign_model import GRAPH_SUFFIXES, ForeignModel
from speech.networks.config import ModelConfig, config_path, save_config
from speech.system import storage
from utils import Alphabet, UserError, lines_of

LITE_SUFFIX = ".tflite"


def read(path: str) -> ForeignModel:
    """Reads a model.

    Args:
        path: a .pb, .pbmm or .tflite file, a folder of checkpoints, or a checkpoint.

    Raises:
        UserError: it is none, or can't be read.
    """
    try:
        if path.lower().endswith(GRAPH_SUFFIXES):
            return graph_file.read(path)
        if path.lower().endswith(LITE_SUFFIX):
            return lite_file.read(path)
    except OSError as error:
        raise UserError(f"{path} can't be read: {error.strerror}. Check the path.") from None
    return checkpoint_folder.read(path)


def import_model(path: str, alphabet: Alphabet | None, model_dir: str) -> ModelConfig:
    """Writes the config and the checkpoint of a model into a model directory.

    Args:
        path: as in `read`.
        alphabet: None: the one that the model contains.
        model_dir: folder without a model.

    Returns:
        the config.

    Raises:
        UserError: the model can't be imported, or there is one in the folder.
    """
    if not model_dir:
        raise UserError("--model_dir= names no folder: give a new one, as in --model_dir=model.")
    # DeepSpeech's checkpoints have the same file of their names, and would be removed as old ones.
    occupied = (config_path(model_dir), storage.join(model_dir, checkpoints.STATE_FILE))
    if any(storage.exists(path) for path in occupied):
        raise UserError(f"--model_dir={model_dir} has a model already: name a folder without one.")
    model = read(path)
    config = conversion.config_of(model, alphabet)
    variables = conversion.variables_of(model, config)
    logging.info("%s", model.path)
    rows = conversion.table(model, variables)
    for line in lines_of(tabulate(rows, ("theirs", "here", "shape"), tablefmt="plain")):
        logging.info("%s", line)
    checkpoints.check_writable(model_dir)
    checkpoints.save(model_dir, {**variables, "global_step": np.int64(0)}, keep=1)
    save_config(model_dir, config)
    return config
