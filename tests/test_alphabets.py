"""A corpus's characters: counted, shown, suspected, written as an alphabet, and missed in one."""
# ruff: noqa: RUF001 - letters that look alike are the point

import unicodedata
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speech import alphabets
from speech.alphabets import count_characters, unknown_characters, write_alphabet
from speech.corpora import Utterance
from utils import ENGLISH, Alphabet, AlphabetError, UserError


@dataclass(frozen=True)
class Placed:
    """An utterance that knows where it is from."""

    utterance_id: str
    transcript: str | None
    place: str = ""


def corpus(*texts: str | None) -> list[Placed]:
    return [Placed(f"id{i}", text, f"train.csv:{i}") for i, text in enumerate(texts, start=2)]


def suspected(text: str, language: str | None = None) -> dict[str, str]:
    found = alphabets.suspicions(count_characters(corpus(text)), language)
    return {character: why for character, why in found.items() if why}


# --- Counting -------------------------------------------------------------------------------------


def test_characters_are_counted_with_their_utterances_and_first_places() -> None:
    found = {each.character: each for each in count_characters(corpus("aab", None, "a", "a", "a"))}
    assert list(found) == ["a", "b"]
    assert (found["a"].occurrences, found["a"].utterances) == (5, 4)
    assert found["a"].examples == ("train.csv:2", "train.csv:4", "train.csv:5")
    assert (found["b"].occurrences, found["b"].utterances) == (1, 1)


def test_letters_are_counted_composed() -> None:
    assert [each.character for each in count_characters(corpus("e\u0301é"))] == ["é"]


def test_an_utterance_of_unknown_place_is_named_by_its_file_or_id() -> None:
    of_corpora = Utterance("1-2-3", "a.flac", "a", "1")
    assert count_characters([of_corpora])[0].examples == ("a.flac",)
    assert count_characters([Placed("1-2-3", "a", "")])[0].examples == ("1-2-3",)


@given(st.lists(st.text(max_size=10), max_size=5))
def test_every_occurrence_is_counted_once(texts: list[str]) -> None:
    counts = count_characters(corpus(*texts))
    composed = [unicodedata.normalize("NFC", text) for text in texts]
    assert sum(each.occurrences for each in counts) == sum(map(len, composed))
    assert sum(each.utterances for each in counts) == sum(len(set(text)) for text in composed)
    assert [each.character for each in counts] == sorted(set("".join(composed)))


# --- Showing --------------------------------------------------------------------------------------


def test_the_table_shows_each_character_with_what_is_known_of_it() -> None:
    text = alphabets.table(count_characters(corpus("ab b", "a\u0301b\u200b 5\u0330")))
    lines = [line.split("  ") for line in text.splitlines()]
    cells = [[cell.strip() for cell in line if cell.strip()] for line in lines]
    assert cells == [
        ["code", "name", "count", "utterances", "examples", "suspicious"],
        ["space", "U+0020", "SPACE", "2", "2", "train.csv:2, train.csv:3"],
        ["5", "U+0035", "DIGIT FIVE", "1", "1", "train.csv:3", "digit"],
        ["a", "U+0061", "LATIN SMALL LETTER A", "1", "1", "train.csv:2"],
        ["b", "U+0062", "LATIN SMALL LETTER B", "3", "2", "train.csv:2, train.csv:3"],
        ["á", "U+00E1", "LATIN SMALL LETTER A WITH ACUTE", "1", "1", "train.csv:3"],
        ["◌\u0330", "U+0330", "COMBINING TILDE BELOW", "1", "1", "train.csv:3", "mark"],
        ["invisible", "U+200B", "ZERO WIDTH SPACE", "1", "1", "train.csv:3", "invisible"],
    ]


def test_columns_are_aligned_whatever_the_script() -> None:
    counts = count_characters([Placed("a", "你aب\u0301 \u200b"), Placed("אב", "a")])
    lines = alphabets.table(counts).splitlines()
    places = {alphabets._width(line[: line.index("U+")]) for line in lines[1:]}
    assert places == {alphabets._width(lines[0][: lines[0].index("code")])}


def test_what_is_written_from_right_to_left_is_isolated_and_nothing_else() -> None:
    table = alphabets.table(count_characters([Placed("id", "aب"), Placed("אב", "a")]))
    latin, arabic = table.splitlines()[1:]
    assert arabic.startswith("\u2068ب\u2069") and arabic.endswith("Arabic among Latin")
    assert latin.startswith("a ") and latin.endswith("id, \u2068אב\u2069")


@given(st.characters(exclude_categories=["Cs"]))
def test_any_character_can_be_shown(character: str) -> None:
    counts = [alphabets.CharacterCount(character, 1, 1, ("id",))]
    assert len(alphabets.table(counts).split("\n")) == 2


# --- Suspicion ------------------------------------------------------------------------------------


