"""Word and character error rates, and the files that report them.

Rates are taken over the whole set: all errors divided by all words of the references. A mean of the
utterances' own rates would count a short utterance's errors more than a long one's.
"""

import csv
import dataclasses
import io
import json
import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import jiwer

from speech.evaluation.bootstrap import error_interval
from speech.system import storage
from utils import UserError

SUMMARY_FILE = "summary.json"
UTTERANCES_FILE = "utterances.csv"

Setting = str | int | float | bool | None


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


def word_count_cosine(reference: str, hypothesis: str) -> float:
    """Cosine of the angle between two texts' word counts: 1 for the same words, 0 for none shared.

    It knows nothing of the words' order and lets frequent words hide rare ones, so that it is no
    accuracy: "no he said yes" and "yes he said no" have 1. Two empty texts have 1, an empty one
    and another 0.
    """
    counts, others = Counter(reference.split()), Counter(hypothesis.split())
    if not counts or not others:
        return float(counts == others)
    product = sum(count * others[word] for word, count in counts.items())
    squares = [sum(count * count for count in each.values()) for each in (counts, others)]
    return product / math.sqrt(math.prod(squares))


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
    # 95 % by bootstrap over utterances, (low, high); see speech/evaluation/bootstrap.py.
    wer_interval: tuple[float, float]
    cer_interval: tuple[float, float]
    word_count_cosine: float  # mean over utterances; see the function of this name
    decoder: Mapping[str, Setting] = field(default_factory=dict)  # its settings, by their names

    def line(self) -> str:
        return (
            f"WER {self.wer:.2%} CER {self.cer:.2%} loss {self.loss:.2f} "
            f"({self.utterances} utterances, {self.words} words)"
        )

    def interval_line(self) -> str:
        return (
            f"95% intervals: WER {format_interval(self.wer_interval)}, "
            f"CER {format_interval(self.cer_interval)}"
        )


def format_interval(interval: tuple[float, float]) -> str:
    low, high = interval
    return f"{low:.2%} to {high:.2%}"


def summarise(
    results: Sequence[Result],
    greedy: Sequence[Result],
    seconds: float,
    audio_seconds: float,
    checkpoint_step: int,
    decoder: Mapping[str, Setting] | None = None,
) -> Summary:
    """Sums up.

    Args:
        results: of the beam search.
        greedy: of the same utterances' best paths.
        seconds: spent on recognition.
        decoder: the beam search's settings, for whoever reads the report.
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
        wer_interval=interval_of([result.words for result in results]),
        cer_interval=interval_of([result.characters for result in results]),
        word_count_cosine=sum(
            word_count_cosine(result.reference, result.hypothesis) for result in results
        )
        / max(len(results), 1),
        decoder=dict(decoder or {}),
    )


def interval_of(utterances: Sequence[Errors]) -> tuple[float, float]:
    """The 95 % interval of the rate of some utterances together."""
    return error_interval([each.total for each in utterances], [each.length for each in utterances])


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


def read_results(path: str) -> list[Result]:
    """The results that `write` wrote, worst utterance first.

    Args:
        path: of the report's folder or of its summary.json, which need not be this version's.

    Raises:
        UserError: there is no report, or its table is damaged.
    """
    folder = os.path.dirname(path) if path.endswith(".json") else path
    table = storage.join(folder, UTTERANCES_FILE)
    if not storage.exists(table):
        raise UserError(
            f"{path} is no report: {table} isn't there. Name the --report_dir of an evaluation."
        )
    rows = csv.DictReader(io.StringIO(storage.read_text(table), newline=""))
    try:
        return [_read_row(row) for row in rows]
    except (ValueError, csv.Error) as error:
        raise UserError(
            f"{table}, line {rows.line_num}, is no row of a report's table: {error}. Evaluate "
            "again to write it anew."
        ) from None


def _read_row(row: dict[str, str | None]) -> Result:
    """Raises ValueError if a field is missing or no number."""
    known = []
    for name in ("utterance_id", "reference", "hypothesis", "loss"):
        text = row.get(name)
        if text is None:
            raise ValueError(f"it has no {name}")
        known.append(text)
    loss = known.pop()
    return compare(known[0], known[1], known[2], float(loss) if loss else None)
