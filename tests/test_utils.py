"""Lines and numbers of text; the alphabet's labels, file, JSON, and errors."""

import json
import pickle
import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from utils import (
    ENGLISH,
    REPLACEMENT,
    UTF_8,
    Alphabet,
    AlphabetError,
    UserError,
    Utf8Alphabet,
    in_western_digits,
    is_number,
    lines_of,
)

CHARACTERS = st.characters(exclude_categories=["Cs"]).filter(
    lambda character: unicodedata.normalize("NFC", character) == character
)
ALPHABETS = st.lists(CHARACTERS, min_size=1, max_size=50, unique=True).map(
    lambda characters: Alphabet(tuple(characters))
)


def alphabet_of(content: bytes) -> Alphabet:
    return Alphabet.from_bytes(content, "alphabet.txt")


# --- Text -----------------------------------------------------------------------------------------


@given(st.lists(st.text(st.characters(exclude_characters="\r\n"))), st.sampled_from(["\n", "\r\n"]))
def test_lines_end_only_at_line_ends(lines: list[str], end: str) -> None:
    assert lines_of("".join(f"{line}{end}" for line in lines)) == lines
    assert lines_of("\r".join([*lines, "last"])) == [*lines, "last"]


def test_other_separators_stay_in_their_line() -> None:
    assert lines_of("a\u2028b\u2029c\u0085d\ve\ff\x1cg\x1dh\x1ei\r\n\rj") == [
        "a\u2028b\u2029c\u0085d\ve\ff\x1cg\x1dh\x1ei",
        "",
        "j",
    ]
    assert lines_of("") == []


def test_numbers_have_western_digits() -> None:
    assert is_number("012") and in_western_digits("x٠१²3") == "x01²3"  # noqa: RUF001
    assert not any(map(is_number, ("", "١", "²", "-1", "1_0", " 1")))  # noqa: RUF001


# --- Labels ---------------------------------------------------------------------------------------


def test_english_has_29_classes_with_the_blank_last() -> None:
    assert ENGLISH.size == 29
    assert ENGLISH.blank == 28
    assert "".join(ENGLISH.characters) == "abcdefghijklmnopqrstuvwxyz '"
    assert ENGLISH.encode("az '") == [0, 25, 26, 27]


@given(st.text(ENGLISH.characters))
def test_english_text_round_trips(text: str) -> None:
    assert ENGLISH.decode(ENGLISH.encode(text)) == text


@given(st.data(), ALPHABETS)
def test_text_of_any_alphabet_round_trips_composed(data: st.DataObject, alphabet: Alphabet) -> None:
    text = data.draw(st.text(alphabet.characters))
    composed = unicodedata.normalize("NFC", text)
    # Neighbours may compose into a character that isn't in the alphabet.
    if set(composed) <= set(alphabet.characters):
        labels = alphabet.encode(text)
        assert alphabet.decode(labels) == composed
        assert all(0 <= label < alphabet.blank for label in labels)
    else:
        with pytest.raises(AlphabetError):
            alphabet.encode(text)


def test_blanks_are_dropped_and_repeats_kept() -> None:
    assert ENGLISH.decode([28, 0, 28, 0, 0, 28]) == "aaa"


def test_a_letter_typed_with_a_combining_accent_is_the_letter() -> None:
    alphabet = Alphabet(("e", "é"))
    assert alphabet.encode("e\u0301e") == alphabet.encode("ée") == [1, 0]


def test_an_unknown_character_is_named_with_position_and_utterance() -> None:
    with pytest.raises(AlphabetError) as error:
        ENGLISH.encode("naïve é", "84-121123-0003")
    for part in ("'ï'", "U+00EF", "LATIN SMALL LETTER I WITH DIAERESIS", "position 2"):
        assert part in str(error.value)
    assert "utterance 84-121123-0003" in str(error.value)


def test_an_unknown_character_without_a_name_is_named_by_its_number() -> None:
    with pytest.raises(AlphabetError, match=re.escape("U+0007, unnamed) at position 1")):
        ENGLISH.encode("a\a")


# --- Invalid alphabets ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("characters", "message"),
    [
        ((), "no characters"),
        (("a", "b", "a"), r"\['a'\] more than once"),
        (("a", "bc"), "'bc' is not one character"),
        (("a", ""), "'' is not one character"),
        (("a", 1), "1 is not one character"),
        (("\u212b",), "composed form"),  # the Angstrom sign, which NFC replaces
    ],
)
def test_invalid_alphabet_is_refused(characters: tuple[str, ...], message: str) -> None:
    with pytest.raises(AlphabetError, match=message):
        Alphabet(characters)


def test_letters_that_nfc_splits_are_labels_and_are_written_in_nfc() -> None:
    """U+0958 is U+0915 and U+093C in NFC: Hindi, Bengali and Punjabi have such letters."""
    alphabet = Alphabet.from_bytes(" \n\u0915\n\u0958\n\u095c\n\u093e\n".encode(), "hi.txt")
    assert alphabet.characters == (" ", "\u0915", "\u0958", "\u095c", "\u093e")
    for written in ("\u0958\u093e \u0915", "\u0915\u093c\u093e \u0915"):
        assert alphabet.encode(written) == [2, 4, 0, 1]
    assert alphabet.decode([2, 4, 0, 1]) == "\u0915\u093c\u093e \u0915"
    assert alphabet.missing("\u095c \u095b") == ["\u091c", "\u093c"]


