"""A lock on a path, local or in a bucket, so that only one run at a time writes a set of shards."""

import contextlib
import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any, Protocol

from absl import logging

from speech import bucket, storage
from utils import UserError

# A lock in a bucket is rewritten this often by who holds it ...
HEARTBEAT_SECONDS = 10.0
# ... and belongs to nobody when it wasn't for this long.
DEAD_AFTER_SECONDS = 45.0


class Lock(Protocol):
    """A lock that is held."""

    def check(self) -> None:
        """Raises UserError if another process has taken the lock over."""


@contextlib.contextmanager
def exclusive(path: str) -> Iterator[Lock]:
    """Holds the lock file `path` while the block runs.

    A killed process loses it: a local lock at once, one in a bucket when a new run on its host
    finds the process gone, or when nobody has renewed it for DEAD_AFTER_SECONDS.

    Raises:
        UserError: another process holds it, or the file can't be written.
    """
    lock = _ObjectLock(path) if storage.in_bucket(path) else _FileLock(path)
    lock.acquire()
    try:
        yield lock
    finally:
        lock.release()


class _FileLock:
    """A file that is locked (flock) by the process that writes the set."""

    def __init__(self, path: str) -> None:
        self._path = path

    def acquire(self) -> None:
        try:
            os.makedirs(os.path.dirname(self._path) or ".", exist_ok=True)
            while not self._locked():
                pass
        except OSError as error:
            raise UserError(
                f"{self._path} can't be written: {error.strerror}. Choose another folder with "
                "--tfrecords_file."
            ) from None

    def _locked(self) -> bool:
        self._file = open(self._path, "a+", encoding="utf-8")  # noqa: SIM115 - held while locked
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.seek(0)
            raise _refusal(self._path, self._file.read() or "just started") from None
        # Who held it before may have removed this very file after it was opened here.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(self._file.fileno()), os.stat(self._path)):
                self._file.truncate(0)
                self._file.write(f"process {os.getpid()}")
                self._file.flush()
                return True
        self._file.close()
        return False

    def check(self) -> None:
        """A file's lock can't be lost."""

    def release(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.remove(self._path)
        self._file.close()


class _ObjectLock:
    """An object that its holder rewrites every HEARTBEAT_SECONDS, from one generation to the next.

    The service refuses to write over another generation than the one named, so only one process can
    have written the present one.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._generation = 0  # 0: the object must not be there
        self._lost = False
        self._stop = threading.Event()
        self._heart = threading.Thread(target=self._beat, daemon=True)

    def acquire(self) -> None:
        while not self._written():
            other = bucket.find(self._path)
            if other is None:
                continue  # released this moment
            owner = json.loads(bucket.read(self._path))
            if not _gone(owner) and self._renewed(other):
                raise _refusal(self._path, f"process {owner['process']} on {owner['host']}")
            logging.warning("%s is of a run that was killed: taken over.", self._path)
            self._generation = other.generation
        self._heart.start()

    def check(self) -> None:
        if self._lost:
            raise UserError(
                f"{self._path} was taken over by another run, because this one couldn't renew it "
                f"for {DEAD_AFTER_SECONDS:.0f} seconds. The other run goes on."
            )

    def release(self) -> None:
        from google.api_core.exceptions import PreconditionFailed

        self._stop.set()
        self._heart.join()
        with (
            contextlib.suppress(UserError, PreconditionFailed),
            bucket.explained(self._path),
        ):
            bucket.blob(self._path).delete(if_generation_match=self._generation)

    def _beat(self) -> None:
        while not self._stop.wait(HEARTBEAT_SECONDS):
            with contextlib.suppress(UserError):  # an outage; the next beat tries again
                if not self._written():
                    self._lost = True
                    return

    def _written(self) -> bool:
        """Whether the object could be written over the generation that is known here."""
        from google.api_core.exceptions import PreconditionFailed

        owner = {"host": socket.gethostname(), "process": os.getpid(), "beat": time.time()}
        content = json.dumps(owner).encode()
        blob = bucket.blob(self._path)
        with bucket.explained(self._path):
            try:
                blob.upload_from_string(content, if_generation_match=self._generation)
            except PreconditionFailed:
                # A repeated request finds what the first one wrote, if only its answer was lost.
                blob = bucket.find(self._path)
                if blob is None or bucket.read(self._path) != content:
                    return False
        self._generation = blob.generation
        return True

    def _renewed(self, other: Any) -> bool:
        """Whether the holder gives a sign of life while this process waits for one."""
        logging.info("Another run holds %s: waiting for a sign of life of it.", self._path)
        until = time.monotonic() + DEAD_AFTER_SECONDS
        while time.monotonic() < until:
            time.sleep(1)
            now = bucket.find(self._path)
            if now is None or now.generation != other.generation:
                return now is not None
        return False


def _gone(owner: dict[str, Any]) -> bool:
    """Whether the owner was a process of this very host and is no longer there."""
    if owner["host"] != socket.gethostname():
        return False
    try:
        os.kill(owner["process"], 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False  # another user's
    return False


def _refusal(path: str, owner: str) -> UserError:
    return UserError(
        f"Another run ({owner}) is writing this set of shards: wait until it ends, or give this "
        f"one another --tfrecords_file. Its lock is {path}."
    )
