"""What is served, and how it is loaded again while requests go on.

A request keeps the models and scorers that it began with. Those that were replaced are closed when
the last such request ends.
"""

import asyncio
import contextlib
import gc
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field

from absl import logging

from speech.serving.services.catalogue import Catalogue
from speech.serving.services.test_sets import TestSets
from utils import UserError

STANDARD_STREAMS = (0, 1, 2)
UNCHANGED = "What was served before is still served."


@dataclass(eq=False)
class Loaded:
    """Models, scorers and the test sets that they recognise."""

    catalogue: Catalogue
    sets: TestSets
    users: int = field(default=0, init=False)  # requests under way


class Served:
    """What is served now. Of one event loop, so that it needs no lock."""

    def __init__(self, load: Callable[[], Loaded]) -> None:
        """Loads it for the first time.

        Args:
            load: loads all from its files; called again in a thread of its own.
        """
        self._load = load
        self._wanted = asyncio.Event()
        self._closing: set[asyncio.Task[None]] = set()
        self._had_terminal = _has_terminal()
        # Until the event loop handles it: what changes meanwhile is loaded once it runs.
        signal.signal(signal.SIGHUP, lambda number, frame: self._hang_up())
        self.now = load()

    @contextlib.contextmanager
    def use(self) -> Iterator[Loaded]:
        """Keeps what is served now open while the block runs."""
        used = self.now
        used.users += 1
        try:
            yield used
        finally:
            used.users -= 1
            self._close_unused(used)

    def _close_unused(self, loaded: Loaded) -> None:
        if loaded is not self.now and not loaded.users:
            closing = asyncio.create_task(_close(loaded.catalogue))
            self._closing.add(closing)  # else nothing may hold it
            closing.add_done_callback(self._closing.discard)

    @contextlib.asynccontextmanager
    async def reloading(self) -> AsyncIterator[None]:
        """Loads all again at SIGHUP while the block runs, and closes what is served at its end."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, self._hang_up)
        task = asyncio.create_task(self._reload_when_wanted())
        try:
            yield
        finally:
            loop.remove_signal_handler(signal.SIGHUP)
            task.cancel()
            self.now.catalogue.close()

    def _hang_up(self) -> None:
        if self._had_terminal and not _has_terminal():  # it was closed, which sends SIGHUP too
            signal.raise_signal(signal.SIGTERM)
        else:
            self._wanted.set()

    async def _reload_when_wanted(self) -> None:
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            await self.reload()

    async def reload(self) -> None:
        """Loads all again and serves it; if something can't be loaded, all stays as it was."""
        logging.info("Loading all models and scorers again")
        try:
            loaded = await asyncio.to_thread(self._load)
        except UserError as error:
            logging.error("%s %s", error, UNCHANGED)
        except Exception:
            logging.exception("Loading again has failed. %s", UNCHANGED)
        else:
            before, self.now = self.now, loaded
            self._close_unused(before)
            logging.info("Serving what was loaded again")


async def _close(catalogue: Catalogue) -> None:
    # In threads: a model may still be busy for a client that has left.
    await asyncio.to_thread(catalogue.close)
    del catalogue
    await asyncio.to_thread(gc.collect)  # TensorFlow's models refer to themselves


def _has_terminal() -> bool:
    return any(map(os.isatty, STANDARD_STREAMS))
