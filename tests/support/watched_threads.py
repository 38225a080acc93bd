"""Threads that record the names of the functions given to them."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any


class Watched(ThreadPoolExecutor):
    """Threads of which one can see what they were given."""

    def __init__(self) -> None:
        super().__init__(1)
        self.given: list[str] = []

    def submit(self, function: Callable[..., Any], /, *more: Any, **named: Any) -> "Future[Any]":
        self.given.append(function.__name__)
        return super().submit(function, *more, **named)
