"""Locks a path, local or in a bucket, so that only one run at a time writes there.

The package filelock has no locks in buckets, and its local ones don't say who holds them: here
another run is refused at once, with the owner's process and host.
"""

import contextlib
import errno
import fcntl
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from absl import logging

from speech.system import bucket, storage, typed_json
from utils import UserError

# Interval at which its holder renews a lock in a bucket.
HEARTBEAT_SECONDS = 10.0
# Age at which a lock in a bucket that wasn't renewed has expired.
DEAD_AFTER_SECONDS = 45.0

# Errors of a full disk, quota or file.
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Lock(Protocol):
    """A lock of this process."""

    def check(self) -> None:
        """Raises UserError if another process has taken over the lock."""


@contextlib.contextmanager
def exclusive(
    path: str, what: str = "this set of shards", flag: str = "--tfrecords_file"
) -> Iterator[Lock]:
    """Holds the lock file `path` while the block runs.

    A process that is killed loses a local lock at once. It loses one in a bucket when another run
    on its host finds that it has ended, or after DEAD_AFTER_SECONDS.

    Args:
        what: what is written under the lock, for messages.
        flag: flag that names another place to write to, for messages.

    Raises:
        UserError: another process holds it, or the file can't be written.
    """
    lock_type = _ObjectLock if storage.in_bucket(path) else _FileLock
    lock = lock_type(path, what, flag)
    lock.acquire()
    try:
        yield lock
    finally:
        lock.release()


