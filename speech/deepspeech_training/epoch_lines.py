"""Prints DeepSpeech.py's lines about the epochs of a training, from the training's history."""

import time
from dataclasses import dataclass, field
from datetime import timedelta

from speech.system import storage
from speech.training.history import HISTORY_FILE, DevResult, TrainingPoint, mean_loss, records_after


@dataclass
class EpochLines:
    """The lines of a training that is running."""

    model_dir: str
    first_epoch: int  # of this run, where the lines begin at 0
    steps_per_epoch: int
    step: int  # what is printed already
    dev_files: str  # empty: no development set
    progress: bool  # DeepSpeech's progress bars instead of its sentences
    learning_rate: float | None = None
    _bytes: int = 0
    _now: float = field(default_factory=time.monotonic)

    def report(self) -> None:
        """Prints the lines of each epoch that has ended since the last call."""
        path = storage.join(self.model_dir, HISTORY_FILE)
        size = storage.size(path) if storage.exists(path) else None
        if not size or size == self._bytes:
            return
        self._bytes = size
        records = records_after(self.model_dir, self.step)
        results = {each.step: each for each in records if isinstance(each, DevResult)}
        points = [each for each in records if isinstance(each, TrainingPoint)]
        while True:
            end = (self.step // self.steps_per_epoch + 1) * self.steps_per_epoch
            epoch = [each for each in points if self.step < each.step <= end]
            if not epoch or epoch[-1].step < end or (self.dev_files and end not in results):
                return
            self._print(epoch, results.get(end))
            self.step = end

    def _print(self, points: list[TrainingPoint], result: DevResult | None) -> None:
        number = points[-1].step // self.steps_per_epoch - 1 - self.first_epoch
        rate = points[-1].learning_rate
        if self.learning_rate is not None and rate < self.learning_rate:
            print(f"I Encountered a plateau, reducing learning rate to {rate}")
        self.learning_rate = rate
        loss = mean_loss(points)
        loss = float("nan") if loss is None else loss
        if self.progress:
            self._print_bar(number, "Training", len(points), loss)
        else:
            print(f"I Training epoch {number}...")
            print(f"I Finished training epoch {number} - loss: {loss:f}")
        if result:
            self._print_result(number, result)
        print("-" * 80, flush=True)

    def _print_result(self, number: int, result: DevResult) -> None:
        name = self.dev_files
        if self.progress:
            self._print_bar(number, "Validation", None, result.loss, f" | Dataset: {name}")
        else:
            print(f"I Validating epoch {number} on {name}...")
            print(f"I Finished validating epoch {number} on {name} - loss: {result.loss:f}")
        if result.best:
            best = storage.join(self.model_dir, "best")
            print(f"I Saved new best validating model with loss {result.loss:f} to: {best}")

    def _print_bar(
        self, number: int, name: str, steps: int | None, loss: float, more: str = ""
    ) -> None:
        now = time.monotonic()
        elapsed = timedelta(seconds=round(now - self._now))
        counted = "" if steps is None else f" | Steps: {steps}"
        self._now = now
        print(
            f"Epoch {number} | {name:>10} | Elapsed Time: {elapsed}{counted} | Loss: {loss:f}{more}"
        )
