"""A pre-flight's findings as text for the terminal, and as a table of all of them."""

import csv
import io
from collections.abc import Sequence

from speech import storage
from speech.preflight import (
    ERROR,
    KINDS,
    UNKNOWN_CHARACTERS,
    WARNING,
    Finding,
    Findings,
    SetNumbers,
    character_name,
    place,
)

TABLE_FILE = "check.csv"
COLUMNS = (
    *("set", "severity", "kind", "place", "utterance_id", "audio", "detail"),
    "transcript",
)

EXAMPLES = 3  # of a kind and set, the worst first
CHARACTERS = 20  # that are unknown, the most frequent first
KIND_WIDTH = max(map(len, KINDS))
LONGEST_TRANSCRIPT = 80  # characters that are shown
# Around a transcript: the first strong letter of each decides its direction, not the terminal's.
ISOLATE, POP = "\u2068", "\u2069"


def report(found: Findings) -> str:
    """Set by set what was found, and a last line that sums it up."""
    blocks = [_of_set(numbers, found) for numbers in found.sets]
    return "\n\n".join([*blocks, verdict(found)])


def verdict(found: Findings) -> str:
    """One line: how many errors and warnings there are."""
    where = f"in {_count(found.utterances, 'utterance')}"
    if not found.findings:
        return f"found nothing wrong {where}"
    return f"found {_count(found.errors, ERROR)} and {_count(found.warnings, WARNING)} {where}"


def _of_set(numbers: SetNumbers, found: Findings) -> str:
    head = f"{numbers.name}: {_count(numbers.utterances, 'utterance')}, {numbers.hours:.2f} hours"
    if numbers.speakers:
        head += f", {_count(numbers.speakers, 'speaker')}"
    lines = [head]
    for severity in (ERROR, WARNING):
        for kind in KINDS:
            those = [e for e in found.of_kind(kind, numbers.name) if e.severity == severity]
            if not those:
                continue
            lines.append(f"  {severity:<8} {kind:<{KIND_WIDTH}} {len(those):>8,}")
            lines += [f"    {_example(each)}" for each in those[:EXAMPLES]]
            if kind == UNKNOWN_CHARACTERS:
                lines.append(f"    in all: {_characters(found.unknown_characters(numbers.name))}")
    return "\n".join(lines if len(lines) > 1 else [head, "  nothing found"])


def _characters(counts: Sequence[tuple[str, int]]) -> str:
    told = [
        f"{character_name(character)} in {_count(n, 'utterance')}"
        for character, n in counts[:CHARACTERS]
    ]
    more = len(counts) - len(told)
    return ", ".join([*told, f"and {more:,} more"] if more else told)


def _example(finding: Finding) -> str:
    """Where it is, what it is, and last what was said, which may run from right to left."""
    told = f"{place(finding.utterance)}: {finding.detail}"
    transcript = " ".join((finding.utterance.transcript or "").split())
    if len(transcript) > LONGEST_TRANSCRIPT:
        transcript = f"{transcript[:LONGEST_TRANSCRIPT]}..."
    return f"{told}  {ISOLATE}{transcript}{POP}" if transcript else told


def _count(number: int, of: str) -> str:
    return f"{number:,} {of}{'' if number == 1 else 's'}"


def table(found: Findings) -> str:
    """All findings as CSV, whose columns are COLUMNS."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for each in found.findings:
        utterance = each.utterance
        writer.writerow(
            [
                *(each.set, each.severity, each.kind, place(utterance), utterance.utterance_id),
                *(utterance.audio_path or "", each.detail, utterance.transcript or ""),
            ]
        )
    return in_utf8(text.getvalue())


def in_utf8(text: str) -> str:
    """What can be written: the name of a file needn't be UTF-8."""
    return text.encode(errors="backslashreplace").decode()


def write_table(folder: str, found: Findings) -> str:
    """Writes check.csv into a folder.

    Returns:
        the file's path.

    Raises:
        UserError: it can't be written.
    """
    path = storage.join(folder, TABLE_FILE)
    storage.write_text(path, table(found))
    return path
