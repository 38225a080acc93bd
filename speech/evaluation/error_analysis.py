"""Where a recogniser errs: which words and letters, at which lengths, with whom."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby, zip_longest
from typing import Literal

import jiwer

from speech.evaluation.error_rates import Errors, character_errors, rate_interval
from speech.evaluation.results import Result

# Words of the reference, to and with the number; the last group has what is longer.
LENGTHS = (0, 5, 10, 15, 20, 30, 40)

# Between the parts of LibriSpeech's ids: SPEAKER-CHAPTER-NNNN.
ID_SEPARATOR = "-"

Kind = Literal["equal", "substitute", "delete", "insert"]


@dataclass(frozen=True)
class Edit:
    """One word or letter of an alignment."""

    kind: Kind
    reference: str  # empty: inserted
    hypothesis: str  # empty: deleted


def align_words(reference: str, hypothesis: str) -> list[Edit]:
    """The edits of a smallest set of them, as many of each kind as `report.word_errors` counts.

    Where several words in a row differ and some are left out or put in, these are the ones that
    leave the most alike to be substituted: "ice cream" -> "icecream" loses "ice".
    """
    edits: list[Edit] = []
    for equal, group in groupby(_edits(jiwer.process_words(reference, hypothesis)), _is_equal):
        run = list(group)
        edits += run if equal else _paired_by_letters(run)
    return edits


def align_characters(reference: str, hypothesis: str) -> list[Edit]:
    """Likewise in characters, the spaces between words included, but of several equally small
    sets of edits jiwer's.
    """
    return _edits(jiwer.process_characters(reference, hypothesis))


def _is_equal(edit: Edit) -> bool:
    return edit.kind == "equal"


def _edits(output: jiwer.WordOutput | jiwer.CharacterOutput) -> list[Edit]:
    references, hypotheses = output.references[0], output.hypotheses[0]
    edits = []
    for chunk in output.alignments[0]:
        left = references[chunk.ref_start_idx : chunk.ref_end_idx]
        right = hypotheses[chunk.hyp_start_idx : chunk.hyp_end_idx]
        # An inserted chunk has nothing on the left, a deleted one nothing on the right; all others
        # are of one length.
        edits += [_edit(*pair) for pair in zip_longest(left, right, fillvalue="")]
    return edits


def _edit(reference: str, hypothesis: str) -> Edit:
    if reference == hypothesis:
        return Edit("equal", reference, hypothesis)
    if not reference or not hypothesis:
        return Edit("delete" if reference else "insert", reference, hypothesis)
    return Edit("substitute", reference, hypothesis)


def _paired_by_letters(run: list[Edit]) -> list[Edit]:
    """A run of errors, its words paired anew with the fewest errors in letters.

    A smallest set of edits leaves out words of a run or puts some in, never both; so the longer
    side's surplus words are chosen, and no kind's number changes.
    """
    references = [edit.reference for edit in run if edit.reference]
    hypotheses = [edit.hypothesis for edit in run if edit.hypothesis]
    swapped = len(references) > len(hypotheses)
    short, long = (hypotheses, references) if swapped else (references, hypotheses)
    surplus = len(long) - len(short)
    if not surplus or not short:
        return run
    # costs[k]: letters in error of the best pairing of short[:i] with long[: i + k], which leaves k
    # words over; left_over[i][k]: whether it leaves long[i + k - 1].
    costs = [float(sum(map(len, long[:k]))) for k in range(surplus + 1)]
    left_over = [[k > 0 for k in range(surplus + 1)]]
    for i, word in enumerate(short):
        row: list[float] = []
        choices = []
        for k in range(surplus + 1):
            paired = costs[k] + character_errors(word, long[i + k]).total
            over = row[k - 1] + len(long[i + k]) if k else math.inf
            row.append(min(paired, over))
            choices.append(over < paired)
        costs = row
        left_over.append(choices)
    pairs = []
    i, k = len(short), surplus
    while i or k:
        if left_over[i][k]:
            pairs.append(("", long[i + k - 1]))
            k -= 1
        else:
            pairs.append((short[i - 1], long[i + k - 1]))
            i -= 1
    return [_edit(*(pair[::-1] if swapped else pair)) for pair in reversed(pairs)]


@dataclass(frozen=True)
class Confusion:
    """What was said and what was recognised instead, and how often."""

    reference: str  # empty: insertions
    hypothesis: str  # empty: deletions
    count: int


@dataclass(frozen=True)
class Confusions:
    """The most frequent first; equals by their letters."""

    substitutions: tuple[Confusion, ...]
    deletions: tuple[Confusion, ...]
    insertions: tuple[Confusion, ...]


def confused_words(results: Iterable[Result]) -> Confusions:
    return _confusions(align_words(result.reference, result.hypothesis) for result in results)


def confused_letters(results: Iterable[Result]) -> Confusions:
    """A space counts as a letter: words that are run together have lost one."""
    return _confusions(align_characters(result.reference, result.hypothesis) for result in results)


def _confusions(alignments: Iterable[list[Edit]]) -> Confusions:
    counts = Counter(edit for edits in alignments for edit in edits if edit.kind != "equal")
    ordered = sorted(
        counts.items(), key=lambda item: (-item[1], item[0].reference, item[0].hypothesis)
    )

    def of(kind: Kind) -> tuple[Confusion, ...]:
        return tuple(
            Confusion(edit.reference, edit.hypothesis, count)
            for edit, count in ordered
            if edit.kind == kind
        )

    return Confusions(of("substitute"), of("delete"), of("insert"))


@dataclass(frozen=True)
class Group:
    """Some utterances of a set."""

    name: str
    utterances: int
    words: Errors
    interval: tuple[float, float] | None  # of their word error rate, 95 %; None: one utterance


def by_length(results: Iterable[Result]) -> list[Group]:
    """By the number of words in the reference, rising; lengths that don't occur are left out."""
    groups: dict[int, list[Result]] = defaultdict(list)
    for result in results:
        groups[sum(result.words.length > last for last in LENGTHS)].append(result)
    return [_group(_length_name(number), groups[number]) for number in sorted(groups)]


