"""Errors of texts: small cases by hand, and their properties."""

import pytest
import scipy.spatial.distance
from hypothesis import given, settings
from hypothesis import strategies as st

from speech.evaluation.error_rates import Errors, character_errors, word_count_cosine, word_errors

# Few letters, so that words are often equal and often nearly so.
WORDS = st.text("ab'", min_size=1, max_size=3)
SENTENCES = st.lists(WORDS, min_size=1, max_size=8).map(" ".join)
HYPOTHESES = st.lists(WORDS, max_size=8).map(" ".join)


@given(SENTENCES, HYPOTHESES)
@settings(deadline=None)
def test_errors_account_for_the_difference_in_length(reference: str, hypothesis: str) -> None:
    words = word_errors(reference, hypothesis)
    assert words.length + words.insertions - words.deletions == len(hypothesis.split())
    characters = character_errors(reference, hypothesis)
    assert characters.length == len(reference)
    assert characters.length + characters.insertions - characters.deletions == len(hypothesis)


@pytest.mark.parametrize(
    ("reference", "hypothesis", "words", "characters"),
    [
        ("the cat sat", "the cat sat", Errors(0, 0, 0, 3), Errors(0, 0, 0, 11)),
        ("the cat sat", "the hat sat", Errors(1, 0, 0, 3), Errors(1, 0, 0, 11)),
        ("the cat sat", "the sat", Errors(0, 1, 0, 3), Errors(0, 4, 0, 11)),
        ("the cat", "the old cat", Errors(0, 0, 1, 2), Errors(0, 0, 4, 7)),
        ("ice cream", "icecream", Errors(1, 1, 0, 2), Errors(0, 1, 0, 9)),
        ("", "a b", Errors(0, 0, 2, 0), Errors(0, 0, 3, 0)),
        ("a b", "", Errors(0, 2, 0, 2), Errors(0, 3, 0, 3)),
        ("", "", Errors(), Errors()),
    ],
)
def test_errors_by_hand(reference: str, hypothesis: str, words: Errors, characters: Errors) -> None:
    assert word_errors(reference, hypothesis) == words
    assert character_errors(reference, hypothesis) == characters


@pytest.mark.parametrize(
    ("reference", "hypothesis", "cosine"),
    [
        ("no he said yes", "yes he said no", 1.0),
        ("a b", "c d", 0.0),
        ("a a a b", "a b b b", 6 / 10),
        ("the cat", "the hat", 1 / 2),
        ("a b", "a b a b", 1.0),
        ("", "", 1.0),
        ("", "a", 0.0),
        ("a", "", 0.0),
    ],
)
def test_cosine_of_word_counts_by_hand(reference: str, hypothesis: str, cosine: float) -> None:
    assert word_count_cosine(reference, hypothesis) == pytest.approx(cosine)


@given(SENTENCES, SENTENCES)
@settings(deadline=None)
def test_cosine_of_word_counts_is_scipys(reference: str, hypothesis: str) -> None:
    vocabulary = sorted({*reference.split(), *hypothesis.split()})
    vectors = [
        [text.split().count(word) for word in vocabulary] for text in (reference, hypothesis)
    ]
    expected = 1 - scipy.spatial.distance.cosine(*vectors)
    assert word_count_cosine(reference, hypothesis) == pytest.approx(expected)
