"""Augments recordings while shards are prepared: noise, rooms, codecs, other speeds.

A set has every utterance unchanged and augmented copies of it. A copy depends only on the random
seed, the utterance's id and the copy's number, and is the same in every process and every run. The
grammar is that of augmentation/grammar.py; `start:end` goes from an utterance's first copy to its
last.
"""

import csv
import hashlib
import io
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from speech.audio.reader import INT16_SCALE, read_audio
from speech.audio.types import RecordedSamples
from speech.augmentation.grammar import Specification, parse_signal
from speech.system import storage
from utils import UserError, lines_of

LARGEST_SAMPLE = 32767

# The level of a peak of 1 on DeepSpeech's scale, where a sine from -1 to 1 has 0 dBFS.
PEAK_DBFS = 3.0103

# Delays of the reflections in a room, in seventeenths of the first one: primes, so that they don't
# coincide, as in DeepSpeech.
ROOM_DELAYS = (17, 19, 23, 29, 31)
SHORTEST_DELAY = 16  # samples

# Rates in Hz and bits per second of libsndfile's encoders. Its MP3 encoder has its own steps.
OPUS_RATES = (8000, 12000, 16000, 24000, 48000)
OPUS_BITRATES = (6000, 256000)
MP3_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
TELEPHONE_RATE = 8000
TELEPHONE_SUBTYPES = {"gsm": "GSM610", "ulaw": "ULAW", "alaw": "ALAW"}
# Samples of silence that encoder and decoder prepend, which a file of low bit rate can't declare.
MP3_DELAY = 1105

NOISE_SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".aiff", ".aif", ".au")

Waveform = npt.NDArray[np.float64]  # [samples], at int16 scale
Rng = np.random.Generator


@dataclass(frozen=True)
class Copies:
    """Settings of the augmented copies of each utterance in a set of shards."""

    augment: tuple[str, ...] = ()  # in the grammar of speech/augmentation/grammar.py
    augmented_copies: int = 0
    random_seed: int = 0
    noise_sha256: str = ""  # of the names and sizes of the noise files


NO_COPIES = Copies()


@dataclass(frozen=True)
class Noise:
    """Sound files of one `source=` of an overlay."""

    source: str
    files: tuple[str, ...]  # sorted paths
    sha256: str  # of their names and sizes


def copies_of(augment: Sequence[str], augmented_copies: int, random_seed: int) -> Copies:
    """Returns the settings of copies.

    Args:
        augment: in the grammar of augmentation/grammar.py.

    Raises:
        UserError: an augmentation can't be parsed, or its noise doesn't exist.
    """
    specifications = tuple(map(parse_signal, augment))
    return Copies(tuple(augment), augmented_copies, random_seed, _noise_sha256(specifications))


def augment_copy(
    samples: RecordedSamples, utterance_id: str, copy: int, copies: Copies, sample_rate: int
) -> RecordedSamples:
    """Returns the samples of one copy of an utterance, rounded to 16 bits as in a recording.

    Args:
        samples: int16 or float32 [samples] at int16 scale.
        utterance_id: of the original.
        copy: 1 to copies.augmented_copies.

    Returns:
        int16 [samples], possibly more or fewer.

    Raises:
        UserError: a noise file can't be read, or the noise has changed since the start.
    """
    if not len(samples):
        return samples
    name = int.from_bytes(hashlib.sha256(utterance_id.encode()).digest()[:8], "little")
    progress = (copy - 1) / max(copies.augmented_copies - 1, 1)
    changed = samples.astype(np.float64)
    for number, specification in enumerate(_specifications(copies)):
        rng = np.random.default_rng([copies.random_seed, name, copy, number])
        if rng.random() < specification.probability:
            changed = change(changed, specification, rng, progress, sample_rate)
    return as_recorded(changed)


def change(
    samples: Waveform, specification: Specification, rng: Rng, progress: float, sample_rate: int
) -> Waveform:
    """Applies one augmentation, whatever its probability, to at least one sample."""
    draws = _Draws(specification, rng, progress)
    return _CHANGES[specification.kind](samples, draws, sample_rate)


def as_recorded(samples: Waveform) -> npt.NDArray[np.int16]:
    """Rounds samples to int16 [samples], as in a file of 16 bits."""
    lowest, highest = -LARGEST_SAMPLE - 1, LARGEST_SAMPLE
    return np.clip(np.rint(samples), lowest, highest).astype(np.int16)


@lru_cache(maxsize=2)
def _specifications(copies: Copies) -> tuple[Specification, ...]:
    specifications = tuple(map(parse_signal, copies.augment))
    if _noise_sha256(specifications) != copies.noise_sha256:
        raise UserError(
            f"The noise of --augment={' --augment='.join(copies.augment)} has changed since the "
            "command began, or differs on this machine: the files' names or sizes are not the "
            "same. Copy the same noise files, or start again."
        )
    return specifications


