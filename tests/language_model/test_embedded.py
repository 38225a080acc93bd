"""The estimator of small models without KenLM, and its limits."""

import logging as python_logging
from pathlib import Path

import pytest
from arpa_models import read_model, write_lines

from speech.language_model import embedded
from speech.language_model.kenlm_programs import Estimation
from utils import UserError


def estimation(order: int) -> Estimation:
    return Estimation(order, (0,) * order, discount_fallback=False, memory="85%")


def test_the_limits_of_the_embedded_estimator_are_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(python_logging.WARNING, logger="absl"):
        embedded.check(estimation(5))
    assert "make kenlm" in caplog.text and "1,000,000 tokens" in caplog.text
    assert "no lm.binary" in caplog.text


def test_an_unsupported_order_is_refused() -> None:
    with pytest.raises(UserError, match=r"--arpa_order=6 requires KenLM.*make kenlm"):
        embedded.check(estimation(6))


def test_a_model_is_estimated(tmp_path: Path) -> None:
    text = write_lines(tmp_path / "text", ["the cat sat", "the dog sat"])
    vocabulary = write_lines(tmp_path / "vocabulary", ["the", "sat"])
    target = tmp_path / "arpa"
    embedded.estimate(text, str(target), estimation(3), vocabulary)
    found = read_model(target).keys()
    assert "the <unk> sat" in found and "cat" not in found


def test_a_failure_has_the_message_of_the_estimator(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"No such file.*make kenlm"):
        embedded.estimate(str(tmp_path / "gone"), str(tmp_path / "arpa"), estimation(2), None)
