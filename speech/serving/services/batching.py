"""Runs a model on a thread, in batches of what several requests submit at once.

A model needn't be thread-safe, and TensorFlow Lite's isn't. The network's recurrent layers take
hardly longer for a batch than for one utterance.
"""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeVar

from speech.decoding.types import LogProbs
from speech.export.acoustic_model import AcousticModel, Samples, State
from speech.export.description import Description
from speech.features import front_end
from speech.serving.errors import RequestError
from speech.serving.types import Floats

T = TypeVar("T")

# How long the first utterance of a batch waits for others.
WAIT_SECONDS = 0.005

# A batch is padded to its longest utterance: no other one is shorter than this share of it.
SHORTEST_SHARE = 0.5

# Message of what is submitted after the thread has ended.
ENDED = "The model has stopped: try again when the server has been restarted."


@dataclass(frozen=True, eq=False)
class _Utterance:
    """An utterance that waits for the network."""

    features: Floats  # [frames, bins]
    outcome: "Future[LogProbs]" = field(default_factory=Future)


@dataclass(frozen=True, eq=False)
class _Call:
    """A function that waits for the model's thread."""

    function: Callable[[], Any]
    outcome: "Future[Any]" = field(default_factory=Future)

    def run(self) -> None:
        if not self.outcome.set_running_or_notify_cancel():
            return
        try:
            self.outcome.set_result(self.function())
        except BaseException as error:  # raised for the one who waits for the outcome
            self.outcome.set_exception(error)
            if not isinstance(error, Exception):
                raise


W = TypeVar("W", _Utterance, _Call)


def _refuse(work: _Utterance | _Call) -> None:
    """Ends the wait for an outcome with a RequestError (503)."""
    if work.outcome.set_running_or_notify_cancel():
        work.outcome.set_exception(RequestError(503, ENDED))


class Batcher:
    """A model on its own thread."""

    def __init__(
        self,
        model: AcousticModel,
        batch_size: int,
        on_batch: Callable[[int], object] = lambda utterances: None,
    ) -> None:
        """
        Args:
            batch_size: most utterances in a batch.
            on_batch: called with each batch's size, on the model's thread.
        """
        self.model = model
        self._batch_size = batch_size
        self._on_batch = on_batch
        self._waiting: list[_Utterance] = []  # in the order of their submission
        self._calls: list[_Call] = []
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="model", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the model's thread still works."""
        return self._thread.is_alive() and not self._closed

    def submit(self, utterance: Floats) -> "Future[LogProbs]":
        """Returns a future of the network's output, float32 [outputs, classes].

        Args:
            utterance: features as front_end.extract returns them, float32 [frames, bins].

        Raises (the future):
            RequestError: the thread has ended, or ends before the output is computed (503).
        """
        waiting = _Utterance(utterance)
        self._add(waiting, self._waiting)
        return waiting.outcome

    def call(self, function: Callable[[], T]) -> "Future[T]":
        """Returns a future of a function's result; it runs on the model's thread.

        Calls have priority over utterances.

        Raises (the future):
            RequestError: see `submit`.
        """
        call = _Call(function)
        self._add(call, self._calls)
        return call.outcome

    def _add(self, work: W, queue: list[W]) -> None:
        with self._changed:
            if self._closed:
                _refuse(work)
            else:
                queue.append(work)
                self._changed.notify()

    def close(self) -> None:
        """Ends the thread. What still waits is refused."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        try:
            while (work := self._next()) is not None:
                calls, batch = work
                for each in calls:
                    each.run()
                if batch:
                    self._compute(batch)
        finally:  # also if the thread dies: nobody may wait for ever
            self._refuse_all()

    def _refuse_all(self) -> None:
        with self._changed:
            self._closed = True
            for utterance in self._waiting:
                _refuse(utterance)
            for call in self._calls:
                _refuse(call)
            self._waiting.clear()
            self._calls.clear()

    def _compute(self, batch: list[_Utterance]) -> None:
        try:
            self._on_batch(len(batch))
            outputs = self.model.of_batch([each.features for each in batch])
            for each, log_probs in zip(batch, outputs, strict=True):
                each.outcome.set_result(log_probs)
        except BaseException as error:  # raised for those who wait for the outcomes
            for each in batch:
                if not each.outcome.done():
                    each.outcome.set_exception(error)
            if not isinstance(error, Exception):
                raise  # after an Exception the thread takes the next batch

    def _next(self) -> tuple[list[_Call], list[_Utterance]] | None:
        """Waits for work; returns all calls, or else a batch. None: the thread shall end.

        A batch is the utterance that has waited longest, and others of a similar length.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._calls or self._closed)
            until = time.monotonic() + WAIT_SECONDS
            while (left := until - time.monotonic()) > 0:
                if self._closed or self._calls or len(self._waiting) >= self._batch_size:
                    break
                self._changed.wait(left)
            if self._closed:
                return None
            if self._calls:
                calls, self._calls = self._calls, []
                return calls, []
            chosen = _similar(self._waiting, self._batch_size)
            self._waiting = [each for each in self._waiting if each not in chosen]
        return [], [each for each in chosen if each.outcome.set_running_or_notify_cancel()]


def _similar(waiting: Sequence[_Utterance], most: int) -> list[_Utterance]:
    """Returns the first utterance and those nearest to it in length, so that padding is short."""
    if not waiting:
        return []
    frames = len(waiting[0].features)
    nearest = sorted(waiting[1:], key=lambda each: abs(len(each.features) - frames))
    chosen = [waiting[0]]
    for each in nearest[: most - 1]:
        lengths = [len(one.features) for one in (*chosen, each)]
        if min(lengths) >= SHORTEST_SHARE * max(lengths):
            chosen.append(each)
    return chosen


class BatchedModel:
    """An AcousticModel that computes on its batcher's thread. Threads may share it."""

    def __init__(self, batcher: Batcher) -> None:
        self._batcher = batcher

    @property
    def description(self) -> Description:
        return self._batcher.model.description

    def of_features(self, features: Floats) -> Floats:
        return self._batcher.submit(features).result()

    def of_samples(self, samples: Samples) -> Floats:
        return self.of_features(front_end.extract(samples, self.description.config.front_end))

    def of_batch(self, batch: Sequence[Floats]) -> list[Floats]:
        outcomes = [self._batcher.submit(each) for each in batch]
        return [each.result() for each in outcomes]

    @property
    def carries_state(self) -> bool:
        return self._batcher.model.carries_state

    def stream(
        self, features: Floats, padding: tuple[int, int], state: State | None
    ) -> tuple[Floats, State]:
        model = self._batcher.model
        return self._batcher.call(lambda: model.stream(features, padding, state)).result()
