"""Times of words, against alignments by hand and by trying all paths."""

import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speech.decoding.alignment import TimedWord, character_outputs, label_outputs, word_times
from utils import ENGLISH, UTF_8, Alphabet, UserError

Array = npt.NDArray[np.float32]

AB = Alphabet(("a", "b", " "))


def log_probs(path: str, alphabet: Alphabet) -> Array:
    """[outputs, classes] whose best path is `path`, `_` for the blank."""
    labels = [alphabet.blank if c == "_" else alphabet.characters.index(c) for c in path]
    probabilities = np.full((len(path), alphabet.size), 0.01, np.float32)
    probabilities[np.arange(len(path)), labels] = 1 - 0.01 * alphabet.blank
    return np.log(probabilities)


def test_word_lasts_from_its_first_letter_to_the_end_of_its_last() -> None:
    outputs = log_probs("__hh_ii__ __m_eee_", ENGLISH)
    assert word_times(outputs, "hi me", ENGLISH) == [
        TimedWord("hi", 2.0, 5.0),
        TimedWord("me", 12.0, 5.0),
    ]


def test_times_are_in_seconds_if_a_frame_has_a_length() -> None:
    (word,) = word_times(log_probs("_aab_", ENGLISH), "ab", ENGLISH, 0.02)
    assert word.start == pytest.approx(0.02) and word.duration == pytest.approx(0.06)


def test_spaces_at_the_ends_and_between_make_no_words() -> None:
    outputs = log_probs(" a_  _b ", AB)
    assert [each.text for each in word_times(outputs, " a  b ", AB)] == ["a", "b"]


def test_without_a_space_each_character_is_a_word() -> None:
    alphabet = Alphabet(("你", "好"))
    outputs = log_probs("_你好好", alphabet)
    assert word_times(outputs, "你好", alphabet) == [
        TimedWord("你", 1.0, 1.0),
        TimedWord("好", 2.0, 2.0),
    ]


def byte_log_probs(*labels: int) -> Array:
    """[outputs, 257] whose best path these labels are."""
    probabilities = np.full((len(labels), UTF_8.size), 1e-4, np.float32)
    probabilities[np.arange(len(labels)), labels] = 1 - 1e-4 * UTF_8.blank
    return np.log(probabilities)


def test_characters_of_several_bytes_last_from_the_first_to_the_last() -> None:
    outputs = byte_log_probs(256, *"é".encode(), 256, *"ж".encode(), 0x20, 0x61, 0x61)
    assert word_times(outputs, "éж a", UTF_8) == [
        TimedWord("éж", 1.0, 5.0),
        TimedWord("a", 7.0, 2.0),
    ]


def test_of_bytes_each_chinese_character_is_a_word() -> None:
    outputs = byte_log_probs(0x61, *"你".encode(), 256, *"好".encode(), 0x20, 0x62)
    assert word_times(outputs, "a你好 b", UTF_8) == [
        TimedWord("a", 0.0, 1.0),
        TimedWord("你", 1.0, 3.0),
        TimedWord("好", 5.0, 3.0),
        TimedWord("b", 9.0, 1.0),
    ]


def test_a_letter_that_nfc_splits_has_the_time_of_its_label() -> None:
    alphabet = Alphabet((" ", "\u0958", "\u0915"))
    outputs = log_probs("_\u0958\u0958_\u0915_ \u0958_", alphabet)
    text = alphabet.decode([1, 2, 0, 1])
    assert text == "\u0915\u093c\u0915 \u0915\u093c"
    assert word_times(outputs, text, alphabet) == [
        TimedWord("\u0915\u093c\u0915", 1.0, 4.0),
        TimedWord("\u0915\u093c", 7.0, 1.0),
    ]
    assert character_outputs(outputs, text, alphabet).tolist()[:3] == [[1, 3], [3, 3], [4, 5]]


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


