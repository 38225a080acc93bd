"""Greedy and beam search against cases by hand, full enumeration, and TensorFlow's decoder."""

import itertools
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from scorers import pack_unigrams

from speech.decoding.beam_search import (
    BeamSearchDecoder,
    BeamSettings,
    describe_settings,
    greedy_decode,
    used_weights,
)
from speech.decoding.scorer import read_scorer
from utils import ENGLISH, Alphabet, UserError

Array = npt.NDArray[np.float32]

BEAM_WIDTH = 100
AB = Alphabet(("a", "b"))


def log_softmax(logits: npt.NDArray[np.float64]) -> Array:
    """Natural-log probabilities, float32 [outputs, classes]."""
    shifted = logits - logits.max(axis=1, keepdims=True)  # [outputs, classes]
    sums = np.exp(shifted).sum(axis=1, keepdims=True)  # [outputs, 1]
    return np.asarray(shifted - np.log(sums), np.float32)


def path_log_probs(path: str, alphabet: Alphabet, logit: float = 12.0) -> Array:
    """[outputs, classes] whose best path is `path`, one character an output, `_` for the blank."""
    labels = [alphabet.blank if c == "_" else alphabet.characters.index(c) for c in path]
    return log_softmax(logit * np.eye(alphabet.size)[labels].reshape(-1, alphabet.size))


def noise(rng: np.random.Generator, outputs: int, scale: float) -> Array:
    """[outputs, classes] of normal logits; the larger the scale, the surer the outputs."""
    return log_softmax(rng.normal(size=(outputs, ENGLISH.size)) * scale)


def peaky(
    rng: np.random.Generator, outputs: int, peak: float, scale: float, rivals: float
) -> Array:
    """[outputs, classes] like a trained network's: short peaks among blanks.

    `rivals` is the share of outputs where a second class comes near the first.
    """
    best = np.full(outputs, ENGLISH.blank)  # [outputs]
    spoken = rng.random(outputs) < 0.3  # [outputs]
    best[spoken] = rng.integers(0, ENGLISH.blank, spoken.sum())
    logits = rng.normal(size=(outputs, ENGLISH.size)) * scale  # [outputs, classes]
    logits[np.arange(outputs), best] += peak
    contested = np.flatnonzero(rng.random(outputs) < rivals)  # [contested]
    rival = rng.integers(0, ENGLISH.size, contested.size)  # [contested]
    logits[contested, rival] += peak * rng.uniform(0.8, 1.1, contested.size)
    return log_softmax(logits)


def oracle_texts(batch: list[Array]) -> list[str]:
    """TensorFlow's beam search on utterances of equal length."""
    time_major = np.stack(batch, axis=1)  # [outputs, batch, classes]
    decoded, _ = tf.nn.ctc_beam_search_decoder(
        time_major, [len(time_major)] * len(batch), beam_width=BEAM_WIDTH, top_paths=1
    )
    labels = tf.sparse.to_dense(decoded[0], default_value=ENGLISH.blank).numpy()
    return [ENGLISH.decode(row) for row in labels.tolist()]


def text_log_probs(batch: list[Array], texts: list[str]) -> Array:
    """Natural log of each text's probability, summed over its alignments: float32 [batch]."""
    time_major = np.stack(batch, axis=1)  # [outputs, batch, classes]
    # Sparse labels, since TensorFlow's loss of dense ones takes minutes on long utterances.
    labels = tf.ragged.constant([ENGLISH.encode(text) for text in texts], tf.int32).to_sparse()
    outputs = [len(time_major)] * len(batch)
    loss = tf.nn.ctc_loss(labels, time_major, None, outputs, blank_index=-1)
    return np.asarray(-loss.numpy(), np.float32)


def lead_over_oracle(batch: list[Array]) -> Array:
    """Nats by which each of our texts is more probable than TensorFlow's: float32 [batch]."""
    ours = BeamSearchDecoder(ENGLISH, BeamSettings(BEAM_WIDTH)).decode_batch(batch)
    return text_log_probs(batch, ours) - text_log_probs(batch, oracle_texts(batch))


def text_of_path(path: tuple[int, ...], alphabet: Alphabet) -> str:
    return alphabet.decode(label for label, _ in itertools.groupby(path))


def enumerated_probabilities(log_probs: Array, alphabet: Alphabet) -> dict[str, float]:
    """The probability of every text, over all paths."""
    probabilities: dict[str, float] = defaultdict(float)
    for path in itertools.product(range(alphabet.size), repeat=len(log_probs)):
        log_probability = sum(float(f[label]) for f, label in zip(log_probs, path, strict=True))
        probabilities[text_of_path(path, alphabet)] += float(np.exp(log_probability))
    return probabilities


