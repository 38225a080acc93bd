"""A test's report, in DeepSpeech's form."""

import json
from pathlib import Path

import pytest

from speech.deepspeech_training import report
from speech.evaluation import results

RULE = "-" * 80


def write_report(folder: Path) -> list[report.Sample]:
    found = [
        results.compare("a", "one two", "one two", 1.0),
        results.compare("b", "one two", "one", 4.0),
        results.compare("c", "one two", "two", 5.0),
        results.compare("d", "one", "too", 2.5),
    ]
    results.write(str(folder), results.summarise(found, found, 1.0, 1.0, 3), found)
    recordings = {each.utterance_id: f"/wavs/{each.utterance_id}.wav" for each in found}
    return report.read_samples(str(folder), recordings, by_characters=False)


def test_samples_are_in_deepspeechs_order(tmp_path: Path) -> None:
    samples = write_report(tmp_path)
    names = [each.wav_filename for each in samples]
    # By WER, and of equal ones the highest loss first.
    assert names == ["/wavs/a.wav", "/wavs/c.wav", "/wavs/b.wav", "/wavs/d.wav"]


def test_lines_are_deepspeechs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report.print_report("test.csv", str(tmp_path), write_report(tmp_path), 1)
    # (0 + 1 + 1 + 1) / 7 words, (0 + 4 + 4 + 3) / 24 characters
    assert capsys.readouterr().out.splitlines() == [
        "Test on test.csv - WER: 0.428571, CER: 0.458333, loss: 3.125000",
        *(RULE, "Best WER: ", RULE),
        "WER: 0.000000, CER: 0.000000, loss: 1.000000",
        *(" - wav: file:///wavs/a.wav", ' - src: "one two"', ' - res: "one two"', RULE),
        *("Median WER: ", RULE),
        "WER: 0.500000, CER: 0.571429, loss: 4.000000",
        *(" - wav: file:///wavs/b.wav", ' - src: "one two"', ' - res: "one"', RULE),
        *("Worst WER: ", RULE),
        "WER: 1.000000, CER: 1.000000, loss: 2.500000",
        *(" - wav: file:///wavs/d.wav", ' - src: "one"', ' - res: "too"', RULE),
    ]


def test_json_has_deepspeechs_keys(tmp_path: Path) -> None:
    report.write_json(str(tmp_path / "out.json"), write_report(tmp_path))
    assert json.loads((tmp_path / "out.json").read_text())[1] == {
        "wav_filename": "/wavs/c.wav",
        "src": "one two",
        "res": "two",
        "loss": 5.0,
        "char_distance": 4,
        "char_length": 7,
        "word_distance": 1,
        "word_length": 2,
        "cer": pytest.approx(4 / 7),
        "wer": 0.5,
    }
