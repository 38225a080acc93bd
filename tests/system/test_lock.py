"""Tests that one run at a time holds a lock, and that a killed run loses it."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from absl import logging
from doors import ROOT, environment_of_door
from emulator import Emulator
from full_disk import full_disk

from speech.system import bucket, lock
from utils import UserError

# Holds a lock until its standard input ends; the second argument says how it ends.
HOLD = """
import sys
from speech.system import lock
lock.HEARTBEAT_SECONDS = 0.05
with lock.exclusive(sys.argv[1]) as held:
    print("held", flush=True)
    sys.stdin.read()
    if sys.argv[2] == "raise":
        raise ValueError("on purpose")
"""


@contextlib.contextmanager
def another_process(
    path: str, end: str = "normally", emulator: Emulator | None = None
) -> Iterator["subprocess.Popen[str]"]:
    """Starts a process that holds the lock `path`; kills it after the block, if it still runs."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, path, end],
        cwd=ROOT,
        env=environment_of_door(emulator.environment if emulator else {}),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout and process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def refusal(path: str) -> str:
    with pytest.raises(UserError) as error, lock.exclusive(path):
        pass
    return str(error.value)


# --- On this machine ------------------------------------------------------------------------------


def test_a_second_run_is_refused_with_the_process_of_the_first(tmp_path: Path) -> None:
    path = str(tmp_path / "new" / ".t.lock")
    with another_process(path) as first:
        for _ in range(2):
            assert refusal(path) == (
                f"Another run (process {first.pid}) is writing this set of shards: wait until it "
                f"ends, or give this one another --tfrecords_file. Its lock is {path}."
            )
        assert Path(path).read_text() == f"process {first.pid}"


@pytest.mark.parametrize("end", ["normally", "raise", "killed"])
def test_the_next_run_gets_the_lock_however_the_first_ends(tmp_path: Path, end: str) -> None:
    path = str(tmp_path / ".t.lock")
    with another_process(path, end) as first:
        if end == "killed":
            first.kill()
        _, errors = first.communicate(timeout=20)
        assert first.returncode == {"normally": 0, "raise": 1, "killed": -signal.SIGKILL}[end]
        assert ("on purpose" in errors) == (end == "raise")
    assert os.path.exists(path) == (end == "killed")
    with lock.exclusive(path) as held:
        held.check()
        assert Path(path).read_text() == f"process {os.getpid()}"
    assert not os.path.exists(path)


def test_locks_of_two_sets_are_independent(tmp_path: Path) -> None:
    with lock.exclusive(str(tmp_path / ".t.lock")), lock.exclusive(str(tmp_path / ".u.lock")):
        assert sorted(os.listdir(tmp_path)) == [".t.lock", ".u.lock"]
    assert not os.listdir(tmp_path)


