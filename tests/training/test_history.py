"""history.jsonl: what is written is read again, and what a resumed training drops."""

import json
from pathlib import Path

import pytest

from speech.training.history import HISTORY_FILE, DevResult, History, TrainingPoint, mean_loss
from utils import UserError


def point(step: int, loss: float | None = 1.5) -> TrainingPoint:
    return TrainingPoint(step, loss, 1e-3)


def dev_result(step: int, best: bool = False) -> DevResult:
    return DevResult(step, 10.0 / step, 0.5, 0.25, 0.4, None, best)


def written(folder: Path) -> History:
    history = History(str(folder), 0)
    for record in (
        point(1),
        point(2, None),
        dev_result(2, best=True),
        point(3),
        dev_result(4),
        point(5),
    ):
        history.add(record)
    history.save()
    return history


def test_what_is_saved_is_read_again(tmp_path: Path) -> None:
    history = written(tmp_path)
    again = History(str(tmp_path), 5)
    assert again.training == history.training == [point(1), point(2, None), point(3), point(5)]
    assert again.dev_results == history.dev_results == [dev_result(2, best=True), dev_result(4)]
    again.save()
    assert len((tmp_path / HISTORY_FILE).read_text().splitlines()) == 6


def test_steps_after_the_checkpoint_are_dropped(tmp_path: Path) -> None:
    written(tmp_path)
    history = History(str(tmp_path), 3)
    assert history.training == [point(1), point(2, None), point(3)]
    assert history.dev_results == [dev_result(2, best=True)]
    assert history.is_evaluated(2) and not history.is_evaluated(3)
    history.save()
    steps = [
        json.loads(line)["step"] for line in (tmp_path / HISTORY_FILE).read_text().splitlines()
    ]
    assert steps == [1, 2, 2, 3]


def test_without_a_checkpoint_the_history_is_empty(tmp_path: Path) -> None:
    written(tmp_path)
    history = History(str(tmp_path), 0)
    assert (history.training, history.dev_results, history.best) == ([], [], None)
    assert History(str(tmp_path / "missing"), 7).training == []


def test_best_is_the_last_one_that_was_best(tmp_path: Path) -> None:
    history = History(str(tmp_path), 0)
    for each in (dev_result(1, best=True), dev_result(2, best=True), dev_result(3)):
        history.add(each)
    assert history.best == dev_result(2, best=True)


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        "3",
        '{"kind": "note", "step": 3}',
        '{"kind": "look", "step": 3}',
        '{"kind": "training", "step": "3", "loss": 1.0, "learning_rate": 1.0}',
        '{"kind": "training", "step": 3, "loss": "1", "learning_rate": 1.0}',
    ],
)
def test_line_that_is_no_record_is_named(tmp_path: Path, line: str) -> None:
    written(tmp_path)
    path = tmp_path / HISTORY_FILE
    path.write_text(f"{path.read_text()}{line}\n")
    with pytest.raises(UserError, match="line 7") as error:
        History(str(tmp_path), 5)
    assert str(path) in str(error.value) and "Remove the line" in str(error.value)


def test_mean_loss_leaves_out_skipped_steps() -> None:
    assert mean_loss([point(1, 2.0), point(2, None), point(3, 4.0)]) == 3.0
    assert mean_loss([point(1, None)]) is None
