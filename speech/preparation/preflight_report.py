"""A pre-flight's findings in words: for the terminal, as a table of all, and what to do."""

import csv
import io
from collections.abc import Sequence

from speech.preparation.preflight import (
    CLIPPING,
    CONTRADICTION,
    DUPLICATE,
    EMPTY,
    ERROR,
    EXTREME_LENGTH,
    KINDS,
    LABEL_TOO_LONG,
    LEAKED_AUDIO,
    LEAKED_TRANSCRIPT,
    MISSING,
    NO_SPEECH,
    NO_TRANSCRIPT,
    OFFSET,
    SHARED_SPEAKER,
    SILENCE,
    SILENT_EDGE,
    SPEECH_RATE,
    TOO_LONG,
    TOO_SHORT,
    UNALIGNABLE,
    UNKNOWN_CHARACTERS,
    UNREADABLE,
    WARNING,
    WRONG_SCALE,
    WRONG_SIZE,
    Finding,
    Findings,
    SetNumbers,
)
from speech.system import storage
from speech.text.showing import described, enclosed, in_utf8, isolated, place

TABLE_FILE = "check.csv"
COLUMNS = (
    *("set", "severity", "kind", "place", "utterance_id", "audio", "detail"),
    "transcript",
)

EXAMPLES = 3  # of a kind and set, the worst first
CHARACTERS = 20  # that are unknown, the most frequent first
KIND_WIDTH = max(map(len, KINDS))
LONGEST_TRANSCRIPT = 80  # characters that are shown

# What each kind means for a training, and what to do.
ADVICE = {
    MISSING: "It is skipped. Fetch the file, or take the line out.",
    UNREADABLE: "It is skipped. Fetch or encode the file again.",
    EMPTY: "It is skipped. The file was never filled, or its stretch is empty.",
    NO_TRANSCRIPT: "It is skipped. Write down what is said, or take the line out.",
    UNKNOWN_CHARACTERS: "It is skipped. Normalise the text, or give the alphabet these characters.",
    TOO_LONG: "It is skipped. Cut it, or raise --max_sequence_length.",
    LABEL_TOO_LONG: "It is skipped. Cut it, or raise --max_label_length.",
    UNALIGNABLE: "It is skipped: CTC writes one label an output. The transcript is too long for "
    "the audio.",
    SILENCE: "There is a transcript and nothing to hear.",
    LEAKED_AUDIO: "A rate over it says nothing: take it out of one of the sets.",
    CONTRADICTION: "At least one of the transcripts is wrong.",
    WRONG_SIZE: "The file isn't the one that the list was made of, or was cut short on its way.",
    SPEECH_RATE: "Most likely the transcript belongs to other audio, or a part is missing.",
    NO_SPEECH: "The level hardly changes: listen whether anybody speaks.",
    WRONG_SCALE: "Samples of floating point lie between -1 and 1, these at the scale of integers. "
    "Divide them by 32768, or write integers.",
    CLIPPING: "A few cut-off samples, red in check.html, do no harm. Record more quietly.",
    OFFSET: "The recording device is at fault; a high-pass filter mends it.",
    SILENT_EDGE: "It costs time and padding: cut off what is shaded in check.html.",
    TOO_SHORT: "No word is that short.",
    EXTREME_LENGTH: "All others are padded to it, unless it is left out by --max_sequence_length.",
    DUPLICATE: "It counts twice. Take one out unless this is meant.",
    LEAKED_TRANSCRIPT: "For sentences that are read out: what is learned by heart is tested. For "
    "commands it is as it should be.",
    SHARED_SPEAKER: "A rate over it tells nothing of voices that were never heard.",
}
# What is found where a limit is passed; the badness is what the limit would have to be.
PASSED_LIMITS = (TOO_LONG, LABEL_TOO_LONG)


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
            lines.append(f"    {advice(kind, those)}")
            lines += [f"    {_example(each)}" for each in those[:EXAMPLES]]
            if kind == UNKNOWN_CHARACTERS:
                lines.append(f"    in all: {_characters(found.unknown_characters(numbers.name))}")
    return "\n".join(lines if len(lines) > 1 else [head, "  nothing found"])


def advice(kind: str, findings: Sequence[Finding]) -> str:
    """What a kind means for a training, and what to do.

    Args:
        findings: of the kind, the worst first, at least one.
    """
    if kind not in PASSED_LIMITS:
        return ADVICE[kind]
    return f"{ADVICE[kind]} The longest needs {findings[0].badness:.0f}."


def _characters(counts: Sequence[tuple[str, int]]) -> str:
    told = [
        f"{described(character)} in {_count(n, 'utterance')}"
        for character, n in counts[:CHARACTERS]
    ]
    more = len(counts) - len(told)
    return ", ".join([*told, f"and {more:,} more"] if more else told)


def _example(finding: Finding) -> str:
    """Where it is, what it is, and last what was said, which may run from right to left."""
    told = f"{isolated(place(finding.utterance))}: {finding.detail}"
    transcript = " ".join((finding.utterance.transcript or "").split())
    if len(transcript) > LONGEST_TRANSCRIPT:
        transcript = f"{transcript[:LONGEST_TRANSCRIPT]}..."
    return f"{told}  {enclosed(transcript)}" if transcript else told


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
