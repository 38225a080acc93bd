"""Computes log-probabilities of a recording in progress.

There are two ways. A network that carries a state (deep_speech_lstm), with features that aren't
normalised over the utterance, computes every output once, and the stream's output is the output of
the whole (`_CarriedStream`). All other networks need the whole utterance: they compute overlapping
chunks, each with its surroundings, which is nearly the same, and later (`_ChunkStream`).
"""

import copy
from collections.abc import Iterator
from typing import Protocol, Self

import numpy as np

from speech.export.acoustic_model import AcousticModel, Floats, Samples, State
from speech.features.front_end import DELTA_FRAMES, UTTERANCE
from speech.features.normalisation import normalise
from speech.features.stream import FeatureStream
from speech.layers.windows import centred

# Most samples that are processed at once, however many are fed: memory doesn't grow with a block,
# nor the time that TensorFlow Lite takes to copy a loop's outputs at every step.
MOST_SECONDS = 1.0

# Carried: the time of the outputs that are computed together. A network of 50 million weights reads
# all of them for a piece however short, so longer pieces are cheaper; but the text comes later.
PIECE_SECONDS = 0.1

# Chunks: the time of the outputs that are used of each, ...
CHUNK_SECONDS = 0.5
# ... of those after them, which are awaited but not used, ...
AHEAD_SECONDS = 1.0
# ... and of those before, computed again; docs/streaming.md measures what less would cost.
BEFORE_SECONDS = 1.0
# Features are normalised over so much of the past: the longest utterances of a training.
NORMALISED_SECONDS = 17.3


class AcousticStream(Protocol):
    """The log-probabilities of one recording. For one thread at a time."""

    # From a sample to the outputs that include it, at most, without computing time.
    latency_seconds: float

    def feed(self, samples: Samples) -> Floats:
        """Returns the outputs that can be computed now.

        Args:
            samples: int16 or float32 [samples] at int16 scale and the model's rate, any number.

        Returns:
            natural-log probabilities float32 [outputs, classes] that follow the previous ones;
            possibly none.
        """

    def finish(self) -> Floats:
        """Returns the last outputs, none of a recording without samples. Ends the stream."""

    def preview(self) -> Floats:
        """Returns the outputs of the samples so far that `feed` holds back; nothing changes.

        The last frame is padded with zeros. A carried stream leaves out the outputs whose
        surroundings aren't there yet.
        """


def is_exact(model: AcousticModel) -> bool:
    """Returns whether the output of a model's stream is its output of the whole recording."""
    return model.carries_state and model.description.config.front_end.normalisation != UTTERANCE


def stream_of(model: AcousticModel) -> AcousticStream:
    """Returns a new stream of a model; several may share the model."""
    return _CarriedStream(model) if is_exact(model) else _ChunkStream(model)


class _FeatureBuffer:
    """Computes the features of a recording, and keeps those that are still needed."""

    def __init__(self, model: AcousticModel) -> None:
        config = model.description.config
        self.front_end, self.network = config.front_end, config.network
        self.classes = config.network.classes
        self._stream = FeatureStream(config.front_end)
        self.frames: Floats = np.zeros((0, config.front_end.bins), np.float32)  # [frames, bins]
        self.first = 0  # number of the first of them in the recording

    @property
    def end(self) -> int:
        """Number of the recording's frames so far."""
        return self.first + len(self.frames)

    def feed(self, samples: Samples) -> Iterator[None]:
        """Adds samples; yields after each second of them, so that its outputs are computed."""
        most = round(MOST_SECONDS * self.front_end.sample_rate)
        for start in range(0, len(samples), most):
            self._add(self._stream.feed(samples[start : start + most]))
            yield

    def finish(self) -> None:
        """Adds the last frames."""
        self._add(self._stream.finish())

    def copy(self) -> Self:
        """Returns a buffer that continues by itself from here; arrays are never changed."""
        new = copy.copy(self)
        new._stream = copy.copy(self._stream)
        return new

    def drop_before(self, frame: int) -> None:
        """Drops the frames before one of the recording's frames."""
        if frame > self.first:
            self.frames = self.frames[frame - self.first :].copy()
            self.first = frame

    def between(self, begin: int, end: int) -> Floats:
        """Returns the recording's frames from `begin` to `end`, as far as there are any."""
        return self.frames[max(begin - self.first, 0) : end - self.first]

    def outputs(self, seconds: float) -> int:
        """Returns the number of outputs in a time, at least one."""
        return max(round(seconds / (self.front_end.step_seconds * self.network.stride_size)), 1)

    @property
    def no_outputs(self) -> Floats:
        return np.zeros((0, self.classes), np.float32)

    def latency_seconds(self, outputs: int, frames_ahead: int) -> float:
        """Returns the time from an output's first sample to the last sample that is waited for.

        Args:
            outputs: computed together.
            frames_ahead: that the last of them needs after its own frame.
        """
        frames = (outputs - 1) * self.network.stride_size + frames_ahead
        frames += self.front_end.deltas * DELTA_FRAMES
        return frames * self.front_end.step_seconds + self.front_end.window_seconds

    def _add(self, frames: Floats) -> None:
        if len(frames):  # most tiny blocks complete no frame
            self.frames = np.concatenate([self.frames, frames])


