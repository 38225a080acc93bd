"""The training loop with an engine in plain Python: no TPUEstimator, no network."""

import json
import re
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tiny_shards import random_utterances, write_shards

from speech.engines import checkpoints
from speech.engines.devices import Device, DeviceSettings
from speech.engines.engine import (
    Callbacks,
    Engine,
    InputFn,
    MeanLoss,
    OutputBatch,
    RunSettings,
    StepState,
)
from speech.engines.stopping import Stopping
from speech.networks.config import NetworkChoice, TrainingConfig, read_config
from speech.optimisation.state import BAD_STEPS, LATEST_BAD_STEP, LOSS
from speech.shards.shard_set import ShardSet
from speech.training import curves, loop, tensorboard
from speech.training.early_stopping import EarlyStopping
from speech.training.history import HISTORY_FILE, DevResult, History
from speech.training.settings import (
    DataSettings,
    LoopSettings,
    StartSettings,
    TrainingSettings,
)
from speech.training.task import Data, Task, make_task
from utils import UserError

BINS = 4
STEPS_PER_EPOCH = 3  # of 6 utterances in batches of 2

# The loss on the development set after so many steps; the best one after 6.
DEV_LOSSES = {3: 9.0, 6: 5.0, 9: 7.0, 12: 6.0, 15: 8.0, 18: 8.5}


class PowerFailureError(Exception):
    """A training that ends without a warning."""


class CountingEngine(Engine):
    """Counts steps in place of training; its variable `w` adds up the learning rate scales."""

    def __init__(
        self,
        task: Task,
        dev_losses: dict[int, float],
        fails_at: int | None = None,
        bad_steps: Sequence[int] = (),
    ) -> None:
        """
        Args:
            dev_losses: by step.
            fails_at: the step after which the computer fails.
            bad_steps: that aren't finite.
        """
        self._run = task.settings.run
        self._dev_losses = dev_losses
        self._fails_at = fails_at
        self._bad_steps = bad_steps
        self.scales: list[tuple[int, float]] = []  # (first step, learning rate scale) of segments

    def train(
        self, input_fn: InputFn, until_step: int, learning_rate_scale: float, callbacks: Callbacks
    ) -> int:
        step = saved = checkpoints.latest_step(self._run.model_dir)
        weight = self._weight() if step else 0.0
        self.scales.append((step + 1, learning_rate_scale))
        for _ in input_fn({"batch_size": self._run.train_batch_size}).take(until_step - step):
            step, weight = step + 1, weight + learning_rate_scale
            state = self._state(step)
            callbacks.on_step(state)
            if step == self._fails_at:
                raise PowerFailureError
            is_last = step == until_step or callbacks.stopping.requested
            if is_last or step % self._run.save_checkpoints_steps == 0:
                callbacks.before_save(state)
                saved = self._save(state, weight)
            if is_last:
                break
        return saved

    def _state(self, step: int) -> StepState:
        bad = [each for each in self._bad_steps if each <= step]
        loss = None if step in bad else 100.0 / step
        return StepState(step, loss, len(bad), max(bad, default=0))

    def _save(self, state: StepState, weight: float) -> int:
        values = {
            "global_step": np.int64(state.step),
            LOSS: np.float32(state.loss or 0),
            BAD_STEPS: np.int32(state.bad_steps),
            LATEST_BAD_STEP: np.int32(state.latest_bad_step),
            "w": np.full(2, weight, np.float32),
        }
        checkpoints.save(self._run.model_dir, values, self._run.keep_checkpoint_max)
        return state.step

    def _weight(self) -> float:
        checkpoint = checkpoints.latest_checkpoint(self._run.model_dir)
        return float(tf.train.load_variable(checkpoint, "w")[0])

    def mean_loss(self, input_fn: InputFn, checkpoint: str, steps: int) -> MeanLoss:
        return MeanLoss(self._dev_losses[checkpoints.steps_of(checkpoint)], 0)

    def predict(self, input_fn: InputFn, checkpoint: str) -> Iterator[OutputBatch]:
        loss = self._dev_losses[checkpoints.steps_of(checkpoint)]
        for batch in input_fn({"batch_size": self._run.eval_batch_size}):
            size, outputs, classes = len(batch["feature_length"]), 5, 29
            yield {
                "utterance_number": batch["utterance_number"].numpy(),
                "log_probs": np.log(
                    np.tile(np.eye(classes, dtype=np.float32)[:outputs], [size, 1, 1]) + 1e-6
                ),
                "output_length": np.full(size, outputs, np.int32),
                "ctc_loss": np.full(size, loss, np.float32),
                "aligned": np.ones(size, np.float32),
            }


