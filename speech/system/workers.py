"""Worker processes that apply one function to many items, in order and in bounded memory.

multiprocessing's pools can't tell which item a dead process was at, and may wait for it forever.
Here every worker has a pipe of its own: the pipe of a dead one ends, and what it was given last and
hasn't answered is what killed it.
"""

import contextlib
import os
import signal
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from multiprocessing import get_context, resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Generic, TypeVar, cast

Item = TypeVar("Item")
Result = TypeVar("Result")

# Items given to a worker at once: the one it is at, and the next, so that it needn't wait.
ITEMS_AT_ONCE = 2

# Results per worker that may be ready, or in the making, ahead of the one that is asked for: enough
# to bridge one long item, few enough that they need little memory.
RESULTS_AHEAD = 6


class DeadWorkerError(Exception):
    """A worker process ended while it was at an item."""

    def __init__(self, position: int, exit_code: int | None) -> None:
        super().__init__(position, exit_code)
        self.position = position  # of the item
        self.exit_code = exit_code  # as of multiprocessing.Process: -9 is signal 9


def map_in_order(
    function: Callable[[Item], Result], items: Sequence[Item], workers: int
) -> Generator[Result, None, None]:
    """`function` of every item, in the items' order; with one worker in this process.

    The rest is as of `map_in_processes`.
    """
    if workers <= 1:
        yield from map(function, items)
    else:
        yield from map_in_processes(function, items, workers)


def map_in_processes(
    function: Callable[[Item], Result], items: Sequence[Item], workers: int
) -> Generator[Result, None, None]:
    """`function` of every item, in the items' order, never in this process.

    Close the iterator (contextlib.closing) to end its processes early.

    Args:
        function: picklable, as are its argument and its result.
        workers: processes, at least 1.

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
    given = 0
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
        # Only now: what comes before the item that killed its worker isn't lost.
        if isinstance(outcome, DeadWorkerError):
            raise outcome
        yield outcome


class _Worker(Generic[Item, Result]):
    """One process, and the positions of the items it was given and hasn't answered yet."""

    def __init__(self, function: Callable[[Item], Result]) -> None:
        # Several processes share the cores; numpy's threads would fight over them.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        context = get_context("spawn")
        self.positions: deque[int] = deque()
        self.connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(function, theirs), daemon=True)
        # Ctrl-C reaches every process of a terminal, and this one ends the others. Blocked here, it
        # can't reach a new one before that is ready to ignore it. Starting multiprocessing's own
        # process would unblock it again.
        resource_tracker.ensure_running()
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self._process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        theirs.close()

    def give(self, position: int, item: Item) -> None:
        self.positions.append(position)
        # The pipe of a process that has died breaks; asking for its answer tells.
        with contextlib.suppress(OSError):
            self.connection.send(item)

    def answer(self) -> tuple[int, Result | DeadWorkerError]:
        """(position, result) of the item it is at; waits for it."""
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


def _serve(function: Callable[[Item], Result], connection: Connection) -> None:
    """A worker's life: it ends when its pipe does, as it does when the main process is killed."""
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
