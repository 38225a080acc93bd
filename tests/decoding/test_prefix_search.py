"""The search with a language model, against all texts there are and a slow reading of ARPA."""

import itertools
import math
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speech.decoding import prefix_search
from speech.decoding.beam_search import BeamSearchDecoder, BeamSettings, Hypothesis
from speech.decoding.scorer import Scorer, read_scorer, write_scorer
from utils import UTF_8, Alphabet, UserError

Array = npt.NDArray[np.float32]

LETTERS = Alphabet(("a", "b", " "))
WORDS = ("a", "ab", "ba")
UNIGRAMS = {"<s>": (-99, -0.4), "</s>": (-0.9, 0), "<unk>": (-1.7, 0)}

# Of the words of the vocabulary all but one are in the model.
WORD_MODEL: dict[tuple[str, ...], tuple[float, float]] = {
    **{(word,): weights for word, weights in UNIGRAMS.items()},
    ("a",): (-0.6, -0.3),
    ("ba",): (-1.1, -0.2),
    ("<s>", "a"): (-0.2, -0.1),
    ("a", "ba"): (-0.5, -0.6),
    ("ba", "</s>"): (-0.1, 0),
    ("<s>", "a", "ba"): (-0.05, 0),
}
CHARACTERS = Alphabet(("a", "b", "c"))
CHARACTER_MODEL: dict[tuple[str, ...], tuple[float, float]] = {
    **{(word,): weights for word, weights in UNIGRAMS.items()},
    ("a",): (-0.4, -0.3),
    ("b",): (-0.8, -0.2),
    ("a", "b"): (-0.1, -0.4),
    ("b", "</s>"): (-0.3, 0),
    ("b", "b"): (-1.2, -0.2),
    ("<s>", "b", "b"): (-0.4, 0),
}
PENALTY = 2.0


def write_arpa(path: Path, model: dict[tuple[str, ...], tuple[float, float]]) -> None:
    orders = range(1, max(map(len, model)) + 1)
    lines = ["\\data\\", *(f"ngram {n}={sum(len(k) == n for k in model)}" for n in orders)]
    for n in orders:
        lines += ["", f"\\{n}-grams:"]
        lines += [f"{p}\t{' '.join(k)}\t{b}" for k, (p, b) in model.items() if len(k) == n]
    path.write_text("\n".join([*lines, "", "\\end\\", ""]))


def back_off(model: dict[tuple[str, ...], tuple[float, float]], words: tuple[str, ...]) -> float:
    """log10 of the last word's probability after the others, after ARPA's definition."""
    if words in model:
        return model[words][0]
    return model.get(words[:-1], (0, 0))[1] + back_off(model, words[1:])


def gain(
    model: dict[tuple[str, ...], tuple[float, float]],
    words: list[str],
    settings: BeamSettings,
    vocabulary: tuple[str, ...],
) -> float:
    """Nats that a language model, words and hot words add to a text."""
    boosts = {} if settings.as_deepspeech else dict(settings.hot_words)
    total = 0.0
    context: tuple[str, ...] = ("<s>",)
    for word in [*words, "</s>"]:
        known = word if (word,) in model else "<unk>"
        if word == "</s>" and settings.as_deepspeech:
            return total
        total += (settings.alpha or 0) * math.log(10) * back_off(model, (*context, known))
        context = (*context, known)[-2:]
        if word == "</s>":
            return total
        total += (settings.beta or 0) + boosts.get(word, 0)
        total -= (settings.unknown_penalty or 0) * unknown_share(word, (*vocabulary, *boosts))
    raise AssertionError("unreachable")


def deepspeech_boost(
    words: list[str], settings: BeamSettings, vocabulary: tuple[str, ...]
) -> float:
    """Nats that hot words add to complete words in DeepSpeech: for each n-gram that has them."""
    boosts = {word: boost for word, boost in settings.hot_words if word in vocabulary}
    windows = [words[max(i - 2, 0) : i + 1] for i in range(len(words))]  # the model is of order 3
    return (settings.alpha or 0) * sum(boosts.get(word, 0) for each in windows for word in each)


