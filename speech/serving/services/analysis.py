"""Computes what the page draws of a recording: waveform, spectrogram, features, outputs."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from speech.audio.reader import INT16_SCALE
from speech.audio.segmentation import Segment
from speech.decoding.alignment import label_outputs
from speech.decoding.types import LogProbs
from speech.features.front_end import FrontEnd
from speech.serving.types import Floats
from speech.transcription.subtitles import join_words
from speech.transcription.transcriber import TranscribedSegment, Transcriber
from utils import Alphabet, UserError

Bytes = npt.NDArray[np.uint8]

COLUMNS = 1200  # most columns of a waveform
EXTREMES_SECONDS = 0.005  # length of the columns that it is computed from

FREQUENCIES = 128  # most rows of a spectrogram
DYNAMIC_RANGE = 80.0  # of a spectrogram, in dB
SILENCE = 1e-12  # power relative to full scale


@dataclass(frozen=True)
class Shades:
    """An array quantised to bytes."""

    data: Bytes  # [rows, columns]
    lowest: float  # value of 0
    highest: float  # value of 255


@dataclass(frozen=True)
class SegmentDetails:
    """A segment's spectrogram, and the network's inputs and outputs."""

    start: float  # seconds from the recording's start
    step_seconds: float  # between two columns of spectrogram and features
    output_seconds: float  # between two outputs
    spectrogram: Shades  # [frequencies, frames], low frequencies first, in dB of full scale
    highest_frequency: float  # of the spectrogram, in Hz
    features: Shades  # [bins, frames]
    probabilities: Bytes  # [classes, outputs], 255 is 1
    path: list[int]  # [outputs], classes


class Extremes:
    """The lowest and highest samples of short columns of a recording that comes in blocks."""

    def __init__(self, sample_rate: int) -> None:
        self._length = max(round(EXTREMES_SECONDS * sample_rate), 1)  # samples of a column
        self._rest = np.zeros(0, np.float32)
        self._lowest: list[Floats] = []
        self._highest: list[Floats] = []

    def add(self, block: Floats) -> None:
        """Adds the recording's next samples, float32 [samples] at int16 scale."""
        samples = np.concatenate([self._rest, block])
        whole = len(samples) // self._length * self._length
        self._take(samples[:whole].reshape(-1, self._length))
        self._rest = samples[whole:].copy()

    def _take(self, columns: Floats) -> None:
        self._lowest.append(columns.min(axis=1))
        self._highest.append(columns.max(axis=1))

    def columns(self) -> tuple[Floats, Floats]:
        """Returns the extremes of at most COLUMNS columns, float32 [columns] each, from -1 to 1."""
        if len(self._rest):
            self._take(self._rest[np.newaxis])
            self._rest = self._rest[:0]
        if not self._lowest:
            return self._rest, self._rest
        lowest, highest = np.concatenate(self._lowest), np.concatenate(self._highest)
        count = min(len(lowest), COLUMNS)
        starts = np.arange(count) * len(lowest) // count  # [columns]
        scaled = (
            np.minimum.reduceat(lowest, starts) / INT16_SCALE,
            np.maximum.reduceat(highest, starts) / INT16_SCALE,
        )
        return np.clip(scaled[0], -1, 1), np.clip(scaled[1], -1, 1)


def details_of(
    segment: Segment,
    features: Floats,
    log_probs: LogProbs,
    transcribed: TranscribedSegment,
    transcriber: Transcriber,
) -> SegmentDetails:
    """Returns the details of a segment.

    Args:
        features: of the segment, float32 [frames, bins].
        log_probs: the network's output, float32 [outputs, classes].
        transcribed: the segment's transcript.
    """
    config = transcriber.config
    text = join_words(transcribed.transcript.words, transcriber.separator)
    letters = log_probs[:, : config.alphabet.size]
    return SegmentDetails(
        transcribed.start,
        config.front_end.step_seconds,
        config.output_seconds,
        spectrogram(segment.samples, config.front_end),
        config.front_end.sample_rate / 2,
        _quantise(features.T, float(features.min()), float(features.max())),
        np.round(np.exp(letters.T) * 255).clip(0, 255).astype(np.uint8),
        best_path(letters, text, config.alphabet),
    )


def spectrogram(samples: Floats, front_end: FrontEnd) -> Shades:
    """Returns the power in dB of full scale, [frequencies, frames], in the front end's frames.

    Args:
        samples: float32 [samples] at int16 scale, at least one.
    """
    size = 1 << (front_end.window_samples - 1).bit_length()  # samples of the FFT
    length, step = front_end.window_samples, front_end.step_samples
    frames = front_end.frames(len(samples))
    padded = np.zeros(max((frames - 1) * step + length, len(samples)), np.float32)
    padded[: len(samples)] = samples / INT16_SCALE
    windows = np.lib.stride_tricks.sliding_window_view(padded, length)[::step][:frames]
    window = np.hanning(length).astype(np.float32)
    window /= max(float(window.sum()) / 2, 1e-6)  # so that a full sine wave has 0 dB
    power = np.abs(np.fft.rfft(windows * window, size, axis=1)[:, 1:]) ** 2  # [frames, size / 2]
    rows = min(FREQUENCIES, power.shape[1])
    power = power[:, : power.shape[1] // rows * rows].reshape(frames, rows, -1).mean(axis=2)
    decibels = 10 * np.log10(power.T + SILENCE)  # [frequencies, frames]
    highest = float(decibels.max())
    return _quantise(decibels, highest - DYNAMIC_RANGE, highest)


def best_path(log_probs: LogProbs, text: str, alphabet: Alphabet) -> list[int]:
    """Returns the class of each output on the text's most probable alignment.

    Args:
        log_probs: float32 [outputs, classes].
        text: a text that was recognised from them, or from phones: if it can't be aligned with
            the letters, the path is the most probable one of all texts.
    """
    path = np.full(len(log_probs), alphabet.blank, np.int64)  # [outputs]
    try:
        labels = [label for character in text for label in alphabet.labels_of(character)]
        frames = label_outputs(log_probs, np.array(labels, np.int64))
    except (KeyError, UserError):
        return log_probs.argmax(axis=1).tolist()
    for label, (first, last) in zip(labels, frames.tolist(), strict=True):
        path[first : last + 1] = label
    return path.tolist()


def _quantise(values: Floats, lowest: float, highest: float) -> Shades:
    """Quantises values [rows, columns] between two bounds to bytes."""
    scale = 255 / max(highest - lowest, 1e-9)
    shades = np.round((values - lowest) * scale).clip(0, 255).astype(np.uint8)
    return Shades(shades, lowest, highest)
