"""Results of an evaluation, and the files that keep them.

Rates are of the whole set: all errors divided by all words of the references. The mean of the
utterances' rates would weight an error in a short utterance more than one in a long utterance.
"""

import csv
import dataclasses
import io
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from speech.evaluation.error_rates import (
    Errors,
    character_errors,
    rate_interval,
    word_count_cosine,
    word_errors,
)
from speech.system import storage
from utils import UserError

SUMMARY_FILE = "summary.json"
UTTERANCES_FILE = "utterances.csv"

Setting = str | int | float | bool | None


@dataclass(frozen=True)
class Result:
    """An utterance's hypothesis and its errors."""

    utterance_id: str
    reference: str
    hypothesis: str
    loss: float | None  # CTC, in nats; None: more labels than the network's outputs can hold
    words: Errors
    characters: Errors


def compare(utterance_id: str, reference: str, hypothesis: str, loss: float | None) -> Result:
    """Counts the errors of a hypothesis; loss: as in `Result`."""
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
    """Rates and counts of a test set; the fields are the keys of summary.json."""

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
    real_time_factor: float  # seconds of computing per second of audio
    checkpoint_step: int
    # 95 % by bootstrap over utterances, (low, high); see speech/evaluation/bootstrap.py.
    wer_interval: tuple[float, float]
    cer_interval: tuple[float, float]
    word_count_cosine: float  # mean of the utterances; see error_rates.py
    decoder: Mapping[str, Setting] = field(default_factory=dict)  # name -> value

    def line(self) -> str:
        """Formats the rates for the terminal."""
        return (
            f"WER {self.wer:.2%} CER {self.cer:.2%} loss {self.loss:.2f} "
            f"({self.utterances} utterances, {self.words} words)"
        )

    def interval_line(self) -> str:
        """Formats the intervals for the terminal."""
        return (
            f"95% intervals: WER {format_interval(self.wer_interval)}, "
            f"CER {format_interval(self.cer_interval)}"
        )


def format_interval(interval: tuple[float, float]) -> str:
    """Formats an interval of rates: 1.00% to 2.00%."""
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
    """Sums up the results of a test set.

    Args:
        results: of the beam search.
        greedy: of the same utterances by the best path.
        seconds: spent on recognition.
        audio_seconds: length of the test set; 0: unknown.
        decoder: the beam search's settings, for the report.
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
        wer_interval=rate_interval([result.words for result in results]),
        cer_interval=rate_interval([result.characters for result in results]),
        word_count_cosine=sum(
            word_count_cosine(result.reference, result.hypothesis) for result in results
        )
        / max(len(results), 1),
        decoder=dict(decoder or {}),
    )


def _totals(results: Sequence[Result]) -> tuple[Errors, Errors]:
    """Returns the errors in words and in characters."""
    return (
        sum((result.words for result in results), Errors()),
        sum((result.characters for result in results), Errors()),
    )


def write(folder: str, summary: Summary, results: Sequence[Result]) -> None:
    """Writes summary.json and utterances.csv, the worst utterances first, into `folder`.

    Raises:
        UserError: a file can't be written.
    """
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
    """Reads the results that `write` wrote, in the table's order.

    Args:
        path: of the report's folder or of its summary.json; an older version's will do.

    Raises:
        UserError: there is no report, or its table is damaged.
    """
    folder = os.path.dirname(path) if path.endswith(".json") else path
    table = storage.join(folder, UTTERANCES_FILE)
    if not storage.exists(table):
        raise UserError(
            f"{path} is no report: {table} doesn't exist. Name the --report_dir of an evaluation."
        )
    rows = csv.DictReader(io.StringIO(storage.read_text(table), newline=""))
    try:
        return [_read_row(row) for row in rows]
    except (ValueError, csv.Error) as error:
        raise UserError(
            f"{table}, line {rows.line_num}, is no row of a report's table: {error}. Run the "
            "evaluation again to replace the table."
        ) from None


def _read_row(row: dict[str, str | None]) -> Result:
    """Reads a row.

    Raises:
        ValueError: a field is missing or no number.
    """
    known = []
    for name in ("utterance_id", "reference", "hypothesis", "loss"):
        text = row.get(name)
        if text is None:
            raise ValueError(f"it has no {name}")
        known.append(text)
    loss = known.pop()
    return compare(known[0], known[1], known[2], float(loss) if loss else None)