@dataclass(frozen=True)
class _Draws:
    """Random numbers of one augmentation of one copy."""

    specification: Specification
    rng: Rng
    progress: float  # 0 at the first copy to 1 at the last

    def value(self, name: str) -> float:
        drawn = self.specification.ranges[name]
        value = drawn.at(self.progress) + drawn.radius * self.rng.uniform(-1, 1)
        return float(round(value)) if name in self.specification.whole else float(value)

    def text(self, name: str) -> str:
        return self.specification.texts[name]


# --- Kinds ----------------------------------------------------------------------------------------


def _overlay(samples: Waveform, draws: _Draws, sample_rate: int) -> Waveform:
    noise = noise_of(draws.text("source"))
    layers = max(int(draws.value("layers")), 0)
    over = np.zeros_like(samples)
    for _ in range(layers):
        over += _stretch_of_noise(noise, len(samples), draws.rng, sample_rate)
    speech_power, noise_power = np.mean(samples**2), np.mean(over**2)
    snr = draws.value("snr")
    if not speech_power or not noise_power:
        return samples
    gain = np.sqrt(speech_power / noise_power) * _ratio(-snr)
    return _with_peak(samples + gain * over, np.abs(samples).max())


def _stretch_of_noise(noise: Noise, length: int, rng: Rng, sample_rate: int) -> Waveform:
    """Joins noise files, the first one from a random place on."""
    stretch = np.zeros(length)
    filled = 0
    while filled < length:
        samples = _read_noise(noise.files[rng.integers(len(noise.files))], noise, sample_rate)
        begin = 0 if filled else int(rng.integers(len(samples)))
        taken = samples[begin : begin + length - filled]
        stretch[filled : filled + len(taken)] = taken
        filled += len(taken)
    return stretch


