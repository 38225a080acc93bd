"""When each word was said, against alignments by hand and by trying all paths."""

import itertools

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speech.word_times import TimedWord, character_frames, letter_frames, word_times
from utils import ENGLISH, UTF_8, Alphabet, UserError

Array = npt.NDArray[np.float32]

AB = Alphabet(("a", "b", " "))


def log_probs(path: str, alphabet: Alphabet) -> Array:
    """[frames, labels] whose best path is `path`, `_` for the blank."""
    labels = [alphabet.blank if c == "_" else alphabet.characters.index(c) for c in path]
    probabilities = np.full((len(path), alphabet.size), 0.01, np.float32)
    probabilities[np.arange(len(path)), labels] = 1 - 0.01 * alphabet.blank
    return np.log(probabilities)


def test_word_lasts_from_its_first_letter_to_the_end_of_its_last() -> None:
    frames = log_probs("__hh_ii__ __m_eee_", ENGLISH)
    assert word_times(frames, "hi me", ENGLISH) == [
        TimedWord("hi", 2.0, 5.0),
        TimedWord("me", 12.0, 5.0),
    ]


def test_times_are_in_seconds_if_a_frame_has_a_length() -> None:
    (word,) = word_times(log_probs("_aab_", ENGLISH), "ab", ENGLISH, 0.02)
    assert word.start == pytest.approx(0.02) and word.duration == pytest.approx(0.06)


def test_spaces_at_the_ends_and_between_make_no_words() -> None:
    frames = log_probs(" a_  _b ", AB)
    assert [each.text for each in word_times(frames, " a  b ", AB)] == ["a", "b"]


def test_without_a_space_each_character_is_a_word() -> None:
    alphabet = Alphabet(("你", "好"))
    frames = log_probs("_你好好", alphabet)
    assert word_times(frames, "你好", alphabet) == [
        TimedWord("你", 1.0, 1.0),
        TimedWord("好", 2.0, 2.0),
    ]


def byte_log_probs(*labels: int) -> Array:
    """[frames, 257] whose best path these labels are."""
    probabilities = np.full((len(labels), UTF_8.size), 1e-4, np.float32)
    probabilities[np.arange(len(labels)), labels] = 1 - 1e-4 * UTF_8.blank
    return np.log(probabilities)


def test_characters_of_several_bytes_last_from_the_first_to_the_last() -> None:
    frames = byte_log_probs(256, *"é".encode(), 256, *"ж".encode(), 0x20, 0x61, 0x61)
    assert word_times(frames, "éж a", UTF_8) == [
        TimedWord("éж", 1.0, 5.0),
        TimedWord("a", 7.0, 2.0),
    ]


def test_of_bytes_each_chinese_character_is_a_word() -> None:
    frames = byte_log_probs(0x61, *"你".encode(), 256, *"好".encode(), 0x20, 0x62)
    assert word_times(frames, "a你好 b", UTF_8) == [
        TimedWord("a", 0.0, 1.0),
        TimedWord("你", 1.0, 3.0),
        TimedWord("好", 5.0, 3.0),
        TimedWord("b", 9.0, 1.0),
    ]


def test_bytes_that_are_no_character_take_no_time() -> None:
    labels = [0x61, 0xE4, 0x61, 0x20, 0xE4, 0x20, 0x62]
    text = UTF_8.decode(labels)
    assert word_times(byte_log_probs(*labels), text, UTF_8) == [
        TimedWord("a\ufffda", 0.0, 3.0),
        TimedWord("\ufffd", 3.0, 0.0),
        TimedWord("b", 6.0, 1.0),
    ]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([0x20, 0x61, 0xC3, 0xA9, 0xE2, 256]), max_size=12))
def test_whatever_bytes_were_recognised_have_times(labels: list[int]) -> None:
    path = [each for each, _ in itertools.groupby(labels)]
    text = UTF_8.decode(path)
    found = word_times(byte_log_probs(*labels), text, UTF_8)
    assert [each.text for each in found] == text.split()
    starts = [each.start for each in found]
    assert starts == sorted(starts) and all(each.duration >= 0 for each in found)


def test_characters_that_the_alphabet_lacks_are_told() -> None:
    with pytest.raises(UserError, match=r"\['x'\], which the alphabet has not"):
        word_times(log_probs("ab", AB), "ax", AB)


def test_empty_text_has_no_words() -> None:
    assert word_times(log_probs("___", AB), "", AB) == []


@pytest.mark.parametrize(("path", "text"), [("ab", "aba"), ("aa", "aa"), ("", "a")])
def test_text_that_wants_more_frames_is_told(path: str, text: str) -> None:
    with pytest.raises(UserError, match="not said here"):
        word_times(log_probs(path, AB), text, AB)


@settings(max_examples=60, deadline=None)
@given(
    frames=st.integers(1, 6),
    labels=st.lists(st.integers(0, 2), min_size=1, max_size=3),
    seed=st.integers(0, 2**32 - 1),
)
def test_path_is_the_most_probable_of_all(frames: int, labels: list[int], seed: int) -> None:
    logits = np.random.default_rng(seed).normal(size=(frames, 4)) * 3
    outputs = np.asarray(logits - np.log(np.exp(logits).sum(1, keepdims=True)), np.float32)

    def score(path: tuple[int, ...]) -> float:
        return sum(float(outputs[t, label]) for t, label in enumerate(path))

    paths = [
        path
        for path in itertools.product(range(4), repeat=frames)
        if [each for each, _ in itertools.groupby(path) if each != 3] == labels
    ]
    if not paths:
        with pytest.raises(UserError):
            letter_frames(outputs, np.array(labels))
        return
    best = max(map(score, paths))
    found = letter_frames(outputs, np.array(labels))
    # The path that these frames say, with blanks everywhere else.
    path = np.full(frames, 3)
    for label, (first, last) in zip(labels, found, strict=True):
        path[first : last + 1] = label
    assert score(tuple(path)) == pytest.approx(best, rel=1e-5)


def test_characters_have_their_own_frames() -> None:
    frames = log_probs("_hh_i _m_ee", ENGLISH)
    assert character_frames(frames, "hi me", ENGLISH).tolist() == [
        [1, 3],
        [4, 5],
        [5, 6],
        [7, 8],
        [9, 11],
    ]
    assert character_frames(frames, "", ENGLISH).shape == (0, 2)
