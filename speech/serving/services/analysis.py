"""What the page shows of a recording beside its text: waveform, spectrogram, features, outputs."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.fft

from speech.audio.reader import INT16_SCALE
from speech.audio.segmentation import Segment
from speech.decoding.alignment import label_outputs
from speech.decoding.beam_search import LogProbs
from speech.features.front_end import FrontEnd
from speech.transcription.subtitles import joined
from speech.transcription.transcriber import Heard, Transcriber
from utils import Alphabet

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]

COLUMNS = 1200  # most, of a waveform
EXTREMES_SECONDS = 0.005  # of the columns that it is put together from

FREQUENCIES = 128  # most rows of a spectrogram
DYNAMIC_RANGE = 80.0  # dB that it shows
SILENCE = 1e-12  # power, of full scale


@dataclass(frozen=True)
class Shades:
    """An array as bytes: 0 is the lowest, 255 the highest."""

    data: Bytes  # [rows, columns]
    lowest: float
    highest: float


@dataclass(frozen=True)
class SegmentDetails:
    """What a network heard of a segment."""

    start: float  # seconds from the recording's start
    step_seconds: float  # between two columns of spectrogram and features
    output_seconds: float  # between two outputs
    spectrogram: Shades  # [frequencies, frames], low ones first, in dB of full scale
    highest_frequency: float  # Hz
    features: Shades  # [bins, frames]
    probabilities: Bytes  # [labels, outputs], 255 is 1
    path: list[int]  # [outputs], labels


class Extremes:
    """Lowest and highest samples of a recording that comes in blocks."""

    def __init__(self, sample_rate: int) -> None:
        self._length = max(round(EXTREMES_SECONDS * sample_rate), 1)  # samples of a column
        self._rest = np.zeros(0, np.float32)
        self._lowest: list[Floats] = []
        self._highest: list[Floats] = []

    def add(self, block: Floats) -> None:
        """Takes samples [samples] at int16 scale."""
        samples = np.concatenate([self._rest, block])
        whole = len(samples) // self._length * self._length
        self._take(samples[:whole].reshape(-1, self._length))
        self._rest = samples[whole:].copy()

    def _take(self, columns: Floats) -> None:
        self._lowest.append(columns.min(axis=1))
        self._highest.append(columns.max(axis=1))

    def columns(self) -> tuple[Floats, Floats]:
        """Lowest and highest of at most COLUMNS columns, float32 [columns], from -1 to 1."""
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
    heard: Heard,
    transcriber: Transcriber,
) -> SegmentDetails:
    """What there is to see of a segment.

    Args:
        features: float32 [frames, bins].
        log_probs: float32 [outputs, labels].
        heard: what was made of it.
    """
    config = transcriber.config
    text = joined(heard.transcript.words, transcriber.separator)
    return SegmentDetails(
        heard.start,
        config.front_end.step_seconds,
        config.output_seconds,
        spectrogram(segment.samples, config.front_end),
        config.front_end.sample_rate / 2,
        _shades(features.T, float(features.min()), float(features.max())),
        np.round(np.exp(log_probs.T) * 255).clip(0, 255).astype(np.uint8),
        best_path(log_probs, text, config.alphabet),
    )


def spectrogram(samples: Floats, front_end: FrontEnd) -> Shades:
    """Power in dB of full scale, [frequencies, frames], the front end's frames.

    Args:
        samples: [samples] at int16 scale, one at least.
    """
    size = 1 << (front_end.window_samples - 1).bit_length()  # samples of the FFT
    length, step = front_end.window_samples, front_end.step_samples
    frames = front_end.frames(len(samples))
    padded = np.zeros(max((frames - 1) * step + length, len(samples)), np.float32)
    padded[: len(samples)] = samples / INT16_SCALE
    windows = np.lib.stride_tricks.sliding_window_view(padded, length)[::step][:frames]
    window = np.hanning(length).astype(np.float32)
    window /= max(float(window.sum()) / 2, 1e-6)  # so that a full sine wave has 0 dB
    power = np.abs(scipy.fft.rfft(windows * window, size, axis=1)[:, 1:]) ** 2  # [frames, size / 2]
    rows = min(FREQUENCIES, power.shape[1])
    power = power[:, : power.shape[1] // rows * rows].reshape(frames, rows, -1).mean(axis=2)
    decibels = 10 * np.log10(power.T + SILENCE)  # [frequencies, frames]
    highest = float(decibels.max())
    return _shades(decibels, highest - DYNAMIC_RANGE, highest)


def best_path(log_probs: LogProbs, text: str, alphabet: Alphabet) -> list[int]:
    """The label of each output on the text's most probable alignment.

    Args:
        log_probs: float32 [outputs, labels].
        text: one that was recognised.
    """
    labels = [label for character in text for label in alphabet.labels_of(character)]
    path = np.full(len(log_probs), alphabet.blank, np.int64)  # [outputs]
    frames = label_outputs(log_probs, np.array(labels, np.int64))
    for label, (first, last) in zip(labels, frames.tolist(), strict=True):
        path[first : last + 1] = label
    return path.tolist()


def _shades(values: Floats, lowest: float, highest: float) -> Shades:
    """Values [rows, columns] between two as bytes."""
    scale = 255 / max(highest - lowest, 1e-9)
    shades = np.round((values - lowest) * scale).clip(0, 255).astype(np.uint8)
    return Shades(shades, lowest, highest)
