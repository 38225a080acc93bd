"""The search for alpha and beta, on outputs of a network for which the best ones are known."""

import csv
import io
from collections.abc import Sequence
from itertools import islice

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_scorer import CAT_AND_BAT, write_tiny_scorer

from speech.decoding.beam_search import BeamSearchDecoder, BeamSettings
from speech.decoding.scorer import Scorer, read_scorer
from speech.evaluation import error_rates
from speech.evaluation.network_output import NetworkOutput
from speech.tuning import search
from speech.tuning.search import CER, WER, Objective, SearchSettings
from speech.tuning.trials import Trial, Weights, best_of, table
from utils import ENGLISH, UserError

# Nats by which the language model prefers the cat.
LEAD = CAT_AND_BAT["cat"] - CAT_AND_BAT["bat"]

START = Weights(0.0, 0.0)


def output_of(reference: str, towards_bat: float, utterance_id: str = "") -> NetworkOutput:
    """A word that ends in "at"; the network prefers "bat" to "cat" by some nats."""
    labels = [*ENGLISH.encode("bat"), ENGLISH.blank]
    logits = 30.0 * np.eye(ENGLISH.size)[labels]  # [outputs, classes]
    logits[0, ENGLISH.encode("c")] = 30.0 - towards_bat
    return NetworkOutput(utterance_id, reference, log_softmax(logits), None)


