"""The numbers of the progress line, by the clock of the test."""

import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from speech.engines.engine import StepState
from speech.networks.config import TrainingConfig
from speech.training import progress
from speech.training.history import History, TrainingPoint
from speech.training.progress import ProgressLog, Recorder, hours_minutes_seconds

TRAINING = TrainingConfig(
    steps_per_epoch=4, train_steps=12, learning_rate=1e-3, learning_rate_decay_factor=0.5
)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0:00:00"),
        (0.4, "0:00:00"),
        (59.6, "0:01:00"),
        (61, "0:01:01"),
        (3599.9, "1:00:00"),
        (3661, "1:01:01"),
        (360000, "100:00:00"),
    ],
)
def test_duration_is_written_as_hours_minutes_seconds(seconds: float, text: str) -> None:
    assert hours_minutes_seconds(seconds) == text


class Clock:
    """Replaces the module `time`."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    logged: list[str] = []

    def info(text: str, *values: Any) -> None:
        logged.append(text % values)

    monkeypatch.setattr(progress.logging, "info", info)
    return logged


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def run_steps(clock: Clock, seconds: Iterator[float], steps: int, start: int = 0) -> None:
    """Trains from step `start`: the loss of a step is the number of steps before it."""
    recorder = Recorder(TRAINING, 1.0, History("", 0))
    log = ProgressLog(TRAINING, audio_seconds=800.0)
    for step in range(start + 1, start + steps + 1):
        clock.now += next(seconds)
        point = recorder.record(StepState(step, float(step - 1), 0, 0))
        assert point
        log.add(point)
    log.end()


def test_line_counts_from_the_end_of_the_first_step(lines: list[str], clock: Clock) -> None:
    """The first step compiles for 500 s; later ones take 4 s each: a line every third step."""
    run_steps(clock, itertools.chain([500.0], itertools.repeat(4.0)), steps=7)
    assert len(lines) == 2
    numbers = [line.split("  ") for line in lines]
    # A quarter of a step a second, 200 s of audio a step; the fourth step ends the first epoch.
    assert numbers[0][0] == "epoch 1.00"
    assert numbers[0][1] == "step 4/12"
    assert numbers[0][3] == "learning rate 1.00e-03"
    assert numbers[0][4] == "0.25 steps/s"
    assert numbers[0][5] == "audio 50 s/s"
    assert numbers[0][6] == "left 0:00:32"
    assert numbers[1][:2] == ["epoch 1.75", "step 7/12"]
    assert numbers[1][5:] == ["audio 50 s/s", "left 0:00:20"]


def test_loss_is_the_mean_since_the_last_line(lines: list[str], clock: Clock) -> None:
    run_steps(clock, itertools.repeat(5.0), steps=5)
    losses = [float(line.split("  ")[2].removeprefix("loss ")) for line in lines]
    assert losses == [pytest.approx(1.0), pytest.approx(3.5)]


def test_segment_that_ends_between_two_lines_logs_one_more(lines: list[str], clock: Clock) -> None:
    run_steps(clock, itertools.repeat(4.0), steps=3, start=8)
    assert len(lines) == 1
    assert lines[0].startswith("epoch 2.75  step 11/12  loss 9.00  learning rate 2.50e-04")
    assert lines[0].endswith("left 0:00:04")


def test_segment_of_one_run_logs_no_speed(lines: list[str], clock: Clock) -> None:
    run_steps(clock, itertools.repeat(4.0), steps=1, start=8)
    assert lines == ["step 9/12  loss 8.00"]


def test_segment_without_a_step_logs_nothing(lines: list[str], clock: Clock) -> None:
    run_steps(clock, itertools.repeat(4.0), steps=0)
    assert lines == []


def test_a_step_is_recorded_once_with_its_learning_rate() -> None:
    history = History("", 0)
    recorder = Recorder(TRAINING, 0.5, history)
    assert recorder.record(StepState(0, 0.0, 0, 0)) is None
    skipped = StepState(5, None, 1, 5)
    point = TrainingPoint(5, None, 0.25e-3)
    assert recorder.record(skipped) == recorder.record(skipped) == point
    assert history.training == [point]
