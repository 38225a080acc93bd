"""Applies a function to many items in worker processes, in order and in bounded memory.

multiprocessing's pools don't say which item a dead process was working on, and may wait for it
forever. Here every worker has its own pipe, which ends with the process; the item without an answer
is the one that killed it.
"""

import contextlib
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from multiprocessing import get_context, resource_tracker
from multiprocessing.connection import Connection, wait
from types import ModuleType
from typing import Generic, TypeVar, cast

Item = TypeVar("Item")
Result = TypeVar("Result")

# Items in a worker's pipe: the present one and the next, so that it needn't wait.
ITEMS_AT_ONCE = 2

# Items per worker that may be ahead of the one whose result is due: enough to bridge one long item,
# few enough that their results need little memory.
RESULTS_AHEAD = 6


class DeadWorkerError(Exception):
    """A worker process died while it worked on an item."""

    def __init__(self, position: int, exit_code: int | None) -> None:
        super().__init__(position, exit_code)
        self.position = position  # of the item
        self.exit_code = exit_code  # see multiprocessing.Process: -9 is signal 9


def map_in_order(
    function: Callable[[Item], Result], items: Sequence[Item], workers: int
) -> Generator[Result, None, None]:
    """Yields `function` of every item, in order; one worker is this process.

    See `map_in_processes`.
    """
    if workers <= 1:
        yield from map(function, items)
    else:
        yield from map_in_processes(function, items, workers)


def map_in_processes(
    function: Callable[[Item], Result], items: Sequence[Item], workers: int
) -> Generator[Result, None, None]:
    """Yields `function` of every item, in order, computed by other processes.

    Close the iterator (contextlib.closing) to end its processes early.

    Args:
        function: picklable, with picklable items and results; not of the main module.
        workers: number of processes, at least 1.

    Raises:
        DeadWorkerError: a process was killed, or `function` raised in it.
    """
    with contextlib.ExitStack() as running:
        pool = [
            running.enter_context(contextlib.closing(_Worker(function)))
            for _ in range(min(workers, len(items)))
        ]
        yield from _results(pool, items)


def _results(pool: "list[_Worker[Item, Result]]", items: Sequence[Item]) -> Iterator[Result]:
    finished: dict[int, Result | DeadWorkerError] = {}
    given = 0  # items
    for position in range(len(items)):
        most = min(len(items), position + len(pool) * RESULTS_AHEAD)
        while position not in finished:
            for _ in range(ITEMS_AT_ONCE):
                for worker in pool:
                    if given < most and len(worker.positions) < ITEMS_AT_ONCE:
                        worker.give(given, items[given])
                        given += 1
            busy = {worker.connection: worker for worker in pool if worker.positions}
            for connection in wait(list(busy)):
                worker = busy[cast(Connection, connection)]
                at, outcome = worker.answer()
                finished[at] = outcome
                if isinstance(outcome, DeadWorkerError):
                    pool.remove(worker)
        outcome = finished.pop(position)
        # Raised only now, after the results of all earlier items.
        if isinstance(outcome, DeadWorkerError):
            raise outcome
        yield outcome


class _Worker(Generic[Item, Result]):
    """One process, and the positions of the items in its pipe."""

    def __init__(self, function: Callable[[Item], Result]) -> None:
        # The processes share the cores; more threads of numpy would slow them down.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        context = get_context("spawn")
        self.positions: deque[int] = deque()
        self.connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(function, theirs), daemon=True)
        # Ctrl-C reaches every process of a terminal, and this one ends the others. A new process
        # inherits the blocked signal until it ignores it. The resource tracker has to run before,
        # since multiprocessing unblocks the signal when it starts it.
        resource_tracker.ensure_running()
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            with _main_hidden():
                self._process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        theirs.close()

    def give(self, position: int, item: Item) -> None:
        self.positions.append(position)
        # The pipe of a dead process is broken; `answer` reports that.
        with contextlib.suppress(OSError):
            self.connection.send(item)

    def answer(self) -> tuple[int, Result | DeadWorkerError]:
        """Waits for the result of the oldest item; returns (position, result)."""
        position = self.positions.popleft()
        try:
            result: Result = self.connection.recv()
        except (EOFError, OSError):
            self._process.join(timeout=5)
            return position, DeadWorkerError(position, self._process.exitcode)
        return position, result

    def close(self) -> None:
        self.connection.close()
        self._process.terminate()
        self._process.join()


@contextlib.contextmanager
def _main_hidden() -> Iterator[None]:
    """Hides the main module from a new process, which would import it, TensorFlow and all."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _serve(function: Callable[[Item], Result], connection: Connection) -> None:
    """Runs a worker until its pipe ends, as it does if the main process is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        try:
            item = connection.recv()
        except (EOFError, OSError):
            return
        result = function(item)
        try:
            connection.send(result)
        except OSError:
            return
