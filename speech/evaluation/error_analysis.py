"""Analyses errors: confused words and letters, error rates by length and by speaker, examples."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby, zip_longest
from typing import Literal

import jiwer

from speech.evaluation.error_rates import Errors, character_errors, rate_interval
from speech.evaluation.results import Result

# Largest number of words in each group of references; the last group has longer ones.
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
    """Aligns words with the fewest edits, as many of each kind as `word_errors` counts.

    Where several neighbouring words differ and some are deleted or inserted, the choice leaves the
    most similar words to be substituted: "ice cream" -> "icecream" deletes "ice".
    """
    edits: list[Edit] = []
    for equal, group in groupby(_edits(jiwer.process_words(reference, hypothesis)), _is_equal):
        run = list(group)
        edits += run if equal else _paired_by_letters(run)
    return edits


def align_characters(reference: str, hypothesis: str) -> list[Edit]:
    """Aligns characters, spaces included, with the fewest edits; of several choices jiwer's."""
    return _edits(jiwer.process_characters(reference, hypothesis))


def _is_equal(edit: Edit) -> bool:
    return edit.kind == "equal"


def _edits(output: jiwer.WordOutput | jiwer.CharacterOutput) -> list[Edit]:
    references, hypotheses = output.references[0], output.hypotheses[0]
    edits = []
    for chunk in output.alignments[0]:
        left = references[chunk.ref_start_idx : chunk.ref_end_idx]
        right = hypotheses[chunk.hyp_start_idx : chunk.hyp_end_idx]
        # An inserted chunk is empty on the left, a deleted one on the right; other chunks have the
        # same length on both sides.
        edits += [_edit(*pair) for pair in zip_longest(left, right, fillvalue="")]
    return edits


def _edit(reference: str, hypothesis: str) -> Edit:
    if reference == hypothesis:
        return Edit("equal", reference, hypothesis)
    if not reference or not hypothesis:
        return Edit("delete" if reference else "insert", reference, hypothesis)
    return Edit("substitute", reference, hypothesis)


def _paired_by_letters(run: list[Edit]) -> list[Edit]:
    """Pairs the words of a run of errors again, with the fewest errors in letters.

    A smallest set of edits deletes words of a run or inserts some, never both. So only the longer
    side's surplus words are chosen, and the number of each kind stays.
    """
    references = [edit.reference for edit in run if edit.reference]
    hypotheses = [edit.hypothesis for edit in run if edit.hypothesis]
    swapped = len(references) > len(hypotheses)
    short, long = (hypotheses, references) if swapped else (references, hypotheses)
    surplus = len(long) - len(short)
    if not surplus or not short:
        return run
    # costs[k]: wrong letters of the best pairing of short[:i] with long[: i + k], which has k
    # surplus words; left_over[i][k]: whether long[i + k - 1] is one of them.
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
    """A spoken word or letter, what was recognised instead, and how often."""

    reference: str  # empty: insertions
    hypothesis: str  # empty: deletions
    count: int


@dataclass(frozen=True)
class Confusions:
    """Confusions of each kind, the most frequent first; equally frequent ones by their letters."""

    substitutions: tuple[Confusion, ...]
    deletions: tuple[Confusion, ...]
    insertions: tuple[Confusion, ...]


def confused_words(results: Iterable[Result]) -> Confusions:
    """Counts confused words."""
    return _confusions(align_words(result.reference, result.hypothesis) for result in results)


def confused_letters(results: Iterable[Result]) -> Confusions:
    """Counts confused letters; a space is a letter, which joined words have lost."""
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
    """Error rates of a part of a set."""

    name: str
    utterances: int
    words: Errors
    interval: tuple[float, float] | None  # of their word error rate, 95 %; None: one utterance


def by_length(results: Iterable[Result]) -> list[Group]:
    """Groups results by the number of words in the reference, ascending; without empty groups."""
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
    """Groups results by speaker, the part of an id before its first dash, highest WER first.

    Empty if an id has no dash, or a slash before it: then ids don't name speakers.
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
    """Example utterances; none is in two of the lists."""

    best: list[Result]
    median: list[Result]
    worst: list[Result]  # the very worst first


def examples(results: Iterable[Result], most: int) -> Examples:
    """Chooses up to `most` utterances of each kind, at most a third of the set.

    They are ordered by word error rate, then character error rate. Of equally good ones the longer
    is better: many words without an error are stronger evidence than one.
    """
    ordered = sorted(results, key=_badness)
    each = min(most, -(-len(ordered) // 3))
    worst = ordered[max(len(ordered) - each, 0) :][::-1]
    rest = ordered[: len(ordered) - len(worst)]
    best, middle = rest[:each], rest[each:]
    # The middle of the set, except where it is among the best or the worst.
    start = min(max((len(ordered) - each) // 2 - len(best), 0), max(len(middle) - each, 0))
    return Examples(best, middle[start : start + each], worst)


def _badness(result: Result) -> tuple[float, float, int, str]:
    return result.words.rate, result.characters.rate, -result.words.length, result.utterance_id
