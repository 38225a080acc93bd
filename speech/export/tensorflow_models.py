"""Models that TensorFlow computes: checkpoints of model directories, and SavedModels."""

import abc
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

import constants
from speech.engines import checkpoints
from speech.export import saved_model
from speech.export.acoustic_graph import AcousticGraph, restore, with_values
from speech.export.acoustic_model import (
    FEATURES,
    SAMPLES,
    STREAM,
    Floats,
    Samples,
    State,
    StreamSignature,
)
from speech.export.description import Description
from speech.features import front_end
from speech.mozilla import conversion, importing
from speech.networks.config import read_config
from speech.system import storage
from utils import UserError

# Batches are padded to multiples of so many frames. oneDNN keeps what it has prepared for each
# shape of its inputs, 0.5 MB for a small network: a server's memory would grow for hours.
FRAMES_MULTIPLE = 128


def load_saved_model(folder: str) -> "SavedModel":
    """Loads a SavedModel of export.py; errors are those of SavedModel."""
    checkpoints.refuse_pattern(folder)
    return SavedModel(folder)


def load_checkpoint(model_dir: str, checkpoint: str | None) -> "CheckpointModel":
    """Loads a model directory's checkpoint; see `checkpoints.find_checkpoint`."""
    return CheckpointModel(model_dir, checkpoints.find_checkpoint(model_dir, checkpoint))


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
    def _stream(self) -> StreamSignature:
        function = self._stream_function()

        def call(**inputs: Any) -> Mapping[str, Any]:
            return function(**{name: tf.convert_to_tensor(each) for name, each in inputs.items()})

        specs = function.structured_input_signature[1]
        return StreamSignature(call, {name: each.shape for name, each in specs.items()})

    def stream(
        self, features: Floats, padding: tuple[int, int], state: State | None
    ) -> tuple[Floats, State]:
        return self._stream(features, padding, state)


class _GraphModel(_TensorFlowModel):
    """A network whose variables are in memory."""

    def __init__(self, graph: AcousticGraph, description: Description) -> None:
        self.description = description
        self._graph = graph
        self._of_features = tf.function(
            graph.of_features,
            [
                tf.TensorSpec([None, None, description.config.front_end.bins], tf.float32),
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


class CheckpointModel(_GraphModel):
    """A checkpoint of a model directory."""

    def __init__(self, model_dir: str, checkpoint: str) -> None:
        """
        Raises:
            UserError: there is no config, or the checkpoint can't be read.
        """
        config = read_config(model_dir)
        description = Description(config, checkpoints.steps_of(checkpoint))
        super().__init__(restore(config, checkpoint), description)


class DeepSpeechGraphModel(_GraphModel):
    """A .pb or .pbmm file of DeepSpeech, whose variables are read into our network."""

    def __init__(self, path: str) -> None:
        """
        Raises:
            UserError: it can't be read, or isn't a model of DeepSpeech.
        """
        model = importing.read(path)
        self.beam_width = model.beam_width or constants.BEAM_WIDTH  # that its clients use
        config = conversion.config_of(model, None)
        variables = conversion.variables_of(model, config)
        super().__init__(with_values(config, variables.__getitem__), Description(config, 0))


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
        outputs = self._loaded.signatures[SAMPLES](
            samples=tf.constant(samples[np.newaxis], tf.float32),
            sample_length=tf.constant([len(samples)]),
        )
        return _unpad(**outputs)[0]

    @property
    def carries_state(self) -> bool:
        return STREAM in self._loaded.signatures

    def _compute(self, features: tf.Tensor, feature_length: tf.Tensor) -> tuple[Any, Any]:
        outputs = self._loaded.signatures[FEATURES](
            features=features, feature_length=feature_length
        )
        return outputs["log_probs"], outputs["output_length"]

    def _stream_function(self) -> tf.types.experimental.ConcreteFunction:
        return self._loaded.signatures[STREAM]


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
