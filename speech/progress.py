"""What training tells while it runs: a line every few seconds, and every step to its history."""

import time
from typing import Any

import tensorflow as tf
from absl import logging

from speech import bad_steps
from speech.config import TrainingConfig
from speech.history import History, TrainingPoint, mean_loss

# Seconds between two lines.
LOG_SECONDS = 10


class ProgressHook(tf.estimator.SessionRunHook):
    """Logs where training is, every few seconds and at the end of a stretch; fills its history."""

    def __init__(
        self,
        training: TrainingConfig,
        learning_rate_scale: float,
        audio_seconds: float,
        last_step: int,
        history: History,
    ) -> None:
        """audio_seconds: of an epoch. last_step: where training ends."""
        self.training = training
        self.learning_rate_scale = learning_rate_scale
        self.audio_seconds_per_step = audio_seconds / training.steps_per_epoch
        self.last_step = last_step
        self.history = history

    def begin(self) -> None:
        self.step = tf.compat.v1.train.get_global_step()
        self.bad_steps = bad_steps.variables()
        # The loss that the estimator itself trains on, whatever device it is computed on.
        self.loss = tf.compat.v1.get_collection(tf.compat.v1.GraphKeys.LOSSES)[-1]
        self.points: list[TrainingPoint] = []  # since the last line
        self.logged_step: int | None = None

    def before_run(self, run_context: Any) -> Any:
        return tf.estimator.SessionRunArgs(self.loss)

    def after_run(self, run_context: Any, run_values: Any) -> None:
        # Fetched along with the loss, the step would be the one before or behind the training op.
        step, (_, bad_step) = run_context.session.run([self.step, self.bad_steps])
        loss = None if bad_step == step else float(run_values.results)
        point = TrainingPoint(int(step), loss, self._learning_rate(step))
        self.points.append(point)
        self.history.add(point)
        if self.logged_step is None:
            # The first run includes the compilation: the clock starts behind it.
            self.logged_step = point.step
            self.logged_time = time.monotonic()
        elif time.monotonic() - self.logged_time >= LOG_SECONDS:
            self._log(point.step)

    def end(self, session: Any) -> None:
        if not self.points or self.logged_step is None:
            return
        last = self.points[-1]
        if last.step > self.logged_step:
            self._log(last.step)
        else:
            # A TPU may take the whole stretch in one run: there is nothing to tell its speed by.
            logging.info("step %d/%d  loss %s", last.step, self.last_step, _told(last.loss))

    def _learning_rate(self, step: int) -> float:
        return float(self.learning_rate_scale * self.training.learning_rate_at(step - 1))

    def _log(self, step: int) -> None:
        assert self.logged_step is not None
        now = time.monotonic()
        steps_per_second = (step - self.logged_step) / (now - self.logged_time)
        logging.info(
            "epoch %.2f  step %d/%d  loss %s  learning rate %.2e  %.2f steps/s  audio %.0f s/s  "
            "left %s",
            step / self.training.steps_per_epoch,
            step,
            self.last_step,
            _told(mean_loss(self.points)),
            self._learning_rate(step),
            steps_per_second,
            steps_per_second * self.audio_seconds_per_step,
            hours_minutes_seconds((self.last_step - step) / steps_per_second),
        )
        self.points.clear()
        self.logged_step, self.logged_time = step, now


class HistoryListener(tf.compat.v1.train.CheckpointSaverListener):
    """Saves the history with every checkpoint, so that none knows of steps that it lacks."""

    def __init__(self, history: History) -> None:
        self._history = history

    def after_save(self, session: Any, global_step_value: int) -> None:
        self._history.save()


def _told(loss: float | None) -> str:
    return "not finite" if loss is None else f"{loss:.2f}"


def hours_minutes_seconds(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
