"""Tunes a scorer's alpha and beta: the fewest errors on a development set.

The network's output for the set is computed once. A trial decodes the whole set with a pair of
weights, so all trials are compared on the same words. The next pair follows from all trials before
it: a tree-structured Parzen estimator (Bergstra et al., "Algorithms for Hyper-Parameter
Optimization", NIPS 2011), Optuna's, over both weights together, since a heavier language model
needs a larger bonus for each word. Flags and ranges are those of Mozilla DeepSpeech's
lm_optimizer.py.
"""

import contextlib
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import optuna

import constants
from speech.decoding.beam_search import BeamSearchDecoder, BeamSettings
from speech.decoding.scorer import LARGEST_GAIN, Scorer, write_weights
from speech.evaluation import error_rates
from speech.evaluation.bootstrap import paired_difference
from speech.evaluation.network_output import NetworkOutput
from speech.evaluation.results import format_interval
from speech.system import storage
from speech.system.progress_bar import progress_bar
from speech.tuning import contour, trials
from speech.tuning.trials import TRIALS_FILE, Trial, Weights, best_of, format_trial
from utils import UserError

WER = "wer"
CER = "cer"
METRICS = (WER, CER)


@dataclass(frozen=True)
class SearchSettings:
    """Settings of the search for weights."""

    trials: int  # at most
    alpha_max: float  # the search's range is 0 to this, also of beta
    beta_max: float
    early_stopping: int  # trials without a better one after which the search ends
    random_seed: int

    def __post_init__(self) -> None:
        for flag, value in (("lm_alpha_max", self.alpha_max), ("lm_beta_max", self.beta_max)):
            if not 0 < value <= LARGEST_GAIN:
                raise UserError(f"--{flag}={value}: give a number above 0, up to {LARGEST_GAIN}.")


class Objective:
    """Decodes a development set with one pair of weights after another."""

    def __init__(
        self,
        outputs: Sequence[NetworkOutput],
        scorer: Scorer,
        settings: BeamSettings,
        metric: str,
    ) -> None:
        """
        Args:
            outputs: the network's, for the set.
            settings: of the beam search; its alpha and beta don't count.
            metric: of METRICS.

        Raises:
            UserError: all references are empty.
        """
        if not any(each.reference for each in outputs):
            raise UserError("The development data have no words: give --dev_data with transcripts.")
        self.metric = metric
        self._outputs = outputs
        self._scorer = scorer
        self._settings = settings
        self._errors = error_rates.word_errors if metric == WER else error_rates.character_errors
        lengths = [len(each.log_probs) for each in outputs]
        # The longest first: otherwise one core may decode a long one while the others are idle.
        self._order = sorted(range(len(lengths)), key=lambda i: -lengths[i])

    def trial(self, weights: Weights) -> Trial:
        """Decodes the set with a pair of weights and counts the errors."""
        settings = replace(self._settings, alpha=weights.alpha, beta=weights.beta)
        decoder = BeamSearchDecoder(self._scorer.alphabet, settings, self._scorer)
        texts = decoder.decode_batch(self._outputs[i].log_probs for i in self._order)
        text_of = dict(zip(self._order, texts, strict=True))
        errors = [self._errors(each.reference, text_of[i]) for i, each in enumerate(self._outputs)]
        return Trial(weights, tuple(errors))


