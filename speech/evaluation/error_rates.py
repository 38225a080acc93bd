"""Error rates of texts, in words and in characters."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import jiwer

from speech.evaluation.bootstrap import error_interval


@dataclass(frozen=True)
class Errors:
    """The edits of a smallest set from references to hypotheses, in words or characters."""

    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0
    length: int = 0  # words or characters of the references

    @property
    def total(self) -> int:
        return self.substitutions + self.deletions + self.insertions

    @property
    def rate(self) -> float:
        """Errors per word or character of the references.

        Of empty references the rate is 0 without errors and 1 with some: infinity could be neither
        written nor compared.
        """
        if self.length:
            return self.total / self.length
        return float(self.total > 0)

    def __add__(self, other: "Errors") -> "Errors":
        return Errors(
            self.substitutions + other.substitutions,
            self.deletions + other.deletions,
            self.insertions + other.insertions,
            self.length + other.length,
        )


def word_errors(reference: str, hypothesis: str) -> Errors:
    """Counts the errors in words, which are separated by spaces."""
    return _errors(jiwer.process_words(reference, hypothesis))


def character_errors(reference: str, hypothesis: str) -> Errors:
    """Counts the errors in characters, including the spaces between words."""
    return _errors(jiwer.process_characters(reference, hypothesis))


def _errors(output: jiwer.WordOutput | jiwer.CharacterOutput) -> Errors:
    length = output.hits + output.substitutions + output.deletions
    return Errors(output.substitutions, output.deletions, output.insertions, length)


def word_count_cosine(reference: str, hypothesis: str) -> float:
    """Returns the cosine of the angle between two texts' word counts.

    It is 1 for the same words and 0 for no common word. Word order doesn't count, and frequent
    words hide rare ones, so it is no accuracy: "no he said yes" and "yes he said no" have 1. Two
    empty texts have 1, an empty text and another one 0.
    """
    counts, others = Counter(reference.split()), Counter(hypothesis.split())
    if not counts or not others:
        return float(counts == others)
    product = sum(count * others[word] for word, count in counts.items())
    squares = [sum(count * count for count in each.values()) for each in (counts, others)]
    return product / math.sqrt(math.prod(squares))


def rate_interval(utterances: Sequence[Errors]) -> tuple[float, float]:
    """Returns the 95 % interval of the rate of several utterances, (low, high)."""
    return error_interval([each.total for each in utterances], [each.length for each in utterances])
