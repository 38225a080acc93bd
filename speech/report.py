"""Word and character error rates, and the files that report them.

Rates are taken over the whole set: all errors divided by all words of the references. A mean of the
utterances' own rates would count a short utterance's errors more than a long one's.
"""

import csv
import dataclasses
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass

import jiwer

from speech import storage

SUMMARY_FILE = "summary.json"
UTTERANCES_FILE = "utterances.csv"


@dataclass(frozen=True)
class Errors:
    """The smallest edit from references to hypotheses, counted in words or characters."""

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

        Against references without any word the rate would be infinite; it is then 0 without
        errors and 1 with some, so that it stays a number that can be written and compared.
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
    """Errors in words, which are separated by spaces."""
    return _errors(jiwer.process_words(reference, hypothesis))


def character_errors(reference: str, hypothesis: str) -> Errors:
    """Errors in characters, the spaces between words included."""
    return _errors(jiwer.process_characters(reference, hypothesis))


def _errors(output: jiwer.WordOutput | jiwer.CharacterOutput) -> Errors:
    length = output.hits + output.substitutions + output.deletions
    return Errors(output.substitutions, output.deletions, output.insertions, length)


@dataclass(frozen=True)
class Result:
    """One utterance, recognised."""

    utterance_id: str
    reference: str
    hypothesis: str
    loss: float | None  # CTC, in nats; None: more labels than the network's outputs can hold
    words: Errors
    characters: Errors


def compare(utterance_id: str, reference: str, hypothesis: str, loss: float | None) -> Result:
    return Result(
        utterance_id,
        reference,
        hypothesis,
        loss,
        word_errors(reference, hypothesis),
        character_errors(reference, hypothesis),
    )


@dataclass(frozen=True)
class Summary:
    """A test set, recognised; the fields are the keys of summary.json."""

    wer: float
    cer: float
    loss: float  # mean CTC loss of the utterances that have one, in nats
    utterances: int
    words: int  # of the references
    substitutions: int  # in words, like the next two
    deletions: int
    insertions: int
    greedy_wer: float  # of the best path, without a beam
    greedy_cer: float
    real_time_factor: float  # seconds of work per second of audio
    checkpoint_step: int

    def line(self) -> str:
        return (
            f"WER {self.wer:.2%} CER {self.cer:.2%} loss {self.loss:.2f} "
            f"({self.utterances} utterances, {self.words} words)"
        )


def summarise(
    results: Sequence[Result],
    greedy: Sequence[Result],
    seconds: float,
    audio_seconds: float,
    checkpoint_step: int,
) -> Summary:
    """Sums up.

    Args:
        results: of the beam search.
        greedy: of the same utterances' best paths.
        seconds: spent on recognition.
    """
    words, characters = _totals(results)
    greedy_words, greedy_characters = _totals(greedy)
    losses = [result.loss for result in results if result.loss is not None]
    return Summary(
        wer=words.rate,
        cer=characters.rate,
        loss=sum(losses) / max(len(losses), 1),
        utterances=len(results),
        words=words.length,
        substitutions=words.substitutions,
        deletions=words.deletions,
        insertions=words.insertions,
        greedy_wer=greedy_words.rate,
        greedy_cer=greedy_characters.rate,
        real_time_factor=seconds / audio_seconds if audio_seconds else 0.0,
        checkpoint_step=checkpoint_step,
    )


def _totals(results: Sequence[Result]) -> tuple[Errors, Errors]:
    """Errors in words and in characters."""
    return (
        sum((result.words for result in results), Errors()),
        sum((result.characters for result in results), Errors()),
    )


def write(folder: str, summary: Summary, results: Sequence[Result]) -> None:
    """Writes summary.json and utterances.csv into `folder`, worst utterances first."""
    storage.write_text(
        storage.join(folder, SUMMARY_FILE), json.dumps(dataclasses.asdict(summary), indent=1) + "\n"
    )
    storage.write_text(storage.join(folder, UTTERANCES_FILE), _table(results))


def _table(results: Sequence[Result]) -> str:
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(
        ["utterance_id", "wer", "cer", "loss", "words", "substitutions", "deletions", "insertions"]
        + ["reference", "hypothesis"]
    )
    for result in sorted(results, key=lambda each: (-each.words.rate, each.utterance_id)):
        words = result.words
        rows.writerow(
            [result.utterance_id, f"{words.rate:.4f}", f"{result.characters.rate:.4f}"]
            + [
                "" if result.loss is None else f"{result.loss:.4f}",
                words.length,
                words.substitutions,
            ]
            + [words.deletions, words.insertions, result.reference, result.hypothesis]
        )
    return text.getvalue()
