"""The scorer file comes back as it was packed, and damage to it is reported."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from arpa_models import write_lines
from full_disk import full_disk
from scorers import Parts, pack_unigrams

from speech.decoding import ngrams, scorer, tries
from speech.decoding.scorer import (
    CHECKSUM,
    HEADER,
    LETTERS,
    MAGIC,
    Scorer,
    read_matching_scorer,
    read_scorer,
    write_scorer,
    write_weights,
)
from utils import ENGLISH, UTF_8, Alphabet, UserError

START = len(MAGIC) + HEADER.size
ARPA = r"""\data\
ngram 1=7
ngram 2=3

\1-grams:
-2	<unk>
-99	<s>	-0.3
-1	</s>
-0.7	cab	-0.2
-0.9	abc	-0.1
-1.1	<space>	-0.4
-1.2	b

\2-grams:
-0.3	<s> cab
-0.4	cab abc
-0.5	cab </s>

\end\
"""
WORDS = ["abc", "cab", "ab", "bad"]  # the last two aren't in the model


@pytest.fixture
def arpa(tmp_path: Path) -> str:
    return write_lines(tmp_path / "lm.arpa", ARPA.splitlines())


@pytest.fixture
def packed(arpa: str, tmp_path: Path) -> Path:
    path = tmp_path / "packed" / "kenlm.scorer"
    path.parent.mkdir()
    write_scorer(str(path), arpa, WORDS, ENGLISH, 0.75, 1.5, characters=False)
    return path


def numbers(found: Scorer) -> dict[str, int]:
    """The words of the vocabulary, and what the language model calls them."""
    ends = np.flatnonzero(found.letters["word"] != tries.NONE).astype(np.int32)
    labels, lengths = tries.sequences_of(found.letters, ends)
    rows = zip(labels.tolist(), lengths.tolist(), ends, strict=True)
    return {
        found.alphabet.decode(row[:length]): int(found.letters["word"][end])
        for row, length, end in rows
    }


def rewritten(path: Path, **changes: object) -> Path:
    """The file with something else in its JSON, as long as before."""
    content = path.read_bytes()
    length = HEADER.unpack(content[len(MAGIC) : START])[1]
    fields = json.loads(content[START : START + length]) | changes
    text = json.dumps(fields, separators=(",", ":")).encode().ljust(length)
    assert len(text) == length
    path.write_bytes(content[:START] + text + content[START + length :])
    return path


def test_what_was_packed_comes_back(packed: Path, arpa: str) -> None:
    found = read_scorer(str(packed))
    assert found.path == str(packed) and found.alphabet == ENGLISH
    assert (found.alpha, found.beta) == (0.75, 1.5)
    assert not found.characters and found.order == 2 and found.words == 4
    model, _, words = ngrams.read_arpa(arpa)
    assert found.ngrams.tobytes() == model.tobytes() and found.ngrams.dtype == ngrams.DTYPE
    named = [words[number] for number in (found.begin, found.end, found.unknown)]
    assert named == ["<s>", "</s>", "<unk>"]
    assert found.letters.dtype == LETTERS and not found.letters["boost"].any()
    # Words that the model hasn't are unknown to it, and in the vocabulary all the same.
    unknown = words.index("<unk>")
    known = {"abc": words.index("abc"), "cab": words.index("cab")}
    assert numbers(found) == {**known, "ab": unknown, "bad": unknown}
    assert os.listdir(packed.parent) == ["kenlm.scorer"]


def test_the_same_is_packed_to_the_same_bytes(packed: Path, arpa: str, tmp_path: Path) -> None:
    other = tmp_path / "other.scorer"
    write_scorer(str(other), arpa, WORDS, ENGLISH, 0.75, 1.5, characters=False)
    assert other.read_bytes() == packed.read_bytes()


def test_characters_are_words_and_the_space_is_one_of_them(arpa: str, tmp_path: Path) -> None:
    path = str(tmp_path / "characters.scorer")
    write_scorer(path, arpa, ["b", " ", "c"], ENGLISH, 1, 0, characters=True)
    found = read_scorer(path)
    words = ngrams.read_arpa(arpa)[2]
    assert found.characters
    assert numbers(found) == {
        "b": words.index("b"),
        " ": words.index("<space>"),
        "c": words.index("<unk>"),
    }


def test_an_alphabet_without_a_space_is_of_characters_alone(arpa: str, tmp_path: Path) -> None:
    path, alphabet = str(tmp_path / "a.scorer"), Alphabet(("b", "\u5b57"))
    with pytest.raises(UserError, match=r"no space.*--characters"):
        write_scorer(path, arpa, ["b"], alphabet, 1, 0, characters=False)
    write_scorer(path, arpa, ["b", "\u5b57"], alphabet, 1, 0, characters=True)
    assert numbers(read_scorer(path)).keys() == {"b", "\u5b57"}


def test_a_word_that_the_alphabet_has_not_is_refused(arpa: str, tmp_path: Path) -> None:
    path = tmp_path / "a.scorer"
    with pytest.raises(UserError, match=r"'\u00e9'.*not in the alphabet"):
        write_scorer(str(path), arpa, ["caf\u00e9"], ENGLISH, 1, 0, characters=False)
    assert not path.exists()


def test_the_arrays_can_not_be_written(packed: Path) -> None:
    found = read_scorer(str(packed))
    for array in (found.letters, found.ngrams):
        assert not array.flags.writeable
        with pytest.raises(ValueError, match="read-only"):
            array["label"][1] = 5


def test_file_may_be_overwritten_in_place_while_it_is_used(packed: Path, arpa: str) -> None:
    found = read_scorer(str(packed))
    for array in (found.letters, found.ngrams):  # else what follows would kill the tests
        assert not isinstance(array.base, np.memmap)
    with open(packed, "r+b") as file:
        file.truncate()
    assert found.ngrams.tobytes() == ngrams.read_arpa(arpa)[0].tobytes()
    assert found.words == 4


# --- What is no scorer ----------------------------------------------------------------------------


def test_a_scorer_cut_off_anywhere_is_reported(packed: Path) -> None:
    whole = packed.read_bytes()
    sizes = [*range(len(MAGIC), len(whole), 13), len(whole) - 1]
    for size in sizes:
        packed.write_bytes(whole[:size])
        with pytest.raises(UserError, match=f"{packed} is cut off: copy it again"):
            read_scorer(str(packed))
    for size in range(len(MAGIC)):
        packed.write_bytes(whole[:size])
        with pytest.raises(UserError, match=f"{packed} is no scorer: make one with build_lm.py"):
            read_scorer(str(packed))


@pytest.mark.parametrize("content", [b"", ARPA.encode() * 9], ids=["empty", "ARPA"])
def test_a_file_that_is_no_scorer_is_reported(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.scorer"
    path.write_bytes(content)
    for use in (read_scorer, lambda path: write_weights(path, 1, 1)):
        with pytest.raises(UserError, match=f"{path} is no scorer: make one with build_lm.py"):
            use(str(path))
    assert path.read_bytes() == content


def test_an_unreadable_path_is_reported(tmp_path: Path) -> None:
    for path, message in (
        (str(tmp_path), "Is a directory"),
        (str(tmp_path / "nowhere"), "No such file"),
        ("gs://bucket/kenlm.scorer", "copy it to this machine"),
    ):
        with pytest.raises(UserError, match=message) as error:
            read_scorer(path)
        assert path in str(error.value)


@pytest.mark.parametrize("version", [0, 2, 2**40])
def test_another_version_is_reported(packed: Path, version: int) -> None:
    content = bytearray(packed.read_bytes())
    content[len(MAGIC) : len(MAGIC) + 8] = version.to_bytes(8, "little")
    packed.write_bytes(content)
    with pytest.raises(UserError, match=f"has version {version}.*only version 1 can") as error:
        read_scorer(str(packed))
    assert str(packed) in str(error.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"nodes": [1]},
        {"nodes": [-5, 9]},
        {"nodes": None},
        {"nodes": "9"},
        {"alphabet": ["ab"]},
        {"alphabet": 0},
    ],
    ids=str,
)
def test_a_damaged_head_is_reported(packed: Path, changes: dict[str, object]) -> None:
    with pytest.raises(UserError, match=f"{packed} is damaged.*make it again"):
        read_scorer(str(rewritten(packed, **changes)))


@pytest.mark.parametrize(
    ("length", "message"), [(-1, "is damaged"), (5, "is damaged"), (2**62, "is cut off")]
)
def test_a_damaged_length_is_reported(packed: Path, length: int, message: str) -> None:
    content = bytearray(packed.read_bytes())
    content[len(MAGIC) + 8 : len(MAGIC) + 16] = length.to_bytes(8, "little", signed=True)
    packed.write_bytes(content)
    with pytest.raises(UserError, match=f"{packed} {message}"):
        read_scorer(str(packed))


# --- Alphabets ------------------------------------------------------------------------------------


def test_a_scorer_of_bytes_comes_back_and_fits_no_other_model(arpa: str, tmp_path: Path) -> None:
    path = str(tmp_path / "bytes.scorer")
    write_scorer(path, arpa, ["b", " ", "字"], UTF_8, 1, 0, characters=True)
    found = read_scorer(path)
    assert found.alphabet == UTF_8 and found.words == 3
    scorer.check_alphabet(found, UTF_8, "model")
    with pytest.raises(UserError, match=r"with 'utf-8 \(bytes\)' instead of 'ab'"):
        scorer.check_alphabet(found, Alphabet(("a", "b")), "model")


def test_another_alphabet_is_reported_with_the_difference(packed: Path) -> None:
    found = read_scorer(str(packed))
    scorer.check_alphabet(found, Alphabet(ENGLISH.characters), "model")
    for characters, message in (
        (reversed(ENGLISH.characters), "the same characters in another order"),
        (ENGLISH.characters[:-1], r"with \[\"'\"\] more than the model's 27"),
        ((*ENGLISH.characters, "\u00e9"), "with \\['\u00e9'\\] less than the model's 29"),
        (
            (*ENGLISH.characters[1:], "\u00e9"),
            "with \\['a'\\] more and \\['\u00e9'\\] less than the model's 28",
        ),
    ):
        with pytest.raises(UserError, match=f"{message}.*build_lm.py --alphabet") as error:
            scorer.check_alphabet(found, Alphabet(tuple(characters)), "the/model")
        assert str(packed) in str(error.value) and "the/model" in str(error.value)


# --- Weights --------------------------------------------------------------------------------------


def test_other_weights_leave_all_else_as_it_is(packed: Path) -> None:
    before, found = packed.read_bytes(), read_scorer(str(packed))
    write_weights(str(packed), 2.25, -0.5)
    again = read_scorer(str(packed))
    assert (again.alpha, again.beta) == (2.25, -0.5)
    assert again.ngrams.tobytes() == found.ngrams.tobytes()
    after = packed.read_bytes()
    assert len(after) == len(before) and after[START:] == before[START:]
    assert os.listdir(packed.parent) == ["kenlm.scorer"]
    write_weights(str(packed), 0.75, 1.5)
    assert packed.read_bytes() == before


def test_other_weights_are_a_new_file_so_that_readers_keep_the_old_one(packed: Path) -> None:
    link = packed.parent / "link"
    link.symlink_to(packed)
    packed.chmod(0o640)
    before = packed.read_bytes()
    with open(packed, "rb") as old:
        write_weights(str(link), 2.25, -0.5)
        assert old.read() == before  # a new file took its name
    assert link.is_symlink() and packed.stat().st_mode & 0o777 == 0o640
    assert read_scorer(str(packed)).alpha == read_scorer(str(link)).alpha == 2.25


def test_an_older_file_without_a_checksum_of_its_head_is_read(packed: Path) -> None:
    content = packed.read_bytes()
    packed.write_bytes(content[: START - CHECKSUM.size] + bytes(CHECKSUM.size) + content[START:])
    assert read_scorer(str(packed)).alpha == 0.75
    write_weights(str(packed), 0.75, 1.5)
    assert packed.read_bytes() == content  # its checksum comes with the new weights


@pytest.mark.parametrize(
    ("alpha", "beta"), [(-0.5, 1), (float("nan"), 1), (1, float("inf")), (101, 0), (1, -101)]
)
def test_weights_that_can_not_be_are_refused(
    packed: Path, arpa: str, alpha: float, beta: float
) -> None:
    before = packed.read_bytes()
    message = f"alpha is {alpha} and beta {beta}: give an alpha from 0 to 100, and a beta from -100"
    with pytest.raises(UserError, match=message):
        write_weights(str(packed), alpha, beta)
    with pytest.raises(UserError, match=message):
        write_scorer(str(packed), arpa, WORDS, ENGLISH, alpha, beta, characters=False)
    assert packed.read_bytes() == before


def test_weights_that_can_not_be_written_are_reported(packed: Path) -> None:
    before = packed.read_bytes()
    with (
        full_disk(0),
        pytest.raises(UserError, match=f"{packed} can't be written: File too large"),
    ):
        write_weights(str(packed), 1, 1)
    assert packed.read_bytes() == before


# --- Where it can't be written --------------------------------------------------------------------


@pytest.mark.parametrize("free_bytes", [0, 200, 600])
def test_a_full_disk_is_reported_and_the_old_scorer_stays(
    packed: Path, arpa: str, free_bytes: int
) -> None:
    before = packed.read_bytes()
    assert len(before) > 600
    with (
        full_disk(free_bytes),
        pytest.raises(UserError, match=f"{packed} can't be written: File too large"),
    ):
        write_scorer(str(packed), arpa, WORDS, ENGLISH, 1, 1, characters=False)
    assert packed.read_bytes() == before
    assert os.listdir(packed.parent) == ["kenlm.scorer"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("lm.arpa/a.scorer", "Not a directory"),
        ("nowhere/a.scorer", "No such file or directory"),
        ("packed", "Is a directory"),
    ],
)
def test_a_path_that_can_not_be_written_is_reported(
    packed: Path, arpa: str, tmp_path: Path, name: str, message: str
) -> None:
    path = f"{tmp_path}/{name}"
    with pytest.raises(UserError, match=f"{path} can't be written: {message}"):
        write_scorer(path, arpa, WORDS, ENGLISH, 1, 1, characters=False)
    assert sorted(os.listdir(tmp_path)) == ["lm.arpa", "packed"]
    assert os.listdir(packed.parent) == ["kenlm.scorer"]


def test_damage_anywhere_is_reported(packed: Path) -> None:
    content = packed.read_bytes()
    for position in (*range(START + 9), len(content) // 2, len(content) - 1):
        packed.write_bytes(
            content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :]
        )
        with pytest.raises(UserError, match=r"damaged|no scorer|cut off|has version"):
            read_scorer(str(packed))


# --- What has a right checksum and wrong numbers --------------------------------------------------


@pytest.mark.parametrize(
    ("array", "field", "place", "value", "message"),
    [
        ("letters", "first_child", 0, 0, "begin and end where its nodes do"),
        ("letters", "first_child", 0, 2**31 - 1, "begin and end where its nodes do"),
        ("letters", "first_child", -1, 10**9, "begin and end where its nodes do"),
        ("letters", "first_child", 2, 10**9, "aren't after their parents"),
        ("letters", "first_child", 2, -5, "aren't after their parents"),
        ("letters", "first_child", 3, 3, "aren't after their parents"),  # its own child
        ("letters", "label", 2, -1, "labels that are not below 28"),
        ("letters", "label", 2, 28, "labels that are not below 28"),  # the blank
        ("letters", "word", 5, 7, "whose numbers are not below 7"),
        ("letters", "word", 5, -2, "whose numbers are not below 7"),
        ("letters", "word", 0, 0, "words outside its nodes"),
        ("letters", "word", -1, 0, "words outside its nodes"),
        ("letters", "boost", 5, np.nan, "has hot words"),
        ("model", "first_child", 1, 10**9, "aren't after their parents|not below"),
        ("model", "first_child", 4, 0, "aren't after their parents"),
        ("model", "label", -2, 7, "labels that are not below 7"),
        ("model", "label", 1, 3, "numbers aren't those of their unigrams"),
        ("model", "log_prob", 2, np.nan, "a word has no probability"),
        ("model", "log_prob", -2, 0.5, "log-probability can't be one"),
        ("model", "log_prob", -2, -np.inf, "log-probability can't be one"),
        ("model", "back_off", 3, np.nan, "back-off weight can't be one"),
        ("model", "back_off", 3, np.inf, "back-off weight can't be one"),
    ],
)
def test_indices_out_of_the_arrays_are_reported(
    packed: Path, array: str, field: str, place: int, value: float, message: str
) -> None:
    parts = Parts.of(packed.read_bytes())
    assert parts.packed() == packed.read_bytes()
    getattr(parts, array)[field][place] = value
    packed.write_bytes(parts.packed())
    with pytest.raises(UserError, match=f"{packed} is damaged .*({message})"):
        read_scorer(str(packed))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"begin": 7}, "not below 7"),
        ({"end": -1}, "end -1 is no whole number"),
        ({"unknown": 2**40}, "not below 7"),
        ({"order": 0}, "its order is 0"),
        ({"order": 1}, "more words than the order, 1"),
        ({"order": 2**40}, "its order is 1099511627776"),
        ({"order": True}, "order True is no whole number"),
        ({"characters": 0}, "characters 0 is not of the type"),
        ({"alphabet": ["a", "b"]}, "its alphabet has no space"),
        ({"alphabet": [" ", "b"]}, "labels that are not below 2"),
        ({"nodes": [0, 0]}, "checksum|nodes do"),
    ],
    ids=str,
)
def test_impossible_settings_are_reported(
    packed: Path, changes: dict[str, object], message: str
) -> None:
    parts = Parts.of(packed.read_bytes())
    parts.content.update(changes)
    packed.write_bytes(parts.packed())
    with pytest.raises(UserError, match=f"{packed} is damaged .*({message})"):
        read_scorer(str(packed))


@pytest.mark.parametrize(("place", "weight"), [(2, np.nan), (2, -1.0), (3, 1e300), (3, -np.inf)])
def test_impossible_weights_are_reported(packed: Path, place: int, weight: float) -> None:
    parts = Parts.of(packed.read_bytes())
    parts.head[place] = weight
    packed.write_bytes(parts.packed())
    with pytest.raises(UserError, match=f"{packed} is damaged .its alpha is"):
        read_scorer(str(packed))


def test_scorer_of_another_alphabet_is_refused(tmp_path: Path) -> None:
    path = pack_unigrams(tmp_path, {"a": -1})
    found = read_matching_scorer(path, ENGLISH, "the/model")
    assert found is not None and found.path == path
    assert read_matching_scorer(None, ENGLISH, "the/model") is None
    assert read_matching_scorer("", ENGLISH, "the/model") is None
    with pytest.raises(UserError, match="another alphabet than the model in the/model"):
        read_matching_scorer(path, Alphabet(("a", " ")), "the/model")
    with pytest.raises(UserError, match="nowhere can't be read: No such file"):
        read_matching_scorer(str(tmp_path / "nowhere"), ENGLISH, "the/model")