def test_characters_outside_the_alphabet_are_named() -> None:
    with pytest.raises(UserError, match=r"\['x'\], which the alphabet doesn't have"):
        word_times(log_probs("ab", AB), "ax", AB)


def test_empty_text_has_no_words() -> None:
    assert word_times(log_probs("___", AB), "", AB) == []


@pytest.mark.parametrize(("path", "text"), [("ab", "aba"), ("aa", "aa"), ("", "a")])
def test_text_that_needs_more_outputs_is_refused(path: str, text: str) -> None:
    with pytest.raises(UserError, match="not spoken here"):
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
            label_outputs(outputs, np.array(labels))
        return
    best = max(map(score, paths))
    found = label_outputs(outputs, np.array(labels))
    # The path of these outputs, with blanks everywhere else.
    path = np.full(frames, 3)
    for label, (first, last) in zip(labels, found, strict=True):
        path[first : last + 1] = label
    assert score(tuple(path)) == pytest.approx(best, rel=1e-5)


def whole_table(outputs: Array, labels: npt.NDArray[np.int64]) -> list[list[int]]:
    """First and last output of each label, by a table of all outputs and states."""
    frames, blank, states = len(outputs), outputs.shape[1] - 1, 2 * len(labels) + 1
    of_state = [labels[state // 2] if state % 2 else blank for state in range(states)]
    best = np.full((frames, states), -np.inf)
    best[0, :2] = outputs[0, of_state[:2]]
    came = np.zeros((frames, states), int)
    for t, state in itertools.product(range(1, frames), range(states)):
        skips = state % 2 and state > 2 and of_state[state] != of_state[state - 2]
        before = [state - passed for passed in range(3 if skips else 2) if state >= passed]
        came[t, state] = max(before, key=lambda each: best[t - 1, each])
        best[t, state] = best[t - 1, came[t, state]] + outputs[t, of_state[state]]
    path = [states - 1 if best[-1, -1] > best[-1, -2] else states - 2]
    for t in range(frames - 1, 0, -1):
        path.append(came[t, path[-1]])
    here = [np.flatnonzero(np.array(path[::-1]) == 2 * i + 1) for i in range(len(labels))]
    return [[each[0], each[-1]] for each in here]


@pytest.mark.parametrize("frames", [1, 2, 7, 60, 200])
def test_outputs_are_those_of_the_whole_table(frames: int) -> None:
    rng = np.random.default_rng(frames)
    logits = rng.normal(size=(frames, 4)) * 2
    outputs = np.asarray(logits - np.log(np.exp(logits).sum(1, keepdims=True)), np.float32)
    labels = rng.integers(0, 3, (frames + 2) // 3)
    assert label_outputs(outputs, labels).tolist() == whole_table(outputs, labels)


def test_memory_of_a_long_text_is_a_small_part_of_the_whole_table() -> None:
    """In another process, whose peak memory nothing else has used."""
    program = """
import resource
import numpy as np
from speech.decoding.alignment import label_outputs

def largest():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # bytes, of Linux's KiB

def align(outputs, labels):
    return label_outputs(np.full((outputs, 4), np.log(0.25), np.float32), np.arange(labels) % 3)

align(20, 4)  # compiles
before = largest()
assert len(align(20000, 4000)) == 4000
print(largest() - before)
"""
    root = Path(__file__).parents[2]
    run = subprocess.run(
        [sys.executable, "-c", program], cwd=root, check=True, capture_output=True, text=True
    )
    assert int(run.stdout) < 20e6 < 20000 * 8001 / 5  # of a table of 160 MB


def test_characters_have_their_own_outputs() -> None:
    outputs = log_probs("_hh_i _m_ee", ENGLISH)
    assert character_outputs(outputs, "hi me", ENGLISH).tolist() == [
        [1, 3],
        [4, 5],
        [5, 6],
        [7, 8],
        [9, 11],
    ]
    assert character_outputs(outputs, "", ENGLISH).shape == (0, 2)
