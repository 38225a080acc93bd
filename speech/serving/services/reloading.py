"""Keeps the served models and scorers, and reloads them at SIGHUP while requests continue.

A request keeps the models and scorers that it began with. Replaced ones are closed when the last
such request ends.
"""

import asyncio
import contextlib
import gc
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field

from absl import logging

from speech.serving.services.catalogue import Catalogue
from speech.serving.services.test_sets import TestSets
from utils import UserError

STANDARD_STREAMS = (0, 1, 2)
UNCHANGED = "The server keeps what it had loaded before."


@dataclass(eq=False)
class Resources:
    """Models, scorers and test sets that were loaded together."""

    catalogue: Catalogue
    sets: TestSets
    loaded: float = field(default_factory=time.time, init=False)  # seconds since 1970
    users: int = field(default=0, init=False)  # requests under way that use them


class ReloadableResources:
    """The resources that are served now. Used by one event loop only, so it needs no lock."""

    def __init__(self, load: Callable[[], Resources]) -> None:
        """Loads the resources for the first time.

        Args:
            load: loads all files; called again on another thread.
        """
        self._load = load
        self._reload_wanted = asyncio.Event()
        self._closing: set[asyncio.Task[None]] = set()
        self._had_terminal = _has_terminal()
        # Until the event loop handles the signal: one that comes now takes effect once it runs.
        signal.signal(signal.SIGHUP, lambda number, frame: self._hang_up())
        self.current = load()

    @contextlib.contextmanager
    def use(self) -> Iterator[Resources]:
        """Keeps the current resources open while the block runs."""
        used = self.current
        used.users += 1
        try:
            yield used
        finally:
            used.users -= 1
            self._close_unused(used)

    def _close_unused(self, resources: Resources) -> None:
        if resources is not self.current and not resources.users:
            closing = asyncio.create_task(_close(resources.catalogue))
            self._closing.add(closing)  # the event loop keeps only a weak reference
            closing.add_done_callback(self._closing.discard)

    @contextlib.asynccontextmanager
    async def reloading(self) -> AsyncIterator[None]:
        """Reloads at SIGHUP while the block runs, and closes the current resources at its end."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, self._hang_up)
        task = asyncio.create_task(self._reload_when_wanted())
        try:
            yield
        finally:
            loop.remove_signal_handler(signal.SIGHUP)
            task.cancel()
            self.current.catalogue.close()

    def _hang_up(self) -> None:
        if self._had_terminal and not _has_terminal():  # closing a terminal sends SIGHUP too
            signal.raise_signal(signal.SIGTERM)
        else:
            self._reload_wanted.set()

    async def _reload_when_wanted(self) -> None:
        while True:
            await self._reload_wanted.wait()
            self._reload_wanted.clear()
            await self.reload()

    async def reload(self) -> None:
        """Loads all files again; if one can't be loaded, the current resources stay."""
        logging.info("Reloading all models and scorers")
        try:
            loaded = await asyncio.to_thread(self._load)
        except UserError as error:
            logging.error("%s %s", error, UNCHANGED)
        except Exception:
            logging.exception("Reloading failed. %s", UNCHANGED)
        else:
            before, self.current = self.current, loaded
            self._close_unused(before)
            logging.info("Serving the reloaded models and scorers")


async def _close(catalogue: Catalogue) -> None:
    # In threads: a model may still be busy for a client that has left.
    await asyncio.to_thread(catalogue.close)
    del catalogue
    await asyncio.to_thread(gc.collect)  # TensorFlow's models refer to themselves


def _has_terminal() -> bool:
    return any(map(os.isatty, STANDARD_STREAMS))
