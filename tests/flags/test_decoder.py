"""The decoder's flags: Mozilla's names and defaults, and what can't be meant is refused."""

import functools
from pathlib import Path

import pytest
from absl import flags
from doors import parse_flags
from scorers import pack_unigrams

from speech.decoding.beam_search import BeamSettings
from speech.decoding.scorer import read_scorer
from speech.flags import decoder as decoder_flags
from utils import ENGLISH, Alphabet, UserError

parse = functools.partial(parse_flags, decoder_flags.define_decoder_flags)


def asked(*arguments: str) -> BeamSettings:
    return decoder_flags.asked_settings(parse(*arguments))


def test_without_flags_all_labels_are_tried_and_there_is_no_scorer() -> None:
    """DeepSpeech's --cutoff_prob and --cutoff_top_n, and a narrower beam than its."""
    assert asked() == BeamSettings(100, 1.0, 300, None, None, 10.0, ())
    assert decoder_flags.asked_scorer(parse().scorer, ENGLISH, "model") is None


def test_every_flag_arrives() -> None:
    found = asked(
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
    found = asked("--scorer=kenlm.scorer", "--lm_alpha=0", "--lm_beta=0")
    assert (found.alpha, found.beta) == (0.0, 0.0)


@pytest.mark.parametrize("scorer", [(), ("--scorer=",)])
@pytest.mark.parametrize("weight", ["--lm_alpha=0.5", "--lm_alpha=0", "--lm_beta=1", "--lm_beta=0"])
def test_weights_without_a_scorer_are_refused(scorer: tuple[str, ...], weight: str) -> None:
    with pytest.raises(UserError, match=r"--lm_alpha and --lm_beta weight.*give --scorer too"):
        asked(weight, *scorer)


@pytest.mark.parametrize("text", ["foo", "foo:", "foo:x", ":3", "7.5", " :3", "foo:nan", "a:inf"])
def test_hot_words_without_a_number_are_refused(text: str) -> None:
    with pytest.raises(UserError) as error:
        asked(f"--hot_words=word:7.5,{text}")
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
def test_number_beyond_its_bound_is_named(flag: str) -> None:
    with pytest.raises(flags.IllegalFlagValueError, match=flag.split("=")[0].removeprefix("--")):
        parse(flag)


def test_no_label_at_all_is_refused() -> None:
    with pytest.raises(UserError, match=r"cutoff_prob is 0\.0: give a probability above 0"):
        asked("--cutoff_prob=0")


def test_scorer_of_another_alphabet_is_refused(tmp_path: Path) -> None:
    path = pack_unigrams(tmp_path, {"a": -1})
    found = decoder_flags.asked_scorer(path, ENGLISH, "the/model")
    assert found is not None and found.path == path
    with pytest.raises(UserError, match="another alphabet than the model in the/model"):
        decoder_flags.asked_scorer(path, Alphabet(("a", " ")), "the/model")
    with pytest.raises(UserError, match="nowhere can't be read: No such file"):
        decoder_flags.asked_scorer(str(tmp_path / "nowhere"), ENGLISH, "the/model")


def test_the_report_describes_what_was_used(tmp_path: Path) -> None:
    scorer = read_scorer(pack_unigrams(tmp_path, {"a": -1}, alpha=0.75, beta=1.5))
    assert decoder_flags.described(asked(), None) == {"beam_width": 100}
    assert decoder_flags.described(asked("--hot_words=a:7.5,b:3"), None) == {
        "beam_width": 100,
        "hot_words": "a:7.5,b:3",
    }
    assert decoder_flags.described(asked("--cutoff_prob=0.9", "--cutoff_top_n=5"), scorer) == {
        "beam_width": 100,
        "cutoff_prob": 0.9,
        "cutoff_top_n": 5,
        "scorer": scorer.path,
        "alpha": 0.75,
        "beta": 1.5,
        "unknown_penalty": 10.0,
    }


def test_weights_are_the_flags_or_else_the_scorers(tmp_path: Path) -> None:
    path = pack_unigrams(tmp_path, {"a": -1}, alpha=0.75, beta=1.5)
    scorer = read_scorer(path)
    for arguments, weights in (
        ((), (0.75, 1.5)),
        (("--lm_alpha=0",), (0.0, 1.5)),
        (("--lm_beta=0",), (0.75, 0.0)),
        (("--lm_alpha=2", "--lm_beta=3"), (2.0, 3.0)),
    ):
        settings = asked(f"--scorer={path}", *arguments)
        assert decoder_flags.weights(settings, scorer) == weights
