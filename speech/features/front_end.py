"""Front end: samples -> features.

There are five kinds: log mel filterbank energies, mel-frequency cepstral coefficients, the log
power spectrum, the samples themselves, and Mozilla DeepSpeech's cepstral coefficients. The recipes
of all but the last are python_speech_features' `fbank`, `mfcc` and `delta`, with a floored
logarithm. Its filterbank is used unchanged; framing and FFT are done here in chunks that stay in
the processor's cache, which is several times faster. They use float64: the error of a float32 FFT
alone is 1e-4 where quiet bins are next to loud ones.

Inside this module features are [bins, frames], as shards store them; networks read [frames, bins].
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import numpy as np

import constants
from speech.audio.reader import INT16_SCALE, round_half_up
from speech.audio.types import RecordedSamples
from speech.features.normalisation import normalise
from speech.features.types import Features
from speech.system import typed_json
from utils import UserError

# Frames whose spectra are computed at once: 96 x 1024 float64 samples stay in the L2 cache.
CHUNK_FRAMES = 96

# Bytes of a block larger than the arrays of an utterance.
LARGE_BLOCK = 8 * 2**20

# Kinds of features, and those of them that need mel filters.
FBANK, MFCC, SPECTROGRAM, WAVEFORM, DEEPSPEECH = FEATURES = (
    "fbank",
    "mfcc",
    "spectrogram",
    "waveform",
    "deepspeech",
)
FILTERED = (FBANK, MFCC, DEEPSPEECH)

# The statistics that normalise features: each bin's mean and deviation over the utterance or over
# the training set; none leaves features as they are.
UTTERANCE, CORPUS, NONE = NORMALISATIONS = ("utterance", "corpus", "none")

# Limits of a front end, far beyond any setting for speech. Memory and time grow with them.
HIGHEST_RATE = 2**20
LARGEST_FFT = 2**16  # and window, in samples
MOST_FILTERS = 2**10
LONGEST_STEP = 60.0  # and window, in seconds

# Constants of python_speech_features.
LIFTER = 22  # the weight of cepstral coefficient n is 1 + LIFTER / 2 sin(pi n / LIFTER)
DELTA_FRAMES = 2  # frames on either side from which a delta is computed
MOST_DELTAS = 2  # orders


@dataclass(frozen=True)
class FrontEnd:
    """Settings that turn samples into features; shards and models carry them."""

    features: str = FBANK  # of FEATURES
    sample_rate: int = constants.SAMPLE_RATE  # Hz; audio of other rates is resampled to it
    window_seconds: float = constants.WINDOW_SECONDS  # length of a frame
    step_seconds: float = constants.STEP_SECONDS  # between the starts of two frames
    fft_size: int = constants.FFT_SIZE  # samples; a frame is zero-padded to it
    mel_filters: int = constants.MEL_FILTERS
    lowest_frequency: float = constants.LOWEST_FREQUENCY  # Hz, lower edge of the first filter
    highest_frequency: float = constants.HIGHEST_FREQUENCY  # Hz, upper edge of the last filter
    pre_emphasis: float = constants.PRE_EMPHASIS  # y[t] = x[t] - pre_emphasis * x[t - 1]
    energy_floor: float = constants.ENERGY_FLOOR  # minimum energy, before the logarithm
    coefficients: int = constants.CEPSTRAL_COEFFICIENTS  # the first one of mfcc is the energy
    deltas: int = 0  # orders of appended differences over time
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
        if self.features in (MFCC, DEEPSPEECH) and not 0 < self.coefficients <= self.mel_filters:
            raise UserError(
                f"{self.mel_filters} mel filters have 1 to {self.mel_filters} coefficients, not "
                f"{self.coefficients}: see --numcep and --nrof_fbanks."
            )
        if self.features == WAVEFORM and self.deltas:
            raise UserError(
                f"--deltas={self.deltas} can't be combined with --features={WAVEFORM}: differences "
                "of samples a frame apart have no meaning. Omit one of them."
            )

    def _check_frames(self) -> None:
        if not all(abs(each) <= LONGEST_STEP for each in (self.window_seconds, self.step_seconds)):
            raise UserError(
                f"A window of {self.window_seconds} s and a step of {self.step_seconds} s are not "
                f"possible: choose --winlen and --winstep in seconds, up to {LONGEST_STEP:g}."
            )
        if not 0 < self.sample_rate <= HIGHEST_RATE:
            raise UserError(
                f"The front end needs a sample rate from 1 to {HIGHEST_RATE} Hz, not "
                f"{self.sample_rate}: see --sample_rate."
            )
        if max(self.fft_size, self.window_samples) > LARGEST_FFT:
            raise UserError(
                f"An FFT of {self.fft_size} samples and a window of {self.window_samples} are not "
                f"possible: the maximum of each is {LARGEST_FFT}, see --nfft, --winlen and "
                "--sample_rate."
            )
        if self.step_samples <= 0 or self.window_samples <= 0:
            raise UserError(
                f"At {self.sample_rate} Hz a window of {self.window_seconds} s is "
                f"{self.window_samples} samples and a step of {self.step_seconds} s "
                f"{self.step_samples}: each must have at least one. Choose a longer --winlen or "
                "--winstep."
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
                f"The filters from {self.lowest_frequency} to {self.highest_frequency} Hz must be "
                f"between 0 and half the sample rate of {self.sample_rate} Hz: choose a higher "
                "--sample_rate."
            )

    @classmethod
    def from_json(cls, content: Any) -> "FrontEnd":
        """Reads the front end from the JSON of an index or a model, also of the first version."""
        return typed_json.read(
            cls, typed_json.rename_fields(content, {"bins": "mel_filters"}), "front_end"
        )

    @property
    def bins(self) -> int:
        """Returns the number of values of one frame."""
        static = {
            FBANK: self.mel_filters,
            MFCC: self.coefficients,
            DEEPSPEECH: self.coefficients,
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

    @property
    def spare_samples(self) -> int:
        """Returns how many samples before the end of a window a step after it is a frame, too.

        python_speech_features pads a frame only if samples are left for it. DeepSpeech's clients
        always end with a padded frame.
        """
        return self.step_samples - (0 if self.features == DEEPSPEECH else 1)

    def frames(self, samples: int) -> int:
        """Returns the frames of an utterance of `samples` samples; the last one may be padded."""
        rest = max(samples - self.window_samples + self.spare_samples, 0)
        return 1 + rest // self.step_samples


def deepspeech(
    sample_rate: int = constants.SAMPLE_RATE,
    window_seconds: float = 0.032,
    step_seconds: float = 0.02,
    normalisation: str = NONE,
) -> FrontEnd:
    """Returns Mozilla DeepSpeech's front end; its other settings are constants there, too."""
    window = round_half_up(window_seconds * sample_rate)
    return FrontEnd(
        features=DEEPSPEECH,
        sample_rate=sample_rate,
        window_seconds=window_seconds,
        step_seconds=step_seconds,
        fft_size=1 << max(window - 1, 0).bit_length(),
        mel_filters=40,
        lowest_frequency=20.0,
        highest_frequency=sample_rate / 2,
        pre_emphasis=0.0,
        energy_floor=1e-12,
        coefficients=26,
        normalisation=normalisation,
    )