def _length_name(number: int) -> str:
    if number == 0:
        return "0"
    first = LENGTHS[number - 1] + 1
    return f"{first}\u2013{LENGTHS[number]}" if number < len(LENGTHS) else f"{first} or more"


def by_speaker(results: Sequence[Result]) -> list[Group]:
    """By the speaker, the part of an id before its first dash, highest word error rate first.

    Empty if an id has no dash, or a slash before it, which begins a path: then the ids don't tell.
    """
    groups: dict[str, list[Result]] = defaultdict(list)
    for result in results:
        speaker, dash, _ = result.utterance_id.partition(ID_SEPARATOR)
        if not dash or "/" in speaker:
            return []
        groups[speaker].append(result)
    found = [_group(speaker, spoken) for speaker, spoken in groups.items()]
    return sorted(found, key=lambda group: (-group.words.rate, group.name))


def _group(name: str, results: Sequence[Result]) -> Group:
    words = [result.words for result in results]
    interval = rate_interval(words) if len(words) > 1 else None
    return Group(name, len(words), sum(words, Errors()), interval)


@dataclass(frozen=True)
class Examples:
    """Utterances to look at; none is in two of the lists."""

    best: list[Result]
    median: list[Result]
    worst: list[Result]  # the very worst first


def examples(results: Iterable[Result], most: int) -> Examples:
    """Up to `most` utterances of each kind, a third of the set at most.

    They are ordered by word error rate, then character error rate; of equals the longer is the
    better at the good end: many words without an error say more than one.
    """
    ordered = sorted(results, key=_badness)
    each = min(most, -(-len(ordered) // 3))
    worst = ordered[max(len(ordered) - each, 0) :][::-1]
    rest = ordered[: len(ordered) - len(worst)]
    best, middle = rest[:each], rest[each:]
    # The set's own middle, unless the best or the worst have it already.
    start = min(max((len(ordered) - each) // 2 - len(best), 0), max(len(middle) - each, 0))
    return Examples(best, middle[start : start + each], worst)


def _badness(result: Result) -> tuple[float, float, int, str]:
    return result.words.rate, result.characters.rate, -result.words.length, result.utterance_id
