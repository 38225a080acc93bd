"""What training tells while it runs: a line every few seconds, and every step to its history."""

import time
from typing import Any

import tensorflow as tf
from absl import logging

from speech.networks.config import TrainingConfig
from speech.system.lock import Lock
from speech.training.history import History, TrainingPoint, mean_loss
from speech.training.step_state import StepReader

# Seconds between two lines.
LOG_SECONDS = 10


class Recorder:
    """Takes every step into a training's history, once."""

    def __init__(
        self, training: TrainingConfig, learning_rate_scale: float, history: History
    ) -> None:
        self.training = training
        self.history = history
        self._learning_rate_scale = learning_rate_scale
        self._reader: StepReader | None = None

    def begin(self) -> None:
        """Called in the graph that will be trained."""
        self._reader = StepReader()

    def record(self, session: Any) -> TrainingPoint | None:
        """The point of the latest step; None if there was no step yet."""
        assert self._reader
        state, points = self._reader.read(session), self.history.training
        if state.step and not (points and points[-1].step == state.step):
            rate = self._learning_rate_scale * self.training.learning_rate_at(state.step - 1)
            self.history.add(TrainingPoint(state.step, state.loss, float(rate)))
        return points[-1] if points else None


class HistoryListener(tf.compat.v1.train.CheckpointSaverListener):
    """Saves the history before every checkpoint, which then holds no step that it lacks."""

    def __init__(self, recorder: Recorder, lock: Lock) -> None:
        """lock: of the model; a training that has lost it saves no more."""
        self._recorder = recorder
        self._lock = lock

    def begin(self) -> None:
        self._recorder.begin()

    def before_save(self, session: Any, global_step_value: int) -> None:
        self._lock.check()
        self._recorder.record(session)  # which the ProgressHook may only do after this
        self._recorder.history.save()


class ProgressHook(tf.estimator.SessionRunHook):
    """Logs where training is, every few seconds and at the end of a stretch."""

    def __init__(self, recorder: Recorder, audio_seconds: float, last_step: int) -> None:
        """audio_seconds: of an epoch. last_step: where training ends."""
        self.recorder = recorder
        self.training = recorder.training
        self.audio_seconds_per_step = audio_seconds / self.training.steps_per_epoch
        self.last_step = last_step

    def begin(self) -> None:
        self.recorder.begin()
        self.points: list[TrainingPoint] = []  # since the last line
        self.logged_step: int | None = None

    def after_run(self, run_context: Any, run_values: Any) -> None:
        point = self.recorder.record(run_context.session)
        assert point
        self.points.append(point)
        if self.logged_step is None:
            # The first run includes the compilation: the clock starts behind it.
            self.logged_step = point.step
            self.logged_time = time.monotonic()
        elif time.monotonic() - self.logged_time >= LOG_SECONDS:
            self._log()

    def end(self, session: Any) -> None:
        if not self.points or self.logged_step is None:
            return
        last = self.points[-1]
        if last.step > self.logged_step:
            self._log()
        else:
            # A TPU may take the whole stretch in one run: there is nothing to tell its speed by.
            logging.info("step %d/%d  loss %s", last.step, self.last_step, _told(last.loss))

    def _log(self) -> None:
        assert self.logged_step is not None
        now, last = time.monotonic(), self.points[-1]
        step = last.step
        steps_per_second = (step - self.logged_step) / (now - self.logged_time)
        logging.info(
            "epoch %.2f  step %d/%d  loss %s  learning rate %.2e  %.2f steps/s  audio %.0f s/s  "
            "left %s",
            step / self.training.steps_per_epoch,
            step,
            self.last_step,
            _told(mean_loss(self.points)),
            last.learning_rate,
            steps_per_second,
            steps_per_second * self.audio_seconds_per_step,
            hours_minutes_seconds((self.last_step - step) / steps_per_second),
        )
        self.points.clear()
        self.logged_step, self.logged_time = step, now


def _told(loss: float | None) -> str:
    return "not finite" if loss is None else f"{loss:.2f}"


def hours_minutes_seconds(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
