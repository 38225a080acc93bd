"""Characters and places as they are shown."""

from dataclasses import dataclass

import numpy as np
import pytest

from speech.corpora.utterance import Utterance
from speech.text.showing import (
    array_summary,
    code_point,
    described,
    enclosed,
    isolated,
    place,
    shown,
)


@pytest.mark.parametrize(
    ("character", "seen", "told"),
    [
        ("\u00e9", "\u00e9", "'\u00e9' (U+00E9, LATIN SMALL LETTER E WITH ACUTE)"),
        ("'", "'", '"\'" (U+0027, APOSTROPHE)'),
        ("\u0650", "\u25cc\u0650", "'\u25cc\u0650' (U+0650, ARABIC KASRA)"),
        # A mark with a place of its own: its combining class is 0.
        ("\u093e", "\u25cc\u093e", "'\u25cc\u093e' (U+093E, DEVANAGARI VOWEL SIGN AA)"),
        ("\u00a0", "space", "'\\xa0' (U+00A0, NO-BREAK SPACE)"),
        ("\u0007", "invisible", "'\\x07' (U+0007, control)"),
        ("\U0001f600", "\U0001f600", "'\U0001f600' (U+1F600, GRINNING FACE)"),
    ],
)
def test_characters_are_seen_and_named(character: str, seen: str, told: str) -> None:
    assert (shown(character), described(character)) == (seen, told)
    assert code_point(character) in told


def test_what_runs_from_right_to_left_is_isolated() -> None:
    assert isolated("a1") == "a1"
    assert isolated("a \u0628") == enclosed("a \u0628") == "\u2068a \u0628\u2069"


def test_a_place_is_the_corpuss_the_file_or_the_id() -> None:
    @dataclass
    class Named:
        utterance_id: str

    assert place(Utterance("id", "a.wav", "a", "", place="train.csv:2")) == "train.csv:2"
    assert place(Utterance("id", "a.wav", "a", "")) == "a.wav"
    assert place(Utterance("id", None, "a", "")) == place(Named("id")) == "id"


def test_an_array_is_summarised_in_a_short_line() -> None:
    values = np.arange(1000, dtype=np.float32).reshape(10, 100)
    line = "[10, 100] float32, mean 499.5, deviation 288.7: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, ..."
    assert array_summary(values) == line
    assert array_summary(values[:0]) == "[0, 100] float32"
    assert array_summary(np.array([1.5])) == "[1] float64, mean 1.5, deviation 0: 1.5"
