"""Where a recogniser errs: alignments, confusions, groups, examples."""

from collections import Counter
from collections.abc import Sequence
from itertools import combinations

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from speech.evaluation.bootstrap import error_interval
from speech.evaluation.error_analysis import (
    Confusion,
    Edit,
    align_characters,
    align_words,
    by_length,
    by_speaker,
    confused_letters,
    confused_words,
    examples,
)
from speech.evaluation.error_rates import Errors, character_errors, word_errors
from speech.evaluation.results import Result, compare

WORDS = st.text("ab'", min_size=1, max_size=3)
SENTENCES = st.lists(WORDS, max_size=8).map(" ".join)
PAIRS = st.tuples(SENTENCES, SENTENCES)
SETS = st.lists(PAIRS, max_size=10)


def results_of(pairs: list[tuple[str, str]]) -> list[Result]:
    return [compare(f"{i % 3}-1-{i:04d}", *pair, 1.0) for i, pair in enumerate(pairs)]


def errors_of(edits: list[Edit]) -> Errors:
    kinds = Counter(edit.kind for edit in edits)
    return Errors(
        kinds["substitute"], kinds["delete"], kinds["insert"], len(edits) - kinds["insert"]
    )


# --- Alignments -----------------------------------------------------------------------------------


@given(PAIRS)
@settings(deadline=None)
def test_alignment_holds_both_texts_and_the_errors_that_are_counted(pair: tuple[str, str]) -> None:
    words, letters = align_words(*pair), align_characters(*pair)
    assert errors_of(words) == word_errors(*pair)
    assert errors_of(letters) == character_errors(*pair)
    for edits, joint in ((words, " "), (letters, "")):
        assert joint.join(edit.reference for edit in edits if edit.kind != "insert") == pair[0]
        assert joint.join(edit.hypothesis for edit in edits if edit.kind != "delete") == pair[1]
        for edit in edits:
            assert (edit.kind == "equal") == (edit.reference == edit.hypothesis)
            assert (edit.kind == "insert") == (edit.reference == "")
            assert (edit.kind == "delete") == (edit.hypothesis == "")


def test_alignment_by_hand() -> None:
    assert align_words("the old cat sat on", "the cat sat an quickly") == [
        Edit("equal", "the", "the"),
        Edit("delete", "old", ""),
        Edit("equal", "cat", "cat"),
        Edit("equal", "sat", "sat"),
        Edit("substitute", "on", "an"),
        Edit("insert", "", "quickly"),
    ]
    assert align_characters("ab c", "abc") == [
        Edit("equal", "a", "a"),
        Edit("equal", "b", "b"),
        Edit("delete", " ", ""),
        Edit("equal", "c", "c"),
    ]
    assert align_words("", "") == []


@pytest.mark.parametrize(
    ("reference", "hypothesis", "edits"),
    [
        ("eat ice cream", "eat icecream", [("ice", ""), ("cream", "icecream")]),
        ("bed room", "bedroom", [("bed", ""), ("room", "bedroom")]),
        ("bedroom", "bed room", [("", "bed"), ("bedroom", "room")]),
        ("the on", "the an quickly", [("on", "an"), ("", "quickly")]),
        (
            "one two three four five",
            "on hwo fife",
            [("one", "on"), ("two", "hwo"), ("three", ""), ("four", ""), ("five", "fife")],
        ),
        ("", "a b", [("", "a"), ("", "b")]),
    ],
)
def test_words_that_are_alike_are_paired(
    reference: str, hypothesis: str, edits: list[tuple[str, str]]
) -> None:
    found = align_words(reference, hypothesis)
    assert [(each.reference, each.hypothesis) for each in found if each.kind != "equal"] == edits


@given(
    st.lists(st.text("abc", min_size=1, max_size=3), min_size=1, max_size=4),
    st.lists(st.text("xyc", min_size=1, max_size=3), min_size=1, max_size=4),
)
@settings(deadline=None)
def test_no_choice_of_words_left_out_has_fewer_errors_in_letters(
    left: list[str], right: list[str]
) -> None:
    assume(not set(left) & set(right))

    def letters(short: Sequence[str], long: Sequence[str], kept: Sequence[int]) -> int:
        paired = sum(character_errors(a, long[i]).total for a, i in zip(short, kept, strict=True))
        return paired + sum(len(word) for i, word in enumerate(long) if i not in kept)

    short, long = sorted((left, right), key=len)
    fewest = min(letters(short, long, kept) for kept in combinations(range(len(long)), len(short)))
    found = align_words(" ".join(left), " ".join(right))
    assert sum(character_errors(each.reference, each.hypothesis).total for each in found) == fewest


# --- Confusions -----------------------------------------------------------------------------------