def test_one_of_many_threads_at_a_time_holds_the_lock(tmp_path: Path) -> None:
    """The file is removed while other threads open it."""
    path = str(tmp_path / ".t.lock")
    inside, most, turns = 0, 0, 0

    def take_turns() -> None:
        nonlocal inside, most, turns
        until = time.monotonic() + 1
        while time.monotonic() < until:
            with contextlib.suppress(UserError), lock.exclusive(path):
                inside += 1
                most = max(most, inside)
                turns += 1
                time.sleep(0)
                inside -= 1

    threads = [threading.Thread(target=take_turns) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1 and turns > 20
    assert not os.path.exists(path)


@pytest.mark.parametrize("folder", ["file/below", "/proc/self"])
def test_a_folder_that_can_not_be_written_is_reported(tmp_path: Path, folder: str) -> None:
    (tmp_path / "file").write_text("")
    path = os.path.join(tmp_path, folder, ".t.lock")
    message = refusal(path)
    assert message.startswith(f"{path} can't be written: ")
    assert message.endswith("Choose another folder with --tfrecords_file.")


def test_a_full_disk_is_reported_and_leaves_no_lock(tmp_path: Path) -> None:
    path = str(tmp_path / ".t.lock")
    with full_disk(0):
        message = refusal(path)
    assert "Make room, or choose another folder with --tfrecords_file." in message
    assert not os.listdir(tmp_path)
    with lock.exclusive(path):
        assert os.listdir(tmp_path) == [".t.lock"]


# --- In a bucket ----------------------------------------------------------------------------------


@pytest.fixture
def path(own_bucket: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Returns a lock's path in a bucket; locks are renewed and expire within a second."""
    monkeypatch.setattr(lock, "HEARTBEAT_SECONDS", 0.05)
    monkeypatch.setattr(lock, "DEAD_AFTER_SECONDS", 1.0)
    return f"{own_bucket}/.t.lock"


def name_of(path: str) -> str:
    return path.removeprefix("gs://").partition("/")[2]


def content(emulator: Emulator, path: str) -> bytes | None:
    return emulator.objects(name_of(path)).get(name_of(path))


def put_lock(emulator: Emulator, path: str, host: str, process: int) -> None:
    """Writes a lock that nobody renews."""
    owner = {"host": host, "process": process, "run": "another"}
    emulator.put(name_of(path), json.dumps(owner).encode())


def dead_process() -> int:
    with subprocess.Popen(["true"]) as process:
        pass
    return process.pid


def test_a_second_run_in_the_bucket_is_refused_while_the_first_renews_its_lock(
    emulator: Emulator, path: str
) -> None:
    with another_process(path, emulator=emulator) as first:
        started = time.monotonic()
        assert refusal(path) == (
            f"Another run (process {first.pid} on {socket.gethostname()}) is writing this set of "
            "shards: wait until it ends, or give this one another --tfrecords_file. Its lock is "
            f"{path}."
        )
        assert time.monotonic() - started < lock.DEAD_AFTER_SECONDS
        first.communicate(timeout=20)
        assert first.returncode == 0
    assert content(emulator, path) is None
    with lock.exclusive(path) as held:
        held.check()
        assert str(os.getpid()).encode() in (content(emulator, path) or b"")
    assert content(emulator, path) is None


def test_an_exception_releases_a_lock_in_a_bucket(emulator: Emulator, path: str) -> None:
    with pytest.raises(ValueError, match="on purpose"), lock.exclusive(path):
        raise ValueError("on purpose")
    assert content(emulator, path) is None


def test_the_lock_of_a_killed_run_on_this_host_is_taken_over_at_once(
    emulator: Emulator, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    with another_process(path, emulator=emulator) as first:
        first.kill()
        first.wait()
    assert content(emulator, path) is not None
    started = time.monotonic()
    with lock.exclusive(path) as held:
        assert time.monotonic() - started < lock.DEAD_AFTER_SECONDS / 2
        held.check()
    assert f"{path} is from a run that was killed: taken over." in caplog.text
    assert content(emulator, path) is None


def test_the_lock_of_a_run_on_another_host_is_taken_over_when_it_has_expired(
    emulator: Emulator, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    put_lock(emulator, path, "another-host", dead_process())
    started = time.monotonic()
    caplog.set_level("INFO", logger="absl")  # an earlier test may have set another level
    with lock.exclusive(path) as held:
        assert lock.DEAD_AFTER_SECONDS <= time.monotonic() - started < 10
        held.check()
    assert "waiting up to 1 s to see whether it still runs" in caplog.text
    assert "taken over" in caplog.text
    assert content(emulator, path) is None


def test_a_lock_that_is_released_during_the_wait_is_not_reported_as_taken_over(
    emulator: Emulator, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    put_lock(emulator, path, "another-host", 1)
    threading.Timer(0.2, emulator.delete, [name_of(path)]).start()
    with lock.exclusive(path) as held:
        held.check()
        assert b"another-host" not in (content(emulator, path) or b"")
    assert "taken over" not in caplog.text
    assert content(emulator, path) is None


def test_a_lock_that_is_released_while_it_is_taken_over_is_held(
    emulator: Emulator, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_lock(emulator, path, socket.gethostname(), dead_process())
    monkeypatch.setattr(logging, "warning", lambda *_: emulator.delete(name_of(path)))
    with lock.exclusive(path) as held:
        held.check()
        assert str(os.getpid()).encode() in (content(emulator, path) or b"")
    assert content(emulator, path) is None


@pytest.mark.parametrize("renewing", [True, False])
def test_a_run_whose_lock_was_taken_over_ends_and_does_not_remove_it(
    emulator: Emulator, path: str, monkeypatch: pytest.MonkeyPatch, renewing: bool
) -> None:
    """As after an outage, with and without a renewal since."""
    if not renewing:
        monkeypatch.setattr(lock, "HEARTBEAT_SECONDS", 100.0)
        monkeypatch.setattr(lock, "DEAD_AFTER_SECONDS", 0.2)
    message = rf"{path} was taken over by another run, .* The other run continues\."
    with lock.exclusive(path) as held:
        held.check()
        put_lock(emulator, path, "another-host", 1)
        time.sleep(0.4)
        for _ in range(2):
            with pytest.raises(UserError, match=message):
                held.check()
    assert b"another-host" in (content(emulator, path) or b"")


def test_a_lock_survives_an_outage(emulator: Emulator, path: str) -> None:
    with lock.exclusive(path) as held:
        emulator.refuse_uploads_after(requests=0)
        time.sleep(0.2)
        emulator.heal()
        emulator.forget_requests()
        while not emulator.requests():
            time.sleep(0.01)
        held.check()
    assert content(emulator, path) is None


def test_a_renewal_whose_answer_is_lost_keeps_the_lock(
    emulator: Emulator, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bucket, "RETRY_SECONDS", 20.0)
    monkeypatch.setattr(lock, "HEARTBEAT_SECONDS", 2.0)
    emulator.lose_answers(1)
    with lock.exclusive(path) as held:  # the answer to its first write was lost
        monkeypatch.setattr(lock, "DEAD_AFTER_SECONDS", 0.0)
        for _ in range(3):
            emulator.lose_answers(1)
            held.check()
    assert content(emulator, path) is None


def test_a_renewal_that_failed_after_it_was_stored_keeps_the_lock(
    emulator: Emulator, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next renewal finds another generation, which the run wrote itself."""
    monkeypatch.setattr(lock, "HEARTBEAT_SECONDS", 0.3)
    with lock.exclusive(path) as held:
        before = bucket.find(path).generation
        emulator.lose_answers(1)
        emulator.refuse_uploads_after(requests=1)
        while bucket.find(path).generation == before:
            time.sleep(0.01)
        time.sleep(0.7)
        emulator.heal()
        time.sleep(0.7)
        held.check()
    assert content(emulator, path) is None


def test_a_missing_bucket_is_reported(path: str) -> None:
    assert refusal("gs://no-such-bucket/.t.lock").startswith(
        "gs://no-such-bucket/.t.lock doesn't exist: check the bucket's name"
    )


def test_a_failed_release_does_not_hide_the_exception_of_the_block(
    emulator: Emulator, path: str
) -> None:
    def interrupted() -> None:
        with lock.exclusive(path):
            emulator.vanish()
            raise ValueError("on purpose")

    with pytest.raises(ValueError, match="on purpose"):
        interrupted()
