"""Compares two evaluations of one test set: their rates, and the utterances that changed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from speech.evaluation.bootstrap import Difference, paired_difference
from speech.evaluation.error_rates import Errors
from speech.evaluation.results import Result
from utils import UserError


@dataclass(frozen=True)
class Change:
    """An utterance's results in both evaluations."""

    before: Result
    after: Result

    @property
    def words(self) -> int:
        """Additional errors in words; below 0: fewer errors."""
        return self.after.words.total - self.before.words.total


@dataclass(frozen=True)
class Comparison:
    """The differences from another evaluation to this one."""

    other: str  # path of the other one
    wer_before: float
    cer_before: float
    wer: Difference
    cer: Difference
    # Only changed utterances; the largest difference of errors in words first, then in characters.
    changes: list[Change]

    def line(self) -> str:
        """Formats the comparison for the terminal."""
        return (
            f"Against {self.other}: WER {points(self.wer.rate)} points (95%: "
            f"{points(self.wer.low)} to {points(self.wer.high)}, {format_p(self.wer.p_value)}), "
            f"CER {points(self.cer.rate)} ({points(self.cer.low)} to {points(self.cer.high)}, "
            f"{format_p(self.cer.p_value)})"
        )


def points(rate: float) -> str:
    """Formats a difference of rates in percentage points, with its sign."""
    return f"{100 * rate:+.2f}"


def format_p(p_value: float) -> str:
    """Formats a p-value: p = 0.012, or p < 0.001."""
    return "p < 0.001" if p_value < 0.001 else f"p = {p_value:.3f}"


def compare_runs(results: Sequence[Result], others: Sequence[Result], other: str) -> Comparison:
    """Compares this evaluation's results with another's.

    Args:
        others: of the same utterances, in any order.
        other: path of the other evaluation, for messages and the report.

    Raises:
        UserError: the utterances or their references differ.
    """
    known = {result.utterance_id: result for result in others}
    changes = [Change(_same(result, known, other), result) for result in results]
    if len(known) > len(changes):
        here = {result.utterance_id for result in results}
        more = next(result for result in others if result.utterance_id not in here)
        raise UserError(
            f"The utterance {more.utterance_id} of {other} is not in this test set: compare "
            "evaluations of the same shards."
        )
    before = [change.before for change in changes]
    return Comparison(
        other,
        sum((each.words for each in before), Errors()).rate,
        sum((each.characters for each in before), Errors()).rate,
        _difference(changes, lambda result: result.words),
        _difference(changes, lambda result: result.characters),
        _most_changed(changes),
    )


def _same(result: Result, known: dict[str, Result], other: str) -> Result:
    """Returns the other evaluation's result of the same utterance."""
    found = known.get(result.utterance_id)
    if found is None:
        raise UserError(
            f"The utterance {result.utterance_id} is not in {other}: compare evaluations of the "
            "same shards."
        )
    if found.reference != result.reference:
        raise UserError(
            f"The utterance {result.utterance_id} has another reference in {other}: "
            f"{found.reference!r} there, {result.reference!r} here. Compare evaluations of the "
            "same shards."
        )
    return found


def _difference(changes: Sequence[Change], of: Callable[[Result], Errors]) -> Difference:
    return paired_difference(
        [of(change.before).total for change in changes],
        [of(change.after).total for change in changes],
        [of(change.after).length for change in changes],
    )


def _most_changed(changes: Sequence[Change]) -> list[Change]:
    def size(change: Change) -> tuple[int, int, str]:
        letters = change.after.characters.total - change.before.characters.total
        return -abs(change.words), -abs(letters), change.after.utterance_id

    changed = (change for change in changes if change.before.hypothesis != change.after.hypothesis)
    return sorted(changed, key=size)
