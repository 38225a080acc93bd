"""Cuts audio of any length at its pauses, into segments no longer than those of training.

It evaluates the levels of 20 ms each (speech/audio/levels.py) of one window at a time, as long as
the longest segment, and of the half minute before it, which give the noise between words.

- Silence of SILENCE_SECONDS and more is omitted, except MARGIN_SECONDS on either side of speech,
  and so is everything after the last cut if it is only silence.
- Longer speech is cut in the middle of the longest pause in the last part of the window, or else in
  its last pause, or else, without pauses, where it is quietest.

The result depends on the samples alone, not on the blocks in which they come.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from speech.audio.levels import (
    FLOOR_PERCENTILE,
    LEVEL_SECONDS,
    LOUD_PERCENTILE,
    LOWEST_LEVEL,
    measure_levels,
)
from speech.audio.types import Levels, Mask, Samples

Runs = npt.NDArray[np.int64]  # [runs, 2]: first level, and the one after the last

# 1729 frames of features, the longest utterances of training.
LONGEST_SECONDS = 17.3

# A pause between words; the closure of a t or k is shorter.
PAUSE_SECONDS = 0.2
# Minimum length of silence that is omitted, ...
SILENCE_SECONDS = 2.0
# ... except this much next to speech, for weak consonants and as in training data.
MARGIN_SECONDS = 0.4

# The share of a window, at its end, that is searched for a cut.
LAST_PART = 0.5
# Without any pause the cut is in the quietest part of this length.
QUIETEST_SECONDS = 0.1

# Length of the levels before the window from which the floor is estimated.
HISTORY_SECONDS = 30.0
# Maximum distance of the floor from the loud parts, for recordings with digital silence.
FLOOR_BELOW_LOUD = 50.0  # dB
# Levels below this share of the way from floor to loud parts may be a pause, ...
PAUSE_SHARE = 0.4
# ... and levels up to this far above the floor are silence, by the median of their neighbours, so
# that a click of less than half of them is ignored, ...
SILENCE_ABOVE_FLOOR = 6.0  # dB
MEDIAN_SECONDS = 0.18
# ... if they are also this far below speech: in noise as loud as that nothing is omitted.
SILENCE_BELOW_SPEECH = 20.0  # dB
# Speech is as loud as the loud parts of the window or the median of this many earlier segments, ...
SEGMENTS_REMEMBERED = 9
# ... and at least this loud, before any speech.
FAINTEST_SPEECH = -40.0  # dBFS


@dataclass(frozen=True, eq=False)
class Segment:
    """A part of a recording."""

    start: int  # samples from the recording's start
    samples: Samples  # [samples]


def cut_at_pauses(
    blocks: Iterable[npt.NDArray[np.generic]],
    sample_rate: int,
    longest_seconds: float = LONGEST_SECONDS,
) -> Iterator[Segment]:
    """Yields segments of speech, in order; each sample is in one of them or in omitted silence.

    A recording of at most `longest_seconds` without long silence is one segment. A segment is
    yielded once `longest_seconds` from its start, or the whole recording, have been read.

    Args:
        blocks: samples [samples] at int16 scale, of any lengths.
        sample_rate: Hz.
        longest_seconds: maximum length of a segment; at least a second.

    Raises:
        ValueError: `longest_seconds` is less than a second.
    """
    cutter = Cutter(sample_rate, longest_seconds)
    for block in blocks:
        yield from cutter.feed(block)
    yield from cutter.finish()


class Cutter:
    """Cuts a recording as `cut_at_pauses`, block by block."""

    def __init__(self, sample_rate: int, longest_seconds: float = LONGEST_SECONDS) -> None:
        """Arguments: see `cut_at_pauses`."""
        if longest_seconds < 1:
            raise ValueError(f"Segments of {longest_seconds} s are shorter than a second.")
        self._sample_rate = sample_rate
        # Samples of a level, as in measure_levels, and of a window.
        self._level = max(round(LEVEL_SECONDS * sample_rate), 1)
        self._window = int(longest_seconds * sample_rate + 0.5) // self._level * self._level
        self._start = 0  # first sample of the recording that waits
        self._waiting: list[Samples] = []  # not segmented yet
        self._samples = 0  # number of samples that wait
        self._in_silence = False  # whether they begin in silence that was omitted in part
        self._history: deque[float] = deque(maxlen=_levels_in(HISTORY_SECONDS))  # levels
        self._loud_parts: deque[float] = deque(maxlen=SEGMENTS_REMEMBERED)  # levels of segments

    def feed(self, block: npt.NDArray[np.generic]) -> Iterator[Segment]:
        """Takes samples and yields segments while more than a window waits."""
        for start in range(0, len(block), self._window):
            part = block[start : start + self._window].astype(np.float32)  # no view
            self._waiting.append(part)
            self._samples += len(part)
            while self._samples > self._window:
                yield from self._cut(self._window, at_end=False)

    def finish(self) -> Iterator[Segment]:
        """Yields the segments of the rest, which is at most a window."""
        while self._samples:
            yield from self._cut(self._samples, at_end=True)

    def _cut(self, size: int, at_end: bool) -> Iterator[Segment]:
        """Removes at least one level from the start of what waits, as a segment or as silence."""
        waiting = np.concatenate(self._waiting)  # [samples]
        levels = measure_levels(waiting[:size], self._sample_rate)  # [levels]
        count, margin = len(levels), _levels_in(MARGIN_SECONDS)
        floor, loud = self._floor_and_loud(levels)
        speech = max(loud, FAINTEST_SPEECH, float(np.median([*self._loud_parts, LOWEST_LEVEL])))
        limit = min(floor + SILENCE_ABOVE_FLOOR, speech - SILENCE_BELOW_SPEECH)
        silent = self._medians(levels) <= limit  # [levels]
        silences = _runs(silent, _levels_in(SILENCE_SECONDS))
        leading = _leading(silent) if self._in_silence else 0
        if len(silences) and silences[0, 0] == 0:
            leading, silences = max(leading, int(silences[0, 1])), silences[1:]
        if leading == count or (at_end and self._start and (levels <= limit).all()):
            # At the end all is silence; before the end the margin of following speech stays.
            self._drop(waiting, len(waiting) if at_end else (count - margin) * self._level, levels)
            self._in_silence = True
            return
        if leading > margin:
            self._drop(waiting, (leading - margin) * self._level, levels)
            self._in_silence = False
            return
        if len(silences):
            stop = int(silences[0, 0]) + margin
            self._in_silence = True
        else:
            stop = count if at_end else _best_cut(levels, floor, loud)
            self._in_silence = False
        end = len(waiting) if at_end and stop == count else stop * self._level
        self._loud_parts.append(loud)
        segment = Segment(self._start, waiting[:end])
        self._drop(waiting, end, levels)
        yield segment

    def _floor_and_loud(self, levels: Levels) -> tuple[float, float]:
        """Returns the levels, in dBFS, of the noise between words and of the loud parts."""
        loud = float(np.percentile(levels, LOUD_PERCENTILE))
        known = np.concatenate([np.array(self._history, np.float32), levels])
        floor = float(np.percentile(known, FLOOR_PERCENTILE))
        return max(floor, loud - FLOOR_BELOW_LOUD), loud

    def _medians(self, levels: Levels) -> Levels:
        """Returns the median around each level, [levels]; levels before the window are known."""
        around = _levels_in(MEDIAN_SECONDS) // 2
        before = list(self._history)[-around:]
        known = np.concatenate([np.array(before, np.float32), levels])
        padded = np.pad(known, (around - len(before), around), mode="edge")
        windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * around + 1)
        medians: Levels = np.median(windows, axis=1)
        return medians

    def _drop(self, waiting: Samples, samples: int, levels: Levels) -> None:
        """Removes samples from the start of what waits."""
        self._history.extend(levels[: samples // self._level].tolist())
        rest = waiting[samples:]
        self._waiting, self._samples = [rest], len(rest)
        self._start += samples


def _best_cut(levels: Levels, floor: float, loud: float) -> int:
    """Returns the level before which to cut a window; levels: [levels]."""
    earliest = max(int(len(levels) * (1 - LAST_PART)), 1)
    pauses = _runs(levels <= floor + PAUSE_SHARE * (loud - floor), _levels_in(PAUSE_SECONDS))
    middles = pauses.sum(axis=1) // 2  # [pauses]
    late = middles >= earliest
    if late.any():
        lengths = np.where(late, pauses[:, 1] - pauses[:, 0], 0)
        return int(middles[::-1][lengths[::-1].argmax()])  # the last of equal ones
    if len(middles) and middles[-1] >= earliest // 2:
        return int(middles[-1])
    length = _levels_in(QUIETEST_SECONDS)
    power = np.convolve(10 ** (levels[earliest:].astype(np.float64) / 10), np.ones(length), "valid")
    quietest = len(power) - 1 - int(power[::-1].argmin())  # the last of equal ones
    return earliest + quietest + length // 2


def _levels_in(seconds: float) -> int:
    """Returns the number of levels in a length of time."""
    return max(round(seconds / LEVEL_SECONDS), 1)


def _leading(quiet: Mask) -> int:
    """Returns the number of quiet levels at the start; quiet: [levels]."""
    runs = _runs(quiet, 1)
    return int(runs[0, 1]) if len(runs) and runs[0, 0] == 0 else 0


def _runs(quiet: Mask, shortest: int) -> Runs:
    """Returns the runs of at least `shortest` quiet levels; quiet: [levels]."""
    runs = np.flatnonzero(np.diff(quiet, prepend=False, append=False)).reshape(-1, 2)
    return runs[runs[:, 1] - runs[:, 0] >= shortest]