def beam_decode(log_probs: Array, alphabet: Alphabet) -> str:
    return BeamSearchDecoder(alphabet, BeamSettings(BEAM_WIDTH)).decode(log_probs)


BOTH = pytest.mark.parametrize("decode", [greedy_decode, beam_decode])
Decode = Callable[[Array, Alphabet], str]


# --- What the labels say --------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("aaa", "a"),
        ("a_a", "aa"),
        ("aa__aa_a", "aaa"),
        ("__ab__", "ab"),
        ("abba", "aba"),
        ("____", ""),
        ("", ""),
    ],
)
def test_repeats_collapse_and_blanks_drop(decode: Decode, path: str, text: str) -> None:
    assert decode(path_log_probs(path, AB), AB) == text


@BOTH
@settings(max_examples=50, deadline=None)
@given(text=st.text(ENGLISH.characters, max_size=30))
def test_text_comes_back_to_the_character(decode: Decode, text: str) -> None:
    assert decode(path_log_probs("_".join(text), ENGLISH), ENGLISH) == text


@BOTH
@pytest.mark.parametrize("text", [" a", "a ", "a  b", "   ", "'", "it's  '"])
def test_spaces_and_apostrophes_stay(decode: Decode, text: str) -> None:
    assert decode(path_log_probs("_".join(text), ENGLISH), ENGLISH) == text


@BOTH
def test_letters_outside_ascii_and_lone_accents_stay(decode: Decode) -> None:
    alphabet = Alphabet(("e", "\u0301", "\u00e9", "\u5b57"))
    text = "e\u0301\u5b57\u00e9"
    assert decode(path_log_probs("_".join(text), alphabet), alphabet) == text


def test_accent_and_letter_stay_two_labels_when_texts_are_compared() -> None:
    rng = np.random.default_rng(0)
    alphabet = Alphabet(("e", "\u0301"))
    decoder = BeamSearchDecoder(alphabet, BeamSettings(1))
    for _ in range(50):
        text = decoder.decode(log_softmax(rng.normal(size=(20, 3))))
        assert set(text) <= set(alphabet.characters)


# --- The most probable text -----------------------------------------------------------------------


def test_beam_search_sums_alignments_where_best_path_does_not() -> None:
    """Graves' example (thesis, figure 7.5): "a" has 0.58 over three paths, "" 0.42 on one."""
    log_probs = np.log(np.array([[0.3, 0.7], [0.4, 0.6]], np.float32))  # [outputs, classes]
    alphabet = Alphabet(("a",))
    assert greedy_decode(log_probs, alphabet) == ""
    assert beam_decode(log_probs, alphabet) == "a"


@settings(max_examples=60, deadline=None)
@given(outputs=st.integers(1, 6), scale=st.floats(0.1, 5.0), seed=st.integers(0, 2**32 - 1))
def test_no_text_is_more_probable_on_short_input(outputs: int, scale: float, seed: int) -> None:
    logits = np.random.default_rng(seed).normal(size=(outputs, AB.size)) * scale
    probabilities = enumerated_probabilities(log_softmax(logits), AB)
    text = BeamSearchDecoder(AB, BeamSettings(1000)).decode(log_softmax(logits))
    assert probabilities[text] == pytest.approx(max(probabilities.values()), rel=1e-5)


@pytest.mark.parametrize(
    ("cases", "make"),
    [
        (50, lambda rng: noise(rng, 60, 4.0)),
        (50, lambda rng: peaky(rng, 120, 8.0, 1.0, 0.05)),
        (50, lambda rng: peaky(rng, 120, 12.0, 2.0, 0.05)),
    ],
    ids=["sure noise", "peaky", "very peaky"],
)
def test_text_is_as_probable_as_tensorflows(
    cases: int, make: Callable[[np.random.Generator], Array]
) -> None:
    rng = np.random.default_rng(1)
    assert lead_over_oracle([make(rng) for _ in range(cases)]).min() > -0.01


def test_text_is_hardly_ever_less_probable_than_tensorflows_among_many_rivals() -> None:
    """No beam of this width finds every best text here."""
    rng = np.random.default_rng(2)
    lead = lead_over_oracle([peaky(rng, 120, 6.0, 1.5, 0.1) for _ in range(40)])  # [batch]
    assert (lead > -0.01).mean() > 0.9
    assert lead.mean() > -0.05


@pytest.mark.parametrize(("outputs", "scale"), [(20, 2.0), (30, 1.0)])
def test_texts_of_noise_are_more_probable_than_tensorflows_on_average(
    outputs: int, scale: float
) -> None:
    """A single one may be less so: both searches miss the best text by about half a nat."""
    rng = np.random.default_rng(2)
    assert lead_over_oracle([noise(rng, outputs, scale) for _ in range(60)]).mean() > 0


