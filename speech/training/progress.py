"""The progress of a training: a line every few seconds, and every step in its history."""

import time

from absl import logging

from speech.engines.engine import StepState
from speech.networks.config import TrainingConfig
from speech.optimisation.learning_rate import learning_rate_at
from speech.training.history import History, TrainingPoint, mean_loss

# Seconds between two lines.
LOG_SECONDS = 10


class Recorder:
    """Adds every step to a training's history, once."""

    def __init__(
        self, training: TrainingConfig, learning_rate_scale: float, history: History
    ) -> None:
        self._training = training
        self._learning_rate_scale = learning_rate_scale
        self._history = history

    def record(self, state: StepState) -> TrainingPoint | None:
        """Returns the point of the latest step; None if there was no step yet."""
        points = self._history.training
        if state.step and not (points and points[-1].step == state.step):
            rate = self._learning_rate_scale * learning_rate_at(self._training, state.step - 1)
            self._history.add(TrainingPoint(state.step, state.loss, rate))
        return points[-1] if points else None


class ProgressLog:
    """Logs how far a training is, every few seconds and at the end of a segment.

    A segment is what is trained between two evaluations on the development set.
    """

    def __init__(self, training: TrainingConfig, audio_seconds: float) -> None:
        """audio_seconds: of an epoch."""
        self._training = training
        self._audio_seconds_per_step = audio_seconds / training.steps_per_epoch
        self._points: list[TrainingPoint] = []  # since the last line
        self._now = 0.0  # when the last point came
        self._logged_step: int | None = None
        self._logged_time = 0.0

    def add(self, point: TrainingPoint) -> None:
        self._points.append(point)
        self._now = time.monotonic()
        if self._logged_step is None:
            # The first run includes the compilation: the clock starts after it.
            self._logged_step, self._logged_time = point.step, self._now
        elif self._now - self._logged_time >= LOG_SECONDS:
            self._log()

    def end(self) -> None:
        if not self._points or self._logged_step is None:
            return
        last = self._points[-1]
        if last.step > self._logged_step:
            self._log()
        else:
            # A TPU may take the whole segment in one run, which gives no speed.
            logging.info(
                "step %d/%d  loss %s", last.step, self._training.train_steps, _format(last.loss)
            )

    def _log(self) -> None:
        assert self._logged_step is not None
        last, last_step = self._points[-1], self._training.train_steps
        step = last.step
        steps_per_second = (step - self._logged_step) / (self._now - self._logged_time)
        logging.info(
            "epoch %.2f  step %d/%d  loss %s  learning rate %.2e  %.2f steps/s  audio %.0f s/s  "
            "left %s",
            step / self._training.steps_per_epoch,
            step,
            last_step,
            _format(mean_loss(self._points)),
            last.learning_rate,
            steps_per_second,
            steps_per_second * self._audio_seconds_per_step,
            hours_minutes_seconds((last_step - step) / steps_per_second),
        )
        self._points.clear()
        self._logged_step, self._logged_time = step, self._now


def _format(loss: float | None) -> str:
    return "not finite" if loss is None else f"{loss:.2f}"


def hours_minutes_seconds(seconds: float) -> str:
    """Formats a duration as h:mm:ss."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
