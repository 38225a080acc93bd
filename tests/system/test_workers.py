"""Tests of worker processes; some are really killed."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from speech.system.workers import (
    ITEMS_AT_ONCE,
    RESULTS_AHEAD,
    DeadWorkerError,
    map_in_order,
    map_in_processes,
)

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parents[1]


@pytest.fixture(autouse=True)
def check_no_process_is_left() -> Iterator[None]:
    yield
    assert multiprocessing.active_children() == []


def slow_square(number: int) -> int:
    time.sleep(0.02 * (number % 3 == 0))  # every third one is slow
    return number * number


def process_id(_: int) -> int:
    return os.getpid()


def has_colorsys(_: int) -> bool:
    return "colorsys" in sys.modules


def die_at_seven(number: int) -> int:
    if number == 7:
        signal.raise_signal(signal.SIGKILL)
    return number


def die_while_answering_seven(number: int) -> bytes:
    """The result for 7 takes seconds to send; the process is killed meanwhile."""
    if number == 7:
        killer = f"import os, time; time.sleep(0.2); os.kill({os.getpid()}, {signal.SIGKILL})"
        subprocess.Popen([sys.executable, "-c", killer])
        return bytes(2**30)
    return b""


def raise_at_seven(number: int) -> int:
    return 1 // (7 - number)


def interrupt_handler(_: int) -> bool:
    return signal.getsignal(signal.SIGINT) == signal.SIG_IGN


def note(path: str) -> None:
    """Appends a letter to a file, whose length counts the items."""
    with open(path, "a", encoding="utf-8") as file:
        file.write("x")


@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize("count", [0, 1, 2, 50])
def test_results_are_in_the_order_of_the_items(workers: int, count: int) -> None:
    results = list(map_in_order(slow_square, range(count), workers))
    assert results == [number * number for number in range(count)]


def test_two_workers_share_the_work_and_one_worker_is_this_process() -> None:
    assert set(map_in_order(process_id, range(4), 1)) == {os.getpid()}
    processes = set(map_in_order(process_id, range(50), 2))
    assert len(processes) == 2 and os.getpid() not in processes


def test_map_in_processes_uses_another_process_for_one_worker() -> None:
    (process,) = set(map_in_processes(process_id, range(4), 1))
    assert process != os.getpid()


@pytest.mark.parametrize(
    ("function", "exit_code"),
    [(die_at_seven, -9), (die_while_answering_seven, -9), (raise_at_seven, 1)],
)
def test_the_item_at_which_a_worker_died_is_reported(
    function: Callable[[int], object], exit_code: int
) -> None:
    results = map_in_order(function, range(20), 2)
    assert len([next(results) for _ in range(7)]) == 7
    with pytest.raises(DeadWorkerError) as death:
        next(results)
    assert (death.value.position, death.value.exit_code) == (7, exit_code)


def test_a_worker_that_is_killed_while_it_waits_is_reported() -> None:
    results = map_in_order(process_id, range(50), 2)
    with closing(results):
        os.kill(next(results), signal.SIGKILL)
        with pytest.raises(DeadWorkerError):
            list(results)


def test_workers_ignore_ctrl_c() -> None:
    assert all(map_in_order(interrupt_handler, range(4), 2))


def start(program: str) -> "subprocess.Popen[str]":
    """Starts a program, in its own process group, that can import this file."""
    # Tests in the background have the signal ignored, and children inherit that. It is set there
    # and not while forking, when gRPC's threads, which Beam's tests leave, write to the output.
    set_handler = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    return subprocess.Popen(
        [sys.executable, "-c", set_handler + program],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(FOLDER)])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.mark.parametrize("seconds", [0.0, 0.1, 0.2, 0.4])
def test_ctrl_c_while_the_workers_start_is_handled_by_their_parent(seconds: float) -> None:
    """The signal goes to every process of the group, as at a terminal."""
    program = (
        "import time; from test_workers import slow_square; "
        "from speech.system.workers import map_in_order\n"
        "if __name__ == '__main__':\n"
        "  try:\n"
        "    print('starting', flush=True)\n"
        "    list(map_in_order(slow_square, range(10000), 2))\n"
        "  except KeyboardInterrupt:\n"
        "    print('stopped', flush=True)"
    )
    parent = start(program)
    assert parent.stdout is not None and parent.stdout.readline() == "starting\n"
    time.sleep(seconds)
    os.killpg(parent.pid, signal.SIGINT)
    stdout, stderr = parent.communicate(timeout=60)
    assert (stdout, stderr, parent.returncode) == ("stopped\n", "", 0)


def test_what_the_main_module_imports_is_not_imported_by_the_workers(tmp_path: Path) -> None:
    """The doors import TensorFlow, which takes seconds in each process."""
    door = tmp_path / "door.py"
    door.write_text(
        "import colorsys\n"
        "from test_workers import has_colorsys\n"
        "from speech.system.workers import map_in_order\n"
        "if __name__ == '__main__':\n"
        "  print(has_colorsys(0), *map_in_order(has_colorsys, range(2), 2))"
    )
    parent = start(f"import runpy; runpy.run_path({str(door)!r}, run_name='__main__')")
    assert parent.communicate(timeout=60) == ("True False False\n", "")


def test_few_results_are_computed_ahead(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    with closing(map_in_order(note, [str(notes)] * 100, 2)) as results:
        next(results)
        time.sleep(0.5)
        assert 1 < len(notes.read_text()) <= 2 * (RESULTS_AHEAD + ITEMS_AT_ONCE)


def test_closing_ends_the_processes() -> None:
    with closing(map_in_order(slow_square, range(1000), 2)) as results:
        next(results)
        assert len(multiprocessing.active_children()) == 2
    assert multiprocessing.active_children() == []


def test_the_processes_end_when_their_parent_is_killed() -> None:
    program = (
        "import time; from test_workers import process_id; "
        "from speech.system.workers import map_in_order\n"
        "if __name__ == '__main__':\n"
        "  results = map_in_order(process_id, range(50), 2)\n"
        "  print(*{next(results) for _ in range(20)}, flush=True); time.sleep(60)"
    )
    parent = start(program)
    assert parent.stdout is not None
    workers = [int(process) for process in parent.stdout.readline().split()]
    parent.kill()
    parent.communicate()
    assert len(workers) == 2
    until = time.monotonic() + 10
    while any(map(running, workers)):
        assert time.monotonic() < until
        time.sleep(0.05)


def running(process: int) -> bool:
    """Returns whether a process exists, other than a zombie."""
    try:
        state = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()
    except FileNotFoundError:
        return False
    return state[0] != "Z"
