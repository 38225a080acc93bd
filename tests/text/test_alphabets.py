"""Counting characters, suspicious and unknown ones, and alphabet files."""
# ruff: noqa: RUF001 - letters that look alike are the point

import csv
import os
import time
import tracemalloc
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wcwidth import wcswidth

from speech.corpora.utterance import Utterance
from speech.text import alphabets
from speech.text.alphabets import (
    Unknown,
    count_characters,
    read_alphabet,
    report_unknown,
    write_alphabet,
)
from utils import ENGLISH, UTF_8, Alphabet, AlphabetError, UserError


@dataclass(frozen=True)
class Placed:
    """An utterance and its place in a corpus."""

    utterance_id: str
    transcript: str | None
    place: str = ""

    @property
    def where(self) -> str:
        return self.place or self.utterance_id


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


def test_the_table_shows_each_character_with_its_counts() -> None:
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
    places = {wcswidth(line[: line.index("U+")]) for line in lines[1:]}
    assert places == {wcswidth(lines[0][: lines[0].index("code")])}


def test_only_right_to_left_text_is_isolated_in_the_table() -> None:
    table = alphabets.table(count_characters([Placed("id", "aب"), Placed("אב", "a")]))
    latin, arabic = table.splitlines()[1:]
    assert arabic.startswith("\u2068ب\u2069") and arabic.endswith("Arabic among Latin")
    assert latin.startswith("a ") and latin.endswith("id, \u2068אב\u2069")


def test_upper_and_lower_case_letters_are_reported_unless_there_is_a_language() -> None:
    counts = count_characters(corpus("Ala ma kota. Kot ma Alę, Ż"))
    *_, space, hint = alphabets.table(counts).splitlines()
    assert space == "" and hint.startswith("2 letters occur in upper and in lower case (A and a, K")
    assert "--language=CODE" in hint
    for text, language in (("ala", None), ("ALA 5", None), ("Ala", "pl"), ("你好", None)):
        assert "upper" not in alphabets.table(count_characters(corpus(text)), language)


@given(st.characters(exclude_categories=["Cs"]))
def test_any_character_can_be_shown(character: str) -> None:
    counts = [alphabets.CharacterCount(character, 1, 1, ("id",))]
    assert len(alphabets.table(counts).split("\n")) == 2


# --- Suspicion ------------------------------------------------------------------------------------


def test_characters_other_than_letters_are_suspicious() -> None:
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


def test_joiners_belong_to_scripts_whose_letters_they_join() -> None:
    for text, language in (("می\u200cخواهم", "fa"), ("می\u200cخواهم", None), ("क्\u200dया", "hi")):
        assert suspected(text, language) == {}
    assert suspected("ab\u200cc", "pl") == {"\u200c": "invisible"}


def test_letters_outside_a_languages_alphabet_are_suspicious() -> None:
    assert suspected("el niño ç", "es") == {"ç": "not Spanish"}
    assert suspected("it's", "de") == {"'": "punctuation"}
    assert suspected("it's", "en") == {}
    with pytest.raises(UserError, match="--language=german"):
        suspected("a", "german")


def test_a_language_without_known_letters_suspects_no_letter() -> None:
    text = "zażółć d'artagnan qx, 5 д"
    found = {",": "punctuation", "5": "digit", "д": "Cyrillic among Latin"}
    assert suspected(text, "pl") == suspected(text, "PL") == suspected(text) == found
    assert suspected("привет q", "RU") == {"q": "Latin among Cyrillic"}


def test_no_alphabet_is_made_without_a_letter() -> None:
    for text, language in (("привет мир", "de"), ("l'été", "ru"), ("д'д", "fr"), ("' 5", None)):
        named = f"--language={language}" if language else "no letter"
        with pytest.raises(UserError, match=named):
            alphabets.sift(count_characters(corpus(text)), language)
    kept, left_out = alphabets.sift(count_characters(corpus("кот, 7 кот")), "ru")
    assert kept == [" ", "к", "о", "т"] and len(left_out) == 2


# --- Writing --------------------------------------------------------------------------------------

WRITABLE = st.characters(exclude_categories=["Cs"], exclude_characters="\r\n").filter(
    lambda character: unicodedata.is_normalized("NFC", character)
)


@given(
    st.sets(st.one_of(st.sampled_from(" #\\'\u0301\ufeff\u2028\x0b\x85"), WRITABLE), min_size=1),
    st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=3),
)
def test_a_written_alphabet_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, characters: set[str], comments: list[str]
) -> None:
    path = tmp_path_factory.mktemp("alphabet") / "alphabet.txt"
    alphabet = write_alphabet(str(path), characters, comments)
    assert read_alphabet(str(path)) == alphabet
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


def test_another_alphabet_is_not_overwritten_and_the_same_one_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "alphabet.txt"
    path.write_text("\ufeff# mine\r\na\r\nb\r\n", encoding="utf-8", newline="")
    before = path.read_bytes()
    write_alphabet(str(path), "ba", ["other comments"])
    with pytest.raises(UserError, match=r"alphabet\.txt exists .*: remove it, or name another"):
        write_alphabet(str(path), "abc")
    assert path.read_bytes() == before


@pytest.mark.parametrize("characters", [[], ["ab"], ["a", "\n"], ["\r"], ["a\u0301"], ["\ud800"]])
def test_an_invalid_alphabet_is_not_written(tmp_path: Path, characters: list[str]) -> None:
    with pytest.raises(AlphabetError):
        write_alphabet(str(tmp_path / "alphabet.txt"), characters)
    assert not list(tmp_path.iterdir())


def test_utf_8_is_not_the_name_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"--alphabet=utf-8 .* \./utf-8"):
        write_alphabet("utf-8", "ab")
    assert not list(tmp_path.iterdir())
    assert write_alphabet("./utf-8", "ab") == read_alphabet("./utf-8") == Alphabet(("a", "b"))


