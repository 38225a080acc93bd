"""A beam search fed in pieces, in a tree too small for it, against the search of the whole."""

from unittest import mock

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_scorer import write_tiny_scorer

from speech.decoding import beam_search
from speech.decoding.beam_search import BeamSearchDecoder, BeamSettings, HotWords
from speech.decoding.scorer import Scorer, read_scorer
from utils import Alphabet, UserError

Array = npt.NDArray[np.float32]

LETTERS = Alphabet(("a", "b", " "))
WORDS = {"a": -0.7, "ab": -1.5, "ba": -2.0, "bab": -3.0}


@pytest.fixture(scope="module")
def scorers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Scorer | None]:
    folder = tmp_path_factory.mktemp("scorers")
    words = write_tiny_scorer(folder / "words", WORDS, 0.8, 1.1, LETTERS)
    characters = write_tiny_scorer(
        folder / "characters", {"a": -0.7, "b": -1.1}, 0.6, 0.3, LETTERS, characters=True
    )
    return {"none": None, "words": read_scorer(words), "characters": read_scorer(characters)}


def random_log_probs(outputs: int, scale: float, seed: int) -> Array:
    logits = np.random.default_rng(seed).normal(size=(outputs, LETTERS.size)) * scale
    return np.asarray(logits - np.log(np.exp(logits).sum(1, keepdims=True)), np.float32)


@settings(max_examples=150, deadline=None)
@given(
    scorer=st.sampled_from(["none", "words", "characters"]),
    room=st.integers(1, 5),
    width=st.sampled_from([1, 2, 7, 30]),
    cuts=st.lists(st.integers(0, 60), max_size=6),
    scale=st.floats(0, 4),
    seed=st.integers(0, 2**32 - 1),
    hot=st.sampled_from([(), (("ba", 3.0),)]),
)
def test_pieces_give_exactly_what_the_whole_does(
    scorers: dict[str, Scorer | None],
    scorer: str,
    room: int,
    width: int,
    cuts: list[int],
    scale: float,
    seed: int,
    hot: HotWords,
) -> None:
    asked = BeamSettings(width, hot_words=() if scorer == "characters" else hot)
    search = BeamSearchDecoder(LETTERS, asked, scorers[scorer])
    log_probs = random_log_probs(60, scale, seed)
    with mock.patch.object(beam_search, "ROOM_OUTPUTS", room):
        stream = search.stream()
        begin = 0
        for end in [*sorted(cuts), 60]:
            stream.advance(log_probs[begin:end])
            assert stream.n_best(50) == search.n_best(log_probs[:end], 50)
            begin = end


def test_memory_stays_that_of_the_beam_while_an_utterance_continues() -> None:
    stream = BeamSearchDecoder(LETTERS, BeamSettings(20)).stream()
    unsure = np.log(np.array([[0.03, 0.03, 0.03, 0.91]] * 1000, np.float32))
    largest = 0
    for _ in range(20):
        stream.advance(unsure)
        largest = max(largest, len(stream._search.tree))
    room = 20 * beam_search.ROOM_OUTPUTS
    assert room < largest < 1.1 * room  # and not 20 for each of 20000 outputs


def test_no_outputs_yet_give_the_empty_text(scorers: dict[str, Scorer | None]) -> None:
    search = BeamSearchDecoder(LETTERS, BeamSettings(20), scorers["words"])
    stream = search.stream()
    stream.advance(np.zeros((0, LETTERS.size), np.float32))
    assert stream.n_best(3) == search.n_best(np.zeros((0, LETTERS.size), np.float32), 3)
    assert stream.n_best(3)[0].text == ""


def test_streams_of_one_decoder_know_nothing_of_each_other() -> None:
    search = BeamSearchDecoder(LETTERS)
    first, second = search.stream(), search.stream()
    sounds = [random_log_probs(40, 2.0, seed) for seed in (1, 2)]
    for at in range(0, 40, 5):
        first.advance(sounds[0][at : at + 5])
        second.advance(sounds[1][at : at + 5])
    assert first.n_best(5) == search.n_best(sounds[0], 5)
    assert second.n_best(5) == search.n_best(sounds[1], 5)


def test_frames_that_are_no_probabilities_are_refused() -> None:
    stream = BeamSearchDecoder(LETTERS).stream()
    with pytest.raises(UserError, match="don't sum to 1"):
        stream.advance(np.zeros((2, LETTERS.size), np.float32))