@pytest.fixture(autouse=True)
def without_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures, which other tests check, would take most of the time."""
    monkeypatch.setattr(curves, "draw", lambda *unused: b"a picture")
    pixels = np.zeros([4, 4, 3], np.uint8)
    monkeypatch.setattr(tensorboard, "heat_map", lambda *unused: pixels)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    folder = tmp_path_factory.mktemp("shards")
    return write_shards(folder, random_utterances([20, 30, 40, 25, 35, 45], BINS))


def task_of(shards: ShardSet, folder: Path, with_dev: bool = True, **settings: Any) -> Task:
    """Returns a task of 18 steps, if `settings` of the loop don't say otherwise."""
    pattern = shards.pattern
    given = TrainingSettings(
        data=DataSettings(pattern, pattern if with_dev else ""),
        network=NetworkChoice(sizes={"conv_channels": (2, 2), "recurrent_unit_size": 8}),
        optimisation=TrainingConfig(train_batch_size=2, learning_rate=1e-3),
        loop=LoopSettings(**{"train_steps": 18, "best_by": "loss", **settings}),
        start=StartSettings(),
        run=RunSettings(str(folder), 4, 2, save_checkpoints_steps=2, keep_checkpoint_max=3),
        device=DeviceSettings(),
    )
    return make_task(given, Data(shards, shards if with_dev else None), Device())


def train(task: Task, **more: Any) -> CountingEngine:
    engine = CountingEngine(task, DEV_LOSSES, **more)
    loop.run(task, engine, Stopping())
    return engine


def history_of(folder: Path) -> str:
    return (folder / HISTORY_FILE).read_text()


def variable_of(checkpoint: str) -> float:
    return float(tf.train.load_variable(checkpoint, "w")[0])


def test_loop_trains_evaluates_and_keeps_the_best_checkpoint(
    shards: ShardSet, tmp_path: Path
) -> None:
    task = task_of(shards, tmp_path)
    engine = train(task)
    assert engine.scales == [(step, 1.0) for step in (1, 4, 7, 10, 13, 16)]
    history = History(str(tmp_path), 18)
    assert [point.step for point in history.training] == list(range(1, 19))
    assert {each.step: each.loss for each in history.dev_results} == DEV_LOSSES
    assert [each.step for each in history.dev_results if each.best] == [3, 6]
    best = checkpoints.find_checkpoint(str(tmp_path), checkpoints.BEST)
    assert best.endswith("model.ckpt-6") and variable_of(best) == 6
    assert checkpoints.latest_step(str(tmp_path)) == 18
    assert read_config(str(tmp_path)) == task.config
    assert (tmp_path / curves.CURVES_FILE).read_bytes() == b"a picture"
    assert list((tmp_path / "dev").glob("events.*"))


def test_finished_training_takes_no_more_steps(shards: ShardSet, tmp_path: Path) -> None:
    train(task_of(shards, tmp_path, train_steps=3))
    before = history_of(tmp_path)
    assert train(task_of(shards, tmp_path, train_steps=3)).scales == []
    assert history_of(tmp_path) == before


def test_evaluations_come_at_the_interval_and_at_the_last_step(
    shards: ShardSet, tmp_path: Path
) -> None:
    task = task_of(shards, tmp_path, train_steps=9, eval_steps=6)
    engine = CountingEngine(task, DEV_LOSSES)
    loop.run(task, engine, Stopping())
    assert [each.step for each in History(str(tmp_path), 9).dev_results] == [6, 9]


def test_without_a_development_set_nothing_is_evaluated(shards: ShardSet, tmp_path: Path) -> None:
    engine = train(task_of(shards, tmp_path, with_dev=False, train_steps=6))
    assert [step for step, _ in engine.scales] == [1, 4]
    assert History(str(tmp_path), 6).dev_results == []
    assert not (tmp_path / "best").exists()


