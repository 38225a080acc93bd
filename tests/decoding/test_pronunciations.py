"""The search with a scorer of pronunciations, against all texts there are."""

import itertools
import lzma
import math
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speech.decoding import beam_search
from speech.decoding.alignment import first_outputs, hypothesis_times
from speech.decoding.beam_search import BeamSearchDecoder, BeamSettings, HotWords
from speech.decoding.scorer import (
    Scorer,
    check_alphabet,
    from_arpa,
    read_scorer,
    save_scorer,
    write_weights,
)
from speech.text.lexicon import SPACE, UNKNOWN, Lexicon
from tests.decoding.test_prefix_search import Array, gain, write_arpa
from utils import ENGLISH, Alphabet, UserError

PHONES = Alphabet((SPACE, "u", "w", UNKNOWN))
# Three words of one pronunciation, and a word of two pronunciations.
LEXICON = Lexicon(
    PHONES, {"to": ("u",), "two": ("u",), "too": ("u",), "woo": ("wu", "uw"), "silent": ("ww",)}
)
WORDS = ("to", "two", "too", "woo", "unpronounced")
MODEL: dict[tuple[str, ...], tuple[float, float]] = {
    ("<s>",): (-99, -0.4),
    ("</s>",): (-0.9, 0),
    ("<unk>",): (-1.7, 0),
    ("to",): (-0.6, -0.3),
    ("two",): (-1.0, -0.1),
    ("too",): (-1.2, -0.5),
    ("woo",): (-1.1, -0.2),
    ("unpronounced",): (-0.8, 0),
    ("<s>", "two"): (-0.2, -0.1),
    ("woo", "too"): (-0.3, 0),
    ("too", "</s>"): (-0.1, 0),
    ("<s>", "two", "woo"): (-0.05, 0),
}
LETTERS = 3  # classes before those of the phones


@pytest.fixture(scope="module")
def scorer(tmp_path_factory: pytest.TempPathFactory) -> Scorer:
    folder = tmp_path_factory.mktemp("spoken")
    path, arpa = str(folder / "scorer"), str(folder / "lm.arpa")
    write_arpa(Path(arpa), MODEL)
    save_scorer(from_arpa(path, arpa, WORDS, ENGLISH, 0.9, 1.2, False, LEXICON))
    return read_scorer(path)


def random_log_probs(frames: int, scale: float, seed: int) -> Array:
    """Of letters, then of phones."""
    drawn = np.random.default_rng(seed)
    parts = [drawn.normal(size=(frames, classes)) * scale for classes in (LETTERS, PHONES.size)]
    log_probs = [part - np.log(np.exp(part).sum(1, keepdims=True)) for part in parts]
    return np.concatenate(log_probs, axis=1).astype(np.float32)


def words_of(text: str) -> list[tuple[str, ...]]:
    """All sequences of words that are pronounced like this."""
    spoken = defaultdict(list)
    for word, pronunciations in LEXICON.pronunciations.items():
        for each in pronunciations:
            spoken[each].extend([word] * (word in WORDS))
    return list(itertools.product(*(spoken[each] for each in text.split(SPACE))))


def expected_scores(log_probs: Array, settings_: BeamSettings) -> dict[str, float]:
    """The score of every text: of all its pronunciations, over all paths."""
    spoken: dict[str, float] = defaultdict(float)
    for path in itertools.product(range(PHONES.size), repeat=len(log_probs)):
        text = PHONES.decode(label for label, _ in itertools.groupby(path))
        probability = sum(float(log_probs[t, LETTERS + label]) for t, label in enumerate(path))
        spoken[text] += math.exp(probability)
    found: dict[str, float] = defaultdict(float)
    for text, probability in spoken.items():
        if not text:
            found[""] += probability * math.exp(gain(MODEL, [], settings_, WORDS))
            continue
        ended = text.removesuffix(SPACE)
        gains = {
            SPACE.join(words): probability * math.exp(gain(MODEL, [*words], settings_, WORDS))
            for words in words_of(ended)
        }
        # Of the words that the last phones may be, the best one counts until they have ended.
        kept = gains
        if ended == text:
            kept = {}
            for before in {each.rpartition(SPACE)[0] for each in gains}:
                same = {each: gains[each] for each in gains if each.rpartition(SPACE)[0] == before}
                best = max(same, key=same.__getitem__)
                kept[best] = same[best]
        for each, score in kept.items():
            found[each] += score
    return {text: math.log(score) for text, score in found.items() if score > 0}


@settings(max_examples=60, deadline=None)
@given(
    frames=st.integers(0, 6),
    scale=st.floats(0.1, 4),
    seed=st.integers(0, 2**32 - 1),
    alpha=st.floats(0.01, 3),  # with 0 words of one pronunciation are equal
    beta=st.floats(-1, 4),
    hot=st.sampled_from([(), (("woo", 3.0),), (("too", 2.5), ("to", -1.0))]),
)
def test_best_words_and_their_scores_are_those_of_all_words(
    scorer: Scorer,
    frames: int,
    scale: float,
    seed: int,
    alpha: float,
    beta: float,
    hot: HotWords,
) -> None:
    settings_ = BeamSettings(3000, alpha=alpha, beta=beta, hot_words=hot)
    log_probs = random_log_probs(frames, scale, seed)
    expected = expected_scores(log_probs, settings_)
    found = BeamSearchDecoder(ENGLISH, settings_, scorer).n_best(log_probs, 5)
    assert [each.score for each in found] == pytest.approx(
        sorted(expected.values(), reverse=True)[:5], abs=1e-4
    )
    for each in found:
        assert each.score == pytest.approx(expected[each.text], abs=1e-4)


