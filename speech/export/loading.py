"""A model ready to be used, whatever it is stored as: model directory, SavedModel, TensorFlow Lite.

All take features as features.extract gives them, or samples at the front end's rate and int16
scale, and give what decoding/beam_search.py makes text of. Those whose network carries a state also
take features piece by piece, for transcription/acoustic_stream.py.
"""

import threading
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from speech.engines import checkpoints
from speech.export import saved_model, tflite, tflite_metadata
from speech.export.acoustic_graph import restored
from speech.export.description import Description
from speech.features import front_end
from speech.networks.config import config_path, read_config
from speech.system import storage
from utils import UserError

Floats = npt.NDArray[np.float32]
Samples = npt.NDArray[np.int16] | Floats

# What a network carries from one piece of an utterance to the next.
State = tuple[Any, ...]

LITE_SUFFIX = ".tflite"

# Batches are padded to multiples of so many frames. For each shape of its inputs oneDNN keeps what
# it has prepared, of a small network 0.5 MB: a server's memory would grow for hours.
FRAMES_MULTIPLE = 128


class AcousticModel(Protocol):
    """Natural-log probabilities of an utterance's labels, float32 [outputs, labels]."""

    @property
    def description(self) -> Description: ...

    def of_features(self, features: Floats) -> Floats:
        """features: float32 [frames, bins], of one frame at least."""

    def of_samples(self, samples: Samples) -> Floats:
        """samples: int16 or float32 [samples] at int16 scale, one at least."""

    def of_batch(self, batch: Sequence[Floats]) -> list[Floats]:
        """`of_features` of each utterance of a batch."""

    @property
    def carries_state(self) -> bool:
        """Whether there is `stream`: of networks without it, and of older exports, there isn't."""

    def stream(
        self, features: Floats, padding: tuple[int, int], state: State | None
    ) -> tuple[Floats, State]:
        """Natural-log probabilities of a piece of an utterance, [outputs, labels].

        Args:
            features: float32 [frames, bins], normalised over a corpus by none or here, for the
                windows of one output or more, as DeepSpeechLstm.stream tells.
            padding: frames of zeros in front of and behind these.
            state: what the piece before returned; None for the first one.
        """


def load(path: str, checkpoint: str | None = None) -> AcousticModel:
    """The model that lies somewhere.

    Args:
        path: a model directory or a SavedModel, also gs://, or a local file that ends with .tflite.
        checkpoint: of a model directory; as of `checkpoints.find_checkpoint`.

    Raises:
        UserError: it is none of these, or can't be read.
    """
    if not path:
        raise UserError(
            "The model's path is empty: name a model directory of training.py, or a SavedModel or "
            f"a {LITE_SUFFIX} file of export.py."
        )
    if path.endswith(LITE_SUFFIX):
        return LiteModel(path)
    if storage.exists(storage.join(path, saved_model.GRAPH_FILE)):
        checkpoints.refuse_pattern(path)
        return SavedModel(path)
    if storage.exists(config_path(path)):
        return CheckpointModel(path, checkpoints.find_checkpoint(path, checkpoint))
    raise UserError(
        f"{path} is no model: name a model directory of training.py, or a SavedModel or a "
        f"{LITE_SUFFIX} file of export.py."
    )


class CheckpointModel:
    """A checkpoint of a model directory."""

    def __init__(self, model_dir: str, checkpoint: str) -> None:
        """
        Raises:
            UserError: there is no config, or the checkpoint can't be read.
        """
        config = read_config(model_dir)
        self.description = Description(config, checkpoints.steps_of(checkpoint))
        self._graph = graph = restored(config, checkpoint)
        self._compute = tf.function(
            graph.of_features,
            [
                tf.TensorSpec([None, None, config.front_end.bins], tf.float32),
                tf.TensorSpec([None], tf.int32),
            ],
        )

    def of_features(self, features: Floats) -> Floats:
        return self.of_batch([features])[0]

    def of_samples(self, samples: Samples) -> Floats:
        return self.of_features(front_end.extract(samples, self.description.config.front_end))

    def of_batch(self, batch: Sequence[Floats]) -> list[Floats]:
        log_probs, lengths = self._compute(*_padded(batch))
        return _unpadded(log_probs, lengths)

    @property
    def carries_state(self) -> bool:
        return self._graph.carries_state

    @cached_property
    def _stream(self) -> tf.types.experimental.ConcreteFunction:
        return saved_model.streaming(self._graph, self.description, None)

    def stream(
        self, features: Floats, padding: tuple[int, int], state: State | None
    ) -> tuple[Floats, State]:
        state = self._graph.initial_state(1) if state is None else state
        return _streamed(self._stream, features, padding, state)