def test_early_stopping_ends_training(
    shards: ShardSet, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stop = EarlyStopping(early_stop=True, es_epochs=2)
    with caplog.at_level("INFO", "absl"):
        train(task_of(shards, tmp_path, early_stopping=stop))
    assert checkpoints.latest_step(str(tmp_path)) == 12  # two epochs after the best
    assert "Stops early at step 12: no better loss" in caplog.text
    # The same command again stops at once.
    assert train(task_of(shards, tmp_path, early_stopping=stop)).scales == []


def test_plateaus_lower_the_learning_rate(shards: ShardSet, tmp_path: Path) -> None:
    plateau = EarlyStopping(reduce_lr_on_plateau=True, plateau_epochs=1, plateau_reduction=0.5)
    engine = train(task_of(shards, tmp_path, early_stopping=plateau))
    assert [scale for _, scale in engine.scales] == [1, 1, 1, 0.5, 0.25, 0.125]
    rates = [point.learning_rate for point in History(str(tmp_path), 18).training]
    assert rates[9] / rates[8] == pytest.approx(0.5 * 0.96)


@pytest.mark.parametrize("step", [1, 5, 6])
def test_training_that_failed_is_resumed_as_if_it_never_had(
    shards: ShardSet, tmp_path: Path, step: int
) -> None:
    plateau = EarlyStopping(reduce_lr_on_plateau=True, plateau_epochs=1, plateau_reduction=0.5)
    undisturbed, failed = tmp_path / "undisturbed", tmp_path / "failed"
    train(task_of(shards, undisturbed, train_steps=9, early_stopping=plateau))
    with pytest.raises(PowerFailureError):
        train(task_of(shards, failed, train_steps=9, early_stopping=plateau), fails_at=step)
    train(task_of(shards, failed, train_steps=9, early_stopping=plateau))
    assert history_of(failed) == history_of(undisturbed)
    for which in (checkpoints.BEST, checkpoints.LATEST):
        one, other = (
            checkpoints.find_checkpoint(str(folder), which) for folder in (failed, undisturbed)
        )
        assert Path(one).name == Path(other).name and variable_of(one) == variable_of(other)


def test_stopped_training_saves_and_is_resumed(
    shards: ShardSet, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    undisturbed, stopped = tmp_path / "undisturbed", tmp_path / "stopped"
    train(task_of(shards, undisturbed, train_steps=6, average_weights=(1.0, 1.0)))
    stopping = Stopping()
    task = task_of(shards, stopped, train_steps=6, average_weights=(1.0, 1.0))

    class StoppedEngine(CountingEngine):
        def _state(self, step: int) -> StepState:
            stopping.signal = signal.SIGTERM if step == 5 else None
            return super()._state(step)

    with caplog.at_level("INFO", "absl"):
        loop.run(task, StoppedEngine(task, DEV_LOSSES), stopping)
        assert "Stopped at step 5. The same command continues from here." in caplog.text
        assert checkpoints.latest_step(str(stopped)) == 5
        assert not (stopped / "average").exists()
        train(task)
    assert "Continues from the checkpoint of step 5, to step 6." in caplog.text
    assert history_of(stopped) == history_of(undisturbed)


def test_evaluation_that_is_stopped_is_made_again(shards: ShardSet, tmp_path: Path) -> None:
    stopping = Stopping()
    task = task_of(shards, tmp_path, train_steps=3)

    class StoppedEngine(CountingEngine):
        def predict(self, input_fn: InputFn, checkpoint: str) -> Iterator[OutputBatch]:
            for batch in super().predict(input_fn, checkpoint):
                stopping.signal = signal.SIGTERM
                yield batch

    loop.run(task, StoppedEngine(task, DEV_LOSSES), stopping)
    assert History(str(tmp_path), 3).dev_results == []
    assert train(task).scales == []
    assert [each.loss for each in History(str(tmp_path), 3).dev_results] == [9.0]


def test_average_is_made_and_evaluated_at_the_end(
    shards: ShardSet, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "absl"):
        train(task_of(shards, tmp_path, train_steps=6, average_weights=(3.0, 1.0)))
    average = checkpoints.find_checkpoint(str(tmp_path), checkpoints.AVERAGE)
    assert variable_of(average) == (3 * 6 + 4) / 4
    assert f"The average of the last 2 checkpoints: {average}" in caplog.text
    (line,) = re.findall(r"checkpoints: .*\n.*(epoch 2\.00  step 6  dev loss 5\.00)", caplog.text)
    assert line


def test_more_bad_steps_than_allowed_end_training(shards: ShardSet, tmp_path: Path) -> None:
    task = task_of(shards, tmp_path, max_bad_steps=1)
    with pytest.raises(UserError, match=r"step 5 isn't finite.*utterance-000\d.*2 such steps"):
        train(task, bad_steps=[2, 5])
    assert [point.loss for point in History(str(tmp_path), 2).training] == [100.0, None]


def test_model_that_another_process_has_taken_over_is_not_saved(
    shards: ShardSet, tmp_path: Path
) -> None:
    task = task_of(shards, tmp_path, with_dev=False)
    engine = CountingEngine(task, DEV_LOSSES)
    checks: list[None] = []

    def check_lock() -> None:
        checks.append(None)
        if len(checks) == 3:
            raise UserError("Another run has taken the model over.")

    history = History(str(tmp_path), 0)
    training = loop.TrainingLoop(task, engine, None, history, Stopping(), check_lock)
    with pytest.raises(UserError, match="Another run"):
        training.run()
    assert checkpoints.latest_step(str(tmp_path)) == 2  # not 3, the end of the first segment


def test_process_that_follows_writes_nothing(shards: ShardSet, tmp_path: Path) -> None:
    task = task_of(shards, tmp_path / "model")
    steps: list[int] = []

    class FollowingEngine(CountingEngine):
        @property
        def is_leader(self) -> bool:
            return False

        def follow(self, batches_from: Callable[[int], InputFn], callbacks: Callbacks) -> None:
            for step in (1, 2):
                callbacks.on_step(self._state(step))
                steps.append(step)

    loop.run(task, FollowingEngine(task, DEV_LOSSES), Stopping())
    assert steps == [1, 2] and not (tmp_path / "model").exists()


def test_history_on_disk_keeps_its_names(shards: ShardSet, tmp_path: Path) -> None:
    train(task_of(shards, tmp_path, train_steps=3))
    records = [json.loads(line) for line in history_of(tmp_path).splitlines()]
    assert [each["kind"] for each in records] == ["training"] * 3 + ["look"]
    assert list(records[0]) == ["kind", "step", "loss", "learning_rate"]
    assert list(records[3]) == [
        *("kind", "step", "loss", "wer", "cer", "beam_wer", "beam_cer", "best")
    ]
    best = History(str(tmp_path), 3).best
    assert best and best == replace(best, step=3, loss=9.0) and isinstance(best, DevResult)
