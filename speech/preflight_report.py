"""A pre-flight's findings as text for the terminal, and as a table of all of them."""

import csv
import io
from collections import Counter
from collections.abc import Sequence

from speech import storage
from speech.preflight import ERROR, KINDS, WARNING, Finding, Findings, SetNumbers, place

TABLE_FILE = "check.csv"
COLUMNS = (
    *("set", "severity", "kind", "place", "utterance_id", "audio", "detail"),
    "transcript",
)

EXAMPLES = 3  # of a kind and set, the worst first
LONGEST_TRANSCRIPT = 80  # characters that are shown
# Around a transcript: the first strong letter of each decides its direction, not the terminal's.
ISOLATE, POP = "\u2068", "\u2069"


def report(found: Findings) -> str:
    """Set by set what was found, and a last line that sums it up."""
    blocks = [_of_set(numbers, found.findings) for numbers in found.sets]
    return "\n\n".join([*blocks, verdict(found)])


def verdict(found: Findings) -> str:
    """One line: how many errors and warnings there are."""
    where = f"in {_count(found.utterances, 'utterance')}"
    if not found.findings:
        return f"found nothing wrong {where}"
    return f"found {_count(found.errors, ERROR)} and {_count(found.warnings, WARNING)} {where}"


def _of_set(numbers: SetNumbers, findings: Sequence[Finding]) -> str:
    head = f"{numbers.name}: {_count(numbers.utterances, 'utterance')}, {numbers.hours:.2f} hours"
    if numbers.speakers:
        head += f", {_count(numbers.speakers, 'speaker')}"
    own = [each for each in findings if each.set == numbers.name]
    if not own:
        return f"{head}\n  nothing found"
    counts = Counter((each.severity, each.kind) for each in own)
    lines = [head]
    for severity in (ERROR, WARNING):
        for kind in KINDS:
            if counts[severity, kind]:
                lines.append(f"  {severity:<8} {kind:<27}{counts[severity, kind]:>8,}")
                those = [each for each in own if (each.severity, each.kind) == (severity, kind)]
                lines += [f"    {_example(each)}" for each in those[:EXAMPLES]]
    return "\n".join(lines)


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
