"""Scripts of characters, and the forms in which they are shown."""

import pytest

from speech.text.characters import (
    EAST_ASIAN,
    code_point,
    describe,
    display_form,
    isolate,
    isolate_right_to_left,
    script_of,
    written_without_spaces,
)


@pytest.mark.parametrize(
    ("characters", "script"),
    [("aZñß", "LATIN"), ("жЁ", "CYRILLIC"), ("سآ", "ARABIC"), ("ह्", "DEVANAGARI")],
)
def test_letters_and_marks_have_a_script(characters: str, script: str) -> None:
    assert {script_of(each) for each in characters} == {script}


def test_chinese_and_japanese_share_one_script_without_spaces() -> None:
    for character in "你好さカー〇":
        assert script_of(character) == EAST_ASIAN
        assert written_without_spaces(character)
    assert not any(map(written_without_spaces, "aж한ह7 "))


def test_a_character_without_a_name_has_no_script() -> None:
    assert script_of("\u0000") == "UNNAMED"


@pytest.mark.parametrize(
    ("character", "form", "description"),
    [
        ("\u00e9", "\u00e9", "'\u00e9' (U+00E9, LATIN SMALL LETTER E WITH ACUTE)"),
        ("'", "'", '"\'" (U+0027, APOSTROPHE)'),
        ("\u0650", "\u25cc\u0650", "'\u25cc\u0650' (U+0650, ARABIC KASRA)"),
        # A mark with its own place: its combining class is 0.
        ("\u093e", "\u25cc\u093e", "'\u25cc\u093e' (U+093E, DEVANAGARI VOWEL SIGN AA)"),
        ("\u00a0", "space", "'\\xa0' (U+00A0, NO-BREAK SPACE)"),
        ("\u0007", "invisible", "'\\x07' (U+0007, control)"),
        ("\U0001f600", "\U0001f600", "'\U0001f600' (U+1F600, GRINNING FACE)"),
    ],
)
def test_characters_are_shown_and_described(character: str, form: str, description: str) -> None:
    assert (display_form(character), describe(character)) == (form, description)
    assert code_point(character) in description


def test_only_right_to_left_text_is_isolated() -> None:
    assert isolate_right_to_left("a1") == "a1"
    isolated = isolate_right_to_left("a \u0628")
    assert isolated == isolate("a \u0628") == "\u2068a \u0628\u2069"
