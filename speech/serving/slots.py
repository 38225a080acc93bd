"""How many requests may be under way at once; more are told to come back."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from speech.serving.errors import RequestError

RETRY_SECONDS = 5


class Slots:
    """Places for requests. Of one event loop, so that it needs no lock."""

    def __init__(
        self, most: int, what: str, changed: Callable[[int], object] = lambda taken: None
    ) -> None:
        """
        Args:
            most: places there are.
            what: takes them, for the refusal, as in "requests are waiting".
            changed: hears how many are taken.
        """
        self._most = most
        self._what = what
        self._changed = changed
        self._taken = 0

    @property
    def taken(self) -> int:
        """Places that are."""
        return self._taken

    def check(self) -> None:
        """Raises RequestError (503) if no place is free."""
        if self._taken >= self._most:
            raise RequestError(
                503,
                f"{self._taken} {self._what}, which is all that this server takes: try again in "
                f"{RETRY_SECONDS} seconds.",
                RETRY_SECONDS,
            )

    @contextmanager
    def one(self) -> Iterator[None]:
        """A place while the block runs; RequestError (503) if none is free."""
        self.check()
        self._taken += 1
        self._changed(self._taken)
        try:
            yield
        finally:
            self._taken -= 1
            self._changed(self._taken)
