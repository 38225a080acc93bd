"""Characters know their script."""

import pytest

from speech.text.scripts import EAST_ASIAN, script_of, written_without_spaces


@pytest.mark.parametrize(
    ("characters", "script"),
    [("aZñß", "LATIN"), ("жЁ", "CYRILLIC"), ("سآ", "ARABIC"), ("ह्", "DEVANAGARI")],
)
def test_letters_and_their_marks_have_a_script(characters: str, script: str) -> None:
    assert {script_of(each) for each in characters} == {script}


def test_chinese_and_japanese_characters_are_of_one_script_without_spaces() -> None:
    for character in "你好さカー〇":
        assert script_of(character) == EAST_ASIAN
        assert written_without_spaces(character)
    assert not any(map(written_without_spaces, "aж한ह7 "))


def test_a_character_without_a_name_has_no_scripts_name() -> None:
    assert script_of("\u0000") == "UNNAMED"
