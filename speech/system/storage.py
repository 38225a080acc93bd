"""Reads and writes files on this machine or in Google Cloud Storage (gs://bucket/path).

A file that is written appears under its name when it is complete.
"""

import contextlib
import glob
import itertools
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import BinaryIO, Protocol

import google_crc32c

from speech.system import bucket
from utils import UserError

# Number of small files to read, write or remove at once: each takes a request.
PARALLEL_REQUESTS = bucket.PARALLEL_REQUESTS

# Bytes that are copied at a time for a checksum; so many fit into the processor's cache.
CHECKED_BYTES = 1 << 18


def crc32c(content: memoryview | bytes, checksum: int = 0) -> int:
    """Returns the CRC-32C of bytes; checksum: that of the bytes before them."""
    for at in range(0, len(content), CHECKED_BYTES):
        checksum = google_crc32c.extend(checksum, bytes(content[at : at + CHECKED_BYTES]))
    return checksum


def in_bucket(path: str) -> bool:
    return path.startswith(bucket.BUCKET_PREFIX)


def check_path(path: str) -> None:
    """Raises UserError if a path that starts with gs:// names no object."""
    if in_bucket(path):
        bucket.split(path)


def join(folder: str, name: str) -> str:
    if not in_bucket(folder):
        return os.path.join(folder, name)
    return f"{bucket.BUCKET_PREFIX}{folder.removeprefix(bucket.BUCKET_PREFIX).rstrip('/')}/{name}"


def sizes(pattern: str) -> dict[str, int]:
    """Returns path -> bytes of a glob pattern's matches, sorted; see also `resolve_pattern`."""
    if in_bucket(pattern):
        return {
            path: int(found.size) for path, found in sorted(bucket.find_matching(pattern).items())
        }
    return {path: os.path.getsize(path) for path in sorted(glob.glob(pattern))}


def resolve_pattern(pattern: str) -> str:
    """Returns a user's glob pattern, with brackets escaped that are part of existing names.

    A name that has the brackets themselves comes before names with one of the characters between
    them. A program that makes a pattern of a name escapes it instead.
    """
    first, *others = pattern.split("[")
    if not others:
        return pattern
    # All combinations of escaped brackets, if they are few: each takes a search.
    count = len(others)
    kinds = itertools.product(("[[]", "["), repeat=count) if count <= 4 else (["[[]"] * count,)
    readings = (first + "".join(map("".join, zip(each, others, strict=True))) for each in kinds)
    return next((each for each in readings if _matches_any(each)), pattern)


def _matches_any(pattern: str) -> bool:
    if in_bucket(pattern):
        return bool(bucket.find_matching(pattern))
    return next(glob.iglob(pattern, recursive=True), None) is not None


def files_below(folder: str) -> Iterator[tuple[str, int | None]]:
    """Yields (path, bytes) of every file below a folder.

    Follows links; the bytes of a broken one are None. A missing folder has no files.

    Raises:
        UserError: a folder can't be read.
    """
    if in_bucket(folder):
        for path, found in bucket.list_below(folder):
            yield path, int(found.size)
        return
    for parent, _, names in os.walk(folder, followlinks=True, onerror=_refuse_unreadable):
        for name in names:
            path = os.path.join(parent, name)
            try:
                yield path, os.path.getsize(path)
            except OSError:
                yield path, None


def _refuse_unreadable(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise UserError(f"The folder {error.filename} can't be read: {error.strerror}.")


def exists(path: str) -> bool:
    return bucket.find(path) is not None if in_bucket(path) else os.path.exists(path)


def size(path: str) -> int | None:
    """Returns the bytes of a file, None if it is missing."""
    if in_bucket(path):
        found = bucket.find(path)
        return None if found is None else int(found.size)
    return os.path.getsize(path) if os.path.exists(path) else None


def read_text(path: str) -> str:
    """Returns the text of a UTF-8 file.

    Raises:
        UserError: the file is missing or can't be read.
    """
    try:
        return read_bytes(path).decode()
    except IsADirectoryError:
        raise UserError(
            f"{path} can't be read: it is a folder. Remove it, or name another file."
        ) from None
    except OSError as error:
        raise UserError(
            f"{path} can't be read: {error.strerror}. Check that it is there and may be read."
        ) from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path} can't be read: it is not UTF-8 ({error}).") from None


def read_bytes(path: str) -> bytes:
    """Returns the content of a file.

    Raises:
        OSError: the local file is missing or can't be read.
        UserError: the object is missing or can't be read.
    """
    if in_bucket(path):
        return bucket.read(path)
    with open(path, "rb") as file:
        return file.read()