def extract(samples: RecordedSamples, front_end: FrontEnd) -> Features:
    """Returns the features of an utterance as networks read them.

    Args:
        samples: int16 or float32 [samples] at the front end's sample rate and int16 scale; at least
            one.

    Returns:
        float32 [frames, bins]; normalised over the utterance, every bin has mean 0 and deviation 1.
        Other normalisations are not done here.
    """
    return extract_by_bin(samples, front_end).T


def extract_by_bin(samples: RecordedSamples, front_end: FrontEnd) -> Features:
    """Returns the features of an utterance as shards store them: `extract`, [bins, frames]."""
    set_malloc_threshold()
    features = _EXTRACTORS[front_end.features](samples, front_end)
    if front_end.deltas:
        features = with_deltas(features, front_end.deltas)
    if front_end.normalisation == UTTERANCE:
        features = normalise(features)
    return features


@cache
def set_malloc_threshold() -> None:
    """Lets this process keep the memory of an utterance's arrays for the next utterance.

    glibc returns freed blocks of their size to the system, and gets them back page by page. It
    raises the size from which it does so when a larger block is freed (mallopt(3),
    M_MMAP_THRESHOLD), as the block here is at once.
    """
    np.empty(LARGE_BLOCK, np.uint8)


def log_filterbank(samples: RecordedSamples, front_end: FrontEnd) -> Features:
    """Returns log mel filterbank energies, float32 [mel filters, frames]."""
    return np.log(filterbank_energies(samples, front_end))


def filterbank_energies(samples: RecordedSamples, front_end: FrontEnd) -> Features:
    """Returns energies in mel filters, as `python_speech_features.fbank`, floored.

    Args:
        samples: int16 or float32 [samples] at int16 scale.

    Returns:
        float32 [mel filters, frames], each at least the front end's energy floor.
    """
    filters = mel_filters(front_end)
    return _energies(samples, front_end, front_end.mel_filters, lambda power: filters @ power.T)


