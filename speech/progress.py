"""What a person sees of a running training."""

import time
from typing import Any

import tensorflow as tf
from absl import logging

from speech.config import TrainingConfig

# Seconds between two lines.
LOG_SECONDS = 10


class ProgressHook(tf.estimator.SessionRunHook):
    """Logs where training is, every few seconds and at the end of a stretch."""

    def __init__(self, training: TrainingConfig, audio_seconds: float, last_step: int) -> None:
        """audio_seconds: of an epoch. last_step: where training ends."""
        self.training = training
        self.audio_seconds_per_step = audio_seconds / training.steps_per_epoch
        self.last_step = last_step

    def begin(self) -> None:
        self.step = tf.compat.v1.train.get_global_step()
        # The loss that the estimator itself trains on, whatever device it is computed on.
        self.loss = tf.compat.v1.get_collection(tf.compat.v1.GraphKeys.LOSSES)[-1]
        self.losses: list[float] = []
        self.logged_step: int | None = None

    def before_run(self, run_context: Any) -> Any:
        return tf.estimator.SessionRunArgs(self.loss)

    def after_run(self, run_context: Any, run_values: Any) -> None:
        self.losses.append(float(run_values.results))
        # Fetched along with the loss, the step would be the one before or behind the training op.
        if self.logged_step is None:
            # The first run includes the compilation: the clock starts behind it.
            self.logged_step = int(run_context.session.run(self.step))
            self.logged_time = time.monotonic()
        elif time.monotonic() - self.logged_time >= LOG_SECONDS:
            self._log(int(run_context.session.run(self.step)))

    def end(self, session: Any) -> None:
        step = int(session.run(self.step))
        if self.losses and self.logged_step is not None and step > self.logged_step:
            self._log(step)
        elif self.losses:
            # A TPU may take the whole stretch in one run: there is nothing to tell its speed by.
            logging.info("step %d/%d  loss %.2f", step, self.last_step, self.losses[-1])

    def _log(self, step: int) -> None:
        assert self.logged_step is not None
        now = time.monotonic()
        steps_per_second = (step - self.logged_step) / (now - self.logged_time)
        logging.info(
            "epoch %.2f  step %d/%d  loss %.2f  learning rate %.2e  audio %.0f s/s  left %s",
            step / self.training.steps_per_epoch,
            step,
            self.last_step,
            sum(self.losses) / len(self.losses),
            self.training.learning_rate_at(step),
            steps_per_second * self.audio_seconds_per_step,
            hours_minutes_seconds((self.last_step - step) / steps_per_second),
        )
        self.losses.clear()
        self.logged_step, self.logged_time = step, now


def hours_minutes_seconds(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
