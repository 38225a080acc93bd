"""Front end: samples -> features.

There are four kinds: log mel filterbank energies, mel-frequency cepstral coefficients, the log
power spectrum, and the samples themselves. The recipes are python_speech_features' `fbank`, `mfcc`
and `delta`, with a floored logarithm. Its filterbank is used as it is; framing and FFT are done
here in chunks that stay in the processor's cache, which is several times faster. They are done in
float64: a float32 FFT alone is 1e-4 away where quiet bins stand beside loud ones.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import scipy.fft
import scipy.sparse
from python_speech_features.base import get_filterbanks

import constants
from speech.audio.reader import INT16_SCALE, round_half_up
from speech.features.normalisation import normalise
from speech.system import typed_json
from utils import UserError

# Frames whose spectra are computed at once: 96 x 1024 float64 samples stay in the L2 cache.
CHUNK_FRAMES = 96

# The arrays of an utterance are freed before the next one. glibc hands blocks of their size back to
# the system, from which they have to be fetched anew, page by page; it stops doing so once a larger
# block was freed (mallopt(3), M_MMAP_THRESHOLD), as this one is at once.
np.empty(8 * 2**20, np.uint8)

# Kinds of features, and those of them that need mel filters.
FBANK, MFCC, SPECTROGRAM, WAVEFORM = FEATURES = ("fbank", "mfcc", "spectrogram", "waveform")
FILTERED = (FBANK, MFCC)

# What features are shifted and scaled by: each bin's mean and deviation over the utterance or over
# the training set, or by nothing.
UTTERANCE, CORPUS, NONE = NORMALISATIONS = ("utterance", "corpus", "none")

# Limits of a front end, far beyond what speech is heard with. Memory and time grow with them.
HIGHEST_RATE = 2**20
LARGEST_FFT = 2**16  # and window, in samples
MOST_FILTERS = 2**10
LONGEST_STEP = 60.0  # and window, in seconds

# As python_speech_features has them.
LIFTER = 22  # of cepstral coefficients: their weights are 1 + LIFTER / 2 sin(pi n / LIFTER)
DELTA_FRAMES = 2  # on either side, from which a delta is computed
MOST_DELTAS = 2  # orders


@dataclass(frozen=True)
class FrontEnd:
    """Everything that turns samples into features; it travels with shards and models."""

    features: str = FBANK  # of FEATURES
    sample_rate: int = constants.SAMPLE_RATE  # Hz; other rates are resampled to it
    window_seconds: float = constants.WINDOW_SECONDS  # length of a frame
    step_seconds: float = constants.STEP_SECONDS  # between the starts of two frames
    fft_size: int = constants.FFT_SIZE  # samples; a frame is zero-padded to it
    mel_filters: int = constants.MEL_FILTERS
    lowest_frequency: float = constants.LOWEST_FREQUENCY  # Hz, lower edge of the first filter
    highest_frequency: float = constants.HIGHEST_FREQUENCY  # Hz, upper edge of the last filter
    pre_emphasis: float = constants.PRE_EMPHASIS  # y[t] = x[t] - pre_emphasis * x[t - 1]
    energy_floor: float = constants.ENERGY_FLOOR  # of an energy, before the logarithm
    coefficients: int = constants.CEPSTRAL_COEFFICIENTS  # of mfcc; the first one is the energy
    deltas: int = 0  # orders of differences over time that are appended
    normalisation: str = UTTERANCE  # of NORMALISATIONS

    def __post_init__(self) -> None:
        for flag, value, choices in (
            ("features", self.features, FEATURES),
            ("normalisation", self.normalisation, NORMALISATIONS),
            ("deltas", self.deltas, range(MOST_DELTAS + 1)),
        ):
            if value not in choices:
                raise UserError(
                    f"--{flag}={value} is not known: choose among {', '.join(map(str, choices))}."
                )
        self._check_frames()
        if self.features in FILTERED:
            self._check_filters()
        if self.features == MFCC and not 0 < self.coefficients <= self.mel_filters:
            raise UserError(
                f"{self.mel_filters} mel filters have 1 to {self.mel_filters} coefficients, not "
                f"{self.coefficients}: see --numcep and --nrof_fbanks."
            )
        if self.features == WAVEFORM and self.deltas:
            raise UserError(
                f"--deltas={self.deltas} can't be with --features={WAVEFORM}: differences of "
                "samples that lie a frame apart say nothing. Leave one of them out."
            )

    def _check_frames(self) -> None:
        if not all(abs(each) <= LONGEST_STEP for each in (self.window_seconds, self.step_seconds)):
            raise UserError(
                f"A window of {self.window_seconds} s and a step of {self.step_seconds} s can't "
                f"be: choose --winlen and --winstep in seconds, up to {LONGEST_STEP:g}."
            )
        if not 0 < self.sample_rate <= HIGHEST_RATE:
            raise UserError(
                f"The front end needs a sample rate from 1 to {HIGHEST_RATE} Hz, not "
                f"{self.sample_rate}: see --sample_rate."
            )
        if max(self.fft_size, self.window_samples) > LARGEST_FFT:
            raise UserError(
                f"An FFT of {self.fft_size} samples and a window of {self.window_samples} can't "
                f"be: each may have {LARGEST_FFT} at most, see --nfft, --winlen and --sample_rate."
            )
        if self.step_samples <= 0 or self.window_samples <= 0:
            raise UserError(
                f"At {self.sample_rate} Hz a window of {self.window_seconds} s is "
                f"{self.window_samples} samples and a step of {self.step_seconds} s "
                f"{self.step_samples}: each must have at least one. Choose --winlen and --winstep "
                "so."
            )
        if self.features != WAVEFORM and self.window_samples > self.fft_size:
            raise UserError(
                f"A window of {self.window_seconds} s is {self.window_samples} samples at "
                f"{self.sample_rate} Hz, more than the {self.fft_size} of the FFT: choose a "
                "shorter --winlen or a larger --nfft."
            )

    def _check_filters(self) -> None:
        if not 0 < self.mel_filters <= MOST_FILTERS:
            raise UserError(
                f"The front end needs 1 to {MOST_FILTERS} mel filters, not {self.mel_filters}: "
                "see --nrof_fbanks."
            )
        if not 0 <= self.lowest_frequency < self.highest_frequency <= self.sample_rate / 2:
            raise UserError(
                f"The filters from {self.lowest_frequency} to {self.highest_frequency} Hz must lie "
                f"between 0 and half the sample rate of {self.sample_rate} Hz: choose a higher "
                "--sample_rate."
            )

    @classmethod
    def from_json(cls, content: Any) -> "FrontEnd":
        """The front end in an index's or a model's JSON, which may be of the first version."""
        return typed_json.read(
            cls, typed_json.renamed(content, {"bins": "mel_filters"}), "front_end"
        )

    @property
    def bins(self) -> int:
        """Values of one frame."""
        static = {
            FBANK: self.mel_filters,
            MFCC: self.coefficients,
            SPECTROGRAM: self.fft_size // 2 + 1,
            WAVEFORM: self.window_samples,
        }[self.features]
        return static * (1 + self.deltas)

    @property
    def window_samples(self) -> int:
        return round_half_up(self.window_seconds * self.sample_rate)

    @property
    def step_samples(self) -> int:
        return round_half_up(self.step_seconds * self.sample_rate)

    def frames(self, samples: int) -> int:
        """Number of frames of an utterance of `samples` samples (python_speech_features' count)."""
        if samples <= self.window_samples:
            return 1
        return 1 + -(-(samples - self.window_samples) // self.step_samples)


def extract(samples: np.ndarray, front_end: FrontEnd) -> np.ndarray:
    """The features of an utterance, as they are stored.

    Args:
        samples: int16 or float32 [samples] at the front end's sample rate and int16 scale; at least
            one.

    Returns:
        float32 [frames, bins]; normalised over the utterance, every bin has mean 0 and deviation 1.
        For the other normalisations they are left as they are.
    """
    features = _EXTRACTORS[front_end.features](samples, front_end)  # [bins, frames]
    if front_end.deltas:
        features = with_deltas(features, front_end.deltas)
    if front_end.normalisation == UTTERANCE:
        features = normalise(features)
    return features.T


def log_filterbank(samples: np.ndarray, front_end: FrontEnd) -> np.ndarray:
    """Log mel filterbank energies, float32 [mel filters, frames]."""
    return np.log(filterbank_energies(samples, front_end))


def filterbank_energies(samples: np.ndarray, front_end: FrontEnd) -> np.ndarray:
    """Energies in mel filters, as `python_speech_features.fbank` gives them, floored.

    Args:
        samples: int16 or float32 [samples] at int16 scale.

    Returns:
        float32 [mel filters, frames], each at least the front end's energy floor.
    """
    filters = mel_filters(front_end)
    return _energies(samples, front_end, front_end.mel_filters, lambda power: filters @ power.T)


def cepstra(samples: np.ndarray, front_end: FrontEnd) -> np.ndarray:
    """Mel-frequency cepstral coefficients, as `python_speech_features.mfcc` gives them.

    The first one is replaced by the logarithm of the frame's energy, the others are liftered.

    Returns:
        float32 [coefficients, frames].
    """
    filters, size = mel_filters(front_end), front_end.fft_size

    def total_and_filtered(power: np.ndarray) -> np.ndarray:
        return np.vstack([power.sum(axis=1) / size, filters @ power.T])

    energies = _energies(samples, front_end, 1 + front_end.mel_filters, total_and_filtered)
    logarithms = np.log(energies, dtype=np.float64)  # [1 + mel filters, frames]
    transformed = scipy.fft.dct(logarithms[1:], axis=0, norm="ortho")[: front_end.coefficients]
    number = np.arange(front_end.coefficients)[:, np.newaxis]
    transformed *= 1 + LIFTER / 2 * np.sin(np.pi * number / LIFTER)
    transformed[0] = logarithms[0]
    return transformed.astype(np.float32)


def log_spectrum(samples: np.ndarray, front_end: FrontEnd) -> np.ndarray:
    """Log power spectrum, as `python_speech_features.sigproc.logpowspec` without its last step.

    Returns:
        float32 [fft size // 2 + 1, frames].
    """
    size = front_end.fft_size
    return np.log(_energies(samples, front_end, size // 2 + 1, lambda power: power.T / size))


def waveform(samples: np.ndarray, front_end: FrontEnd) -> np.ndarray:
    """The samples of each frame, without pre-emphasis or window; full scale is 1.

    Returns:
        float32 [window, frames].
    """
    framed = _frames(samples, 0, front_end.frames(len(samples)), front_end, pre_emphasis=0.0)
    return (framed.T / INT16_SCALE).astype(np.float32)


_EXTRACTORS = {FBANK: log_filterbank, MFCC: cepstra, SPECTROGRAM: log_spectrum, WAVEFORM: waveform}


def with_deltas(features: np.ndarray, orders: int) -> np.ndarray:
    """Appends differences over time, as `python_speech_features.delta` gives them.

    Each order is the slope of the one before it, over DELTA_FRAMES frames on either side; before
    the first and behind the last frame these are repeated.

    Args:
        features: float32 [bins, frames].

    Returns:
        float32 [bins * (1 + orders), frames].
    """
    appended = [features]
    frames, reach = features.shape[1], DELTA_FRAMES
    for _ in range(orders):
        padded = np.pad(appended[-1], ((0, 0), (reach, reach)), mode="edge")
        slope = np.zeros_like(features)
        for distance in range(1, reach + 1):
            behind = padded[:, reach + distance : reach + distance + frames]
            before = padded[:, reach - distance : reach - distance + frames]
            slope += distance * (behind - before)
        appended.append(slope / (2 * sum(each**2 for each in range(1, reach + 1))))
    return np.concatenate(appended)


def _energies(
    samples: np.ndarray,
    front_end: FrontEnd,
    rows: int,
    of_power: Callable[[np.ndarray], np.ndarray],
) -> np.ndarray:
    """Floored energies float32 [rows, frames].

    Args:
        of_power: gives [rows, chunk] of a chunk's power spectra float32 [chunk, frequencies], which
            are yet to be divided by the FFT's size.
    """
    window = _window(front_end)
    frames = front_end.frames(len(samples))
    energies = np.empty((rows, frames), np.float32)
    # The windows lie at the start of these rows; the zeros behind them stay.
    windowed = np.zeros((CHUNK_FRAMES, front_end.fft_size))  # [chunk, fft]
    for start in range(0, frames, CHUNK_FRAMES):
        chunk = min(CHUNK_FRAMES, frames - start)
        framed = _frames(samples, start, chunk, front_end, front_end.pre_emphasis)
        np.multiply(framed, window, out=windowed[:chunk, : front_end.window_samples])
        spectrum = scipy.fft.rfft(windowed[:chunk])  # [chunk, frequencies], complex
        power = (spectrum.real**2 + spectrum.imag**2).astype(np.float32)
        energies[:, start : start + chunk] = of_power(power)
    return np.maximum(energies, np.float32(front_end.energy_floor), out=energies)


def empty_filters(front_end: FrontEnd) -> int:
    """How many mel filters lie between two of the FFT's frequencies, so that they are always 0."""
    if front_end.features not in FILTERED:
        return 0
    return int((mel_filters(front_end).getnnz(axis=1) == 0).sum())


def _frames(
    samples: np.ndarray, start: int, count: int, front_end: FrontEnd, pre_emphasis: float
) -> np.ndarray:
    """Pre-emphasised, overlapping frames [count, window] from frame `start` on.

    y[t] = x[t] - pre_emphasis * x[t - 1], and y[0] = x[0]. Behind the last sample there are zeros.
    """
    begin = start * front_end.step_samples
    emphasised = np.zeros((count - 1) * front_end.step_samples + front_end.window_samples)
    present = samples[begin : begin + len(emphasised)].astype(np.float64)
    emphasised[: len(present)] = present
    emphasised[1 : len(present)] -= pre_emphasis * present[:-1]
    if begin and len(present):  # steps longer than windows may leave the last frame nothing
        emphasised[0] -= pre_emphasis * float(samples[begin - 1])
    # What sliding_window_view does, without its checks, which cost much for so small an array.
    return np.lib.stride_tricks.as_strided(
        emphasised,
        (count, front_end.window_samples),
        (front_end.step_samples * emphasised.itemsize, emphasised.itemsize),
        writeable=False,
    )


@lru_cache(maxsize=4)
def _window(front_end: FrontEnd) -> np.ndarray:
    return np.hamming(front_end.window_samples)  # [window]


@lru_cache(maxsize=4)
def mel_filters(front_end: FrontEnd) -> Any:
    """python_speech_features' mel filters [mel filters, frequencies], without their many zeros.

    They are divided by the FFT's size, as the power spectrum would be otherwise.

    A dense product would not only be slower: BLAS sums in another order for every number of
    threads, and the same command would write other bytes with other --workers.
    """
    filters: Any = get_filterbanks(
        front_end.mel_filters,
        front_end.fft_size,
        front_end.sample_rate,
        front_end.lowest_frequency,
        front_end.highest_frequency,
    )
    return scipy.sparse.csr_matrix(filters / front_end.fft_size, dtype=np.float32)