def test_score_is_what_the_alignments_in_the_beam_sum_up_to() -> None:
    """In a beam that holds all prefixes, the text's whole probability; else, on average, more than
    TensorFlow's sums up."""
    rng = np.random.default_rng(6)
    log_probs = log_softmax(rng.normal(size=(6, AB.size)) * 2)
    probabilities = enumerated_probabilities(log_probs, AB)
    for each in BeamSearchDecoder(AB, BeamSettings(1000)).n_best(log_probs, 20):
        assert np.exp(each.score) == pytest.approx(probabilities[each.text], rel=1e-5)
        assert each.acoustic_score == each.score
        # Everything is in the beam, whose probabilities sum up to 1.
        assert each.confidence == pytest.approx(probabilities[each.text], rel=1e-5)

    batch = [noise(rng, 120, 2.0) for _ in range(20)]
    _, theirs = tf.nn.ctc_beam_search_decoder(
        np.stack(batch, axis=1), [120] * len(batch), BEAM_WIDTH, top_paths=1
    )
    decoder = BeamSearchDecoder(ENGLISH, BeamSettings(BEAM_WIDTH))
    ours = np.array([decoder.n_best(each, 1)[0].score for each in batch])
    assert (ours - theirs.numpy()[:, 0]).mean() > 0


def test_long_sure_utterance_does_not_underflow() -> None:
    rng = np.random.default_rng(3)
    text = "".join(rng.choice(ENGLISH.characters, 400))
    assert beam_decode(path_log_probs("_".join(text) + "_", ENGLISH, 200.0), ENGLISH) == text


def test_long_unsure_utterance_does_not_underflow() -> None:
    rng = np.random.default_rng(4)
    assert lead_over_oracle([noise(rng, 800, 2.0) for _ in range(2)]).mean() > -0.25


def test_labels_of_probability_zero_are_allowed() -> None:
    with np.errstate(divide="ignore"):
        log_probs = np.log(np.eye(AB.size, dtype=np.float32)[[0, 2, 0, 1]])  # [outputs, classes]
    assert greedy_decode(log_probs, AB) == beam_decode(log_probs, AB) == "aab"


# --- Batches --------------------------------------------------------------------------------------


def test_batch_keeps_order_and_equals_one_by_one() -> None:
    rng = np.random.default_rng(5)
    # The longest first, so that the threads finish in another order.
    batch = [noise(rng, outputs, 2.0) for outputs in (200, 1, 90, 0, 40, 3, 150, 10)]
    decoder = BeamSearchDecoder(ENGLISH, BeamSettings(BEAM_WIDTH))
    one_by_one = [decoder.decode(log_probs) for log_probs in batch]
    assert len(set(one_by_one)) == len(batch)
    assert decoder.decode_batch(batch) == one_by_one
    assert decoder.decode_batch(log_probs for log_probs in batch) == one_by_one


def test_empty_batch_gives_no_texts() -> None:
    assert BeamSearchDecoder(ENGLISH, BeamSettings(BEAM_WIDTH)).decode_batch([]) == []


def test_batch_reports_a_bad_utterance() -> None:
    batch = [path_log_probs("a", AB), np.full((2, AB.size), np.nan, np.float32)]
    with pytest.raises(UserError, match="NaN"):
        BeamSearchDecoder(AB, BeamSettings(BEAM_WIDTH)).decode_batch(batch)


# --- Bad input ------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("shape", [(4, 28), (0, 28), (29,), (1, 4, 29)])
def test_wrong_shape_names_both_shapes(decode: Decode, shape: tuple[int, ...]) -> None:
    with pytest.raises(UserError) as error:
        decode(np.zeros(shape, np.float32), ENGLISH)
    assert str(list(shape)) in str(error.value)
    assert "[outputs, 29]" in str(error.value)


@BOTH
def test_nan_names_the_output(decode: Decode) -> None:
    log_probs = path_log_probs("ab_a", AB)
    log_probs[2, 1] = np.nan
    with pytest.raises(UserError, match="NaN in 1 of 4 outputs, first in output 2"):
        decode(log_probs, AB)


@BOTH
@pytest.mark.parametrize("value", [0.0, 5.0, 500.0, -np.inf])
def test_what_is_no_distribution_is_refused(decode: Decode, value: float) -> None:
    with pytest.raises(UserError, match=r"2 of 2 outputs don't sum to 1.*log_softmax"):
        decode(np.full((2, AB.size), value, np.float32), AB)