def unknown_share(word: str, vocabulary: tuple[str, ...]) -> float:
    """How often the penalty counts: once, and a sixth for each letter after the first unknown."""
    if word in vocabulary:
        return 0
    inside = max(
        n for n in range(len(word) + 1) if any(each.startswith(word[:n]) for each in vocabulary)
    )
    return 1 + max(len(word) - inside - 1, 0) / 6


def acoustic_probabilities(log_probs: Array, alphabet: Alphabet) -> dict[str, float]:
    """The probability of every text, over all paths."""
    found: dict[str, float] = defaultdict(float)
    for path in itertools.product(range(alphabet.size), repeat=len(log_probs)):
        text = alphabet.decode(label for label, _ in itertools.groupby(path))
        found[text] += math.exp(sum(float(log_probs[t, label]) for t, label in enumerate(path)))
    return found


def expected_scores(
    log_probs: Array, settings: BeamSettings, characters: bool
) -> dict[str, tuple[float, float]]:
    """Of every text: natural log of its probability with and without the language model."""
    alphabet, model = (CHARACTERS, CHARACTER_MODEL) if characters else (LETTERS, WORD_MODEL)
    vocabulary = alphabet.characters[:2] if characters else WORDS
    sums: dict[str, float] = defaultdict(float)
    for text, probability in acoustic_probabilities(log_probs, alphabet).items():
        if characters or not (text.startswith(" ") or "  " in text):
            sums[text if settings.as_deepspeech else text.removesuffix(" ")] += probability
    found = {}
    for text, probability in sums.items():
        words = list(text) if characters else text.split()
        score = math.log(probability) + gain(model, words, settings, vocabulary)
        if settings.as_deepspeech:
            complete = words if characters or text.endswith(" ") else words[:-1]
            score += deepspeech_boost(complete, settings, vocabulary)
        found[text] = score, math.log(probability)
    return found


@pytest.fixture(scope="module")
def scorers(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Scorer]:
    """Of words, and (True) of characters, one of which is unknown."""
    folder = tmp_path_factory.mktemp("scorers")
    write_arpa(folder / "words.arpa", WORD_MODEL)
    write_arpa(folder / "characters.arpa", CHARACTER_MODEL)
    write_scorer(str(folder / "words"), str(folder / "words.arpa"), WORDS, LETTERS, 0.9, 1.2, False)
    write_scorer(
        str(folder / "characters"), str(folder / "characters.arpa"), "ab", CHARACTERS, 0.9, 1, True
    )
    return {
        False: read_scorer(str(folder / "words")),
        True: read_scorer(str(folder / "characters")),
    }


def random_log_probs(frames: int, scale: float, seed: int) -> Array:
    logits = np.random.default_rng(seed).normal(size=(frames, 4)) * scale
    return np.asarray(logits - np.log(np.exp(logits).sum(1, keepdims=True)), np.float32)


def assert_best(found: list[Hypothesis], expected: dict[str, tuple[float, float]]) -> None:
    order = sorted(expected, key=lambda text: -expected[text][0])
    for each, text in zip(found, order, strict=False):
        # Texts of equal scores may change places.
        assert each.score == pytest.approx(expected[text][0], abs=1e-4)
        assert each.score == pytest.approx(expected[each.text][0], abs=1e-4)
        assert each.acoustic_score == pytest.approx(expected[each.text][1], abs=1e-4)
    assert len(found) == min(len(order), 5)


