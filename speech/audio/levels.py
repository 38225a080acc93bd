"""What can be wrong with the sound of one recording, in numbers.

Levels are of 20 ms frames, in dB below full scale (dBFS), which is a sample of 32768 at int16
scale. A level is taken around the frame's mean, so that an offset isn't taken for sound.
"""

from dataclasses import dataclass

import numpy as np

FULL_SCALE = 32768.0
FRAME_SECONDS = 0.02

# Levels below this are all the same: half of the lowest bit of 16, and digital silence.
LOWEST_LEVEL = -100.0

# The file's floor and its loud parts, as percentiles of its frames' levels: a word that fills a
# tenth of the file is loud, and pauses of a tenth are the floor.
FLOOR_PERCENTILE, LOUD_PERCENTILE = 10, 95

# Frames that lie above the middle between floor and loud parts are speech if at least this many
# follow each other: a click is shorter.
SPEECH_FRAMES = 3

# Frames that must be as loud as what is called the loudest part; half of a shorter recording.
LOUDEST_FRAMES = 5

# Samples at the top that follow each other, so that a single peak isn't taken for a cut one.
CLIPPED_RUN = 3
# The top is full scale, less what resampling makes of a cut peak, ...
NEAR_FULL_SCALE = 0.99
# ... or where this very file is cut, as after clipping and turning down: its own largest sample,
# less its rounding; in a quiet file neighbours are often equal by chance.
NEAR_LARGEST = 0.999
LOUD_ENOUGH = 0.2  # of full scale


@dataclass(frozen=True)
class Sound:
    """The measures of a recording that has samples."""

    seconds: float
    floor: float  # dBFS
    loud: float  # dBFS
    loudest: float  # dBFS, which 0.1 s of it have at least
    silent_start: float  # seconds before speech
    silent_end: float  # seconds behind speech
    clipped: int  # samples
    peak: float  # of all samples, as a share of full scale
    offset: float  # mean of the samples, as a share of full scale

    @property
    def range(self) -> float:
        """dB between floor and loud parts."""
        return self.loud - self.floor

    @property
    def speech_seconds(self) -> float:
        """Without the silence at its edges."""
        return self.seconds - self.silent_start - self.silent_end


def measure(samples: np.ndarray, sample_rate: int) -> Sound:
    """
    Args:
        samples: [samples] at int16 scale, at least one.
        sample_rate: Hz.
    """
    levels = frame_levels(samples, sample_rate)
    floor, loud = np.percentile(levels, [FLOOR_PERCENTILE, LOUD_PERCENTILE])
    speech = np.flatnonzero(speech_frames(levels))
    start, end = (speech[0], len(levels) - 1 - speech[-1]) if len(speech) else (0, 0)
    frames_of_loudest = max(min(LOUDEST_FRAMES, len(levels) // 2), 1)
    return Sound(
        seconds=len(samples) / sample_rate,
        floor=float(floor),
        loud=float(loud),
        loudest=float(np.partition(levels, -frames_of_loudest)[-frames_of_loudest]),
        silent_start=float(start * FRAME_SECONDS),
        silent_end=float(end * FRAME_SECONDS),
        clipped=int(clipped_samples(samples).sum()),
        peak=max(float(samples.max()), -float(samples.min())) / FULL_SCALE,
        offset=float(np.mean(samples, dtype=np.float64)) / FULL_SCALE,
    )


def frame_levels(samples: np.ndarray, sample_rate: int) -> np.ndarray:
    """Levels in dBFS, float32 [frames]; what is left behind the last whole frame isn't looked at.

    Args:
        samples: [samples] at int16 scale, at least one.
    """
    length = min(max(round(FRAME_SECONDS * sample_rate), 1), len(samples))
    frames = len(samples) // length
    framed = samples[: frames * length].reshape(frames, length).astype(np.float32)
    deviations = framed.std(axis=1) / np.float32(FULL_SCALE)  # [frames]
    return 20 * np.log10(np.maximum(deviations, np.float32(10 ** (LOWEST_LEVEL / 20))))


def speech_frames(levels: np.ndarray) -> np.ndarray:
    """Which frames may be speech: loud ones, with as loud neighbours; bool [frames]."""
    floor, loud = np.percentile(levels, [FLOOR_PERCENTILE, LOUD_PERCENTILE])
    return _in_runs(levels > (floor + loud) / 2, SPEECH_FRAMES)


def clipped_samples(samples: np.ndarray) -> np.ndarray:
    """Which samples are cut off at the top or bottom; bool [samples].

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


def _in_runs(marked: np.ndarray, shortest: int) -> np.ndarray:
    """The marks that at least `shortest` of follow each other; bool [...] as `marked`."""
    edges = np.flatnonzero(np.diff(marked, prepend=False, append=False))
    starts, ends = edges[::2], edges[1::2]  # [runs]
    kept = np.zeros(len(marked) + 1, np.int8)
    long = ends - starts >= shortest
    kept[starts[long]] = 1
    kept[ends[long]] -= 1
    return np.cumsum(kept[:-1], dtype=np.int8).astype(bool)