def test_confusions_are_counted_over_the_set_most_frequent_first() -> None:
    results = results_of(
        [("the cat sat", "a cat sat"), ("the dog", "a dog"), ("the b c", "b d"), ("x", "x up")]
    )
    found = confused_words(results)
    assert found.substitutions == (Confusion("the", "a", 2), Confusion("c", "d", 1))
    assert found.deletions == (Confusion("the", "", 1),)
    assert found.insertions == (Confusion("", "up", 1),)
    letters = confused_letters(results_of([("ice cream", "icecreem"), ("a b", "ab")]))
    assert letters.deletions == (Confusion(" ", "", 2),)
    assert letters.substitutions == (Confusion("a", "e", 1),)
    assert letters.insertions == ()


@given(SETS)
@settings(deadline=None)
def test_confusions_account_for_all_errors(pairs: list[tuple[str, str]]) -> None:
    results = results_of(pairs)
    for found, errors in (
        (confused_words(results), sum((result.words for result in results), Errors())),
        (confused_letters(results), sum((result.characters for result in results), Errors())),
    ):
        assert sum(each.count for each in found.substitutions) == errors.substitutions
        assert sum(each.count for each in found.deletions) == errors.deletions
        assert sum(each.count for each in found.insertions) == errors.insertions
        for confusions in (found.substitutions, found.deletions, found.insertions):
            keys = [(-each.count, each.reference, each.hypothesis) for each in confusions]
            assert keys == sorted(set(keys))


# --- Groups ---------------------------------------------------------------------------------------


def of_length(words: int) -> tuple[str, str]:
    return " ".join("a" * words), ""


def test_lengths_are_those_of_the_references_and_empty_groups_are_left_out() -> None:
    lengths = [0, 1, 5, 6, 10, 11, 40, 41, 99]
    groups = by_length(results_of([of_length(length) for length in lengths]))
    assert [(group.name, group.utterances) for group in groups] == [
        ("0", 1),
        ("1\u20135", 2),
        ("6\u201310", 2),
        ("11\u201315", 1),
        ("31\u201340", 1),
        ("41 or more", 2),
    ]
    assert by_length([]) == []


@given(SETS)
@settings(deadline=None)
def test_groups_divide_the_set(pairs: list[tuple[str, str]]) -> None:
    results = results_of(pairs)
    whole = sum((result.words for result in results), Errors())
    for groups in (by_length(results), by_speaker(results)):
        assert sum(group.utterances for group in groups) == len(results)
        assert sum((group.words for group in groups), Errors()) == whole


def test_speakers_come_from_the_ids_worst_first_with_intervals() -> None:
    results = [
        compare("84-1-0000", "a b", "a b", 1.0),
        compare("84-2-0000", "a b c d", "a x y z", 1.0),
        compare("7-1-0000", "a", "b", 1.0),
    ]
    worst, other = by_speaker(results)
    assert (worst.name, worst.utterances, worst.words.rate) == ("7", 1, 1.0)
    assert worst.interval is None  # one utterance has no spread
    assert (other.name, other.utterances, other.words.rate) == ("84", 2, 0.5)
    assert other.interval == error_interval([0, 3], [2, 4])


def test_ids_without_a_dash_have_no_speakers() -> None:
    results = [compare("1-1-1", "a", "a", 1.0), compare("utterance7", "a", "a", 1.0)]
    assert by_speaker(results) == []
    assert by_speaker([]) == []


def test_ids_that_begin_with_a_path_have_no_speakers() -> None:
    known = [compare("anna-ru/wav/x-1", "a", "a", 1.0), compare("ben-ru/wav/x", "a", "b", 1.0)]
    assert [group.name for group in by_speaker(known)] == ["ben", "anna"]
    assert by_speaker([*known, compare("ru/wav/x-1", "a", "a", 1.0)]) == []


# --- Examples -------------------------------------------------------------------------------------


def test_examples_are_the_best_the_middle_and_the_worst() -> None:
    words = list("abcdefghij")
    results = results_of([(" ".join(words), " ".join(words[:right])) for right in range(1, 11)])
    found = examples(results, 2)
    rates = [[round(each.words.rate, 1) for each in kind] for kind in vars(found).values()]
    assert rates == [[0.0, 0.1], [0.4, 0.5], [0.9, 0.8]]


def test_length_decides_between_perfect_utterances_and_letters_between_wrong_ones() -> None:
    results = results_of(
        [("a", "a"), ("a b c", "a b c"), ("ab", "ax"), ("ab", "xyz"), ("a", "a"), ("b", "b")]
    )
    found = examples(results, 2)
    assert [each.reference for each in found.best] == ["a b c", "a"]
    assert [each.hypothesis for each in found.worst] == ["xyz", "ax"]


@given(SETS, st.integers(1, 5))
@settings(deadline=None)
def test_no_utterance_is_an_example_twice(pairs: list[tuple[str, str]], most: int) -> None:
    results = results_of(pairs)
    found = examples(results, most)
    shown = [each.utterance_id for kind in vars(found).values() for each in kind]
    assert len(shown) == len(set(shown)) >= min(len(results), most)
    assert all(len(kind) <= most for kind in vars(found).values())
    if len(results) >= 3 * most:
        assert [len(kind) for kind in vars(found).values()] == [most] * 3
    if results:
        assert found.worst[0].words.rate == max(result.words.rate for result in results)
