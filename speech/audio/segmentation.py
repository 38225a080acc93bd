"""Cuts audio of any length at its pauses, into segments no longer than a network has learnt.

It looks at levels of 20 ms frames (speech/audio/levels.py), a window of the longest segment at a
time, and remembers half a minute of levels before it: from these it knows the noise between words.

- Silence of SILENCE_SECONDS and more is left out, save MARGIN_SECONDS at either side of speech, and
  what is left behind the last cut if it is nothing but silence.
- What is longer than a segment may be is cut in the middle of the longest pause in its last part,
  in the last pause at all if there is none, and where it is quietest if nothing pauses.

What is decided depends on the samples alone, not on how they come in blocks.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from speech.audio.levels import (
    FLOOR_PERCENTILE,
    FRAME_SECONDS,
    LOUD_PERCENTILE,
    LOWEST_LEVEL,
    frame_levels,
)

Samples = npt.NDArray[np.float32]
Levels = npt.NDArray[np.float32]
Runs = npt.NDArray[np.int64]  # [runs, 2]: first frame, and that behind the last

# Of 1729 frames of features, the longest utterances of a training.
LONGEST_SECONDS = 17.3

# A pause between words; the closure of a t or k is shorter.
PAUSE_SECONDS = 0.2
# Silence that is left out if it is so long, ...
SILENCE_SECONDS = 2.0
# ... but for this much behind and before speech: weak consonants, and the air that training has.
MARGIN_SECONDS = 0.4

# The share of a window that a cut is looked for in, at its end.
LAST_PART = 0.5
# Without any pause the quietest stretch of this length is cut through.
QUIETEST_SECONDS = 0.1

# Levels that the floor is measured of, before the window.
HISTORY_SECONDS = 30.0
# A recording with digital silence in it has a floor nevertheless: this far below the loud parts.
FLOOR_BELOW_LOUD = 50.0  # dB
# Frames below this share of the way from floor to loud parts may be a pause, ...
PAUSE_SHARE = 0.4
# ... and those up to this far above the floor are silence, by the median of their neighbours, for
# which a click of less than half of these is nothing, ...
SILENCE_ABOVE_FLOOR = 6.0  # dB
MEDIAN_SECONDS = 0.18
# ... if they are also this far below speech: in noise that is as loud nothing is left out.
SILENCE_BELOW_SPEECH = 20.0  # dB
# Speech is as loud as the loud parts of the window or of most of so many segments before it, ...
SEGMENTS_REMEMBERED = 9
# ... and at least as this, where none was heard yet.
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
    """Segments of speech, in order; each sample is in one of them or in silence left out.

    A recording of at most `longest_seconds` without long silence is one segment. A segment comes
    when `longest_seconds` behind its start, or the recording's end, have been read.

    Args:
        blocks: of samples [samples] at int16 scale, of any lengths.
        sample_rate: Hz.
        longest_seconds: of a segment; a second at least.

    Raises:
        ValueError: `longest_seconds` is less than a second.
    """
    cutter = Cutter(sample_rate, longest_seconds)
    for block in blocks:
        yield from cutter.feed(block)
    yield from cutter.finish()


class Cutter:
    """Cuts a recording as `cut_at_pauses` does, block by block as they come."""

    def __init__(self, sample_rate: int, longest_seconds: float = LONGEST_SECONDS) -> None:
        """Arguments as `cut_at_pauses`'."""
        if longest_seconds < 1:
            raise ValueError(f"Segments of {longest_seconds} s are shorter than a second.")
        self._sample_rate = sample_rate
        # Samples of a frame, as frame_levels takes it, and of a window.
        self._frame = max(round(FRAME_SECONDS * sample_rate), 1)
        self._window = int(longest_seconds * sample_rate + 0.5) // self._frame * self._frame
        self._start = 0  # of what hasn't been cut, in samples of the recording
        self._waiting: list[Samples] = []
        self._samples = 0  # of all that wait
        self._in_silence = False  # whether what waits begins in silence of which some was left out
        self._history: deque[float] = deque(maxlen=_frames(HISTORY_SECONDS))  # levels
        self._loud_parts: deque[float] = deque(maxlen=SEGMENTS_REMEMBERED)  # levels, of segments

    def feed(self, block: npt.NDArray[np.generic]) -> Iterator[Segment]:
        """Takes samples, and decides of a whole window as often as more than that is there."""
        for start in range(0, len(block), self._window):
            part = block[start : start + self._window].astype(np.float32)  # no view
            self._waiting.append(part)
            self._samples += len(part)
            while self._samples > self._window:
                yield from self._cut(self._window, at_end=False)

    def finish(self) -> Iterator[Segment]:
        """Decides of what is left, which is no more than a window."""
        while self._samples:
            yield from self._cut(self._samples, at_end=True)

    def _cut(self, size: int, at_end: bool) -> Iterator[Segment]:
        """Takes at least one frame off the start of what waits, as a segment or as silence."""
        waiting = np.concatenate(self._waiting)  # [samples]
        levels = frame_levels(waiting[:size], self._sample_rate)  # [frames]
        frames, margin = len(levels), _frames(MARGIN_SECONDS)
        floor, loud = self._floor_and_loud(levels)
        speech = max(loud, FAINTEST_SPEECH, float(np.median([*self._loud_parts, LOWEST_LEVEL])))
        limit = min(floor + SILENCE_ABOVE_FLOOR, speech - SILENCE_BELOW_SPEECH)
        silent = self._medians(levels) <= limit  # [frames]
        silences = _runs(silent, _frames(SILENCE_SECONDS))
        leading = _leading(silent) if self._in_silence else 0
        if len(silences) and silences[0, 0] == 0:
            leading, silences = max(leading, int(silences[0, 1])), silences[1:]
        if leading == frames or (at_end and self._start and (levels <= limit).all()):
            # At the end all is silence; before it, speech may follow, whose margin stays.
            self._drop(waiting, len(waiting) if at_end else (frames - margin) * self._frame, levels)
            self._in_silence = True
            return
        if leading > margin:
            self._drop(waiting, (leading - margin) * self._frame, levels)
            self._in_silence = False
            return
        if len(silences):
            stop = int(silences[0, 0]) + margin
            self._in_silence = True
        else:
            stop = frames if at_end else _best_cut(levels, floor, loud)
            self._in_silence = False
        end = len(waiting) if at_end and stop == frames else stop * self._frame
        self._loud_parts.append(loud)
        segment = Segment(self._start, waiting[:end])
        self._drop(waiting, end, levels)
        yield segment

    def _floor_and_loud(self, levels: Levels) -> tuple[float, float]:
        """In dBFS: the noise between words, and the loud parts of the window."""
        loud = float(np.percentile(levels, LOUD_PERCENTILE))
        known = np.concatenate([np.array(self._history, np.float32), levels])
        floor = float(np.percentile(known, FLOOR_PERCENTILE))
        return max(floor, loud - FLOOR_BELOW_LOUD), loud

    def _medians(self, levels: Levels) -> Levels:
        """Of each frame and those around it, [frames]; before the window they are remembered."""
        around = _frames(MEDIAN_SECONDS) // 2
        before = list(self._history)[-around:]
        known = np.concatenate([np.array(before, np.float32), levels])
        padded = np.pad(known, (around - len(before), around), mode="edge")
        return np.median(np.lib.stride_tricks.sliding_window_view(padded, 2 * around + 1), axis=1)

    def _drop(self, waiting: Samples, samples: int, levels: Levels) -> None:
        """Takes samples off the start of what waits."""
        self._history.extend(levels[: samples // self._frame].tolist())
        rest = waiting[samples:]
        self._waiting, self._samples = [rest], len(rest)
        self._start += samples


def _best_cut(levels: Levels, floor: float, loud: float) -> int:
    """The frame that a window [frames] is cut before, where that does least harm."""
    earliest = max(int(len(levels) * (1 - LAST_PART)), 1)
    pauses = _runs(levels <= floor + PAUSE_SHARE * (loud - floor), _frames(PAUSE_SECONDS))
    middles = pauses.sum(axis=1) // 2  # [pauses]
    late = middles >= earliest
    if late.any():
        lengths = np.where(late, pauses[:, 1] - pauses[:, 0], 0)
        return int(middles[::-1][lengths[::-1].argmax()])  # of equal ones the last
    if len(middles) and middles[-1] >= earliest // 2:
        return int(middles[-1])
    length = _frames(QUIETEST_SECONDS)
    power = np.convolve(10 ** (levels[earliest:].astype(np.float64) / 10), np.ones(length), "valid")
    quietest = len(power) - 1 - int(power[::-1].argmin())  # the last of equal ones
    return earliest + quietest + length // 2


def _frames(seconds: float) -> int:
    """Frames of a length in seconds."""
    return max(round(seconds / FRAME_SECONDS), 1)


def _leading(quiet: npt.NDArray[np.bool_]) -> int:
    """Frames of quiet at the start; [frames]."""
    runs = _runs(quiet, 1)
    return int(runs[0, 1]) if len(runs) and runs[0, 0] == 0 else 0


def _runs(quiet: npt.NDArray[np.bool_], shortest: int) -> Runs:
    """Where at least so many frames are quiet.

    Args:
        quiet: [frames].
    """
    runs = np.flatnonzero(np.diff(quiet, prepend=False, append=False)).reshape(-1, 2)
    return runs[runs[:, 1] - runs[:, 0] >= shortest]
