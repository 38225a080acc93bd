"""Loads models for use, however they are stored: model directory, SavedModel, TensorFlow Lite.

All take features as front_end.extract returns them, or samples at the front end's rate and int16
scale, and return the input of decoding/beam_search.py. Models whose network carries a state also
take features piece by piece, for transcription/acoustic_stream.py.
"""

import abc
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from speech.engines import checkpoints
from speech.export import saved_model, tflite, tflite_metadata
from speech.export.acoustic_graph import restore
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

# Batches are padded to multiples of so many frames. oneDNN keeps what it has prepared for each
# shape of its inputs, 0.5 MB for a small network: a server's memory would grow for hours.
FRAMES_MULTIPLE = 128


class AcousticModel(Protocol):
    """A model that computes natural-log probabilities, float32 [outputs, classes]."""

    @property
    def description(self) -> Description: ...

    def of_features(self, features: Floats) -> Floats:
        """Returns the output for features, float32 [frames, bins], at least one frame."""

    def of_samples(self, samples: Samples) -> Floats:
        """Returns the output for samples, int16 or float32 [samples] at int16 scale, not none."""

    def of_batch(self, batch: Sequence[Floats]) -> list[Floats]:
        """Returns the output of `of_features` for each utterance of a batch."""

    @property
    def carries_state(self) -> bool:
        """Whether there is `stream`: not for networks without a state, nor for older exports."""

    def stream(
        self, features: Floats, padding: tuple[int, int], state: State | None
    ) -> tuple[Floats, State]:
        """Returns the output for a piece of an utterance, [outputs, classes], and the new state.

        Args:
            features: float32 [frames, bins], as for `of_features`, for the windows of at least one
                output; see DeepSpeechLstm.stream.
            padding: number of frames of zeros before and after these.
            state: returned with the previous piece; None for the first one.
        """


def load(path: str, checkpoint: str | None = None) -> AcousticModel:
    """Loads a model.

    Args:
        path: a model directory or a SavedModel, also gs://, or a local file that ends with .tflite.
        checkpoint: of a model directory, see `checkpoints.find_checkpoint`.

    Raises:
        UserError: it isn't a model, or can't be read.
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
        f"{path} is not a model: name a model directory of training.py, or a SavedModel or a "
        f"{LITE_SUFFIX} file of export.py."
    )


class _StreamSignature:
    """A signature of saved_model.streaming for one utterance, with its state as a tuple."""

    def __init__(
        self, call: Callable[..., Mapping[str, Any]], shapes: Mapping[str, Sequence[int | None]]
    ) -> None:
        """
        Args:
            call: takes and returns arrays by name.
            shapes: of the inputs.
        """
        self._call = call
        self._units = [int(shape[2] or 0) for shape in _state_of(shapes)]

    def __call__(
        self, features: Floats, padding: tuple[int, int], state: State | None
    ) -> tuple[Floats, State]:
        """Returns outputs and new state; see `AcousticModel.stream`."""
        if state is None:
            state = tuple(np.zeros((1, 1, units), np.float32) for units in self._units)
        named = {saved_model.state_name(number): each for number, each in enumerate(state)}
        outputs = self._call(
            features=features[np.newaxis], padding=np.array(padding, np.int32), **named
        )
        return np.asarray(outputs["log_probs"])[0], _state_of(outputs)


def _state_of(named: Mapping[str, Any]) -> State:
    """Returns those of a signature's inputs or outputs that are the state, in order."""
    count = sum(name.startswith(saved_model.STATE_PREFIX) for name in named)
    return tuple(named[saved_model.state_name(number)] for number in range(count))


class _TensorFlowModel(abc.ABC):
    """A model that TensorFlow computes in batches."""

    description: Description

    @abc.abstractmethod
    def _compute(self, features: tf.Tensor, feature_length: tf.Tensor) -> tuple[Any, Any]:
        """Returns log-probabilities [batch, outputs, classes] and their lengths [batch].

        Args:
            features: float32 [batch, frames, bins].
            feature_length: int32 [batch], frames.
        """

    @abc.abstractmethod
    def _stream_function(self) -> tf.types.experimental.ConcreteFunction:
        """Returns a function of saved_model.streaming."""

    def of_features(self, features: Floats) -> Floats:
        return self.of_batch([features])[0]

    def of_batch(self, batch: Sequence[Floats]) -> list[Floats]:
        return _unpad(*self._compute(*map(tf.constant, _pad(batch))))

    @cached_property
    def _stream(self) -> _StreamSignature:
        function = self._stream_function()

        def call(**inputs: Any) -> Mapping[str, Any]:
            return function(**{name: tf.convert_to_tensor(each) for name, each in inputs.items()})

        specs = function.structured_input_signature[1]
        return _StreamSignature(call, {name: each.shape for name, each in specs.items()})

    def stream(
        self, features: Floats, padding: tuple[int, int], state: State | None
    ) -> tuple[Floats, State]:
        return self._stream(features, padding, state)


