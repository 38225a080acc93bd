"""Loads models for use, however they are stored: model directory, SavedModel, TensorFlow Lite.

All take features as front_end.extract returns them, or samples at the front end's rate and int16
scale, and return the input of decoding/beam_search.py. Models whose network carries a state also
take features piece by piece, for transcription/acoustic_stream.py.

TensorFlow is imported only for the models that it computes: that takes seconds and 500 MB.
"""

from types import ModuleType

from speech.export import tflite_metadata
from speech.export.acoustic_model import LITE_SUFFIX, AcousticModel
from speech.export.deepspeech_lite import DeepSpeechLiteModel
from speech.export.lite_model import LiteModel
from speech.mozilla.foreign_model import GRAPH_SUFFIXES
from speech.mozilla.lite_file import is_deepspeechs
from speech.networks.config import config_path
from speech.system import mistaken_paths, storage
from utils import UserError

# The file of a SavedModel's graph.
GRAPH_FILE = "saved_model.pb"


def _load_lite(path: str) -> AcousticModel:
    if storage.in_bucket(path):
        raise UserError(
            f"{path} is in a bucket, but a {LITE_SUFFIX} file is read from a local disk: copy it "
            "to this machine (gsutil cp) and name the copy."
        )
    # Read once, so that description and graph come from the same file.
    content = tflite_metadata.read_file(path)
    if tflite_metadata.DESCRIPTION_NAME.encode() not in content and is_deepspeechs(content):
        return DeepSpeechLiteModel(path, content)
    return LiteModel(path, content)


def _tensorflow_models(path: str) -> ModuleType:
    """Imports what loads the models that TensorFlow computes; path: of one, for messages."""
    try:
        from speech.export import tensorflow_models
    except ModuleNotFoundError as error:
        if error.name != "tensorflow":
            raise
        raise UserError(
            f"{path} needs TensorFlow, which isn't installed: pip install -e '.[cpu]', with an "
            f"Nvidia GPU '.[gpu]', or use a {LITE_SUFFIX} file, which needs none."
        ) from None
    return tensorflow_models


def load(path: str, checkpoint: str | None = None) -> AcousticModel:
    """Loads a model.

    Args:
        path: a model directory or a SavedModel, also gs://, a local file that ends with .tflite, or
            one of DeepSpeech that ends with .tflite, .pb or .pbmm.
        checkpoint: of a model directory, see `checkpoints.find_checkpoint`.

    Raises:
        UserError: it isn't a model, or can't be read.
    """
    if not path:
        raise UserError(
            "The model's path is empty: name a model directory of training.py, or a SavedModel or "
            f"a {LITE_SUFFIX} file of export.py."
        )
    if path.lower().endswith(LITE_SUFFIX):
        return _load_lite(path)
    if path.lower().endswith(GRAPH_SUFFIXES):
        return _tensorflow_models(path).DeepSpeechGraphModel(path)
    if storage.exists(storage.join(path, GRAPH_FILE)):
        return _tensorflow_models(path).load_saved_model(path)
    if storage.exists(config_path(path)):
        return _tensorflow_models(path).load_checkpoint(path, checkpoint)
    raise UserError(
        mistaken_paths.explain_model(path)
        or f"{path} is not a model: name a model directory of training.py, a SavedModel or a "
        f"{LITE_SUFFIX} file of export.py, or a .tflite, .pb or .pbmm file of DeepSpeech. "
        "import_deepspeech.py makes a model directory of DeepSpeech's checkpoints."
    )
