"""Flags of the normalisation: rules and alphabet."""

import functools
from pathlib import Path

import pytest
from absl import flags
from doors import parse_flags

from speech.flags import transcripts as transcript_flags
from speech.text import transcripts
from speech.text.transcripts import TranscriptRules
from utils import ENGLISH, UTF_8, Alphabet, UserError


def define_flags() -> None:
    transcript_flags.define_transcript_flags()
    flags.DEFINE_string("alphabet", None, "The door's own.")


parse = functools.partial(parse_flags, define_flags)


def test_every_flag_is_part_of_the_rules() -> None:
    assert transcript_flags.rules_from_flags(parse()) == TranscriptRules()
    found = transcript_flags.rules_from_flags(
        parse("--language=PL", "--unicode_form=NFKC", "--strip_diacritics")
    )
    assert found == TranscriptRules("PL", "NFKC", strip_diacritics=True)
    with pytest.raises(UserError, match="--language=german"):
        transcript_flags.rules_from_flags(parse("--language=german"))


def test_the_alphabet_is_the_file_else_that_of_the_language_else_english(tmp_path: Path) -> None:
    path = tmp_path / "alphabet.txt"
    path.write_text("a\nb\n")
    alphabet_of = transcript_flags.alphabet_from_flags
    assert alphabet_of(parse()) == ENGLISH
    assert alphabet_of(parse("--language=RU")) == transcripts.alphabet_of("ru")
    for language in ([], ["--language=ru"], ["--language=pl"]):
        assert alphabet_of(parse(f"--alphabet={path}", *language)) == Alphabet(("a", "b"))
        assert alphabet_of(parse("--alphabet=utf-8", *language)) is UTF_8
    with pytest.raises(UserError, match="--language=pl has no ready alphabet"):
        alphabet_of(parse("--language=pl"))