def test_a_flag_names_a_file_or_bytes_or_nothing(tmp_path: Path) -> None:
    path = tmp_path / "alphabet.txt"
    path.write_text("a\nb\n")
    assert read_alphabet(str(path)) == Alphabet(("a", "b"))
    assert read_alphabet("utf-8") is UTF_8
    assert read_alphabet(None) == read_alphabet("") == ENGLISH


def test_an_alphabet_in_a_bucket_is_written_and_read(own_bucket: str) -> None:
    written = write_alphabet(f"{own_bucket}/alphabet.txt", "bž ")
    assert read_alphabet(f"{own_bucket}/alphabet.txt") == written == Alphabet((" ", "b", "ž"))
    with pytest.raises(UserError, match=r"none\.txt"):
        read_alphabet(f"{own_bucket}/none.txt")


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    message = r"letters\.txt can't be read: No such file.* Check the path given by --alphabet"
    with pytest.raises(UserError, match=message):
        read_alphabet(str(tmp_path / "letters.txt"))
    with pytest.raises(UserError, match="can't be read: Is a directory"):
        read_alphabet(str(tmp_path))


# --- Unknown characters ---------------------------------------------------------------------------


def reported(
    tmp_path: Path, utterances: list[Placed], alphabet: Alphabet = ENGLISH
) -> tuple[Unknown | None, list[dict[str, str]]]:
    """Returns the unknown characters and the rows of the file."""
    path = tmp_path / "report" / "unknown.csv"
    found = report_unknown(iter(utterances), alphabet, str(path))
    if found is None:
        assert not path.parent.exists()
        return None, []
    assert found.path == str(path)
    with open(path, encoding="utf-8", newline="") as file:
        return found, list(csv.DictReader(file))


def test_all_unknown_characters_are_found_with_all_their_utterances(tmp_path: Path) -> None:
    found, rows = reported(tmp_path, corpus(*["für 5"] * 5, "plain", None, "über", ""))
    assert found is not None
    assert [(each.character, each.utterances) for each in found.characters] == [("ü", 6), ("5", 5)]
    assert found.text().splitlines() == [
        "  ü (U+00FC, LATIN SMALL LETTER U WITH DIAERESIS): 6 utterances: "
        "train.csv:2, train.csv:3, train.csv:4, ... and 3 more",
        "  5 (U+0035, DIGIT FIVE): 5 utterances: "
        "train.csv:2, train.csv:3, train.csv:4, ... and 2 more",
        f"  6 of 7 utterances with a transcript have them: {found.path}",
    ]
    assert (found.utterances, found.transcripts, found.everything) == (6, 7, False)
    assert len(rows) == 6
    assert rows[0] == {
        "place": "train.csv:2",
        "utterance_id": "id2",
        "characters": "5 ü",
        "code_points": "U+0035 U+00FC",
        "transcript": "für 5",
    }
    assert rows[5]["place"] == "train.csv:9" and rows[5]["transcript"] == "über"


def test_the_message_names_only_the_most_frequent_characters(tmp_path: Path) -> None:
    found, rows = reported(tmp_path, corpus("абвгдежзийклмн", "б"))
    assert found is not None and found.everything and len(rows) == 2
    lines = found.text().splitlines()
    assert len(lines) == 12 and lines[0].startswith("  б") and "and 4 characters more" in lines[10]


def test_one_utterance_is_singular_and_arabic_is_isolated(tmp_path: Path) -> None:
    found, rows = reported(tmp_path, [Placed("هه", "aب")])
    assert found is not None
    assert found.characters[0].line() == (
        "\u2068ب\u2069 (U+0628, ARABIC LETTER BEH): 1 utterance: \u2068هه\u2069"
    )
    assert list(rows[0].values()) == ["", "هه", "ب", "U+0628", "aب"]


def test_composed_letters_of_the_alphabet_are_known(tmp_path: Path) -> None:
    assert reported(tmp_path, corpus("e\u0301", None), Alphabet(("é",))) == (None, [])


def test_names_outside_utf_8_are_written(tmp_path: Path) -> None:
    found, rows = reported(tmp_path, [Placed("a\udcff", "ü \ud800", "b\udcfe.csv:2")])
    assert found is not None and "b\udcfe.csv:2" in found.text()
    assert rows[0]["utterance_id"] == "a\\udcff" and rows[0]["place"] == "b\\udcfe.csv:2"
    path = tmp_path / "alphabet.txt"
    write_alphabet(str(path), "ab", ["from b\udcfe.csv"])
    assert read_alphabet(str(path)) == Alphabet(("a", "b"))


def test_a_file_that_can_not_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "unknown.csv").mkdir()
    with pytest.raises(UserError, match=r"unknown\.csv can't be written: Is a directory"):
        report_unknown(corpus("ü"), ENGLISH, str(tmp_path / "unknown.csv"))
    assert os.listdir(tmp_path) == ["unknown.csv"]


def test_a_large_corpus_of_another_script_takes_little_time_space_and_memory(
    tmp_path: Path,
) -> None:
    def many(number: int) -> Iterator[Placed]:
        for i in range(number):
            yield Placed(f"id{i}", "съешь же ещё этих мягких французских булок", f"ru.csv:{i}")

    path = tmp_path / "unknown.csv"
    begin = time.process_time()
    found = report_unknown(many(30_000), ENGLISH, str(path))
    assert time.process_time() - begin < 5
    assert found is not None and found.everything and found.utterances == 30_000
    assert path.stat().st_size < 30_000 * 400
    peaks = []
    for number in (2000, 8000):
        tracemalloc.start()
        report_unknown(many(number), ENGLISH, str(path))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]
