"""Stopping when asked to: SIGTERM, as of a preemption, and Ctrl-C end training at the next step.

A step that runs is finished and a checkpoint saved, so that nothing is lost.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import tensorflow as tf
from absl import logging


class Stopping:
    """Whether somebody asked this process to stop, and how."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None

    @contextmanager
    def listening(self) -> Iterator[None]:
        """While the block runs, a first SIGTERM or SIGINT is only noted."""
        before = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)}
        for each in before:
            signal.signal(each, self._note)
        try:
            yield
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)

    def _note(self, number: int, frame: Any) -> None:
        if self.signal is not None:  # somebody who can't wait
            raise KeyboardInterrupt
        self.signal = signal.Signals(number)
        logging.info("%s: stops after this step and saves.", self.signal.name)


class StopHook(tf.estimator.SessionRunHook):
    """Ends a stretch of training when it is asked for; the estimator then saves a checkpoint."""

    def __init__(self, stopping: Stopping) -> None:
        self._stopping = stopping

    def after_run(self, run_context: Any, run_values: Any) -> None:
        if self._stopping.signal is not None:
            run_context.request_stop()
