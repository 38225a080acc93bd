"""Limits the number of requests under way; further ones are asked to retry."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from speech.serving.errors import RequestError

RETRY_SECONDS = 5


class Slots:
    """A number of slots for requests. Used by one event loop only, so it needs no lock."""

    def __init__(
        self, most: int, what: str, changed: Callable[[int], object] = lambda taken: None
    ) -> None:
        """
        Args:
            most: number of slots.
            what: subject and verb of the refusal, as in "requests are waiting".
            changed: called with the number of slots taken.
        """
        self._most = most
        self._what = what
        self._changed = changed
        self._taken = 0

    @property
    def taken(self) -> int:
        """Number of slots taken."""
        return self._taken

    def check(self) -> None:
        """Raises RequestError (503) if no slot is free."""
        if self._taken >= self._most:
            raise RequestError(
                503,
                f"{self._taken} {self._what}, the most that this server allows: try again in "
                f"{RETRY_SECONDS} seconds.",
                RETRY_SECONDS,
            )

    @contextmanager
    def one(self) -> Iterator[None]:
        """Takes a slot while the block runs; raises RequestError (503) if none is free."""
        self.check()
        self._taken += 1
        self._changed(self._taken)
        try:
            yield
        finally:
            self._taken -= 1
            self._changed(self._taken)
