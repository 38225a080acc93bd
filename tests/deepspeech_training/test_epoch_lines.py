"""DeepSpeech.py's lines about epochs, from a history that grows."""

from pathlib import Path

import pytest

from speech.deepspeech_training.epoch_lines import EpochLines
from speech.training.history import DevResult, History, TrainingPoint

RULE = "-" * 80


def result(step: int, loss: float, best: bool) -> DevResult:
    return DevResult(step, loss, 0.5, 0.25, None, None, best=best)


def test_epochs_are_printed_once_they_have_ended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = EpochLines(str(tmp_path), 1, 2, 2, "dev.csv", progress=False)
    lines.report()
    history = History(str(tmp_path), 0)
    for step, rate in ((1, 1e-3), (2, 1e-3), (3, 1e-3), (4, 1e-3)):
        history.add(TrainingPoint(step, float(step), rate))
    history.save()
    lines.report()
    assert capsys.readouterr().out == ""  # the development set hasn't been recognised
    history.add(result(4, 8.5, best=True))
    for step in (5, 6):
        history.add(TrainingPoint(step, 1.0, 1e-4))
    history.add(result(6, 9.0, best=False))
    history.save()
    lines.report()
    lines.report()
    assert capsys.readouterr().out.splitlines() == [
        "I Training epoch 0...",
        "I Finished training epoch 0 - loss: 3.500000",
        "I Validating epoch 0 on dev.csv...",
        "I Finished validating epoch 0 on dev.csv - loss: 8.500000",
        f"I Saved new best validating model with loss 8.500000 to: {tmp_path}/best",
        RULE,
        "I Encountered a plateau, reducing learning rate to 0.0001",
        "I Training epoch 1...",
        "I Finished training epoch 1 - loss: 1.000000",
        "I Validating epoch 1 on dev.csv...",
        "I Finished validating epoch 1 on dev.csv - loss: 9.000000",
        RULE,
    ]


def test_progress_bars_replace_sentences(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    history = History(str(tmp_path), 0)
    history.add(TrainingPoint(1, 2.0, 1e-3))
    history.save()
    EpochLines(str(tmp_path), 0, 1, 0, "", progress=True).report()
    assert capsys.readouterr().out.splitlines() == [
        "Epoch 0 |   Training | Elapsed Time: 0:00:00 | Steps: 1 | Loss: 2.000000",
        RULE,
    ]