class _FileLock:
    """A file that its process has locked (flock)."""

    def __init__(self, path: str, what: str, flag: str) -> None:
        self._path = path
        self._what = what
        self._flag = flag

    def acquire(self) -> None:
        try:
            os.makedirs(os.path.dirname(self._path) or ".", exist_ok=True)
            while not self._try_to_lock():
                pass  # it was removed meanwhile
        except OSError as error:
            remedy = "Make room, or choose" if error.errno in NO_ROOM else "Choose"
            raise UserError(
                f"{self._path} can't be written: {error.strerror}. {remedy} another folder with "
                f"{self._flag}."
            ) from None

    def _try_to_lock(self) -> bool:
        self._file = open(self._path, "a+", encoding="utf-8")  # noqa: SIM115 - open while locked
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.seek(0)
            owner = self._file.read() or "just started"
            raise _refusal(self._path, owner, self._what, self._flag) from None
        # The previous holder may have removed this file since it was opened here.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(self._file.fileno()), os.stat(self._path)):
                self._write_owner()
                return True
        self._file.close()
        return False

    def _write_owner(self) -> None:
        try:
            self._file.truncate(0)
            self._file.write(f"process {os.getpid()}")
            self._file.flush()
        except OSError:
            os.remove(self._path)
            with contextlib.suppress(OSError):  # on a full disk it fails once more
                self._file.close()
            raise

    def check(self) -> None:
        """Does nothing: a file's lock can't be taken over."""

    def release(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.remove(self._path)
        self._file.close()


@dataclass(frozen=True)
class _Holder:
    """The content of a lock in a bucket."""

    generation: int  # of the object
    host: str
    process: int
    run: str  # random identifier

    def __str__(self) -> str:
        return f"process {self.process} on {self.host}"

    @property
    def has_ended(self) -> bool:
        """Returns whether it was a process of this host that has ended."""
        if self.host != socket.gethostname():
            return False
        try:
            os.kill(self.process, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False  # another user's
        return False


class _ObjectLock:
    """An object that its holder rewrites every HEARTBEAT_SECONDS, which gives it a new generation.

    A write names the generation that it replaces, and the service refuses it if there is another.
    So only one process can have written the present one.
    """

    def __init__(self, path: str, what: str, flag: str) -> None:
        self._path = path
        self._what = what
        self._flag = flag
        self._run = uuid.uuid4().hex
        self._generation = 0  # 0: there must be no object
        self._renewed = 0.0  # by time.time, which counts a machine's sleep
        self._lost = False
        self._mutex = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._renew_until_stopped, daemon=True)

    def acquire(self) -> None:
        while not self._renew(bucket.RETRY_SECONDS):
            holder = self._holder()
            if holder and not holder.has_ended:
                holder = self._wait_for_renewal(holder)
            if holder:
                logging.warning("%s is from a run that was killed: taken over.", self._path)
            self._generation = holder.generation if holder else 0
        self._thread.start()

    def check(self) -> None:
        with self._mutex:
            # Another run may have taken over a lock that wasn't renewed for so long.
            if time.time() - self._renewed > DEAD_AFTER_SECONDS:
                self._lost = self._lost or not self._renew(HEARTBEAT_SECONDS)
        if self._lost:
            raise UserError(
                f"{self._path} was taken over by another run, because this one couldn't renew it "
                f"for {DEAD_AFTER_SECONDS:.0f} seconds. The other run continues."
            )

    def release(self) -> None:
        from google.api_core.exceptions import PreconditionFailed

        self._stop.set()
        self._thread.join()
        with (
            contextlib.suppress(UserError, PreconditionFailed),
            bucket.explain_errors(self._path),
        ):
            bucket.blob(self._path).delete(
                if_generation_match=self._generation, retry=bucket.retry_policy(HEARTBEAT_SECONDS)
            )

    def _renew_until_stopped(self) -> None:
        while not self._lost and not self._stop.wait(HEARTBEAT_SECONDS):
            # After an error the next round tries again.
            with self._mutex, contextlib.suppress(UserError):
                self._lost = not self._renew(HEARTBEAT_SECONDS)

    def _renew(self, seconds: float) -> bool:
        """Writes the object over the known generation; returns False if there is another."""
        from google.api_core.exceptions import PreconditionFailed

        owner = {"host": socket.gethostname(), "process": os.getpid(), "run": self._run}
        lock = bucket.blob(self._path)
        with bucket.explain_errors(self._path):
            try:
                lock.upload_from_string(
                    json.dumps(owner),
                    content_type="application/json",
                    if_generation_match=self._generation,
                    retry=bucket.retry_policy(seconds),
                )
                self._generation = lock.generation
            except PreconditionFailed:
                # This run has written it, if an earlier answer was lost.
                holder = self._holder()
                if holder is None or holder.run != self._run:
                    return False
                self._generation = holder.generation
        self._renewed = time.time()
        return True

    def _holder(self) -> _Holder | None:
        """Returns who holds the lock, None if it was released or rewritten meanwhile."""
        from google.api_core.exceptions import NotFound

        lock = bucket.find(self._path)
        if lock is None:
            return None
        generation = lock.generation  # whose content is read
        with bucket.explain_errors(self._path), contextlib.suppress(NotFound):
            text = lock.download_as_bytes(retry=bucket.retry_policy())
            remedy = "remove it, if no other run writes there"
            with typed_json.explain_errors(self._path, "a run's lock", remedy):
                owner = typed_json.parse_object(text)
                return typed_json.read(_Holder, {**owner, "generation": generation}, "owner")
        return None

    def _wait_for_renewal(self, holder: _Holder) -> _Holder | None:
        """Waits for a holder to renew its lock.

        Returns:
            the holder if it doesn't, None if the lock was released meanwhile.

        Raises:
            UserError: the lock was renewed.
        """
        logging.info(
            "Another run (%s) holds %s: waiting up to %.0f s to see whether it still runs.",
            holder,
            self._path,
            DEAD_AFTER_SECONDS,
        )
        until = time.monotonic() + DEAD_AFTER_SECONDS
        while time.monotonic() < until:
            time.sleep(HEARTBEAT_SECONDS / 10)
            lock = bucket.find(self._path)
            if lock is None:
                return None
            if lock.generation != holder.generation:
                raise _refusal(self._path, str(holder), self._what, self._flag)
        return holder


def _refusal(path: str, owner: str, what: str, flag: str) -> UserError:
    return UserError(
        f"Another run ({owner}) is writing {what}: wait until it ends, or give this one another "
        f"{flag}. Its lock is {path}."
    )
