"""Front end of a stream: each frame is computed as soon as its samples are there.

All frames together equal `front_end.extract` of the whole recording to the bit, for any blocks of
samples.
"""

from dataclasses import replace

import numpy as np

from speech.audio.types import RecordedSamples, Samples
from speech.features.front_end import DELTA_FRAMES, NONE, FrontEnd, extract_by_bin, with_deltas
from speech.features.types import Features


class FeatureStream:
    """The front end of one recording.

    Its features are not normalised: the statistics of an utterance aren't known before its end, and
    those of a corpus are applied after the front end in any case.
    """

    def __init__(self, front_end: FrontEnd) -> None:
        self._orders = front_end.deltas
        self._static = replace(front_end, deltas=0, normalisation=NONE)
        self._waiting: Samples = np.zeros(0, np.float32)  # [samples]
        self._begun = False  # whether what waits begins with a frame that was returned already
        # Frames that differences of later frames are computed from, and frames that wait for their
        # own differences; [bins, frames].
        self._frames: Features = np.zeros((self._static.bins, 0), np.float32)
        self._returned = 0  # of these frames

    def feed(self, samples: RecordedSamples) -> Features:
        """Takes samples and returns the frames that can be computed now.

        Args:
            samples: int16 or float32 [samples] at int16 scale and the front end's rate, any number.

        Returns:
            float32 [frames, bins], possibly no frames.
        """
        window, step = self._static.window_samples, self._static.step_samples
        self._waiting = np.concatenate([self._waiting, samples.astype(np.float32)])
        whole = (len(self._waiting) - window) // step + 1  # frames whose samples are there
        if whole <= self._begun:
            return self._with_deltas(self._frames[:, :0], at_end=False)
        new = self._extract(self._waiting[: (whole - 1) * step + window])[:, : whole - self._begun]
        # The last frame stays: pre-emphasis needs the sample before the next one.
        self._waiting = self._waiting[(whole - 1) * step :].copy()
        self._begun = True
        return self._with_deltas(new, at_end=False)

    def finish(self) -> Features:
        """Returns the remaining frames, the last one padded with zeros; none if nothing was fed.

        Call it last.
        """
        new = self._frames[:, :0]
        if len(self._waiting):
            new = self._extract(self._waiting)
        return self._with_deltas(new, at_end=True)

    def _extract(self, samples: Samples) -> Features:
        """Returns [bins, frames], without the frame that was returned already."""
        return extract_by_bin(samples, self._static)[:, int(self._begun) :]

    def _with_deltas(self, new: Features, at_end: bool) -> Features:
        """Returns [frames, bins]: the frames whose differences can be computed, with these.

        Args:
            new: [bins, frames].
        """
        if not self._orders:
            return np.ascontiguousarray(new.T)
        reach = self._orders * DELTA_FRAMES
        self._frames = np.concatenate([self._frames, new], axis=1)
        count = self._frames.shape[1]
        ready = count if at_end else max(count - reach, self._returned)
        if ready == self._returned:
            return np.zeros((0, self._static.bins * (1 + self._orders)), np.float32)
        found = with_deltas(self._frames, self._orders)[:, self._returned : ready]
        drop = max(ready - reach, 0)
        self._frames, self._returned = self._frames[:, drop:], ready - drop
        return found.T
