"""Sweeps: the rate of every setting is what the decoder makes with it."""

import itertools
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from scorers import pack_unigrams

from speech.decoding.beam_search import BeamSettings
from speech.decoding.scorer import read_scorer
from speech.evaluation import sweeps
from speech.evaluation.network_output import NetworkOutput
from speech.evaluation.sweeps import BeamPoint
from utils import ENGLISH


def log_probs_of(*each: dict[str, float]) -> npt.NDArray[np.float32]:
    """Log-probabilities, [outputs, classes]; `_` is the blank."""
    log_probs = np.full((len(each), ENGLISH.size), -np.inf, np.float32)
    for row, probabilities in zip(log_probs, each, strict=True):
        for character, probability in probabilities.items():
            label = ENGLISH.blank if character == "_" else ENGLISH.characters.index(character)
            row[label] = np.log(probability)
    return log_probs


def certain(text: str) -> list[dict[str, float]]:
    return [{character: 1.0} for character in text]


# A beam of 1 never leaves the empty text, which is less probable; one of 4 does.
NARROW = NetworkOutput("narrow", "a", log_probs_of({"a": 0.3, "_": 0.7}, {"a": 0.4, "_": 0.6}), 1.0)
# The language model knows better than the sounds, and then one word is likelier than two.
CAT = NetworkOutput("cat", "cat", log_probs_of(*certain("c_a_"), {"t": 0.4, "b": 0.6}), 1.0)
TWO_WORDS = NetworkOutput(
    "two", "a b", log_probs_of({"a": 1.0}, {" ": 0.1, "_": 0.9}, {"b": 1.0}), 1.0
)


def test_every_beam_width_and_the_settings_own_has_its_rate() -> None:
    done: list[int] = []
    found = sweeps.beam_points(
        [NARROW], ENGLISH, BeamSettings(beam_width=2), None, lambda: done.append(1)
    )
    assert found == [
        BeamPoint(1, 1.0),
        *(BeamPoint(width, 0.0) for width in (2, 4, 16, 64, 256)),
    ]
    assert len(done) == len(found)
    again = sweeps.beam_points([NARROW], ENGLISH, BeamSettings(64), None, lambda: None)
    assert [each.beam_width for each in again] == list(sweeps.BEAM_WIDTHS)


def test_the_rate_is_of_the_whole_set() -> None:
    certainly = NetworkOutput("b", "b b b", log_probs_of(*certain("b b b")), 1.0)
    points = sweeps.beam_points([NARROW, certainly], ENGLISH, BeamSettings(), None, lambda: None)
    assert points[0].wer == pytest.approx(1 / 4)  # the mean of the utterances' own is a half


def test_every_alpha_with_every_beta_has_its_rate(tmp_path: Path) -> None:
    words = {"cat": -0.1, "cab": -1.1, "a": -1.0, "b": -1.0, "ab": -1.0}
    scorer = read_scorer(pack_unigrams(tmp_path, words))
    done: list[int] = []
    # The settings' own weights give way.
    found = sweeps.weight_points(
        [CAT, TWO_WORDS],
        ENGLISH,
        BeamSettings(alpha=9.0, beta=9.0),
        scorer,
        lambda: done.append(1),
    )
    grid = list(itertools.product(sweeps.ALPHAS, sweeps.BETAS))
    assert [(each.alpha, each.beta) for each in found] == grid and len(done) == len(grid)
    for each in found:
        # Natural logarithms: "cat" has 1.0 * ln 10 more than "cab", the sounds ln 1.5 less.
        errors = each.alpha * np.log(10) < np.log(1.5)
        # A second word costs as much of the language model again, and the space ln 9.
        errors += 2 * (each.beta - each.alpha * np.log(10) < np.log(9))
        assert each.wer == pytest.approx(errors / 3)


def test_beams_are_swept_with_the_scorer_too(tmp_path: Path) -> None:
    scorer = read_scorer(pack_unigrams(tmp_path, {"cat": -0.1, "cab": -1.1}))
    with_scorer = sweeps.beam_points([CAT], ENGLISH, BeamSettings(), scorer, lambda: None)
    without = sweeps.beam_points([CAT], ENGLISH, BeamSettings(), None, lambda: None)
    assert with_scorer[-1].wer == 0 and without[-1].wer == 1
