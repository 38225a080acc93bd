"""A thread pool that records the names of its functions."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any


class Watched(ThreadPoolExecutor):
    """A pool of one thread; `given` has the names of the submitted functions."""

    def __init__(self) -> None:
        super().__init__(1)
        self.given: list[str] = []

    def submit(self, function: Callable[..., Any], /, *more: Any, **named: Any) -> "Future[Any]":
        self.given.append(function.__name__)
        return super().submit(function, *more, **named)
