"""Files on this machine or in Google Cloud Storage (gs://bucket/path), by one set of names.

Whatever is written here appears under its name only when it is whole.
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

# Small files that are worth reading, writing or removing side by side: each takes a request.
PARALLEL_REQUESTS = bucket.PARALLEL_REQUESTS

# Bytes that are copied for a checksum at a time: they stay in the processor's cache.
CHECKED_BYTES = 1 << 18


def crc32c(content: memoryview | bytes, checksum: int = 0) -> int:
    """Returns the CRC-32C of bytes; checksum: of those before them."""
    for at in range(0, len(content), CHECKED_BYTES):
        checksum = google_crc32c.extend(checksum, bytes(content[at : at + CHECKED_BYTES]))
    return checksum


def in_bucket(path: str) -> bool:
    return path.startswith(bucket.BUCKET_PREFIX)


def check_path(path: str) -> None:
    """Raises UserError if no file can have this path, which starts with gs:// then."""
    if in_bucket(path):
        bucket.split(path)


def join(folder: str, name: str) -> str:
    if not in_bucket(folder):
        return os.path.join(folder, name)
    return f"{bucket.BUCKET_PREFIX}{folder.removeprefix(bucket.BUCKET_PREFIX).rstrip('/')}/{name}"


def sizes(pattern: str) -> dict[str, int]:
    """Path -> bytes of the files that match a glob pattern, by their paths; see also `meant`."""
    if in_bucket(pattern):
        return {path: int(found.size) for path, found in sorted(bucket.matching(pattern).items())}
    return {path: os.path.getsize(path) for path in sorted(glob.glob(pattern))}


def meant(pattern: str) -> str:
    """Returns the glob pattern that a person means by one.

    A folder or a file may have brackets in its name: a name with just these comes before names with
    one of the characters between them. Patterns that a program makes of names are escaped instead.
    """
    first, *others = pattern.split("[")
    if not others:
        return pattern
    # Each bracket by itself, where they are few: every reading is a search.
    count = len(others)
    kinds = itertools.product(("[[]", "["), repeat=count) if count <= 4 else (["[[]"] * count,)
    readings = (first + "".join(map("".join, zip(each, others, strict=True))) for each in kinds)
    return next((each for each in readings if _matches_any(each)), pattern)


def _matches_any(pattern: str) -> bool:
    if in_bucket(pattern):
        return bool(bucket.matching(pattern))
    return next(glob.iglob(pattern, recursive=True), None) is not None


def files_below(folder: str) -> Iterator[tuple[str, int | None]]:
    """(path, bytes) of every file in a folder and in those below it, as they are found.

    Links are followed; the bytes of one that leads nowhere are None. A folder that isn't there has
    no files.

    Raises:
        UserError: a folder can't be read.
    """
    if in_bucket(folder):
        for path, found in bucket.below(folder):
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
    """Bytes of a file, None if it isn't there."""
    if in_bucket(path):
        found = bucket.find(path)
        return None if found is None else int(found.size)
    return os.path.getsize(path) if os.path.exists(path) else None


def read_text(path: str) -> str:
    """The text of a UTF-8 file.

    Raises:
        UserError: the file isn't there or can't be read.
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
    """A whole file.

    Raises:
        OSError: the local file isn't there or can't be read.
        UserError: the same of the bucket.
    """
    if in_bucket(path):
        return bucket.read(path)
    with open(path, "rb") as file:
        return file.read()


def remove(path: str) -> None:
    """Removes a file, if it is there.

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
    """Removes a folder with everything below it, if it is there.

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
    """Makes a folder and those above it where they are missing; a bucket needs none.

    Raises:
        UserError: it can't be made, or not be written into.
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
    """Writes a file so that a reader sees either the old content or the whole new one.

    Args:
        partial: as of `open_writer`.

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
    """The bytes of a file.

    Raises:
        OSError: the local file isn't there or can't be read.
        UserError: the same of the bucket, when it is read.
    """
    return bucket.open_reader(path) if in_bucket(path) else open(path, "rb")


class Writer(Protocol):
    """A file that gets its name when it is whole."""

    def write(self, content: bytes) -> None: ...

    def commit(self) -> str:
        """Gives the file its name, with everything written so far.

        Returns:
            its CRC32C as 8 hexadecimal digits.
        """

    def close(self) -> None:
        """Removes what was written, if it wasn't committed."""


def open_writer(path: str, partial: str | None = None) -> Writer:
    """A new file at `path`.

    Args:
        partial: name of a local file until it is whole, on the same disk; None: `partial_path`,
            which two writers at once may not share. In a bucket every writer is on its own.

    Raises:
        OSError: the local file can't be written; so does every call of the writer.
        UserError: the same of the bucket.
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
        self._file = open(self._partial, "wb")  # noqa: SIM115 - open until it is whole
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
        # On a full disk the last bytes fail here too, as they have before.
        with contextlib.suppress(OSError):
            self._file.close()
        with contextlib.suppress(FileNotFoundError):
            os.remove(self._partial)


def refuse_device(path: str) -> None:
    """Refuses a path that names a device or a pipe, which a file renamed to it would replace.

    Raises:
        UserError: it does.
    """
    if os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path)):
        raise UserError(f"{path} is no file, and would be replaced by one: name a file.")


def partial_path(path: str) -> str:
    """The name that a file has in its folder until it is whole."""
    return hidden_path(path, ".partial")


def hidden_path(path: str, suffix: str) -> str:
    """A name for something that goes with a file, in its folder; no pattern of it matches that."""
    folder, slash, name = path.rpartition("/")
    return f"{folder}{slash}.{name}{suffix}"
