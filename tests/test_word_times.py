"""When each word was said, against alignments by hand and by trying all paths."""

import itertools

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speech.word_times import TimedWord, letter_frames, word_times
from utils import ENGLISH, Alphabet, UserError

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
