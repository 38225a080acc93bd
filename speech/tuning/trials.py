"""Trials of a scorer's weights on a development set, and their table."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

from speech.evaluation.error_rates import Errors, rate_interval

TRIALS_FILE = "trials.csv"


@dataclass(frozen=True)
class Weights:
    """Weights of a scorer."""

    alpha: float  # weight of the language model's natural-log probability
    beta: float  # nats that each word gains


@dataclass(frozen=True)
class Trial:
    """The errors on the development set with a pair of weights."""

    weights: Weights
    utterances: tuple[Errors, ...]  # in the corpus's order

    @property
    def errors(self) -> int:
        return sum(each.total for each in self.utterances)

    @property
    def rate(self) -> float:
        return sum(self.utterances, Errors()).rate

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the rate."""
        return rate_interval(self.utterances)


def best_of(trials: Sequence[Trial]) -> Trial:
    """Returns the trial with the fewest errors; the first of several."""
    return min(trials, key=lambda trial: trial.errors)


def format_trial(trial: Trial, metric: str) -> str:
    """Formats a trial for the terminal."""
    weights = trial.weights
    return f"alpha {weights.alpha:.4f}  beta {weights.beta:.4f}  {metric.upper()} {trial.rate:.2%}"


def table(trials: Sequence[Trial], metric: str) -> str:
    """Returns all trials as CSV, in the order of the search."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["trial", "alpha", "beta", metric, "errors"])
    for number, trial in enumerate(trials, start=1):
        weights = trial.weights
        rows.writerow([number, weights.alpha, weights.beta, f"{trial.rate:.6f}", trial.errors])
    return text.getvalue()