def tune(
    objective: Objective, scorer: Scorer, settings: SearchSettings, output_dir: str, write: bool
) -> None:
    """Searches for the best weights, writes its files, and prints the old and the new weights.

    Args:
        output_dir: folder of the trials' table and picture; empty: they aren't written.
        write: put the best weights into the scorer's file.

    Raises:
        UserError: a file can't be written.
        KeyboardInterrupt: Ctrl-C or SIGTERM ended the search; its files are written, but the
            scorer isn't.
    """
    made: list[Trial] = []
    finished = run_trials(made, objective, scorer, settings)
    if not made:
        raise KeyboardInterrupt
    old, best = made[0], best_of(made)
    if output_dir:
        _write_outputs(made, objective.metric, output_dir)
    _print_comparison(old, best, objective.metric)
    if not finished:
        print(
            f"Stopped after {len(made)} trials: {scorer.path} is unchanged; "
            f"its best weights so far are alpha {best.weights.alpha} and beta {best.weights.beta}."
        )
        raise KeyboardInterrupt
    if best is old:
        print(f"No trial of {len(made)} was better than the weights in {scorer.path}.")
    elif write:
        write_weights(scorer.path, best.weights.alpha, best.weights.beta)
        print(f"Written to {scorer.path} after {len(made)} trials.")
    else:
        print(f"{scorer.path} is unchanged (--nowrite).")


def run_trials(
    made: list[Trial], objective: Objective, scorer: Scorer, settings: SearchSettings
) -> bool:
    """Appends trials to `made`, first one with the scorer's own weights.

    Returns:
        False if Ctrl-C or SIGTERM ended the search.
    """
    first = [
        Weights(scorer.alpha, scorer.beta),
        Weights(constants.LM_ALPHA, constants.LM_BETA),
        Weights(0.0, 0.0),
    ]
    bar = progress_bar(settings.trials, "trial")
    # A signal ends the search, and what it has found is kept.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with bar, contextlib.suppress(KeyboardInterrupt):
        for trial in search(objective, first, settings):
            better = not made or trial.errors < best_of(made).errors
            made.append(trial)  # before anything is printed, whenever a signal comes
            bar.update()
            if better:
                line = f"trial {len(made):>4}  {format_trial(trial, objective.metric)}"
                bar.write(line, file=sys.stderr)
        return True
    return False


def search(
    objective: Objective, first: Sequence[Weights], settings: SearchSettings
) -> Iterator[Trial]:
    """Yields trials until there are enough, or none has been better for a while.

    Args:
        first: tried before all others, also outside the search's range.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    # Both weights together: apart, the sampler would not see that they rise together.
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
        if without_better >= settings.early_stopping and not waiting:
            return


def _add(study: optuna.Study, trial: Trial, settings: SearchSettings) -> None:
    """Adds a trial that the sampler didn't choose to the study, if it is in the search's range."""
    values = {"alpha": trial.weights.alpha, "beta": trial.weights.beta}
    largest = {"alpha": settings.alpha_max, "beta": settings.beta_max}
    if all(0 <= values[name] <= largest[name] for name in values):
        ranges: dict[str, optuna.distributions.BaseDistribution] = {
            name: optuna.distributions.FloatDistribution(0, largest[name]) for name in values
        }
        study.add_trial(
            optuna.trial.create_trial(params=values, distributions=ranges, value=trial.rate)
        )


def _write_outputs(made: Sequence[Trial], metric: str, output_dir: str) -> None:
    for name, content in {
        TRIALS_FILE: trials.table(made, metric).encode(),
        contour.CONTOUR_FILE: contour.draw(made, metric),
    }.items():
        path = storage.join(output_dir, name)
        storage.write_bytes(path, content)
        print(path)


def _print_comparison(old: Trial, best: Trial, metric: str) -> None:
    print(f"{'':<8}{'alpha':>9}{'beta':>9}{metric.upper():>9}  95% interval")
    for name, trial in {"before": old, "best": best}.items():
        print(
            f"{name:<8}{trial.weights.alpha:>9.4f}{trial.weights.beta:>9.4f}{trial.rate:>9.2%}"
            f"  {format_interval(trial.interval)}"
        )
    difference = paired_difference(
        [each.total for each in old.utterances],
        [each.total for each in best.utterances],
        [each.length for each in best.utterances],
    )
    print(
        f"Difference {100 * difference.rate:+.2f} points, "
        f"95% interval {100 * difference.low:+.2f} to {100 * difference.high:+.2f}, on the data "
        "that chose the weights"
    )