@pytest.mark.parametrize("beam_width", [0, -1])
def test_beam_width_below_one_is_refused(beam_width: int) -> None:
    with pytest.raises(UserError, match=f"beam width is {beam_width}"):
        BeamSearchDecoder(ENGLISH, BeamSettings(beam_width))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"beam_width": 10.5}, "beam_width is 10.5: give a whole number"),
        ({"beam_width": "500"}, "beam_width is '500'"),
        ({"cutoff_top_n": None}, "cutoff_top_n is None"),
        ({"cutoff_prob": "1"}, "'cutoff_prob' has '1', which is no number"),
        ({"unknown_penalty": "1"}, "'unknown_penalty' has '1'"),
        ({"alpha": "0.5"}, "'alpha' has '0.5'"),
        ({"alpha": -0.5}, "alpha is -0.5: give a weight from 0"),
        ({"hot_words": (("the", "7.5"),)}, "'the' has '7.5'"),
        ({"hot_words": ((7, 7.5),)}, "hot word 7 is no text"),
    ],
)
def test_settings_of_other_types_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        BeamSettings(**wrong)


@pytest.mark.parametrize(
    ("alphabet", "word", "message"),
    [
        (ENGLISH, "MIRROR", "write it in lower case, mirror, as the model writes"),
        (Alphabet(tuple("ABC ")), "cab", "write it in capitals, CAB, as the model writes"),
        (ENGLISH, "a cat", "give single words"),
        (ENGLISH, "É", "give single words, in the letters"),
        (ENGLISH, "\u200b", "give single words"),
    ],
)
def test_hot_words_outside_the_alphabet_are_refused_with_the_remedy(
    alphabet: Alphabet, word: str, message: str
) -> None:
    with pytest.raises(UserError, match=f"The hot word {re.escape(repr(word))} has .*: {message}"):
        BeamSearchDecoder(alphabet, BeamSettings(hot_words=((word, 3.0),)))


@pytest.mark.parametrize("invisible", ["\u00ad", "\u200b", "\ufeff", "\u200e", "\u2060"])
def test_invisible_characters_of_hot_words_count_for_nothing(invisible: str) -> None:
    log_probs = path_log_probs("ab", ENGLISH)

    def score(word: str) -> float:
        settings_ = BeamSettings(hot_words=((word, 3.0),))
        return BeamSearchDecoder(ENGLISH, settings_).n_best(log_probs, 1)[0].score

    assert score(f"a{invisible}b") == score("ab") != score("ac")


@pytest.mark.parametrize("cutoff_prob", [0.0, -0.5, 1.5, float("nan")])
def test_a_cutoff_without_labels_is_refused(cutoff_prob: float) -> None:
    with pytest.raises(UserError, match=f"cutoff_prob is {cutoff_prob}: give a probability above"):
        BeamSettings(cutoff_prob=cutoff_prob)
    with pytest.raises(UserError, match="cutoff_top_n is 0: give 1"):
        BeamSettings(cutoff_top_n=0)


def test_numpys_numbers_are_numbers() -> None:
    width: Any = np.int64(5)
    boost: Any = np.float32(3)
    settings_ = BeamSettings(width, hot_words=(("a", boost),))
    assert BeamSearchDecoder(ENGLISH, settings_).decode(path_log_probs("ab", ENGLISH)) == "ab"


def test_decoder_imports_no_tensorflow() -> None:
    root = Path(__file__).parents[2]
    program = "import sys, speech.decoding.beam_search; sys.exit('tensorflow' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], cwd=root, check=True)


# --- Settings -------------------------------------------------------------------------------------


def test_report_describes_the_settings_that_were_used(tmp_path: Path) -> None:
    scorer = read_scorer(pack_unigrams(tmp_path, {"a": -1}, alpha=0.75, beta=1.5))
    assert describe_settings(BeamSettings(), None) == {"beam_width": 100}
    hot_words = (("a", 7.5), ("b", 3.0))
    assert describe_settings(BeamSettings(hot_words=hot_words), None) == {
        "beam_width": 100,
        "hot_words": "a:7.5,b:3",
    }
    assert describe_settings(BeamSettings(cutoff_prob=0.9, cutoff_top_n=5), scorer) == {
        "beam_width": 100,
        "cutoff_prob": 0.9,
        "cutoff_top_n": 5,
        "scorer": scorer.path,
        "alpha": 0.75,
        "beta": 1.5,
        "unknown_penalty": 10.0,
    }


@pytest.mark.parametrize(
    ("alpha", "beta", "weights"),
    [
        (None, None, (0.75, 1.5)),
        (0.0, None, (0.0, 1.5)),
        (None, 0.0, (0.75, 0.0)),
        (2.0, 3.0, (2.0, 3.0)),
    ],
)
def test_weights_are_the_settings_or_else_the_scorers(
    tmp_path: Path, alpha: float | None, beta: float | None, weights: tuple[float, float]
) -> None:
    scorer = read_scorer(pack_unigrams(tmp_path, {"a": -1}, alpha=0.75, beta=1.5))
    assert used_weights(BeamSettings(alpha=alpha, beta=beta), scorer) == weights