@settings(max_examples=80, deadline=None)
@given(
    characters=st.booleans(),
    frames=st.integers(0, 5),
    scale=st.floats(0.1, 4),
    seed=st.integers(0, 2**32 - 1),
    alpha=st.floats(0, 3),
    beta=st.floats(-1, 4),
    hot=st.sampled_from([(), (("ba", 3.0),), (("bb", 2.5), ("a", 1.0)), (("a", -4.0), ("b", 2.0))]),
    as_deepspeech=st.booleans(),
)
def test_best_texts_and_their_scores_are_those_of_all_texts(
    scorers: dict[bool, Scorer],
    characters: bool,
    frames: int,
    hot: Any,
    as_deepspeech: bool,
    **drawn: Any,
) -> None:
    hot_words = () if characters and not as_deepspeech else hot
    weights = {"alpha": drawn["alpha"], "beta": drawn["beta"], "unknown_penalty": PENALTY}
    settings_ = BeamSettings(1000, hot_words=hot_words, as_deepspeech=as_deepspeech, **weights)
    log_probs = random_log_probs(frames, drawn["scale"], drawn["seed"])
    scorer = scorers[characters]
    decoder = BeamSearchDecoder(scorer.alphabet, settings_, scorer)
    expected = expected_scores(log_probs, settings_, characters)
    assert_best(decoder.n_best(log_probs, 5), expected)


# --- Characters of several bytes ------------------------------------------------------------------

# Three of its bytes begin and end the characters; "è" is one that the model doesn't know.
KNOWN = {"é": "a", "a": "b"}  # each has the other's probability in CHARACTER_MODEL
USED = (0x61, 0xA8, 0xA9, 0xC3, UTF_8.blank)


@pytest.fixture(scope="module")
def byte_scorer(tmp_path_factory: pytest.TempPathFactory) -> Scorer:
    folder = tmp_path_factory.mktemp("bytes")
    named = {old: new for new, old in KNOWN.items()}
    write_arpa(
        folder / "lm.arpa",
        {tuple(named.get(w, w) for w in words): p for words, p in CHARACTER_MODEL.items()},
    )
    path = str(folder / "scorer")
    write_scorer(path, str(folder / "lm.arpa"), list(KNOWN), UTF_8, 0.9, 1, True)
    return read_scorer(path)


def byte_gain(labels: tuple[int, ...], settings: BeamSettings) -> float:
    """`gain` of bytes, by reading them one by one."""
    known = [each.encode() for each in (*KNOWN, *dict(settings.hot_words))]
    found, read, outside = [], b"", False
    for byte in labels:
        if outside and 0x80 <= byte <= 0xBF:
            continue
        read, outside = read + bytes([byte]), False
        if read in known or not any(each.startswith(read) for each in known):
            found.append(read.decode() if read in known else "?")
            read, outside = b"", read not in known
    found += ["?"] if read else []
    words = [KNOWN.get(each, each) for each in found]
    return gain(CHARACTER_MODEL, words, settings, tuple(KNOWN.values()))


@settings(max_examples=60, deadline=None)
@given(
    frames=st.integers(0, 5),
    scale=st.floats(0.1, 4),
    seed=st.integers(0, 2**32 - 1),
    alpha=st.floats(0, 3),
    beta=st.floats(-1, 4),
    hot=st.sampled_from([(), (("è", 3.0),)]),
)
def test_characters_of_several_bytes_are_words(
    byte_scorer: Scorer, frames: int, scale: float, seed: int, alpha: float, beta: float, hot: Any
) -> None:
    settings_ = BeamSettings(3000, alpha=alpha, beta=beta, unknown_penalty=PENALTY, hot_words=hot)
    logits = np.full((frames, UTF_8.size), -np.inf)
    logits[:, USED] = np.random.default_rng(seed).normal(size=(frames, len(USED))) * scale
    log_probs = np.asarray(logits - np.log(np.exp(logits).sum(1, keepdims=True)), np.float32)
    sums: dict[tuple[int, ...], float] = defaultdict(float)
    for path in itertools.product(USED, repeat=frames):
        labels = tuple(each for each, _ in itertools.groupby(path) if each != UTF_8.blank)
        sums[labels] += math.exp(sum(float(log_probs[t, each]) for t, each in enumerate(path)))
    expected = {
        labels: math.log(probability) + byte_gain(labels, settings_)
        for labels, probability in sums.items()
    }
    best = sorted(expected, key=lambda labels: -expected[labels])[:5]
    found = BeamSearchDecoder(UTF_8, settings_, byte_scorer).n_best(log_probs, 5)
    assert [each.score for each in found] == pytest.approx(
        [expected[each] for each in best], abs=1e-4
    )
    assert found[0].text == UTF_8.decode(best[0])