def test_what_is_no_letter_is_suspicious() -> None:
    assert suspected("don't 5 €%,\u00a0\u200f\a\u0301") == {
        "5": "digit",
        "€": "symbol",
        "%": "punctuation",
        ",": "punctuation",
        "\u00a0": "unusual space",
        "\u200f": "invisible",
        "\a": "no character",
        "\u0301": "mark",
    }


def test_letters_of_another_script_are_suspicious() -> None:
    assert suspected("привет мaма") == {"a": "Latin among Cyrillic"}
    assert suspected("hello аll") == {"а": "Cyrillic among Latin"}
    assert suspected("日本語のテキスト") == {}


def test_marks_are_vowels_in_some_scripts_and_points_in_others() -> None:
    assert suspected("हिन्दी") == {}
    assert suspected("مُحمد") == {"\u064f": "mark"}


def test_letters_that_a_language_does_not_have_are_suspicious() -> None:
    assert suspected("el niño ç", "es") == {"ç": "not Spanish"}
    assert suspected("it's", "de") == {"'": "punctuation"}
    assert suspected("it's", "en") == {}
    with pytest.raises(UserError, match="--language=xx"):
        suspected("a", "xx")


# --- Writing --------------------------------------------------------------------------------------

WRITABLE = st.characters(exclude_categories=["Cs"], exclude_characters="\r\n").filter(
    lambda character: unicodedata.is_normalized("NFC", character)
)


@given(
    st.sets(st.one_of(st.sampled_from(" #\\'\u0301\ufeff\u2028\x0b\x85"), WRITABLE), min_size=1),
    st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=3),
)
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, characters: set[str], comments: list[str]
) -> None:
    path = tmp_path_factory.mktemp("alphabet") / "alphabet.txt"
    alphabet = write_alphabet(str(path), characters, comments)
    assert Alphabet.from_file(str(path)) == alphabet
    assert set(alphabet.characters) == characters
    assert write_alphabet(str(path), characters) == alphabet


def test_the_file_has_comments_the_space_first_and_then_code_points(tmp_path: Path) -> None:
    path = tmp_path / "alphabet.txt"
    write_alphabet(str(path), "éb#a '", ["from train.csv", "two\nlines"])
    assert path.read_text(encoding="utf-8").splitlines() == [
        "# One character a line.",
        "# from train.csv",
        "# two",
        "# lines",
        " ",
        "\\#",
        "'",
        "a",
        "b",
        "é",
    ]


def test_another_alphabet_is_not_overwritten_and_the_same_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "alphabet.txt"
    path.write_text("\ufeff# mine\r\na\r\nb\r\n", encoding="utf-8", newline="")
    before = path.read_bytes()
    write_alphabet(str(path), "ba", ["other comments"])
    with pytest.raises(UserError, match=r"alphabet\.txt is there .*: remove it, or name another"):
        write_alphabet(str(path), "abc")
    assert path.read_bytes() == before


@pytest.mark.parametrize("characters", [[], ["ab"], ["a", "\n"], ["\r"], ["a\u0301"]])
def test_what_is_no_alphabet_is_not_written(tmp_path: Path, characters: list[str]) -> None:
    with pytest.raises(AlphabetError):
        write_alphabet(str(tmp_path / "alphabet.txt"), characters)
    assert not list(tmp_path.iterdir())


# --- What an alphabet lacks -----------------------------------------------------------------------


def test_all_unknown_characters_are_found_with_all_their_utterances() -> None:
    utterances = corpus(*["für 5"] * 5, "plain", None, "über")
    found = unknown_characters(utterances, ENGLISH)
    assert [(each.character, len(each.utterances)) for each in found] == [("ü", 6), ("5", 5)]
    assert [each.line() for each in found] == [
        "ü (U+00FC, LATIN SMALL LETTER U WITH DIAERESIS): 6 utterances: "
        "train.csv:2, train.csv:3, train.csv:4, ... and 3 more",
        "5 (U+0035, DIGIT FIVE): 5 utterances: "
        "train.csv:2, train.csv:3, train.csv:4, ... and 2 more",
    ]
    assert len(alphabets.rows(found)) == 11
    assert alphabets.rows(found)[5] == ("train.csv:9", "id9", "ü", "U+00FC", "über")


def test_one_utterance_is_told_as_one_and_arabic_is_isolated() -> None:
    (found,) = unknown_characters([Placed("هه", "aب")], ENGLISH)
    assert found.line() == (
        "\u2068ب\u2069 (U+0628, ARABIC LETTER BEH): 1 utterance: \u2068هه\u2069"
    )
    assert alphabets.rows([found]) == [("", "هه", "ب", "U+0628", "aب")]


def test_composed_letters_of_the_alphabet_are_known() -> None:
    assert unknown_characters(corpus("e\u0301"), Alphabet(("é",))) == []
