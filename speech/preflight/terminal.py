"""Reports the findings of a pre-flight as text for the terminal and as a CSV table."""

import csv
import io
from collections.abc import Sequence

from speech.preflight.findings import Finding, Findings, Kind, SetNumbers, Severity
from speech.system import storage
from speech.text.characters import describe, in_utf8, isolate, isolate_right_to_left

TABLE_FILE = "check.csv"
COLUMNS = (
    *("set", "severity", "kind", "place", "utterance_id", "audio", "detail"),
    "transcript",
)

EXAMPLES = 3  # findings shown for each kind and set, the worst first
CHARACTERS = 20  # unknown characters shown, the most frequent first
KIND_WIDTH = max(map(len, Kind))
LONGEST_TRANSCRIPT = 80  # characters shown

# What each kind means for training, and what to do.
ADVICE = {
    Kind.MISSING: "It is skipped. Add the file, or remove the line.",
    Kind.UNREADABLE: "It is skipped. Download or encode the file again.",
    Kind.EMPTY: "It is skipped. The file or the segment is empty.",
    Kind.NO_TRANSCRIPT: "It is skipped. Add the transcript, or remove the line.",
    Kind.UNKNOWN_CHARACTERS: "It is skipped. Normalise the text, or add the characters to "
    "the alphabet.",
    Kind.TOO_LONG: "It is skipped. Cut it, or raise --max_sequence_length.",
    Kind.LABEL_TOO_LONG: "It is skipped. Cut it, or raise --max_label_length.",
    Kind.UNALIGNABLE: "It is skipped: CTC emits one label per output. The transcript is too long "
    "for the audio.",
    Kind.SILENCE: "There is a transcript but no sound.",
    Kind.LEAKED_AUDIO: "It makes error rates meaningless: remove it from one of the sets.",
    Kind.CONTRADICTION: "At least one of the transcripts is wrong.",
    Kind.WRONG_SIZE: "The file isn't the one in the corpus's table, or it was cut short.",
    Kind.SPEECH_RATE: "Most likely the transcript belongs to other audio, or a part is missing.",
    Kind.NO_SPEECH: "The level hardly changes: check that it contains speech.",
    Kind.WRONG_SCALE: "Floating-point samples should be between -1 and 1, these have the scale "
    "of integers. Divide them by 32768, or write integers.",
    Kind.CLIPPING: "A few clipped samples, red in check.html, do no harm. Lower the recording "
    "level.",
    Kind.OFFSET: "The recording device has an offset; a high-pass filter removes it.",
    Kind.SILENT_EDGE: "It costs time and padding: cut off the shaded part in check.html.",
    Kind.TOO_SHORT: "It is shorter than any word.",
    Kind.EXTREME_LENGTH: "All others are padded to its length, unless --max_sequence_length "
    "skips it.",
    Kind.DUPLICATE: "It counts twice. Remove one unless this is intended.",
    Kind.LEAKED_TRANSCRIPT: "Read sentences are tested after being trained on. For commands this "
    "is expected.",
    Kind.SHARED_SPEAKER: "Error rates say nothing about unknown voices.",
}
# What is found where a limit is passed; the badness is what the limit would have to be.
PASSED_LIMITS = (Kind.TOO_LONG, Kind.LABEL_TOO_LONG)


def report(found: Findings) -> str:
    """Returns the findings of each set, and a summary in the last line."""
    blocks = [_report_set(numbers, found) for numbers in found.sets]
    return "\n\n".join([*blocks, verdict(found)])


def verdict(found: Findings) -> str:
    """Returns the number of errors and warnings in one line."""
    where = f"in {_count(found.utterances, 'utterance')}"
    if not found.findings:
        return f"found nothing wrong {where}"
    errors = _count(found.errors, Severity.ERROR)
    return f"found {errors} and {_count(found.warnings, Severity.WARNING)} {where}"


def _report_set(numbers: SetNumbers, found: Findings) -> str:
    head = f"{numbers.name}: {_count(numbers.utterances, 'utterance')}, {numbers.hours:.2f} hours"
    if numbers.speakers:
        head += f", {_count(numbers.speakers, 'speaker')}"
    lines = [head]
    for severity in Severity:
        for kind in Kind:
            those = [e for e in found.of_kind(kind, numbers.name) if e.severity == severity]
            if not those:
                continue
            lines.append(f"  {severity:<8} {kind:<{KIND_WIDTH}} {len(those):>8,}")
            lines.append(f"    {advice(kind, those)}")
            lines += [f"    {_example(each)}" for each in those[:EXAMPLES]]
            if kind == Kind.UNKNOWN_CHARACTERS:
                lines.append(f"    in all: {_characters(found.unknown_characters(numbers.name))}")
    return "\n".join(lines if len(lines) > 1 else [head, "  nothing found"])


def advice(kind: Kind, findings: Sequence[Finding]) -> str:
    """Returns what a kind means for training, and what to do.

    Args:
        findings: at least one finding of the kind, the worst first.
    """
    if kind not in PASSED_LIMITS:
        return ADVICE[kind]
    return f"{ADVICE[kind]} The longest needs {findings[0].badness:.0f}."


def _characters(counts: Sequence[tuple[str, int]]) -> str:
    listed = [
        f"{describe(character)} in {_count(n, 'utterance')}" for character, n in counts[:CHARACTERS]
    ]
    more = len(counts) - len(listed)
    return ", ".join([*listed, f"and {more:,} more"] if more else listed)


def _example(finding: Finding) -> str:
    """Returns place, detail and, at the end because it may run right to left, the transcript."""
    line = f"{isolate_right_to_left(finding.utterance.where)}: {finding.detail}"
    transcript = " ".join((finding.utterance.transcript or "").split())
    if len(transcript) > LONGEST_TRANSCRIPT:
        transcript = f"{transcript[:LONGEST_TRANSCRIPT]}..."
    return f"{line}  {isolate(transcript)}" if transcript else line


def _count(number: int, of: str) -> str:
    return f"{number:,} {of}{'' if number == 1 else 's'}"


def table(found: Findings) -> str:
    """Returns all findings as CSV with the columns COLUMNS."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for each in found.findings:
        utterance = each.utterance
        writer.writerow(
            [
                *(each.set, each.severity, each.kind, utterance.where, utterance.utterance_id),
                *(utterance.audio_path or "", each.detail, utterance.transcript or ""),
            ]
        )
    return in_utf8(text.getvalue())


def write_table(folder: str, found: Findings) -> str:
    """Writes check.csv to a folder.

    Returns:
        the path of the file.

    Raises:
        UserError: it can't be written.
    """
    path = storage.join(folder, TABLE_FILE)
    storage.write_text(path, table(found))
    return path