class CheckpointModel(_TensorFlowModel):
    """A checkpoint of a model directory."""

    def __init__(self, model_dir: str, checkpoint: str) -> None:
        """
        Raises:
            UserError: there is no config, or the checkpoint can't be read.
        """
        config = read_config(model_dir)
        self.description = Description(config, checkpoints.steps_of(checkpoint))
        self._graph = graph = restore(config, checkpoint)
        self._of_features = tf.function(
            graph.of_features,
            [
                tf.TensorSpec([None, None, config.front_end.bins], tf.float32),
                tf.TensorSpec([None], tf.int32),
            ],
        )

    def of_samples(self, samples: Samples) -> Floats:
        return self.of_features(front_end.extract(samples, self.description.config.front_end))

    @property
    def carries_state(self) -> bool:
        return self._graph.carries_state

    def _compute(self, features: tf.Tensor, feature_length: tf.Tensor) -> tuple[Any, Any]:
        log_probs, output_length = self._of_features(features, feature_length)
        return log_probs, output_length

    def _stream_function(self) -> tf.types.experimental.ConcreteFunction:
        return saved_model.streaming(self._graph, self.description, None)


class SavedModel(_TensorFlowModel):
    """A folder that speech/export/saved_model.py has written."""

    def __init__(self, folder: str) -> None:
        """
        Raises:
            UserError: it can't be loaded, or export.py hasn't written it.
        """
        path = saved_model.description_path(folder)
        if not storage.exists(path):
            raise UserError(
                f"{folder} is not a SavedModel of export.py, it has no "
                f"{saved_model.DESCRIPTION_FILE}: export one with export.py."
            )
        self.description = Description.from_json(storage.read_text(path), path)
        try:
            self._loaded: Any = tf.saved_model.load(folder)  # keeps what its signatures need
        # TensorFlow's loader raises exceptions of many kinds for a damaged graph.
        except Exception as error:
            raise UserError(f"{folder} can't be loaded: {error!r}. Export it again.") from None

    def of_samples(self, samples: Samples) -> Floats:
        outputs = self._loaded.signatures[saved_model.SAMPLES](
            samples=tf.constant(samples[np.newaxis], tf.float32),
            sample_length=tf.constant([len(samples)]),
        )
        return _unpad(**outputs)[0]

    @property
    def carries_state(self) -> bool:
        return saved_model.STREAM in self._loaded.signatures

    def _compute(self, features: tf.Tensor, feature_length: tf.Tensor) -> tuple[Any, Any]:
        outputs = self._loaded.signatures[saved_model.FEATURES](
            features=features, feature_length=feature_length
        )
        return outputs["log_probs"], outputs["output_length"]

    def _stream_function(self) -> tf.types.experimental.ConcreteFunction:
        return self._loaded.signatures[saved_model.STREAM]


class LiteModel:
    """A file that speech/export/tflite.py has written, read into memory."""

    def __init__(self, path: str) -> None:
        """
        Raises:
            UserError: it is in a bucket, can't be read, or export.py hasn't written it.
        """
        if storage.in_bucket(path):
            raise UserError(
                f"{path} is in a bucket, but a {LITE_SUFFIX} file is read from a local disk: copy "
                "it to this machine (gsutil cp) and name the copy."
            )
        # Read once, so that description and graph come from the same file.
        content = tflite_metadata.read_file(path)
        self.description = tflite_metadata.description_in(content, path)
        self._lock = threading.Lock()  # an interpreter has one set of tensors
        try:
            interpreter = Interpreter(model_content=content)
            self._front_end = interpreter.get_signature_runner(tflite.FRONT_END)
            self._network = interpreter.get_signature_runner(tflite.NETWORK)
            self._stream: _StreamSignature | None = None
            if tflite.STREAM in interpreter.get_signature_list():
                runner = interpreter.get_signature_runner(tflite.STREAM)
                shapes = {name: each["shape"] for name, each in runner.get_input_details().items()}
                self._stream = _StreamSignature(partial(self._run, runner), shapes)
        except (ValueError, RuntimeError) as error:
            raise UserError(f"{path} can't be loaded: {error}. Export it again.") from None

    def _run(self, runner: Callable[..., dict[str, Any]], **inputs: Any) -> dict[str, Any]:
        with self._lock:
            return runner(**inputs)

    def of_features(self, features: Floats) -> Floats:
        outputs = self._run(self._network, features=features[np.newaxis])
        return outputs["log_probs"][0]

    def of_samples(self, samples: Samples) -> Floats:
        outputs = self._run(self._front_end, samples=samples[np.newaxis].astype(np.float32))
        return self.of_features(outputs["features"][0])

    def of_batch(self, batch: Sequence[Floats]) -> list[Floats]:
        return [self.of_features(each) for each in batch]

    @property
    def carries_state(self) -> bool:
        return self._stream is not None

    def stream(
        self, features: Floats, padding: tuple[int, int], state: State | None
    ) -> tuple[Floats, State]:
        assert self._stream is not None
        return self._stream(features, padding, state)


def _pad(batch: Sequence[Floats]) -> tuple[Floats, npt.NDArray[np.int32]]:
    """Returns a batch's features, float32 [batch, frames, bins], and their lengths, [batch]."""
    lengths = np.array([len(each) for each in batch], np.int32)
    longest = -(-int(lengths.max()) // FRAMES_MULTIPLE) * FRAMES_MULTIPLE
    padded = np.zeros((len(batch), longest, batch[0].shape[1]), np.float32)
    for row, each in zip(padded, batch, strict=True):
        row[: len(each)] = each
    return padded, lengths


def _unpad(log_probs: tf.Tensor, output_length: tf.Tensor) -> list[Floats]:
    """Splits [batch, outputs, classes] into the [outputs, classes] of each utterance."""
    return [
        row[:length]
        for row, length in zip(log_probs.numpy(), output_length.numpy().tolist(), strict=True)
    ]