def test_missing_characters_are_composed_and_named_once() -> None:
    assert Alphabet(("e", "é")).missing("e\u0301e xx") == [" ", "x"]
    assert Alphabet(("e",)).missing("e\u0301") == ["é"]


# --- Bytes ----------------------------------------------------------------------------------------


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_text_round_trips_through_its_bytes_composed(text: str) -> None:
    labels = UTF_8.encode(text)
    composed = unicodedata.normalize("NFC", text)
    assert bytes(labels) == composed.encode()
    assert UTF_8.decode(labels) == composed
    assert UTF_8.missing(text) == []
    without = composed.replace(REPLACEMENT, "")
    assert [label for c in composed for label in UTF_8.labels_of(c)] == list(without.encode())


def test_bytes_have_257_classes_with_the_blank_last() -> None:
    assert (UTF_8.size, UTF_8.blank) == (257, 256)
    assert UTF_8.encode("a 你") == [0x61, 0x20, 0xE4, 0xBD, 0xA0]
    assert UTF_8.decode([256, 0x61, 256, 0x61]) == "aa"
    assert [UTF_8.characters[each] for each in (0x20, 0x61, 0x80, 0xE4)] == [" ", "a", "80", "E4"]


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        ([0x61, 0xE4, 0xBD, 0x62], "a\ufffdb"),  # a character cut short is one
        ([0x61, 0x80, 0x80], "a\ufffd\ufffd"),
        ([0xE4, 0xBD], "\ufffd"),
        ([0xC3, 0xC3, 0xA9], "\ufffdé"),
        ([0xED, 0xA0, 0x80, 0xFF], "\ufffd" * 4),
    ],
)
def test_bytes_that_are_no_character_are_replaced_visibly(labels: list[int], text: str) -> None:
    assert UTF_8.decode(labels) == text


@given(st.lists(st.integers(0, 256)))
def test_any_labels_can_be_decoded(labels: list[int]) -> None:
    assert len(UTF_8.decode(labels)) <= len(labels)


def test_half_a_surrogate_pair_is_named() -> None:
    with pytest.raises(AlphabetError, match=r"U\+D800 at position 1 .* of utterance 1-2"):
        UTF_8.encode("a\ud800", "1-2")
    assert UTF_8.missing("a\ud800") == ["\ud800"]


def test_alphabet_of_bytes_round_trips_through_json() -> None:
    assert UTF_8.to_json() == "utf-8"
    for content in ("utf-8", '"utf-8"'):
        assert Alphabet.from_json(content) == UTF_8
    assert UTF_8 == Utf8Alphabet() != ENGLISH
    assert pickle.loads(pickle.dumps(UTF_8)) == UTF_8


# --- JSON -----------------------------------------------------------------------------------------


@given(ALPHABETS)
def test_json_round_trips_as_list_and_as_text(alphabet: Alphabet) -> None:
    assert Alphabet.from_json(alphabet.to_json()) == alphabet
    assert Alphabet.from_json(json.dumps(alphabet.to_json())) == alphabet


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[", "can't be read"),
        ("", "can't be read"),
        ("3", "is a list of characters, not 3"),
        ('{"a": 0}', "is a list of characters"),
        ('"abc"', "is a list of characters, not 'abc', or \"utf-8\""),
        (None, "is a list of characters, not None"),
        (["a", 1], "1 is not one character"),
        ('["a", "a"]', "more than once"),
        ([], "no characters"),
    ],
)
def test_json_that_is_no_alphabet_is_refused(content: object, message: str) -> None:
    with pytest.raises(AlphabetError, match=message):
        Alphabet.from_json(content)


# --- Files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "characters"),
    [
        (b"a\nb\n", "ab"),
        (b"a\nb", "ab"),
        (b"b\na\n", "ba"),
        (b"\xef\xbb\xbfa\nb\n", "ab"),
        (b"a\r\n \r\nb\r\n", "a b"),
        (b"# English\na\n#b\n# \nc\n", "ac"),
        (b"a\n\\#\n\\\n", "a#\\"),
        (b"\n\na\n\n\nb\n\n", "ab"),
        (b"a\n \n'\n", "a '"),
        ("\u0435\u0308\nж\n".encode(), "ёж"),
    ],
    ids=[
        "one a line",
        "no newline at the end",
        "order is kept",
        "byte order mark",
        "Windows line ends",
        "comments",
        "escaped number sign",
        "empty lines",
        "a line with a space",
        "composed",
    ],
)
def test_a_file_holds_one_character_a_line(content: bytes, characters: str) -> None:
    assert alphabet_of(content).characters == tuple(characters)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a\nb\na\n", r"alphabet\.txt: .*\['a'\] more than once"),
        ("é\ne\u0301\n".encode(), r"alphabet\.txt: .*\['é'\] more than once"),
        (b"# two\n\nab\n", r"alphabet\.txt, line 3: 'ab' is not one character"),
        (b"a\nb \n", r"alphabet\.txt, line 2: 'b ' is not one character"),
        ("ä\n".encode("latin-1"), r"alphabet\.txt is not UTF-8"),
        (b"", r"alphabet\.txt: .*no characters"),
        (b"# nothing\n", r"alphabet\.txt: .*no characters"),
    ],
)
def test_a_bad_file_is_named(content: bytes, message: str) -> None:
    with pytest.raises(UserError, match=message):
        alphabet_of(content)