class _CarriedStream:
    """The stream of a network that carries its state from piece to piece."""

    def __init__(self, model: AcousticModel) -> None:
        self._model = model
        self._features = _FeatureBuffer(model)
        self._state: State | None = None
        self._out = 0  # number of outputs returned
        self._shortest = self._features.outputs(PIECE_SECONDS)
        self._context = self._features.network.context_size
        self._before, self._after = centred(self._context)  # frames around an output's own
        self.latency_seconds = self._features.latency_seconds(self._shortest, self._after)

    def feed(self, samples: Samples) -> Floats:
        found = [self._features.no_outputs]
        for _ in self._features.feed(samples):
            found.append(self._ready(self._shortest))
        return np.concatenate(found)

    def finish(self) -> Floats:
        self._features.finish()
        outputs = self._features.network.output_frames(self._features.end) - self._out
        return self._piece(outputs) if outputs else self._features.no_outputs

    def preview(self) -> Floats:
        new = copy.copy(self)
        new._features = self._features.copy()
        new._features.finish()
        return new._ready(1)

    def _ready(self, least: int) -> Floats:
        """Computes the outputs whose surroundings are there, if there are `least` or more."""
        ready = (self._features.end - 1 - self._after) // self._features.network.stride_size + 1
        outputs = ready - self._out
        return self._piece(outputs) if outputs >= least else self._features.no_outputs

    def _piece(self, outputs: int) -> Floats:
        """Computes the next outputs, [outputs, classes]."""
        buffer, stride = self._features, self._features.network.stride_size
        begin = self._out * stride - self._before
        end = begin + self._context + (outputs - 1) * stride
        padding = max(-begin, 0), max(end - buffer.end, 0)
        log_probs, self._state = self._model.stream(
            buffer.between(begin, end), padding, self._state
        )
        self._out += outputs
        buffer.drop_before(self._out * stride - self._before)
        return log_probs


class _ChunkStream:
    """The stream of a network that computes overlapping chunks by themselves."""

    def __init__(self, model: AcousticModel) -> None:
        self._model = model
        self._features = _FeatureBuffer(model)
        self._out = 0  # number of outputs returned
        self._chunk = self._features.outputs(CHUNK_SECONDS)
        self._before = self._features.outputs(BEFORE_SECONDS)
        self._ahead = self._features.outputs(AHEAD_SECONDS)
        step_seconds = self._features.front_end.step_seconds
        self._normalised = round(NORMALISED_SECONDS / step_seconds)  # frames
        frames_ahead = self._ahead * self._features.network.stride_size
        self.latency_seconds = self._features.latency_seconds(self._chunk, frames_ahead)

    def feed(self, samples: Samples) -> Floats:
        found, stride = [self._features.no_outputs], self._features.network.stride_size
        for _ in self._features.feed(samples):
            while self._features.end >= (self._out + self._chunk - 1 + self._ahead) * stride + 1:
                found.append(self._until(self._out + self._chunk))
        return np.concatenate(found)

    def finish(self) -> Floats:
        self._features.finish()
        outputs = self._features.network.output_frames(self._features.end)
        return self._until(outputs) if outputs else self._features.no_outputs

    def preview(self) -> Floats:
        new = copy.copy(self)
        new._features = self._features.copy()
        return new.finish()

    def _until(self, outputs: int) -> Floats:
        """Computes the next outputs, up to number `outputs`, from the frames so far."""
        buffer, stride = self._features, self._features.network.stride_size
        first = max(self._out - self._before, 0)
        end = min((outputs - 1 + self._ahead) * stride + 1, buffer.end)
        buffer.drop_before(min(first * stride, end - self._normalised))
        features = buffer.between(buffer.first, end)
        if buffer.front_end.normalisation == UTTERANCE:
            features = normalise(features.T).T
        log_probs = self._model.of_features(features[first * stride - buffer.first :])
        begin, self._out = self._out, outputs
        return log_probs[begin - first : outputs - first]