def remove(path: str) -> None:
    """Removes a file, if it exists.

    Raises:
        UserError: it can't be removed.
    """
    if in_bucket(path):
        bucket.delete(path)
        return
    try:
        os.remove(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise UserError(f"{path} can't be removed: {error.strerror}.") from None


def remove_folder(folder: str) -> None:
    """Removes a folder with everything below it, if it exists.

    Raises:
        UserError: it can't be removed.
    """
    if in_bucket(folder):
        with ThreadPoolExecutor(PARALLEL_REQUESTS) as pool:
            list(pool.map(bucket.delete, [path for path, _ in files_below(folder)]))
        return
    try:
        shutil.rmtree(folder)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise UserError(f"The folder {folder} can't be removed: {error.strerror}.") from None


def make_folder(path: str) -> None:
    """Makes a folder and those above it, if they are missing; a bucket needs none.

    Raises:
        UserError: it can't be made, or can't be written into.
    """
    if in_bucket(path):
        return
    try:
        os.makedirs(path or ".", exist_ok=True)
    except OSError as error:
        raise UserError(f"The folder {path} can't be made: {error.strerror}.") from None
    if not os.access(path or ".", os.W_OK):
        raise UserError(f"The folder {path} can't be written into: choose another.")


def write_text(path: str, text: str, partial: str | None = None) -> None:
    """Writes a UTF-8 file; see `write_bytes`."""
    write_bytes(path, text.encode(), partial)


def write_bytes(path: str, content: bytes, partial: str | None = None) -> None:
    """Writes a file so that a reader sees either the old content or the complete new one.

    Args:
        partial: see `open_writer`.

    Raises:
        UserError: the file can't be written.
    """
    if in_bucket(path):
        bucket.write(path, content)
        return
    try:
        with contextlib.closing(open_writer(path, partial)) as writer:
            writer.write(content)
            writer.commit()
    except OSError as error:
        raise UserError(f"{path} can't be written: {error.strerror}.") from None


def open_reader(path: str) -> BinaryIO:
    """Opens a file for reading.

    Raises:
        OSError: the local file is missing or can't be read.
        UserError: the object is missing or can't be read; raised when it is read.
    """
    return bucket.open_reader(path) if in_bucket(path) else open(path, "rb")


class Writer(Protocol):
    """A new file, which gets its name when it is complete."""

    def write(self, content: bytes) -> None: ...

    def commit(self) -> str:
        """Gives the file its name; returns its CRC32C as 8 hexadecimal digits."""

    def close(self) -> None:
        """Removes the file, if it isn't committed."""


def open_writer(path: str, partial: str | None = None) -> Writer:
    """Opens a new file at `path` for writing.

    Args:
        partial: name of a local file until it is complete, on the same disk; None: `partial_path`,
            which two simultaneous writers may not share. Has no effect in a bucket.

    Raises:
        OSError: the local file can't be written; also raised by the writer's methods.
        UserError: the object can't be written; also raised by the writer's methods.
    """
    if in_bucket(path):
        return bucket.ObjectWriter(path)
    return _FileWriter(path, partial or partial_path(path))


class _FileWriter:
    def __init__(self, path: str, partial: str) -> None:
        refuse_device(path)
        self._path = path
        self._partial = partial
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        os.makedirs(os.path.dirname(partial) or ".", exist_ok=True)
        self._file = open(self._partial, "wb")  # noqa: SIM115 - closed by commit or close
        self._crc32c = google_crc32c.Checksum()

    def write(self, content: bytes) -> None:
        self._file.write(content)
        self._crc32c.update(content)

    def commit(self) -> str:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        os.replace(self._partial, self._path)
        return str(self._crc32c.digest().hex())

    def close(self) -> None:
        # On a full disk this fails once more.
        with contextlib.suppress(OSError):
            self._file.close()
        with contextlib.suppress(FileNotFoundError):
            os.remove(self._partial)


def refuse_device(path: str) -> None:
    """Raises UserError if a path is a device or a pipe, which a renamed file would replace."""
    if os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path)):
        raise UserError(f"{path} is not a regular file, and would be replaced by one: name a file.")


def partial_path(path: str) -> str:
    """Returns the path of a file until it is complete."""
    return hidden_path(path, ".partial")


def hidden_path(path: str, suffix: str) -> str:
    """Returns a hidden path beside a file, which patterns of that file's name don't match."""
    folder, slash, name = path.rpartition("/")
    return f"{folder}{slash}.{name}{suffix}"
