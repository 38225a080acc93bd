"""Bootstrap intervals of an error rate, and the significance of a difference of two systems.

A test set is one draw of utterances. Drawing as many from it again, with replacement, shows the
rates of other possible draws: each sample's rate is the sum of its utterances' errors over the sum
of their lengths. Utterances are drawn, not words, since neighbouring words' errors are correlated.

For utterances i with errors e_i and lengths n_i, and samples b = 1 ... B of indices i_b,

    rate_b = sum of e over i_b / sum of n over i_b          interval: quantiles 2.5 % and 97.5 %

and for two systems' errors e and f on the same utterances, with the same i_b for both,

    difference_b = (sum of f - sum of e over i_b) / sum of n over i_b
    p = share of samples in which difference_b is 0 or of the other sign than the whole set's

which is 1 less the source's probability of improvement; it is one-sided.

Source: Bisani and Ney, "Bootstrap estimates for confidence intervals in ASR performance
evaluation", ICASSP 2004. Utterances count as independent. Those of one speaker aren't quite, so the
true intervals of a set of few speakers are wider (Liu and Peng, arXiv 1912.09508).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

SAMPLES = 1000
CONFIDENCE = 0.95
SEED = 0  # fixed: the same utterances always give the same interval

# Indices drawn at once, 8 MB; the drawn values don't depend on it.
MOST_DRAWN = 1 << 20

Counts = npt.NDArray[np.int64]  # [utterances] or [samples]
Rates = npt.NDArray[np.float64]  # [samples]


@dataclass(frozen=True)
class Difference:
    """A second system's error rate minus the first's, on the same utterances."""

    rate: float  # below 0: the second is better
    low: float  # of the 95 % interval
    high: float
    p_value: float  # one-sided; 1 if there is no difference


def error_interval(
    errors: Sequence[int], lengths: Sequence[int], samples: int = SAMPLES
) -> tuple[float, float]:
    """Returns the 95 % interval of an error rate.

    Args:
        errors: of each utterance, in words or characters.
        lengths: of each utterance's reference, in the same.

    Returns:
        (low, high); (0, 0) without utterances.
    """
    if not errors:
        return 0.0, 0.0
    columns = np.array([errors, lengths], np.int64)  # [2, utterances]
    drawn_errors, drawn_lengths = _sums(columns, samples)
    return _interval(_rates(drawn_errors, drawn_lengths))


def paired_difference(
    errors: Sequence[int], others: Sequence[int], lengths: Sequence[int], samples: int = SAMPLES
) -> Difference:
    """Returns the difference of two systems' error rates, with its interval and p-value.

    Args:
        errors: the first system's, of each utterance.
        others: the second system's, of the same utterances.
        lengths: of each utterance's reference.
    """
    if not errors:
        return Difference(0.0, 0.0, 0.0, 1.0)
    columns = np.array([errors, others, lengths], np.int64)  # [3, utterances]
    whole = columns.sum(axis=1, keepdims=True)  # [3, 1]
    rate = float((_rates(whole[1], whole[2]) - _rates(whole[0], whole[2]))[0])
    first, second, drawn_lengths = _sums(columns, samples)
    drawn = _rates(second, drawn_lengths) - _rates(first, drawn_lengths)  # [samples]
    turned = np.sign(drawn) != np.sign(rate) if rate else np.ones(samples, bool)  # [samples]
    return Difference(rate, *_interval(drawn), float(turned.mean()))


def _sums(columns: Counts, samples: int) -> Counts:
    """Sums over the utterances of each sample: [kinds, utterances] -> [kinds, samples]."""
    return np.concatenate(
        [columns[:, indices].sum(axis=2) for indices in _draws(columns.shape[1], samples)], axis=1
    )


def _draws(utterances: int, samples: int) -> Iterator[Counts]:
    """Yields indices of utterances, [samples, utterances], in parts that fit into memory."""
    generator = np.random.default_rng(SEED)
    at_once = max(1, MOST_DRAWN // utterances)
    for start in range(0, samples, at_once):
        rows = min(at_once, samples - start)
        yield generator.integers(utterances, size=(rows, utterances))


def _rates(errors: Counts, lengths: Counts) -> Rates:
    """Returns errors per length; of length 0 as `error_rates.Errors.rate`."""
    return np.where(lengths > 0, errors / np.maximum(lengths, 1), errors > 0)


def _interval(drawn: Rates) -> tuple[float, float]:
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return float(low), float(high)