def peaked(text: str) -> Array:
    """Log-probabilities of phones, '_' for a blank."""
    labels = [PHONES.blank if each == "_" else PHONES.encode(each)[0] for each in text]
    probabilities = np.full((len(text), LETTERS + PHONES.size), 1e-4, np.float32)
    probabilities[:, 0] = 1 - 2e-4
    for row, label in zip(probabilities, labels, strict=True):
        row[LETTERS + label] = 1 - 4e-4
    return np.log(probabilities)


def test_language_model_chooses_among_words_of_one_pronunciation(scorer: Scorer) -> None:
    decoder = BeamSearchDecoder(ENGLISH, None, scorer)
    assert decoder.decode(peaked("_u_ wu")) == "two woo"
    assert decoder.decode(peaked("wu_ u")) == "woo too"


def test_stream_finds_what_a_whole_utterance_has(
    scorer: Scorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(beam_search, "ROOM_OUTPUTS", 3)  # compacts often
    log_probs = random_log_probs(40, 3, seed=1)
    decoder = BeamSearchDecoder(ENGLISH, BeamSettings(20), scorer)
    stream = decoder.stream()
    for start in range(0, 40, 7):
        stream.advance(log_probs[start : start + 7])
    assert stream.n_best(3) == decoder.n_best(log_probs, 3)


def test_words_have_the_times_of_their_phones(scorer: Scorer) -> None:
    log_probs = peaked("_uu__ _wu_")
    (best,) = BeamSearchDecoder(ENGLISH, None, scorer).n_best(log_probs, 1)
    times = hypothesis_times(log_probs, best, ENGLISH, PHONES, 0.5)
    assert [(each.text, each.start, each.duration) for each in times] == [
        ("two", 0.5, 1.0),
        ("woo", 3.5, 1.0),
    ]
    assert first_outputs(log_probs, best, ENGLISH, PHONES) == [1, 1, 2, 7, 7, 7, 8]


@pytest.mark.parametrize("homophones", [True, False])
def test_last_word_is_written_with_and_without_a_space_after_it(
    tmp_path: Path, homophones: bool
) -> None:
    words = WORDS if homophones else ("two", "woo")
    write_arpa(tmp_path / "lm.arpa", MODEL)
    arpa = str(tmp_path / "lm.arpa")
    scorer = from_arpa("scorer", arpa, words, ENGLISH, 0.9, 1.2, False, LEXICON)
    decoder = BeamSearchDecoder(ENGLISH, None, scorer)
    assert decoder.decode(peaked("u wu")) == decoder.decode(peaked("u wu ")) == "two woo"
    assert decoder.decode(peaked("u ")) == "two"


@pytest.mark.parametrize("width", [3, 100])
def test_unfinished_word_has_neither_text_nor_time(scorer: Scorer, width: int) -> None:
    log_probs = peaked("u wu w")
    found = BeamSearchDecoder(ENGLISH, BeamSettings(width), scorer).n_best(log_probs, 10)
    for each in found:
        times = hypothesis_times(log_probs, each, ENGLISH, PHONES)
        assert [word.text for word in times] == each.text.split()
        assert len(first_outputs(log_probs, each, ENGLISH, PHONES)) == len(each.text)


def test_unknown_penalty_writes_no_unknown_words(scorer: Scorer) -> None:
    decoder = BeamSearchDecoder(ENGLISH, BeamSettings(unknown_penalty=0.0, beta=5.0), scorer)
    assert "<unk>" not in decoder.decode(random_log_probs(30, 2, seed=3))


def test_hot_words_count_as_in_deepspeech(scorer: Scorer) -> None:
    settings_ = BeamSettings(as_deepspeech=True, hot_words=(("too", 6.0), ("unpronounced", 1.0)))
    assert BeamSearchDecoder(ENGLISH, settings_, scorer).decode(peaked("u wu ")) == "too woo"


def test_hot_word_without_a_pronunciation_is_named(scorer: Scorer) -> None:
    with pytest.raises(UserError, match="'unpronounced' has no pronunciation"):
        BeamSearchDecoder(ENGLISH, BeamSettings(hot_words=(("unpronounced", 1.0),)), scorer)


def test_scorer_of_pronunciations_needs_a_model_of_their_phones(scorer: Scorer) -> None:
    check_alphabet(scorer, ENGLISH, "model", PHONES)
    with pytest.raises(UserError, match="writes no phones"):
        check_alphabet(scorer, ENGLISH, "model", None)
    with pytest.raises(UserError, match="writes other phones"):
        check_alphabet(scorer, ENGLISH, "model", Alphabet((SPACE, "u", UNKNOWN)))


def test_lexicon_of_another_language_is_refused(tmp_path: Path) -> None:
    write_arpa(tmp_path / "lm.arpa", MODEL)
    arpa, other = str(tmp_path / "lm.arpa"), Lexicon(PHONES, {"oui": ("wu",)})
    with pytest.raises(UserError, match="none of the 5 words"):
        from_arpa("scorer", arpa, WORDS, ENGLISH, 0.9, 1.2, False, other)


def test_compressed_scorer_is_read_and_keeps_its_weights(scorer: Scorer, tmp_path: Path) -> None:
    path = str(tmp_path / "scorer.xz")
    Path(path).write_bytes(lzma.compress(Path(scorer.path).read_bytes()))
    assert read_scorer(path).texts == scorer.texts
    with pytest.raises(UserError, match="unpack it"):
        write_weights(path, 1.0, 1.0)
    Path(path).write_bytes(Path(path).read_bytes()[:-50])
    with pytest.raises(UserError, match="cut off"):
        read_scorer(path)
