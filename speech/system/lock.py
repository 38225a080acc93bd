"""A lock on a path, local or in a bucket, so that only one run at a time writes something."""

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

# A lock in a bucket is rewritten this often by who holds it ...
HEARTBEAT_SECONDS = 10.0
# ... and belongs to nobody when it wasn't for this long.
DEAD_AFTER_SECONDS = 45.0


# What a disk says that has no room, or none for this user or file.
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Lock(Protocol):
    """A lock that is held."""

    def check(self) -> None:
        """Raises UserError if another process has taken the lock over."""


@contextlib.contextmanager
def exclusive(
    path: str, what: str = "this set of shards", flag: str = "--tfrecords_file"
) -> Iterator[Lock]:
    """Holds the lock file `path` while the block runs.

    A killed process loses it: a local lock at once, one in a bucket when a new run on its host
    finds the process gone, or when nobody has renewed it for DEAD_AFTER_SECONDS.

    Args:
        what: is written under the lock, for messages.
        flag: by which another place for it is named.

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
    """A file that is locked (flock) by the process that writes the set."""

    def __init__(self, path: str, what: str, flag: str) -> None:
        self._path = path
        self._what = what
        self._flag = flag

    def acquire(self) -> None:
        try:
            os.makedirs(os.path.dirname(self._path) or ".", exist_ok=True)
            while not self._locked():
                pass
        except OSError as error:
            remedy = "Make room, or choose" if error.errno in NO_ROOM else "Choose"
            raise UserError(
                f"{self._path} can't be written: {error.strerror}. {remedy} another folder with "
                f"{self._flag}."
            ) from None

    def _locked(self) -> bool:
        self._file = open(self._path, "a+", encoding="utf-8")  # noqa: SIM115 - held while locked
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.seek(0)
            owner = self._file.read() or "just started"
            raise _refusal(self._path, owner, self._what, self._flag) from None
        # Who held it before may have removed this very file after it was opened here.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(self._file.fileno()), os.stat(self._path)):
                self._say_whose()
                return True
        self._file.close()
        return False

    def _say_whose(self) -> None:
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
        """A file's lock can't be lost."""

    def release(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.remove(self._path)
        self._file.close()


@dataclass(frozen=True)
class _Holder:
    """What a lock in a bucket says."""

    generation: int  # of the object
    host: str
    process: int
    run: str  # tells one holder from all others

    def __str__(self) -> str:
        return f"process {self.process} on {self.host}"

    @property
    def gone(self) -> bool:
        """Whether it was a process of this very host and is no longer there."""
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
    """An object that its holder rewrites every HEARTBEAT_SECONDS, from one generation to the next.

    The service refuses to write over another generation than the one named, so only one process can
    have written the present one.
    """

    def __init__(self, path: str, what: str, flag: str) -> None:
        self._path = path
        self._what = what
        self._flag = flag
        self._run = uuid.uuid4().hex
        self._generation = 0  # 0: the object must not be there
        self._renewed = 0.0  # time.time, which goes on while a machine sleeps
        self._lost = False
        self._writing = threading.Lock()
        self._stop = threading.Event()
        self._heart = threading.Thread(target=self._beat, daemon=True)

    def acquire(self) -> None:
        while not self._written(bucket.RETRY_SECONDS):
            holder = self._holder()
            if holder and not holder.gone:
                holder = self._silent(holder)
            if holder:
                logging.warning("%s is of a run that was killed: taken over.", self._path)
            self._generation = holder.generation if holder else 0
        self._heart.start()

    def check(self) -> None:
        with self._writing:
            # Whoever couldn't renew it for so long doesn't know whose it is.
            if time.time() - self._renewed > DEAD_AFTER_SECONDS:
                self._lost = self._lost or not self._written(HEARTBEAT_SECONDS)
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
            bucket.blob(self._path).delete(
                if_generation_match=self._generation, retry=bucket.patience(HEARTBEAT_SECONDS)
            )

    def _beat(self) -> None:
        while not self._lost and not self._stop.wait(HEARTBEAT_SECONDS):
            # In an outage the next beat tries again.
            with self._writing, contextlib.suppress(UserError):
                self._lost = not self._written(HEARTBEAT_SECONDS)

    def _written(self, seconds: float) -> bool:
        """Whether the object could be written over the generation that is known here."""
        from google.api_core.exceptions import PreconditionFailed

        owner = {"host": socket.gethostname(), "process": os.getpid(), "run": self._run}
        lock = bucket.blob(self._path)
        with bucket.explained(self._path):
            try:
                lock.upload_from_string(
                    json.dumps(owner),
                    content_type="application/json",
                    if_generation_match=self._generation,
                    retry=bucket.patience(seconds),
                )
                self._generation = lock.generation
            except PreconditionFailed:
                # Written by this very run, if only the answer was lost.
                holder = self._holder()
                if holder is None or holder.run != self._run:
                    return False
                self._generation = holder.generation
        self._renewed = time.time()
        return True

    def _holder(self) -> _Holder | None:
        """Who holds the lock; None if it was released or rewritten this moment."""
        from google.api_core.exceptions import NotFound

        lock = bucket.find(self._path)
        if lock is None:
            return None
        generation = lock.generation  # of which the content is asked
        with bucket.explained(self._path), contextlib.suppress(NotFound):
            text = lock.download_as_bytes(retry=bucket.patience())
            remedy = "remove it, if no other run writes there"
            with typed_json.explained(self._path, "a run's lock", remedy):
                owner = typed_json.parse_object(text)
                return typed_json.read(_Holder, {**owner, "generation": generation}, "owner")
        return None

    def _silent(self, holder: _Holder) -> _Holder | None:
        """Waits for a sign of life of a holder; returns it if there is none.

        Returns:
            None if the lock was released meanwhile.

        Raises:
            UserError: it lives.
        """
        logging.info(
            "Another run (%s) holds %s: waiting up to %.0f s for a sign of life of it.",
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
