"""A pre-flight in the terminal and as a table."""

import csv
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from planted_corpus import SETTINGS, Corpus, clean_corpus, planted_corpus, voice

from speech.preflight.examine import examine
from speech.preflight.findings import Findings, Kind
from speech.preflight.terminal import ADVICE, COLUMNS, report, table, verdict, write_table
from speech.text.characters import isolate

ARABIC = "\u0627\u0628\u0639\u062b \u0644\u064a \u0631\u0633\u0627\u0644\u0629"


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return planted_corpus(tmp_path_factory.mktemp("planted"))


@pytest.fixture(scope="module")
def found(planted: Corpus) -> Findings:
    return examine(planted.sets, planted.settings_of, 1)


def test_every_kind_of_a_set_is_counted_errors_first(found: Findings) -> None:
    train, dev, test, last = report(found).split("\n\n")
    assert train.startswith("train: 55 utterances, 0.0")
    assert dev.startswith("dev: 5 utterances") and test.startswith("test: 6 utterances")
    assert " 1 speaker\n" in dev and " 2 speakers\n" in test
    rows = [line.split() for line in train.splitlines() if line[2:7].strip() in ("error", "warni")]
    severities = [row[0] for row in rows]
    assert severities == sorted(severities)  # errors, then warnings
    counts = {(row[0], Kind(" ".join(row[1:-1]))): int(row[-1]) for row in rows}
    for (severity, kind), number in counts.items():
        those = [e for e in found.of_kind(kind, "train") if e.severity == severity]
        assert len(those) == number
    assert sum(counts.values()) == sum(each.set == "train" for each in found.findings)
    assert last == (f"found {found.errors} errors and {found.warnings} warnings in 66 utterances")


def test_counts_are_aligned(found: Findings) -> None:
    rows = [line for line in report(found).splitlines() if line.startswith(("  error", "  warn"))]
    assert len({len(row) for row in rows}) == 1


def test_at_most_three_examples_each_with_its_place(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    for number in range(5):
        corpus.add(f"{number}", np.zeros(16000), text="a b")
    lines = report(examine({"train": corpus.sets["train"]}, corpus.settings_of, 1)).splitlines()
    assert lines[1].split() == ["error", "silence", "5"]
    assert lines[2].strip() == ADVICE[Kind.SILENCE]
    assert [line.split(": ")[0].strip() for line in lines[3:6]] == [
        "train.csv:2",
        "train.csv:3",
        "train.csv:4",
    ]
    assert lines[6:] == ["", "found 5 errors and 0 warnings in 5 utterances"]


def test_a_clean_set_has_no_findings(tmp_path: Path) -> None:
    found = examine(
        clean_corpus(tmp_path).sets, dict.fromkeys(("train", "dev", "test"), SETTINGS), 1
    )
    assert report(found).count("\n  nothing found") == 3
    assert verdict(found) == "found nothing wrong in 32 utterances"


def test_arabic_is_isolated_at_both_ends_of_its_line(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    corpus.add("arabic", voice("arabic", 1), ARABIC, place=f"{ARABIC}.csv:2")
    text = report(examine({"train": corpus.sets["train"]}, corpus.settings_of, 1))
    (line,) = [line for line in text.splitlines() if ARABIC in line]
    assert line.startswith(f"    {isolate(f'{ARABIC}.csv:2')}: ")
    assert line.endswith(f"  {isolate(ARABIC)}")
    assert "    in all: '\u0627' (U+0627, ARABIC LETTER ALEF) in 1 utterance, " in text


def test_exceeded_limits_are_reported_with_a_sufficient_value(found: Findings) -> None:
    text = report(found)
    skipped = "\n    It is skipped. Cut it, or raise "
    assert f"{skipped}--max_sequence_length. The longest needs 3999.\n" in text
    assert f"{skipped}--max_label_length. The longest needs 154.\n" in text


def test_a_forgotten_language_makes_a_short_report(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    for number in range(5):
        text = "".join(chr(0x4E00 + 100 * number + each) for each in range(100))
        corpus.add(f"{number}", voice(f"{number}", 9), text)
    found = examine({"train": corpus.sets["train"]}, corpus.settings_of, 1)
    text = report(found)
    assert len(text) < 4000 and "in 1 utterance, and 480 more\n" in text
    for row in csv.DictReader(io.StringIO(table(found))):
        assert len(row["detail"]) < 200 and row["detail"].endswith(", and 97 more")


def test_long_transcripts_are_cut_only_in_the_terminal(found: Findings) -> None:
    (long,) = found.of_kind(Kind.TOO_LONG)
    transcript = long.utterance.transcript
    assert transcript is not None
    assert isolate(f"{transcript[:80]}...") in report(found)
    assert transcript in table(found)


def test_the_table_has_every_finding(found: Findings, tmp_path: Path) -> None:
    path = write_table(str(tmp_path / "report"), found)
    assert path == str(tmp_path / "report" / "check.csv")
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    assert [(row["set"], row["severity"], row["kind"], row["detail"]) for row in rows] == [
        (each.set, each.severity, each.kind, each.detail) for each in found.findings
    ]
    unknown = next(row for row in rows if row["kind"] == Kind.UNKNOWN_CHARACTERS)
    assert unknown["place"].startswith("train.csv:") and unknown["utterance_id"] == "unknown"
    assert unknown["audio"].endswith("unknown.wav")
    assert unknown["transcript"] == "caf\u00e9 42 \u0634 na\u00efve caf\u00e9s"


def test_names_outside_utf_8_are_written(found: Findings, tmp_path: Path) -> None:
    first = found.findings[0]
    odd = replace(first, utterance=replace(first.utterance, audio_path="\udcff.wav"))
    rows = list(csv.DictReader(io.StringIO(table(replace(found, findings=(odd,))))))
    assert rows[0]["audio"] == "\\udcff.wav"
