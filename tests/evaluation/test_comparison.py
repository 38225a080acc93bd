"""Two evaluations of one test set."""

from dataclasses import replace

import pytest

from speech.evaluation.bootstrap import Difference, paired_difference
from speech.evaluation.comparison import compare_runs
from speech.evaluation.results import Result, compare
from utils import UserError

TEXTS = ["a b c d", "e f g h", "i j", "k l m"]


def run(*hypotheses: str) -> list[Result]:
    return [
        compare(f"1-1-{i:04d}", text, hypothesis, 1.0)
        for i, (text, hypothesis) in enumerate(zip(TEXTS, hypotheses, strict=True))
    ]


BEFORE = run("a b x y", "e f g h", "i", "k l m")
AFTER = run("a b c d", "e f g x", "j", "k l m")


def test_difference_is_the_paired_one_of_words_and_of_characters() -> None:
    found = compare_runs(AFTER, BEFORE, "other")
    assert found.other == "other"
    assert found.wer_before == pytest.approx(3 / 13)
    assert found.wer == paired_difference([2, 0, 1, 0], [0, 1, 1, 0], [4, 4, 2, 3])
    assert found.wer.rate == pytest.approx(-1 / 13)
    assert found.cer_before == pytest.approx(4 / 22)
    assert found.cer == paired_difference([2, 0, 2, 0], [0, 1, 2, 0], [7, 7, 3, 5])


def test_changes_come_by_their_size_and_unchanged_utterances_not_at_all() -> None:
    found = compare_runs(AFTER, BEFORE, "other")
    assert [(change.after.reference, change.words) for change in found.changes] == [
        ("a b c d", -2),
        ("e f g h", 1),
        ("i j", 0),  # as many errors, but others
    ]
    assert found.changes[0].before.hypothesis == "a b x y"


def test_order_of_the_other_run_does_not_matter() -> None:
    assert compare_runs(AFTER, BEFORE[::-1], "other") == compare_runs(AFTER, BEFORE, "other")


def test_run_against_itself_has_no_difference() -> None:
    found = compare_runs(AFTER, AFTER, "other")
    assert found.wer == found.cer == Difference(0.0, 0.0, 0.0, 1.0)
    assert found.changes == []


def test_line_names_the_other_and_gives_points_intervals_and_p() -> None:
    wer, cer = Difference(-0.0123, -0.02, 0.001, 0.0004), Difference(0.001, -0.01, 0.02, 0.25)
    found = replace(compare_runs(AFTER, BEFORE, "r/summary.json"), wer=wer, cer=cer)
    assert found.line() == (
        "Against r/summary.json: WER -1.23 points (95%: -2.00 to +0.10, p < 0.001), "
        "CER +0.10 (-1.00 to +2.00, p = 0.250)"
    )


@pytest.mark.parametrize(
    ("results", "others", "message"),
    [
        (AFTER, BEFORE[:2], "1-1-0002 is not in other"),
        (AFTER[1:], BEFORE, "1-1-0000 of other is not in this test set"),
        (
            AFTER,
            [*BEFORE[:3], compare("1-1-0003", "k l n", "k", 1.0)],
            "1-1-0003 has another reference in other: 'k l n' there, 'k l m' here",
        ),
    ],
)
def test_first_utterance_that_differs_is_named(
    results: list[Result], others: list[Result], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        compare_runs(results, others, "other")
