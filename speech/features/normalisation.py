"""What features are shifted and scaled by: each bin's mean and deviation.

Over an utterance they are taken when it is prepared. Over a training set they are known only when
all of it is: so features are stored as they are, each shard's entry in the index has their sums,
and the model carries what they give along to all data that it ever sees.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from speech.system import typed_json
from speech.system.typed_json import FieldError

# A bin that never changes has no deviation to divide by.
SMALLEST_DEVIATION = 1e-5


def normalise(features: np.ndarray) -> np.ndarray:
    """Shifts and scales every bin to mean 0 and deviation 1 over the utterance.

    Args:
        features: float32 [bins, frames].

    Returns:
        float32 [bins, frames]; a bin that never changes becomes 0.
    """
    mean = features.mean(axis=1, dtype=np.float64, keepdims=True)  # [bins, 1]
    centred = features - mean  # [bins, frames], float64
    variance = np.einsum("bf,bf->b", centred, centred)[:, np.newaxis] / features.shape[1]
    deviation = np.maximum(np.sqrt(variance), SMALLEST_DEVIATION)  # [bins, 1]
    return np.divide(centred, deviation, out=np.empty_like(features), casting="same_kind")


@dataclass(frozen=True)
class Statistics:
    """Mean and deviation of each bin over a training set; they travel with the model."""

    mean: tuple[float, ...]  # [bins]
    deviation: tuple[float, ...]  # [bins], none less than SMALLEST_DEVIATION

    @classmethod
    def from_json(cls, content: Any) -> "Statistics":
        """The statistics in a model's JSON.

        Raises:
            FieldError: they can't be statistics.
        """
        statistics = typed_json.read(cls, content, "statistics")
        if len(statistics.mean) != len(statistics.deviation):
            raise FieldError("statistics: mean and deviation must have as many bins")
        if min(statistics.deviation, default=0) <= 0:
            raise FieldError("statistics: every deviation must be positive")
        return statistics


@dataclass(frozen=True)
class Sums:
    """What statistics are computed from; those of several utterances or shards can be added."""

    frames: int
    values: tuple[float, ...]  # [bins], float64: the sum of each bin
    squares: tuple[float, ...]  # [bins], float64: of its square

    @classmethod
    def of(cls, features: np.ndarray) -> "Sums":
        """The sums of an utterance; features: float32 [frames, bins]."""
        exact = features.astype(np.float64)
        squares = np.einsum("fb,fb->b", exact, exact)
        return cls(len(exact), tuple(exact.sum(axis=0).tolist()), tuple(squares.tolist()))

    @classmethod
    def from_json(cls, content: Any) -> "Sums":
        """The sums in an index's JSON.

        Raises:
            FieldError: they can't be sums.
        """
        sums = typed_json.read(cls, content, "sums")
        if sums.frames < 1:
            raise FieldError(f"sums: frames {sums.frames} is no positive number")
        if len(sums.values) != len(sums.squares):
            raise FieldError("sums: values and squares must have as many bins")
        return sums

    def __add__(self, other: "Sums") -> "Sums":
        return Sums(
            self.frames + other.frames,
            tuple(one + two for one, two in zip(self.values, other.values, strict=True)),
            tuple(one + two for one, two in zip(self.squares, other.squares, strict=True)),
        )

    @property
    def bins(self) -> int:
        return len(self.values)

    @property
    def statistics(self) -> Statistics:
        mean = np.array(self.values) / self.frames
        variance = np.maximum(np.array(self.squares) / self.frames - mean**2, 0)
        deviation = np.maximum(np.sqrt(variance), SMALLEST_DEVIATION)
        return Statistics(tuple(mean.tolist()), tuple(deviation.tolist()))
