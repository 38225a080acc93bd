"""The picture of a search."""

import struct

import numpy as np
import pytest

from speech.evaluation.error_rates import Errors
from speech.tuning import contour
from speech.tuning.trials import Trial, Weights


def trial(alpha: float, beta: float) -> Trial:
    errors = round(10 * ((alpha - 1) ** 2 + (beta - 2) ** 2))
    return Trial(Weights(alpha, beta), (Errors(substitutions=errors, length=400),))


PLANE = [trial(alpha, beta) for alpha in (0.0, 1.0, 2.0, 5.0) for beta in (0.5, 2.0, 3.5)]
LINE = [trial(alpha, alpha) for alpha in (0.0, 1.0, 2.0)]


def test_picture_has_its_size() -> None:
    picture = contour.draw(PLANE, "wer")
    assert picture.startswith(b"\x89PNG")
    assert struct.unpack(">II", picture[16:24]) == (1000, 800)


def test_best_and_old_weights_are_marked_and_axes_labelled() -> None:
    axes, bar = contour.figure(PLANE, "cer").axes
    lines = {str(line.get_label()): line for line in axes.get_lines()}
    (best,) = (line for name, line in lines.items() if name.startswith("best: 0.00%"))
    (old,) = (line for name, line in lines.items() if name.startswith("before: "))
    assert np.asarray(best.get_xydata()).tolist() == [[1.0, 2.0]]
    assert np.asarray(old.get_xydata()).tolist() == [[0.0, 0.5]]
    assert len(np.asarray(lines["trials"].get_xydata())) == len(PLANE)
    assert "alpha" in axes.get_xlabel() and "nats" in axes.get_ylabel()
    assert bar.get_ylabel() == "CER (%)"


@pytest.mark.parametrize("trials", [PLANE[:1], LINE, [PLANE[0]] * 4])
def test_trials_without_an_area_between_them_are_drawn_as_dots(trials: list[Trial]) -> None:
    assert contour.draw(trials, "wer").startswith(b"\x89PNG")


def test_trials_that_are_all_alike_are_drawn() -> None:
    same = [Trial(each.weights, (Errors(length=9),)) for each in PLANE]
    assert contour.draw(same, "wer").startswith(b"\x89PNG")
