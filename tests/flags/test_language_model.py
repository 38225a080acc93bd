"""Flags of build_lm.py: settings of a language model and refused combinations."""

from functools import partial

import pytest
from doors import parse_door_flags

import build_lm
from speech.flags import language_model
from speech.language_model.kenlm_programs import Estimation, Packing
from utils import ENGLISH, UserError

parse = partial(parse_door_flags, build_lm)


def test_flags_become_settings() -> None:
    values = parse("--arpa_order=3", "--arpa_prune=0|1", "--binary_type=probing", "--top_k=9")
    assert language_model.estimation_from_flags(values) == Estimation(3, (0, 1, 1), False, "85%")
    assert language_model.packing_from_flags(values) == Packing("probing", 255, 8)
    target = language_model.target_from_flags(values)
    assert (target.package, target.top_k, target.alphabet) == ("lm/kenlm.scorer", 9, ENGLISH)
    assert language_model.target_from_flags(parse("--package=")).package == ""


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "There is no text"),
        (["--input_arpa=a", "--language=en"], "--language applies to the estimation of a model"),
        (["--input_txt=a", "--top_k=0"], "--top_k=0 leaves no word"),
        (["--input_txt=a", "--output_dir=gs://b/lm"], "--output_dir=gs://b/lm is in a bucket"),
    ],
)
def test_contradictory_flags_are_refused(flags: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        language_model.check_language_model_flags(parse(*flags))


def test_an_invalid_amount_of_memory_is_refused_before_the_estimation() -> None:
    with pytest.raises(UserError, match="--max_arpa_memory=lots"):
        language_model.estimation_from_flags(parse("--max_arpa_memory=lots"))
