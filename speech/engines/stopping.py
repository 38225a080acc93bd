"""SIGTERM, as before a preemption, and Ctrl-C end training after the step that runs.

A checkpoint is then saved, so that nothing is lost.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from absl import logging


class Stopping:
    """Whether this process was requested to stop, and by which signal."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None

    @property
    def requested(self) -> bool:
        return self.signal is not None

    def request(self) -> None:
        """Requests a stop as SIGTERM does, if none is requested yet."""
        self.signal = self.signal or signal.SIGTERM

    @contextmanager
    def listening(self) -> Iterator[None]:
        """While the block runs, only takes note of a first SIGTERM or SIGINT."""
        before = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)}
        for each in before:
            signal.signal(each, self._note)
        try:
            yield
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)

    def _note(self, number: int, frame: Any) -> None:
        if self.signal is not None:  # a second signal: don't wait for the step
            raise KeyboardInterrupt
        self.signal = signal.Signals(number)
        logging.info("%s: stops after this step and saves.", self.signal.name)