@pytest.mark.parametrize("characters", [False, True])
@pytest.mark.parametrize("text", ["éa", "жa aж", "жжжé é", "aé ééж a", "ж a"])
def test_a_text_gains_the_same_in_bytes_as_in_characters(
    tmp_path: Path, characters: bool, text: str
) -> None:
    names = {"a": "é", "ab": "éa", "ba": "aé"} if not characters else {"a": "é", "b": "a"}
    model = CHARACTER_MODEL if characters else WORD_MODEL
    write_arpa(
        tmp_path / "lm", {tuple(names.get(w, w) for w in words): p for words, p in model.items()}
    )
    scores = []
    for alphabet in (Alphabet(("a", "é", "ж", " ")), UTF_8):
        path = str(tmp_path / f"{alphabet.size}.scorer")
        words = list(names.values())
        write_scorer(path, str(tmp_path / "lm"), words, alphabet, 0.9, 1.2, characters)
        # All of it is sure, blanks between repeats too: what is left is the language model.
        labels = [each for label in alphabet.encode(text) for each in (label, alphabet.blank)]
        with np.errstate(divide="ignore"):
            log_probs = np.log(np.eye(alphabet.size, dtype=np.float32)[labels])
        (best,) = BeamSearchDecoder(alphabet, None, read_scorer(path)).n_best(log_probs, 1)
        assert best.text == text
        scores.append(best.score)
    assert scores[0] == pytest.approx(scores[1], abs=1e-6)


def test_weights_are_the_scorers_unless_others_are_asked_for(scorers: dict[bool, Scorer]) -> None:
    log_probs = random_log_probs(5, 1.0, 0)
    asked = BeamSettings(alpha=0.9, beta=1.2)
    found = [
        BeamSearchDecoder(LETTERS, each, scorers[False]).n_best(log_probs, 3)
        for each in (BeamSettings(), asked, BeamSettings(alpha=0.1))
    ]
    assert found[0] == found[1] != found[2]


def test_hot_word_without_a_language_model() -> None:
    log_probs = random_log_probs(5, 0.5, 3)
    sums = acoustic_probabilities(log_probs, LETTERS)
    plain = BeamSearchDecoder(LETTERS).n_best(log_probs, 1)[0]
    hot = BeamSearchDecoder(LETTERS, BeamSettings(1000, hot_words=(("bb", 6.0),)))
    best = hot.n_best(log_probs, 1)[0]
    assert "bb" in best.text.split() and "bb" not in plain.text.split()
    times = best.text.split().count("bb")
    assert best.score == pytest.approx(best.acoustic_score + 6 * times, abs=1e-5)
    whole = sums[best.text] + sums[f"{best.text} "]
    assert best.acoustic_score == pytest.approx(math.log(whole), abs=1e-4)


def test_closed_vocabulary_is_an_infinite_penalty(scorers: dict[bool, Scorer]) -> None:
    settings_ = BeamSettings(1000, unknown_penalty=math.inf)
    for seed in range(20):
        log_probs = random_log_probs(5, 1.0, seed)
        text = BeamSearchDecoder(LETTERS, settings_, scorers[False]).decode(log_probs)
        assert set(text.split()) <= set(WORDS)


