"""Measures levels, silence and clipping of a recording.

A level is that of 20 ms of sound, in dB relative to full scale (dBFS), a sample of 32768 at int16
scale. It is the deviation from the mean of these 20 ms, so that an offset is no sound.
"""

from dataclasses import dataclass

import numpy as np

from speech.audio.types import Levels, Mask, RecordedSamples

FULL_SCALE = 32768.0
LEVEL_SECONDS = 0.02

# Minimum level, for half of the lowest of 16 bits and for digital silence.
LOWEST_LEVEL = -100.0

# The noise floor and the loud parts of a file, as percentiles of its levels: a word of a tenth of
# the file is loud, and pauses of a tenth are the floor.
FLOOR_PERCENTILE, LOUD_PERCENTILE = 10, 95

# At least this many successive levels above the middle between floor and loud parts are speech: a
# click is shorter.
SPEECH_LEVELS = 3

# Levels that the loudest part must have at least; half of a shorter recording.
LOUDEST_LEVELS = 5

# Minimum successive samples at the limit, so that a single peak isn't taken for a clipped one.
CLIPPED_RUN = 3
# The limit is this share of full scale, as resampling changes clipped peaks, ...
NEAR_FULL_SCALE = 0.99
# ... or this share of the file's largest sample, for a file that was clipped and then made quieter;
# the sample must be loud enough, as in a quiet file neighbours are often equal by chance.
NEAR_LARGEST = 0.999
LOUD_ENOUGH = 0.2  # of full scale


@dataclass(frozen=True)
class Sound:
    """Measures of a recording that has samples."""

    seconds: float
    floor: float  # dBFS
    loud: float  # dBFS
    loudest: float  # dBFS, minimum of the loudest 0.1 s
    silent_start: float  # seconds before speech
    silent_end: float  # seconds after speech
    clipped: int  # samples
    peak: float  # largest sample, as a share of full scale
    offset: float  # mean of the samples, as a share of full scale

    @property
    def range(self) -> float:
        """Returns the dB between floor and loud parts."""
        return self.loud - self.floor

    @property
    def speech_seconds(self) -> float:
        """Returns the length without the silence at both ends."""
        return self.seconds - self.silent_start - self.silent_end


def measure(samples: RecordedSamples, sample_rate: int) -> Sound:
    """Measures a recording.

    Args:
        samples: [samples] at int16 scale, at least one.
        sample_rate: Hz.
    """
    levels = measure_levels(samples, sample_rate)
    floor, loud = np.percentile(levels, [FLOOR_PERCENTILE, LOUD_PERCENTILE])
    speech = np.flatnonzero(speech_levels(levels))
    start, end = (speech[0], len(levels) - 1 - speech[-1]) if len(speech) else (0, 0)
    loudest_count = max(min(LOUDEST_LEVELS, len(levels) // 2), 1)
    return Sound(
        seconds=len(samples) / sample_rate,
        floor=float(floor),
        loud=float(loud),
        loudest=float(np.partition(levels, -loudest_count)[-loudest_count]),
        silent_start=float(start * LEVEL_SECONDS),
        silent_end=float(end * LEVEL_SECONDS),
        clipped=int(clipped_samples(samples).sum()),
        peak=max(float(samples.max()), -float(samples.min())) / FULL_SCALE,
        offset=float(np.mean(samples, dtype=np.float64)) / FULL_SCALE,
    )


def measure_levels(samples: RecordedSamples, sample_rate: int) -> Levels:
    """Returns levels in dBFS, float32 [levels]; samples after the last whole 20 ms are ignored.

    Args:
        samples: [samples] at int16 scale, at least one.
    """
    length = min(max(round(LEVEL_SECONDS * sample_rate), 1), len(samples))
    count = len(samples) // length
    parts = samples[: count * length].reshape(count, length).astype(np.float32)
    deviations = parts.std(axis=1) / np.float32(FULL_SCALE)  # [levels]
    lowest = np.float32(10 ** (LOWEST_LEVEL / 20))
    levels: Levels = 20 * np.log10(np.maximum(deviations, lowest))
    return levels


def speech_levels(levels: Levels) -> Mask:
    """Marks levels that may be speech, loud ones with loud neighbours; bool [levels]."""
    floor, loud = np.percentile(levels, [FLOOR_PERCENTILE, LOUD_PERCENTILE])
    return _in_runs(levels > (floor + loud) / 2, SPEECH_LEVELS)


def clipped_samples(samples: RecordedSamples) -> Mask:
    """Marks clipped samples; bool [samples].

    Args:
        samples: [samples] at int16 scale, at least one.
    """
    clipped = np.zeros(len(samples), bool)
    for largest, side in ((float(samples.max()), 1), (-float(samples.min()), -1)):
        if largest < LOUD_ENOUGH * FULL_SCALE:
            continue
        top = min(NEAR_LARGEST * largest, NEAR_FULL_SCALE * FULL_SCALE)
        clipped |= _in_runs(samples * np.float32(side) >= top, CLIPPED_RUN)
    return clipped


def _in_runs(marked: Mask, shortest: int) -> Mask:
    """Keeps the marks in runs of at least `shortest`; bool [...] as `marked`."""
    edges = np.flatnonzero(np.diff(marked, prepend=False, append=False))
    starts, ends = edges[::2], edges[1::2]  # [runs]
    kept = np.zeros(len(marked) + 1, np.int8)
    long = ends - starts >= shortest
    kept[starts[long]] = 1
    kept[ends[long]] -= 1
    return np.cumsum(kept[:-1], dtype=np.int8).astype(bool)