def cepstra(samples: RecordedSamples, front_end: FrontEnd) -> Features:
    """Returns mel-frequency cepstral coefficients, as `python_speech_features.mfcc`.

    The first one is replaced by the logarithm of the frame's energy, the others are liftered.

    Returns:
        float32 [coefficients, frames].
    """
    filters, size = mel_filters(front_end), front_end.fft_size

    def total_and_filtered(power: np.ndarray) -> np.ndarray:
        return np.vstack([power.sum(axis=1) / size, filters @ power.T])

    energies = _energies(samples, front_end, 1 + front_end.mel_filters, total_and_filtered)
    logarithms = np.log(energies, dtype=np.float64)  # [1 + mel filters, frames]
    transformed = _transformed(logarithms[1:], front_end)
    number = np.arange(front_end.coefficients)[:, np.newaxis]
    transformed *= 1 + LIFTER / 2 * np.sin(np.pi * number / LIFTER)
    transformed[0] = logarithms[0]
    return transformed.astype(np.float32)


def log_spectrum(samples: RecordedSamples, front_end: FrontEnd) -> Features:
    """Returns the natural logarithm of `python_speech_features.sigproc.powspec`, floored.

    Returns:
        float32 [fft size // 2 + 1, frames].
    """
    size = front_end.fft_size
    return np.log(_energies(samples, front_end, size // 2 + 1, lambda power: power.T / size))


def waveform(samples: RecordedSamples, front_end: FrontEnd) -> Features:
    """Returns the samples of each frame, without pre-emphasis or window; full scale is 1.

    Returns:
        float32 [window, frames].
    """
    framed = _frames(samples, 0, front_end.frames(len(samples)), front_end, pre_emphasis=0.0)
    return (framed.T / INT16_SCALE).astype(np.float32)


def deepspeech_cepstra(samples: RecordedSamples, front_end: FrontEnd) -> Features:
    """Returns Mozilla DeepSpeech's features: TensorFlow's AudioSpectrogram and Mfcc.

    The filters are applied to magnitudes, not to power, and nothing is liftered.

    Returns:
        float32 [coefficients, frames].
    """
    filters = deepspeech_filters(front_end)
    energies = _energies(
        samples, front_end, front_end.mel_filters, lambda power: filters @ np.sqrt(power).T
    )
    logarithms = np.log(energies, dtype=np.float64)  # [mel filters, frames]
    return _transformed(logarithms, front_end).astype(np.float32)


_EXTRACTORS = {
    FBANK: log_filterbank,
    MFCC: cepstra,
    SPECTROGRAM: log_spectrum,
    WAVEFORM: waveform,
    DEEPSPEECH: deepspeech_cepstra,
}


def with_deltas(features: Features, orders: int) -> Features:
    """Appends differences over time, as `python_speech_features.delta`.

    Each order is the slope of the previous one, over DELTA_FRAMES frames on either side. The first
    and the last frame are repeated beyond the ends.

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
            after = padded[:, reach + distance : reach + distance + frames]
            before = padded[:, reach - distance : reach - distance + frames]
            slope += distance * (after - before)
        appended.append(slope / np.float32(2 * sum(each**2 for each in range(1, reach + 1))))
    return np.concatenate(appended)


def _energies(
    samples: RecordedSamples,
    front_end: FrontEnd,
    rows: int,
    of_power: Callable[[np.ndarray], np.ndarray],
) -> Features:
    """Returns floored energies, float32 [rows, frames].

    Args:
        of_power: returns [rows, chunk] of a chunk's power spectra float32 [chunk, frequencies],
            which are not yet divided by the FFT's size.
    """
    weights = window_weights(front_end)
    frames = front_end.frames(len(samples))
    energies = np.empty((rows, frames), np.float32)
    # Windowed frames are at the start of these rows; the zeros after them stay.
    windowed = np.zeros((CHUNK_FRAMES, front_end.fft_size))  # [chunk, fft]
    for start in range(0, frames, CHUNK_FRAMES):
        chunk = min(CHUNK_FRAMES, frames - start)
        framed = _frames(samples, start, chunk, front_end, front_end.pre_emphasis)
        np.multiply(framed, weights, out=windowed[:chunk, : front_end.window_samples])
        spectrum = np.fft.rfft(windowed[:chunk])  # [chunk, frequencies], complex
        power = (spectrum.real**2 + spectrum.imag**2).astype(np.float32)
        energies[:, start : start + chunk] = of_power(power)
    return np.maximum(energies, np.float32(front_end.energy_floor), out=energies)


def _transformed(logarithms: np.ndarray, front_end: FrontEnd) -> np.ndarray:
    """Returns cepstral coefficients [coefficients, frames] of [mel filters, frames]."""
    # Not @, for the reason that mel_filters gives.
    return np.einsum("cm,mf->cf", cosines(front_end), logarithms)


def empty_filters(front_end: FrontEnd) -> int:
    """Returns how many mel filters are between two of the FFT's frequencies: always 0."""
    if front_end.features not in FILTERED:
        return 0
    filters = deepspeech_filters if front_end.features == DEEPSPEECH else mel_filters
    return int((filters(front_end).getnnz(axis=1) == 0).sum())


def _frames(
    samples: RecordedSamples, start: int, count: int, front_end: FrontEnd, pre_emphasis: float
) -> np.ndarray:
    """Returns pre-emphasised, overlapping frames float64 [count, window] from frame `start` on.

    y[t] = x[t] - pre_emphasis * x[t - 1], and y[0] = x[0]. Zeros follow the last sample.
    """
    begin = start * front_end.step_samples
    emphasised = np.zeros((count - 1) * front_end.step_samples + front_end.window_samples)
    present = samples[begin : begin + len(emphasised)].astype(np.float64)
    emphasised[: len(present)] = present
    emphasised[1 : len(present)] -= pre_emphasis * present[:-1]
    if begin and len(present):  # steps longer than windows may leave no samples for the last frame
        emphasised[0] -= pre_emphasis * float(samples[begin - 1])
    # As sliding_window_view, without its checks, which take long for so small an array.
    return np.lib.stride_tricks.as_strided(
        emphasised,
        (count, front_end.window_samples),
        (front_end.step_samples * emphasised.itemsize, emphasised.itemsize),
        writeable=False,
    )


@lru_cache(maxsize=4)
def window_weights(front_end: FrontEnd) -> np.ndarray:
    """Returns the weights of a frame's samples, float64 [window]."""
    if front_end.features == DEEPSPEECH:
        return np.hanning(front_end.window_samples + 1)[:-1]  # periodic
    return np.hamming(front_end.window_samples)


@lru_cache(maxsize=4)
def cosines(front_end: FrontEnd) -> np.ndarray:
    """Returns the discrete cosine transform of type 2, float64 [coefficients, mel filters].

    Its rows have the length 1, but for the first one of DeepSpeech's features: TensorFlow's
    mfcc_dct.cc scales all rows alike.
    """
    count = front_end.mel_filters
    rows = np.arange(front_end.coefficients)[:, np.newaxis]
    matrix = np.sqrt(2 / count) * np.cos(np.pi / count * rows * (np.arange(count) + 0.5))
    if front_end.features != DEEPSPEECH:
        matrix[0] /= np.sqrt(2)
    return matrix


@lru_cache(maxsize=4)
def mel_filters(front_end: FrontEnd) -> Any:
    """Returns python_speech_features' mel filters [mel filters, frequencies] as a sparse matrix.

    They are divided by the FFT's size, instead of the power spectrum.

    A dense product would be slower, and BLAS sums in another order for every number of threads: the
    same command would write other bytes with other --workers.
    """
    from python_speech_features.base import get_filterbanks  # only now: it imports most of scipy

    filters: Any = get_filterbanks(
        front_end.mel_filters,
        front_end.fft_size,
        front_end.sample_rate,
        front_end.lowest_frequency,
        front_end.highest_frequency,
    )
    return _sparse((filters / front_end.fft_size).astype(np.float32))


@lru_cache(maxsize=4)
def deepspeech_filters(front_end: FrontEnd) -> Any:
    """Returns the filters of TensorFlow's mfcc_mel_filterbank.cc, which its operation Mfcc uses.

    Each frequency is divided between the two filters whose centres are next to it on the mel scale.
    The first centre is a step above the lowest frequency, whose own share is lost.

    Returns:
        [mel filters, frequencies], sparse; divided by the scale of int16 samples.
    """

    def mel(hertz: np.ndarray | float) -> np.ndarray:
        return 1127 * np.log1p(np.asarray(hertz) / 700)

    count, spacing = front_end.mel_filters, front_end.sample_rate / front_end.fft_size
    low, high = mel(front_end.lowest_frequency), mel(front_end.highest_frequency)
    edges = low + (high - low) / (count + 1) * np.arange(count + 2)  # the centres are edges[1:-1]
    first = int(1.5 + front_end.lowest_frequency / spacing)
    last = int(front_end.highest_frequency / spacing)
    filters = np.zeros((count, front_end.fft_size // 2 + 1))
    for frequency in range(first, last + 1):
        place = mel(frequency * spacing)
        below = int(np.searchsorted(edges[1:-1], place))  # centres below the frequency
        share = (edges[below + 1] - place) / (edges[below + 1] - edges[below])
        if below > 0:
            filters[below - 1, frequency] = share
        if below < count:
            filters[below, frequency] = 1 - share
    return _sparse(filters / INT16_SCALE)


def _sparse(matrix: np.ndarray) -> Any:
    from scipy import sparse  # only now: a model that computes its own features needs none

    return sparse.csr_matrix(matrix)
