"""Normalisation of features by each bin's mean and deviation.

Those of an utterance are applied when it is prepared. Those of a training set are known only when
all of it is prepared: features are stored unnormalised, each shard's entry in the index has their
sums, and the model keeps the statistics for all data that it reads.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from speech.features.types import Features
from speech.system import typed_json
from speech.system.typed_json import FieldError

# Divisor for a bin that never changes, whose deviation is 0.
SMALLEST_DEVIATION = 1e-5


def normalise(features: Features) -> Features:
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
    """Mean and deviation of each bin over a training set; the model carries them."""

    mean: tuple[float, ...]  # [bins]
    deviation: tuple[float, ...]  # [bins], at least SMALLEST_DEVIATION

    @classmethod
    def from_json(cls, content: Any) -> "Statistics":
        """Reads the statistics from a model's JSON.

        Raises:
            FieldError: they are not valid statistics.
        """
        statistics = typed_json.read(cls, content, "statistics")
        if len(statistics.mean) != len(statistics.deviation):
            raise FieldError("statistics: mean and deviation must have as many bins")
        if min(statistics.deviation, default=0) <= 0:
            raise FieldError("statistics: every deviation must be positive")
        return statistics


@dataclass(frozen=True)
class Sums:
    """Sums that statistics are computed from; those of utterances or shards can be added."""

    frames: int
    values: tuple[float, ...]  # [bins], float64: the sum of each bin
    squares: tuple[float, ...]  # [bins], float64: the sum of each bin's squares

    @classmethod
    def of(cls, features: Features) -> "Sums":
        """Returns the sums of an utterance; features: float32 [bins, frames]."""
        exact = features.astype(np.float64)
        squares = np.einsum("bf,bf->b", exact, exact)
        return cls(exact.shape[1], tuple(exact.sum(axis=1).tolist()), tuple(squares.tolist()))

    @classmethod
    def from_json(cls, content: Any) -> "Sums":
        """Reads the sums from an index's JSON.

        Raises:
            FieldError: they are not valid sums.
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
