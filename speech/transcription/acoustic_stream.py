"""Samples that come bit by bit -> log-probabilities, while the recording goes on.

There are two ways. What a network with a state (deep_speech_lstm) puts out of features that aren't
normalised over the utterance is *carried*: nothing is computed twice, and what comes out is what it
puts out of the whole. All others look at the whole utterance, and hear a stream in *chunks*, each
with what lies around it: nearly the same, and later.
"""

from collections.abc import Iterator
from typing import Protocol

import numpy as np

from speech.export.loading import AcousticModel, Floats, Samples, State
from speech.features.front_end import DELTA_FRAMES, UTTERANCE
from speech.features.normalisation import normalise
from speech.features.stream import FeatureStream
from speech.layers.convolutions import centred

# Samples are taken so far at a time, however many are fed: memory doesn't grow with a block, nor
# the time that TensorFlow Lite takes to copy a loop's outputs at every step.
MOST_SECONDS = 1.0

# Carried: outputs are computed when there are so many of them. A network of 50 million weights
# reads all of them for a piece however short, so more at once are cheaper; but what is said waits.
PIECE_SECONDS = 0.1

# Chunks: so much is new in each, ...
CHUNK_SECONDS = 0.5
# ... so much behind it is waited for, without being used, ...
AHEAD_SECONDS = 1.0
# ... and so much before it is looked at again: docs/streaming.md has what less would cost.
BEFORE_SECONDS = 1.0
# Normalised over what was heard last, as much as the longest utterances of a training.
NORMALISED_SECONDS = 17.3


class AcousticStream(Protocol):
    """The log-probabilities of one recording. Not for several threads at once."""

    # From a sample to the outputs that it is in, at most, the time to compute them left out.
    latency_seconds: float

    def feed(self, samples: Samples) -> Floats:
        """What can be told now.

        Args:
            samples: int16 or float32 [samples] at int16 scale and the model's rate, any number.

        Returns:
            natural-log probabilities float32 [outputs, labels], behind those before; maybe none.
        """

    def finish(self) -> Floats:
        """The outputs that are left, none of a recording without samples. Ends the stream."""


def is_exact(model: AcousticModel) -> bool:
    """Whether a model's stream puts out what the model does of the whole."""
    return model.carries_state and model.description.config.front_end.normalisation != UTTERANCE


def stream_of(model: AcousticModel) -> AcousticStream:
    """The way that a model can be streamed; several at once share it."""
    return _CarriedStream(model) if is_exact(model) else _ChunkStream(model)


class _Heard:
    """What both ways begin with: features as they come, those of them that are still needed."""

    def __init__(self, model: AcousticModel) -> None:
        config = model.description.config
        self.front_end, self.network, self.labels = (
            config.front_end,
            config.network,
            config.alphabet.size,
        )
        self._stream = FeatureStream(config.front_end)
        self.frames: Floats = np.zeros((0, config.front_end.bins), np.float32)  # [frames, bins]
        self.first = 0  # of them, in frames of the recording

    @property
    def end(self) -> int:
        """Frames of the recording so far."""
        return self.first + len(self.frames)

    def feed(self, samples: Samples) -> Iterator[None]:
        """Takes a second at a time, and stops behind each, for its outputs to be computed."""
        most = round(MOST_SECONDS * self.front_end.sample_rate)
        for start in range(0, len(samples), most):
            self._add(self._stream.feed(samples[start : start + most]))
            yield

    def finish(self) -> None:
        self._add(self._stream.finish())

    def drop_before(self, frame: int) -> None:
        if frame > self.first:
            self.frames = self.frames[frame - self.first :].copy()
            self.first = frame

    def between(self, begin: int, end: int) -> Floats:
        """Frames of the recording, those of them that are there."""
        return self.frames[max(begin - self.first, 0) : end - self.first]

    def outputs(self, seconds: float) -> int:
        """Outputs of a time, one at least."""
        return max(round(seconds / (self.front_end.step_seconds * self.network.stride_size)), 1)

    @property
    def no_outputs(self) -> Floats:
        return np.zeros((0, self.labels), np.float32)

    def latency_seconds(self, outputs: int, frames_ahead: int) -> float:
        """From the first sample of an output's frame until the last of so many outputs is there."""
        frames = (outputs - 1) * self.network.stride_size + frames_ahead
        frames += self.front_end.deltas * DELTA_FRAMES
        return frames * self.front_end.step_seconds + self.front_end.window_seconds

    def _add(self, frames: Floats) -> None:
        if len(frames):  # tiny blocks bring none most of the time
            self.frames = np.concatenate([self.frames, frames])


