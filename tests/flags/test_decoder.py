"""The decoder's flags: DeepSpeech's names and defaults, and values that are refused."""

import functools

import pytest
from absl import flags
from doors import parse_flags

from speech.decoding.beam_search import BeamSettings
from speech.flags import decoder as decoder_flags
from utils import UserError

parse = functools.partial(parse_flags, decoder_flags.define_decoder_flags)


def settings_of(*arguments: str) -> BeamSettings:
    return decoder_flags.beam_settings_from_flags(parse(*arguments))


def test_without_flags_all_classes_are_tried_and_there_is_no_scorer() -> None:
    """--cutoff_prob and --cutoff_top_n are DeepSpeech's; the beam is narrower."""
    assert settings_of() == BeamSettings(100, 1.0, 300, None, None, None, ())
    assert parse().scorer is None


def test_every_flag_is_read() -> None:
    found = settings_of(
        "--scorer=kenlm.scorer",
        "--lm_alpha=0.5",
        "--lm_beta=-1.5",
        "--unknown_penalty=3",
        "--hot_words=word:7.5, other :-3,a:b:1e1",
        "--beam_width=7",
        "--cutoff_prob=0.99",
        "--cutoff_top_n=40",
    )
    hot_words = (("word", 7.5), ("other", -3.0), ("a:b", 10.0))
    assert found == BeamSettings(7, 0.99, 40, 0.5, -1.5, 3.0, hot_words)


def test_weights_of_zero_are_weights() -> None:
    found = settings_of("--scorer=kenlm.scorer", "--lm_alpha=0", "--lm_beta=0")
    assert (found.alpha, found.beta) == (0.0, 0.0)


@pytest.mark.parametrize("scorer", [(), ("--scorer=",)])
@pytest.mark.parametrize("weight", ["--lm_alpha=0.5", "--lm_alpha=0", "--lm_beta=1", "--lm_beta=0"])
def test_weights_without_a_scorer_are_refused(scorer: tuple[str, ...], weight: str) -> None:
    with pytest.raises(UserError, match=r"--lm_alpha and --lm_beta weight.*give --scorer too"):
        settings_of(weight, *scorer)


@pytest.mark.parametrize("text", ["foo", "foo:", "foo:x", ":3", "7.5", " :3", "foo:nan", "a:inf"])
def test_hot_words_without_a_number_are_refused(text: str) -> None:
    with pytest.raises(UserError) as error:
        settings_of(f"--hot_words=word:7.5,{text}")
    assert f"hot_words has {text.strip()!r}" in str(error.value)
    assert "as in word:7.5,other:3" in str(error.value)


@pytest.mark.parametrize(
    "flag",
    [
        "--lm_alpha=-0.1",
        "--unknown_penalty=-1",
        "--beam_width=0",
        "--cutoff_prob=1.1",
        "--cutoff_prob=-0.1",
        "--cutoff_top_n=0",
    ],
)
def test_number_out_of_bounds_is_named(flag: str) -> None:
    with pytest.raises(flags.IllegalFlagValueError, match=flag.split("=")[0].removeprefix("--")):
        parse(flag)


def test_cutoff_prob_of_zero_is_refused() -> None:
    with pytest.raises(UserError, match=r"cutoff_prob is 0\.0: give a probability above 0"):
        settings_of("--cutoff_prob=0")


def test_the_search_alone_reads_no_weights() -> None:
    values = parse_flags(
        decoder_flags.define_search_flags,
        *("--beam_width=7", "--cutoff_prob=0.99", "--cutoff_top_n=40", "--unknown_penalty=3"),
    )
    found = decoder_flags.search_settings_from_flags(values)
    assert found == BeamSettings(7, 0.99, 40, unknown_penalty=3.0)
