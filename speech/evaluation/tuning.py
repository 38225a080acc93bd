"""The search for a scorer's alpha and beta: the fewest errors on a development set.

The network's output for the set is computed once. A trial is a pair of weights; it decodes the
whole set with them, so that every trial is told apart by the same words. Which pair is tried next
follows from all before it: a tree-structured Parzen estimator (Bergstra et al., "Algorithms for
Hyper-Parameter Optimization", NIPS 2011), Optuna's, over both weights together, since a heavier
language model wants more for each word. Flags and ranges are those of Mozilla DeepSpeech's
lm_optimizer.py.
"""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import optuna

from speech.decoding.beam_search import BeamSearchDecoder, BeamSettings
from speech.decoding.scorer import Scorer
from speech.evaluation import error_rates
from speech.evaluation.error_rates import Errors
from utils import UserError

if TYPE_CHECKING:  # it brings TensorFlow, which decoding can do without
    from speech.evaluation.recognition import Recognition

WER = "wer"
CER = "cer"
METRICS = (WER, CER)


@dataclass(frozen=True)
class Weights:
    """A scorer's."""

    alpha: float  # weight of the language model's natural-log probability
    beta: float  # nats that each word gains


@dataclass(frozen=True)
class Trial:
    """What a pair of weights makes of the development set."""

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
        """95 % of the rate."""
        return error_rates.rate_interval(self.utterances)


class Objective:
    """Decodes a development set with one pair of weights after another."""

    def __init__(
        self,
        recognitions: "Sequence[Recognition]",
        scorer: Scorer,
        settings: BeamSettings,
        metric: str,
    ) -> None:
        """
        Args:
            recognitions: the network's output for the set.
            settings: of the beam search; its alpha and beta don't count.
            metric: of METRICS.

        Raises:
            UserError: there is nothing to count errors against.
        """
        if not any(each.reference for each in recognitions):
            raise UserError("The development data have no words: give --dev_data with transcripts.")
        self._recognitions = recognitions
        self._scorer = scorer
        self._settings = settings
        self._errors = error_rates.word_errors if metric == WER else error_rates.character_errors
        lengths = [len(each.log_probs) for each in recognitions]
        # The longest first, so that no core is left with a long one when the others are done.
        self._order = sorted(range(len(lengths)), key=lambda i: -lengths[i])

    def trial(self, weights: Weights) -> Trial:
        settings = replace(self._settings, alpha=weights.alpha, beta=weights.beta)
        decoder = BeamSearchDecoder(self._scorer.alphabet, settings, self._scorer)
        texts = decoder.decode_batch(self._recognitions[i].log_probs for i in self._order)
        text_of = dict(zip(self._order, texts, strict=True))
        errors = [
            self._errors(each.reference, text_of[i]) for i, each in enumerate(self._recognitions)
        ]
        return Trial(weights, tuple(errors))


@dataclass(frozen=True)
class SearchSettings:
    """How weights are searched."""

    trials: int  # at most
    alpha_max: float  # tried from 0 on, like beta
    beta_max: float
    patience: int  # trials without a better one after which the search ends
    random_seed: int


def search(
    objective: Objective, first: Sequence[Weights], settings: SearchSettings
) -> Iterator[Trial]:
    """Trials, one after another, until there are enough or none gets better.

    Args:
        first: tried before all others, also if they are out of the search's range.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    # Both weights together: one by one it would not see that they rise together.
    sampler = optuna.samplers.TPESampler(seed=settings.random_seed, multivariate=True)
    study = optuna.create_study(sampler=sampler)
    waiting = list(dict.fromkeys(first))
    fewest, without_better = None, 0
    for _ in range(settings.trials):
        if waiting:
            trial = objective.trial(waiting.pop(0))
            _add(study, trial, settings)
        else:
            asked = study.ask()
            alpha = asked.suggest_float("alpha", 0, settings.alpha_max)
            beta = asked.suggest_float("beta", 0, settings.beta_max)
            trial = objective.trial(Weights(alpha, beta))
            study.tell(asked, trial.rate)
        without_better += 1
        if fewest is None or trial.errors < fewest:
            fewest, without_better = trial.errors, 0
        yield trial
        if without_better >= settings.patience and not waiting:
            return


def _add(study: optuna.Study, trial: Trial, settings: SearchSettings) -> None:
    """Tells of a trial that wasn't asked for, if it is in the search's range."""
    values = {"alpha": trial.weights.alpha, "beta": trial.weights.beta}
    largest = {"alpha": settings.alpha_max, "beta": settings.beta_max}
    if all(0 <= values[name] <= largest[name] for name in values):
        ranges: dict[str, optuna.distributions.BaseDistribution] = {
            name: optuna.distributions.FloatDistribution(0, largest[name]) for name in values
        }
        study.add_trial(
            optuna.trial.create_trial(params=values, distributions=ranges, value=trial.rate)
        )


def best_of(trials: Sequence[Trial]) -> Trial:
    """The one with the fewest errors; of several the first."""
    return min(trials, key=lambda trial: trial.errors)


def table(trials: Sequence[Trial], metric: str) -> str:
    """All trials as CSV, in the order in which they were made."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["trial", "alpha", "beta", metric, "errors"])
    for number, trial in enumerate(trials, start=1):
        weights = trial.weights
        rows.writerow([number, weights.alpha, weights.beta, f"{trial.rate:.6f}", trial.errors])
    return text.getvalue()
