"""Samples that come bit by bit -> features, each frame as soon as its samples are there.

What comes out in all is what features.extract makes of the whole, to the bit, however the samples
come in blocks.
"""

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from speech.features.front_end import DELTA_FRAMES, NONE, FrontEnd, extract, with_deltas

Floats = npt.NDArray[np.float32]
Samples = npt.NDArray[np.int16] | Floats


class FeatureStream:
    """The front end of one recording. Features are never normalised: that over an utterance can't
    be known before its end, and that over a corpus is done behind the front end anyway."""

    def __init__(self, front_end: FrontEnd) -> None:
        self._orders = front_end.deltas
        self._static = replace(front_end, deltas=0, normalisation=NONE)
        self._waiting: Floats = np.zeros(0, np.float32)  # [samples]
        self._begun = False  # whether what waits begins with a frame that is out already
        # Those that differences of frames to come are computed from, and those that wait for
        # differences of their own; [bins, frames].
        self._frames: Floats = np.zeros((self._static.bins, 0), np.float32)
        self._out = 0  # of these frames

    def feed(self, samples: Samples) -> Floats:
        """The frames that can be computed now.

        Args:
            samples: int16 or float32 [samples] at int16 scale and the front end's rate, any number.

        Returns:
            float32 [frames, bins], maybe none.
        """
        window, step = self._static.window_samples, self._static.step_samples
        self._waiting = np.concatenate([self._waiting, samples.astype(np.float32)])
        whole = (len(self._waiting) - window) // step + 1  # frames whose samples are there
        if whole <= self._begun:
            return self._with_deltas(self._frames[:, :0], at_end=False)
        new = self._extracted(self._waiting[: (whole - 1) * step + window])
        # The last frame stays: pre-emphasis asks for the sample before the next one.
        self._waiting = self._waiting[(whole - 1) * step :].copy()
        self._begun = True
        return self._with_deltas(new, at_end=False)

    def finish(self) -> Floats:
        """The frames that are left, the last one with zeros behind the end; none of no samples.

        Nothing is to be fed after it.
        """
        new = self._frames[:, :0]
        if len(self._waiting):
            new = self._extracted(self._waiting)
        return self._with_deltas(new, at_end=True)

    def _extracted(self, samples: Floats) -> Floats:
        """[bins, frames], without the one that is out already."""
        return extract(samples, self._static).T[:, int(self._begun) :]

    def _with_deltas(self, new: Floats, at_end: bool) -> Floats:
        """Frames with their differences, [frames, bins], as far as what they look ahead at."""
        if not self._orders:
            return np.ascontiguousarray(new.T)
        reach = self._orders * DELTA_FRAMES
        self._frames = np.concatenate([self._frames, new], axis=1)
        count = self._frames.shape[1]
        ready = count if at_end else max(count - reach, self._out)
        if ready == self._out:
            return np.zeros((0, self._static.bins * (1 + self._orders)), np.float32)
        found = with_deltas(self._frames, self._orders)[:, self._out : ready]
        drop = max(ready - reach, 0)
        self._frames, self._out = self._frames[:, drop:], ready - drop
        return found.T