def log_softmax(logits: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    sums = np.log(np.exp(logits).sum(axis=1, keepdims=True))  # [outputs, 1]
    return np.asarray(logits - sums, np.float32)  # [outputs, classes]


def between(lowest: float, highest: float) -> list[NetworkOutput]:
    """A set that an alpha between two bounds, and no other, decodes without errors."""
    return [output_of("cat", lowest * LEAD, "1"), output_of("bat", highest * LEAD, "2")]


def settings_of(n_trials: int, early_stopping: int = 1000, seed: int = 1) -> SearchSettings:
    return SearchSettings(n_trials, 5.0, 5.0, early_stopping, seed)


def run_search(
    outputs: Sequence[NetworkOutput], scorer: Scorer, wanted: SearchSettings
) -> list[Trial]:
    objective = Objective(outputs, scorer, BeamSettings(10), WER)
    return list(search.search(objective, [START], wanted))


@pytest.fixture(scope="module")
def scorer(tmp_path_factory: pytest.TempPathFactory) -> Scorer:
    return read_scorer(write_tiny_scorer(tmp_path_factory.mktemp("scorer") / "tiny.scorer"))


@given(lowest=st.floats(0.5, 4.0), width=st.floats(0.7, 1.0), seed=st.integers(0, 1000))
@settings(max_examples=5, deadline=None)
def test_known_optimum_is_found(scorer: Scorer, lowest: float, width: float, seed: int) -> None:
    outputs = between(lowest, lowest + width)
    trials = run_search(outputs, scorer, settings_of(60, seed=seed))
    assert trials[0].errors == 1  # at the start, where the language model doesn't count
    best = best_of(trials)
    assert best.errors == 0
    assert lowest < best.weights.alpha < lowest + width


@pytest.mark.parametrize("alpha", [0.0, 1.4, 1.6, 3.9, 4.1])
def test_trial_counts_the_errors_of_every_utterance(scorer: Scorer, alpha: float) -> None:
    objective = Objective(between(1.5, 4.0), scorer, BeamSettings(10), WER)
    trial = objective.trial(Weights(alpha, 0.5))
    assert [each.total for each in trial.utterances] == [int(alpha < 1.5), int(alpha > 4.0)]
    assert trial.rate == trial.errors / 2


@pytest.mark.parametrize("metric", [WER, CER])
def test_trial_has_the_errors_of_decoder_and_report_in_the_corpus_s_order(
    scorer: Scorer, metric: str
) -> None:
    rng = np.random.default_rng(3)
    outputs = [
        NetworkOutput(
            str(n), "a cat", log_softmax(3 * rng.normal(size=(length, ENGLISH.size))), None
        )
        for n, length in enumerate((5, 40, 1, 20, 12))
    ]
    trial = Objective(outputs, scorer, BeamSettings(20), metric).trial(Weights(0.7, 1.1))
    decoder = BeamSearchDecoder(ENGLISH, BeamSettings(20, alpha=0.7, beta=1.1), scorer)
    count = error_rates.word_errors if metric == WER else error_rates.character_errors
    expected = [count(each.reference, decoder.decode(each.log_probs)) for each in outputs]
    assert trial.utterances == tuple(expected)
    assert len(set(expected)) > 1


def test_same_seed_gives_the_same_search_and_another_one_another(scorer: Scorer) -> None:
    outputs = between(1.5, 2.0)
    once, again, other = (
        [each.weights for each in run_search(outputs, scorer, settings_of(30, seed=seed))]
        for seed in (1, 1, 2)
    )
    assert once == again != other
    assert all(0 <= each.alpha <= 5 and 0 <= each.beta <= 5 for each in once)


def test_search_ends_when_no_trial_is_better(scorer: Scorer) -> None:
    """Both words are right from the start."""
    assert (
        len(run_search([output_of("bat", 50.0)], scorer, settings_of(500, early_stopping=7))) == 8
    )


def test_search_ends_after_its_trials(scorer: Scorer) -> None:
    assert len(run_search(between(1.5, 2.0), scorer, settings_of(12))) == 12


def test_early_stopping_counts_from_the_last_better_trial(scorer: Scorer) -> None:
    trials = run_search(between(4.2, 4.5), scorer, settings_of(500, early_stopping=40))
    better = [n for n, each in enumerate(trials) if each is best_of(trials[: n + 1])]
    assert better[-1] > 1
    assert len(trials) == better[-1] + 1 + 40


def test_first_weights_are_tried_first_once_each_also_outside_the_range(scorer: Scorer) -> None:
    objective = Objective(between(1.5, 2.0), scorer, BeamSettings(10), WER)
    first = [Weights(7.0, -1.0), START, Weights(7.0, -1.0), Weights(1.0, 1.0)]
    trials = list(islice(search.search(objective, first, settings_of(20, early_stopping=1)), 4))
    assert [each.weights for each in trials] == [first[0], first[1], first[3]]


def test_heavy_language_model_is_worse_where_the_network_is_sure(scorer: Scorer) -> None:
    objective = Objective([output_of("bat", 2 * LEAD)], scorer, BeamSettings(10), WER)
    assert objective.trial(Weights(1.0, 0.0)).errors == 0
    assert objective.trial(Weights(5.0, 0.0)).errors == 1


def test_set_without_words_is_refused(scorer: Scorer) -> None:
    with pytest.raises(UserError, match=r"no words.*--dev_data"):
        Objective([output_of("", 1.0)], scorer, BeamSettings(10), WER)


def test_first_of_equally_good_trials_is_the_best(scorer: Scorer) -> None:
    objective = Objective([output_of("bat", 50.0)], scorer, BeamSettings(10), WER)
    trials = [objective.trial(Weights(alpha, 0.0)) for alpha in (0.0, 1.0)]
    assert best_of(trials) is trials[0]


def test_table_has_every_trial(scorer: Scorer) -> None:
    trials = run_search(between(1.5, 2.0), scorer, settings_of(5))
    rows = list(csv.DictReader(io.StringIO(table(trials, WER))))
    assert [int(row["trial"]) for row in rows] == [1, 2, 3, 4, 5]
    for row, trial in zip(rows, trials, strict=True):
        assert Weights(float(row["alpha"]), float(row["beta"])) == trial.weights
        assert int(row["errors"]) == trial.errors
        assert float(row["wer"]) == pytest.approx(trial.rate)