def _reverb(samples: Waveform, draws: _Draws, sample_rate: int) -> Waveform:
    """Adds parallel feedback comb filters: a Schroeder reverberator without all-pass filters."""
    delay = max(draws.value("delay"), 0.0) * sample_rate / 1000  # samples
    gain = _ratio(-max(draws.value("decay"), 0.0))
    mixed = samples.copy()
    for each in ROOM_DELAYS:
        period = max(int(delay * each / ROOM_DELAYS[0]), SHORTEST_DELAY)
        rows = -(-len(samples) // period)
        echoing = np.zeros((rows, period))
        echoing.flat[: len(samples)] = samples
        for row in range(1, rows):
            echoing[row] += gain * echoing[row - 1]
        mixed += echoing.reshape(-1)[: len(samples)]
    return _with_peak(mixed, np.abs(samples).max())


def _resample(samples: Waveform, draws: _Draws, sample_rate: int) -> Waveform:
    return _at_rate(samples, sample_rate, int(draws.value("rate")), lambda there: there)


def _codec(samples: Waveform, draws: _Draws, sample_rate: int) -> Waveform:
    codec, bitrate = draws.text("codec"), draws.value("bitrate")
    if codec == "opus":
        rate = _lowest_rate(OPUS_RATES, sample_rate)
        level = (OPUS_BITRATES[1] - bitrate) / (OPUS_BITRATES[1] - OPUS_BITRATES[0])
        return _at_rate(
            samples,
            sample_rate,
            rate,
            lambda there: _coded(there, rate, "OGG", "OPUS", float(np.clip(level, 0, 1))),
        )
    if codec == "mp3":
        rate = _lowest_rate(MP3_RATES, sample_rate)
        return _at_rate(samples, sample_rate, rate, lambda there: _mp3(there, rate, bitrate))
    return _at_rate(
        samples,
        sample_rate,
        TELEPHONE_RATE,
        lambda there: _coded(there, TELEPHONE_RATE, "WAV", TELEPHONE_SUBTYPES[codec]),
    )


def _volume(samples: Waveform, draws: _Draws, sample_rate: int) -> Waveform:
    dbfs = min(draws.value("dbfs"), PEAK_DBFS)
    return _with_peak(samples, LARGEST_SAMPLE * _ratio(dbfs - PEAK_DBFS))


def _speed(samples: Waveform, draws: _Draws, sample_rate: int) -> Waveform:
    """Plays samples faster and at a higher pitch, as sox's speed in Kaldi."""
    factor = draws.value("factor")
    return samples if factor == 1 else soxr.resample(samples, sample_rate * factor, sample_rate)


_CHANGES: dict[str, Callable[[Waveform, _Draws, int], Waveform]] = {
    "overlay": _overlay,
    "reverb": _reverb,
    "resample": _resample,
    "codec": _codec,
    "volume": _volume,
    "speed": _speed,
}


def _ratio(decibels: float) -> float:
    return float(10 ** (decibels / 20))


def _with_peak(samples: Waveform, peak: float) -> Waveform:
    """Scales samples to a peak; silence stays."""
    present = np.abs(samples).max()
    return samples * (peak / present) if present else samples


# --- Codecs ---------------------------------------------------------------------------------------


def _at_rate(
    samples: Waveform, sample_rate: int, rate: int, change: Callable[[Waveform], Waveform]
) -> Waveform:
    """Applies `change` to the samples at another rate; the number of samples stays."""
    there = samples if rate == sample_rate else soxr.resample(samples, sample_rate, rate)
    changed = change(there)
    back = changed if rate == sample_rate else soxr.resample(changed, rate, sample_rate)
    whole = np.zeros_like(samples)
    whole[: len(back)] = back[: len(whole)]
    return whole


def _lowest_rate(rates: tuple[int, ...], sample_rate: int) -> int:
    return next((rate for rate in rates if rate >= sample_rate), rates[-1])


def _mp3(samples: Waveform, rate: int, bitrate: float) -> Waveform:
    lowest, highest = (32000, 320000) if rate >= 32000 else (8000, 160000)
    if rate < 16000:
        highest = 64000
    level = float(np.clip((highest - bitrate) / (highest - lowest), 0, 0.999))
    decoded = _coded(samples, rate, "MP3", "MPEG_LAYER_III", level, "CONSTANT")
    return decoded[MP3_DELAY:] if len(decoded) > len(samples) else decoded


def _coded(
    samples: Waveform,
    rate: int,
    container: str,
    subtype: str,
    level: float | None = None,
    bitrate_mode: str | None = None,
) -> Waveform:
    """Encodes and decodes samples with libsndfile; level: 0 for its highest bitrate to 1."""
    if not len(samples):
        return samples
    file = io.BytesIO()
    # Louder samples would wrap around in integer codecs.
    limited = np.clip(samples / INT16_SCALE, -1, LARGEST_SAMPLE / INT16_SCALE)
    soundfile.write(
        file,
        limited,
        rate,
        subtype,
        format=container,
        compression_level=level,
        bitrate_mode=bitrate_mode,
    )
    file.seek(0)
    decoded, _ = soundfile.read(file)
    return decoded * INT16_SCALE


# --- Noise ----------------------------------------------------------------------------------------


@lru_cache(maxsize=8)
def noise_of(source: str) -> Noise:
    """Finds the noise files of a folder, a list of files, or one file, local or in a bucket.

    A list is a CSV with a column wav_filename, as in DeepSpeech, or text with one path per line;
    relative paths are relative to the list's folder.

    Raises:
        UserError: the source doesn't exist, has no sound files, or is a list that can't be read.
    """
    named = f"overlay's source={source}"
    if source.lower().endswith(".sdb"):
        raise UserError(
            f"{named} is a sample database of DeepSpeech: give the folder or the CSV that it was "
            "made from."
        )
    if source.lower().endswith((".csv", ".txt")):
        paths = [(path, storage.size(path)) for path in _listed(source)]
    elif source.lower().endswith(NOISE_SUFFIXES):
        paths = [(source, storage.size(source))]
    else:
        if not storage.in_bucket(source) and not os.path.isdir(source):
            raise UserError(f"{named} is no folder, CSV or sound file: check the path.")
        found = storage.files_below(source)
        paths = [(path, size) for path, size in found if path.lower().endswith(NOISE_SUFFIXES)]
    for path, size in paths:
        if size is None:
            raise UserError(f"{named}: the noise {path} doesn't exist: check the path.")
    if not paths:
        raise UserError(
            f"{named} has no sound files ({', '.join(NOISE_SUFFIXES)}): name another folder."
        )
    paths.sort()
    digest = hashlib.sha256()
    for path, size in paths:
        digest.update(repr((os.path.basename(path), size)).encode(errors="surrogateescape"))
    return Noise(source, tuple(path for path, _ in paths), digest.hexdigest())


def _noise_sha256(specifications: Sequence[Specification]) -> str:
    """Returns a digest of all noise together; empty if there is none."""
    sources = [each.texts["source"] for each in specifications if each.kind == "overlay"]
    if not sources:
        return ""
    return hashlib.sha256("".join(noise_of(each).sha256 for each in sources).encode()).hexdigest()


def _listed(source: str) -> list[str]:
    try:
        text = storage.read_bytes(source).decode("utf-8-sig")
    except OSError as error:
        raise UserError(f"overlay's source={source} can't be read: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        raise UserError(
            f"overlay's source={source} is not UTF-8 ({error}): save it as UTF-8."
        ) from None
    if source.lower().endswith(".csv"):
        rows = csv.DictReader(io.StringIO(text, newline=""))
        if "wav_filename" not in (rows.fieldnames or ()):
            raise UserError(
                f"overlay's source={source} has no column wav_filename: its first line must name "
                "the columns."
            )
        paths = [row["wav_filename"] or "" for row in rows]
    else:
        paths = lines_of(text)
    folder = source.rpartition("/")[0]
    return [
        path if storage.in_bucket(path) or os.path.isabs(path) else storage.join(folder, path)
        for path in map(str.strip, paths)
        if path
    ]


@lru_cache(maxsize=32)
def _read_noise(path: str, noise: Noise, sample_rate: int) -> RecordedSamples:
    """Reads samples at int16 scale, at least one."""
    try:
        samples = read_audio(path, sample_rate)
    except UserError as error:
        raise UserError(f"Noise of overlay's source={noise.source}: {error}") from None
    if not len(samples):
        raise UserError(
            f"Noise of overlay's source={noise.source}: {path} has no samples. Remove it."
        )
    return samples