def test_cutoffs_try_the_most_probable_labels_alone() -> None:
    log_probs = np.log(np.array([[0.45, 0.3, 0.2, 0.05]] * 3, np.float32))
    for cut in (BeamSettings(cutoff_top_n=1), BeamSettings(cutoff_prob=0.4)):
        texts = {each.text for each in BeamSearchDecoder(LETTERS, cut).n_best(log_probs, 100)}
        assert texts == {"", "a", "aa"}
    silent = np.log(np.array([[0.02, 0.05, 0.01, 0.92]] * 3, np.float32))
    for cutoff_prob, expected in ((0.9, {""}), (0.95, {"", "b", "bb"})):
        decoder = BeamSearchDecoder(LETTERS, BeamSettings(cutoff_prob=cutoff_prob))
        assert {each.text for each in decoder.n_best(silent, 100)} == expected
    for cut in (BeamSettings(cutoff_top_n=2), BeamSettings(cutoff_prob=0.7)):
        texts = {each.text for each in BeamSearchDecoder(LETTERS, cut).n_best(log_probs, 100)}
        # Two equal letters need a blank between, and so one more output.
        assert texts == {"", "a", "b", "aa", "ab", "ba", "bb", "aba", "bab"}


def test_impossible_outputs_leave_the_beam_unchanged(scorers: dict[bool, Scorer]) -> None:
    """The vocabulary forbids "b" alone, and the network everything else."""
    with np.errstate(divide="ignore"):
        log_probs = np.log(np.eye(4, dtype=np.float32)[[0, 1, 1, 2, 1]])
    closed = BeamSettings(1000, unknown_penalty=math.inf)
    decoder = BeamSearchDecoder(LETTERS, closed, scorers[False])
    best = decoder.n_best(log_probs, 1)[0]
    assert set(best.text.split()) <= set(WORDS) and math.isfinite(best.score)


@pytest.mark.parametrize(
    "settings_",
    [
        {"alpha": math.nan},
        {"beta": 800.0},
        {"beta": math.inf},
        {"hot_words": (("ab", 1000.0),)},
        {"alpha": 1000.0, "hot_words": (("alpha", 1.0),)},
        {"beta": 800.0, "hot_words": (("beta", 1.0),)},
        {"hot_words": (("ab", 1000.0), ("ab", 1.0))},
    ],
)
def test_weights_beyond_all_measure_are_refused(settings_: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"weight (nan|inf|800|1000)"):
        BeamSettings(**settings_)


def test_largest_weights_can_be_searched_with(scorers: dict[bool, Scorer]) -> None:
    largest: list[dict[str, Any]] = [{"beta": 100.0}, {"beta": -100.0}, {"alpha": 100.0}]
    for weights in largest:
        settings_ = BeamSettings(100, hot_words=(("ab", 100.0),), **weights)
        best = BeamSearchDecoder(LETTERS, settings_, scorers[False]).n_best(
            random_log_probs(60, 1.0, 1), 1
        )[0]
        assert math.isfinite(best.score) and 0 < best.confidence <= 1


def test_hot_words_of_a_scorer_of_characters_are_characters(scorers: dict[bool, Scorer]) -> None:
    hot = BeamSearchDecoder(CHARACTERS, BeamSettings(hot_words=(("c", 90.0),)), scorers[True])
    assert "c" in hot.decode(random_log_probs(5, 0.5, 2))
    with pytest.raises(UserError, match=r"single characters"):
        BeamSearchDecoder(CHARACTERS, BeamSettings(hot_words=(("ab", 3.0),)), scorers[True])


@pytest.mark.parametrize("value", [math.nan, math.inf, 0.0])
def test_no_more_are_chosen_than_have_room_whatever_their_totals(value: float) -> None:
    chosen = np.full(7, -1, np.int32)
    best = prefix_search._choose_best(np.full(50, value), value, 3, chosen)
    assert best == 3 and chosen.tolist() == [0, 1, 2, -1, -1, -1, -1]