class SavedModel:
    """A folder that speech/export/saved_model.py has written."""

    def __init__(self, folder: str) -> None:
        """
        Raises:
            UserError: it can't be loaded, or isn't export.py's.
        """
        path = saved_model.description_path(folder)
        if not storage.exists(path):
            raise UserError(
                f"{folder} is a SavedModel of someone else, it has no "
                f"{saved_model.DESCRIPTION_FILE}: export one with export.py."
            )
        self.description = Description.from_json(storage.read_text(path), path)
        try:
            self._loaded: Any = tf.saved_model.load(folder)  # holds what its signatures need
        # Of a graph that is damaged TensorFlow's loader raises whatever it stumbles over.
        except Exception as error:
            raise UserError(f"{folder} can't be loaded: {error!r}. Export it again.") from None

    def of_features(self, features: Floats) -> Floats:
        return self.of_batch([features])[0]

    def of_samples(self, samples: Samples) -> Floats:
        outputs = self._loaded.signatures[saved_model.SAMPLES](
            samples=tf.constant(samples[np.newaxis], tf.float32),
            sample_length=tf.constant([len(samples)]),
        )
        return _unpadded(**outputs)[0]

    def of_batch(self, batch: Sequence[Floats]) -> list[Floats]:
        front_end, lengths = map(tf.constant, _padded(batch))
        signature = self._loaded.signatures[saved_model.FEATURES]
        return _unpadded(**signature(features=front_end, feature_length=lengths))

    @property
    def carries_state(self) -> bool:
        return saved_model.STREAM in self._loaded.signatures

    def stream(
        self, features: Floats, padding: tuple[int, int], state: State | None
    ) -> tuple[Floats, State]:
        signature = self._loaded.signatures[saved_model.STREAM]
        if state is None:
            taken = signature.structured_input_signature[1]
            shapes = _state_shapes({name: each.shape for name, each in taken.items()})
            state = tuple(tf.zeros(shape) for shape in shapes)
        return _streamed(signature, features, padding, state)


class LiteModel:
    """A file that speech/export/tflite.py has written, read into memory."""

    def __init__(self, path: str) -> None:
        """
        Raises:
            UserError: it is in a bucket, can't be read, or isn't export.py's.
        """
        if storage.in_bucket(path):
            raise UserError(
                f"{path} is in a bucket, and a {LITE_SUFFIX} file is read from a disk: copy it to "
                "this machine (gsutil cp) and name the copy."
            )
        content = tflite_metadata.read_file(path)  # once: description and graph are of one file
        self.description = tflite_metadata.description_in(content, path)
        self._lock = threading.Lock()  # an interpreter has one set of tensors
        try:
            interpreter = tf.lite.Interpreter(model_content=content)
            self._front_end = interpreter.get_signature_runner(tflite.FRONT_END)
            self._network = interpreter.get_signature_runner(tflite.NETWORK)
            self._stream = None
            if tflite.STREAM in interpreter.get_signature_list():
                self._stream = interpreter.get_signature_runner(tflite.STREAM)
        except (ValueError, RuntimeError) as error:
            raise UserError(f"{path} can't be loaded: {error}. Export it anew.") from None

    def of_features(self, features: Floats) -> Floats:
        with self._lock:
            return self._network(features=features[np.newaxis])["log_probs"][0]

    def of_samples(self, samples: Samples) -> Floats:
        batch = samples[np.newaxis].astype(np.float32)
        with self._lock:
            front_end = self._front_end(samples=batch)["features"][0]
        return self.of_features(front_end)

    def of_batch(self, batch: Sequence[Floats]) -> list[Floats]:
        return [self.of_features(each) for each in batch]

    @property
    def carries_state(self) -> bool:
        return self._stream is not None

    def stream(
        self, features: Floats, padding: tuple[int, int], state: State | None
    ) -> tuple[Floats, State]:
        runner: Any = self._stream
        if state is None:
            taken = runner.get_input_details()
            shapes = _state_shapes({name: each["shape"] for name, each in taken.items()})
            state = tuple(np.zeros(shape, np.float32) for shape in shapes)
        with self._lock:
            outputs = runner(
                features=features[np.newaxis],
                padding=np.array(padding, np.int32),
                **_named(state),
            )
        return outputs["log_probs"][0], _state_of(outputs)


def _streamed(
    function: tf.types.experimental.ConcreteFunction,
    features: Floats,
    padding: tuple[int, int],
    state: State,
) -> tuple[Floats, State]:
    """`AcousticModel.stream` by a signature of saved_model.streaming."""
    outputs = function(
        features=tf.constant(features[np.newaxis]), padding=tf.constant(padding), **_named(state)
    )
    return outputs["log_probs"].numpy()[0], _state_of(outputs)


def _named(state: State) -> dict[str, Any]:
    return {saved_model.state_name(number): each for number, each in enumerate(state)}


def _state_of(named: Mapping[str, Any]) -> State:
    """What of a signature's inputs or outputs is the state, in its order."""
    count = sum(name.startswith(saved_model.state_name(0)[:-1]) for name in named)
    return tuple(named[saved_model.state_name(number)] for number in range(count))


def _state_shapes(taken: Mapping[str, Any]) -> list[list[int]]:
    """Of one utterance's state; taken: shapes of what a signature takes."""
    return [[1, 1, int(shape[2])] for shape in _state_of(taken)]


def _padded(batch: Sequence[Floats]) -> tuple[Floats, npt.NDArray[np.int32]]:
    """Features of a batch, float32 [batch, frames, bins], and their lengths, [batch]."""
    lengths = np.array([len(each) for each in batch], np.int32)
    longest = -(-int(lengths.max()) // FRAMES_MULTIPLE) * FRAMES_MULTIPLE
    padded = np.zeros((len(batch), longest, batch[0].shape[1]), np.float32)
    for row, each in zip(padded, batch, strict=True):
        row[: len(each)] = each
    return padded, lengths


def _unpadded(log_probs: tf.Tensor, output_length: tf.Tensor) -> list[Floats]:
    """[batch, outputs, labels] -> [outputs, labels] of each utterance."""
    return [
        row[:length]
        for row, length in zip(log_probs.numpy(), output_length.numpy().tolist(), strict=True)
    ]