class _CarriedStream:
    """Pieces of a network that carries its state."""

    def __init__(self, model: AcousticModel) -> None:
        self._model = model
        self._heard = _Heard(model)
        self._state: State | None = None
        self._out = 0  # outputs
        self._shortest = self._heard.outputs(PIECE_SECONDS)
        self._context = self._heard.network.context_size
        self._before, self._behind = centred(self._context)  # frames that an output sees
        self.latency_seconds = self._heard.latency_seconds(self._shortest, self._behind)

    def feed(self, samples: Samples) -> Floats:
        found = [self._heard.no_outputs]
        for _ in self._heard.feed(samples):
            ready = (self._heard.end - 1 - self._behind) // self._heard.network.stride_size + 1
            if ready - self._out >= self._shortest:
                found.append(self._piece(ready - self._out))
        return np.concatenate(found)

    def finish(self) -> Floats:
        self._heard.finish()
        outputs = self._heard.network.output_frames(self._heard.end) - self._out
        return self._piece(outputs) if outputs else self._heard.no_outputs

    def _piece(self, outputs: int) -> Floats:
        """The next outputs."""
        heard, stride = self._heard, self._heard.network.stride_size
        begin = self._out * stride - self._before
        end = begin + self._context + (outputs - 1) * stride
        padding = max(-begin, 0), max(end - heard.end, 0)
        log_probs, self._state = self._model.stream(heard.between(begin, end), padding, self._state)
        self._out += outputs
        heard.drop_before(self._out * stride - self._before)
        return log_probs


class _ChunkStream:
    """Chunks that overlap, each heard by itself."""

    def __init__(self, model: AcousticModel) -> None:
        self._model = model
        self._heard = _Heard(model)
        self._out = 0  # outputs
        self._chunk = self._heard.outputs(CHUNK_SECONDS)
        self._before = self._heard.outputs(BEFORE_SECONDS)
        self._ahead = self._heard.outputs(AHEAD_SECONDS)
        self._normalised = round(NORMALISED_SECONDS / self._heard.front_end.step_seconds)  # frames
        frames_ahead = self._ahead * self._heard.network.stride_size
        self.latency_seconds = self._heard.latency_seconds(self._chunk, frames_ahead)

    def feed(self, samples: Samples) -> Floats:
        found, stride = [self._heard.no_outputs], self._heard.network.stride_size
        for _ in self._heard.feed(samples):
            while self._heard.end >= (self._out + self._chunk - 1 + self._ahead) * stride + 1:
                found.append(self._until(self._out + self._chunk))
        return np.concatenate(found)

    def finish(self) -> Floats:
        self._heard.finish()
        outputs = self._heard.network.output_frames(self._heard.end)
        return self._until(outputs) if outputs else self._heard.no_outputs

    def _until(self, outputs: int) -> Floats:
        """Outputs up to one, of the frames that are there, by themselves."""
        heard, stride = self._heard, self._heard.network.stride_size
        first = max(self._out - self._before, 0)
        end = min((outputs - 1 + self._ahead) * stride + 1, heard.end)
        heard.drop_before(min(first * stride, end - self._normalised))
        features = heard.between(heard.first, end)
        if heard.front_end.normalisation == UTTERANCE:
            features = normalise(features.T).T
        log_probs = self._model.of_features(features[first * stride - heard.first :])
        begin, self._out = self._out, outputs
        return log_probs[begin - first : outputs - first]
