"""Copies a local set of shards into a bucket.

A large shard is sent in parallel parts, each an object until the service joins them under the
shard's name; a part that has arrived is not sent again. So an upload resumes where it was stopped,
and one large shard is sent as fast as many small ones. Arrived shards are compared with the index's
checksums, and the index is sent last.
"""

import io
import os
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Any, BinaryIO, NoReturn

import google_crc32c
from absl import logging
from tqdm import tqdm

from speech.shards.index import Index, Shard, read_index
from speech.shards.paths import index_path, lock_path, shard_path, shard_pattern
from speech.system import bucket, storage
from speech.system.lock import Lock, exclusive
from speech.system.progress_bar import progress_bar
from utils import UserError

# Maximum number of objects that the service joins in one request.
MOST_PARTS = 32

# Minimum part: below it, a request takes longer than its bytes.
PART_BYTES = 64 * 2**20

PARALLEL_PARTS = 8

# While the parts of one shard are sent, the next shards are read and compared with the index.
PARALLEL_SHARDS = 4


@dataclass(frozen=True)
class Uploaded:
    """Result of an upload."""

    sent: int  # shards
    already_there: int  # shards
    bytes: int  # sent by this run, without parts that an earlier run had sent


def upload(tfrecords_file: str, folder: str, part_bytes: int = PART_BYTES) -> Uploaded:
    """Copies the finished shards of a local set, then their index.

    Args:
        folder: gs://bucket/path.
        part_bytes: minimum part; a smaller shard is sent in one piece.

    Raises:
        UserError: the set doesn't exist, a shard differs from its index, the bucket has another
            set of that name, another run writes there, or the bucket can't be reached.
    """
    index = read_index(tfrecords_file)
    if index is None:
        raise UserError(
            f"{index_path(tfrecords_file)} is missing: prepare the shards first, or name existing "
            "ones with --tfrecords_file."
        )
    target = storage.join(folder, os.path.basename(tfrecords_file))
    # Another upload, or a preparation in the bucket, would join or delete the parts of this one.
    with exclusive(lock_path(target)) as lock:
        return _upload(index, tfrecords_file, target, part_bytes, lock)


def _upload(
    index: Index, tfrecords_file: str, target: str, part_bytes: int, lock: Lock
) -> Uploaded:
    _check_same_set(index, tfrecords_file, target)
    if not index.complete:
        logging.warning("%s is incomplete: only its finished shards are copied.", tfrecords_file)
    any_shard = shard_pattern(target)
    there, parts = (
        bucket.find_matching(any_shard),
        bucket.find_matching(_part_path(any_shard, "??")),
    )
    waiting = [shard for shard in index.shards if not _arrived(shard, there, target)]
    for shard in waiting:
        _check_size(shard_path(tfrecords_file, shard.start), shard)
    sent = 0
    with (
        progress_bar(sum(shard.bytes for shard in waiting), "B") as progress,
        _Sender(parts, part_bytes, progress) as sender,
    ):
        for done in as_completed([sender.start(tfrecords_file, target, each) for each in waiting]):
            sent += done.result()
            lock.check()
    for leftover in parts:  # of an upload that was stopped before it deleted them
        bucket.delete(leftover)
    storage.write_text(index_path(target), index.to_json())
    return Uploaded(len(waiting), len(index.shards) - len(waiting), sent)


def _arrived(shard: Shard, there: dict[str, Any], target: str) -> bool:
    found = there.get(shard_path(target, shard.start))
    return found is not None and bucket.crc32c_of(found) == shard.crc32c


def _part_path(target: str, number: str) -> str:
    """Returns the path of the object that holds a part of a shard until they are joined."""
    return storage.hidden_path(target, f".part{number}")


def _check_same_set(index: Index, tfrecords_file: str, target: str) -> None:
    there = read_index(target)
    if there is None:
        return
    if (index.settings, index.corpus_digest) != (there.settings, there.corpus_digest):
        raise UserError(
            f"{index_path(target)} belongs to another set (other settings or another corpus): "
            "remove it, or upload to another folder."
        )
    more = {shard.start for shard in there.shards} - {shard.start for shard in index.shards}
    if more:
        raise UserError(
            f"{index_path(target)} lists {len(more)} shards that {tfrecords_file} doesn't have: "
            "finish that set first, with the command that prepared it."
        )


def _check_size(path: str, shard: Shard) -> None:
    if storage.size(path) != shard.bytes:
        raise _not_as_written(path)


def _not_as_written(path: str) -> UserError:
    return UserError(
        f"{path} differs from what was written: remove it if it exists, repeat the command that "
        "prepared it, and then upload."
    )


class _Sender:
    """Sends shards in parallel; as a context manager it stops all when one fails."""

    def __init__(self, there: dict[str, Any], part_bytes: int, progress: "tqdm[NoReturn]") -> None:
        """there: parts that an earlier upload has sent; joined parts are removed from it."""
        self._there = there
        self._part_bytes = part_bytes
        self._progress = progress
        self._shards = ThreadPoolExecutor(PARALLEL_SHARDS)
        self._parts = ThreadPoolExecutor(PARALLEL_PARTS)
        self._stopped = threading.Event()

    def __enter__(self) -> "_Sender":
        return self

    def __exit__(self, *unused: object) -> None:
        self._stopped.set()
        self._parts.shutdown(cancel_futures=True)
        self._shards.shutdown(cancel_futures=True)

    def start(self, tfrecords_file: str, target: str, shard: Shard) -> Future[int]:
        """Starts to send a shard; the future's result is the number of bytes sent."""
        path = shard_path(tfrecords_file, shard.start)
        return self._shards.submit(self._send, path, shard_path(target, shard.start), shard)

    def _send(self, path: str, target: str, shard: Shard) -> int:
        self._check(path, shard)
        if shard.bytes <= self._part_bytes:
            # In the pool of the parts, which limits the number of parallel requests.
            whole = self._parts.submit(self._send_part, path, 0, shard.bytes, target)
            arrived, sent = whole.result()
        else:
            size = max(self._part_bytes, -(-shard.bytes // MOST_PARTS))
            starts = range(0, shard.bytes, size)
            parts = [_part_path(target, f"{number:02d}") for number in range(len(starts))]
            sending = [
                self._parts.submit(self._send_part, path, start, size, part)
                for start, part in zip(starts, parts, strict=True)
            ]
            sent = sum(part.result()[1] for part in sending)
            arrived = bucket.join(parts, target)
            for part in parts:
                self._there.pop(part, None)
        bucket.check_arrived(target, arrived, shard.crc32c)
        return sent

    def _check(self, path: str, shard: Shard) -> None:
        """Raises UserError before a file is sent that differs from what was written."""
        try:
            with open(path, "rb") as file:
                whole = _FileRange(file, 0, shard.bytes, self._raise_if_stopped)
                if whole.crc32c() != shard.crc32c:
                    raise _not_as_written(path)
        except OSError as error:
            raise UserError(f"{path} can't be read: {error.strerror}.") from None

    def _send_part(self, path: str, start: int, size: int, target: str) -> tuple[Any, int]:
        """Sends a range of a file unless it has arrived; returns the object and the bytes sent."""
        with open(path, "rb") as file:
            part = _FileRange(file, start, size, self._raise_if_stopped)
            arrived, sent = self._there.get(target), 0
            if arrived is None or bucket.crc32c_of(arrived) != part.crc32c():
                arrived, sent = bucket.send(part, part.size, target), part.size
        self._progress.update(part.size)
        return arrived, sent

    def _raise_if_stopped(self) -> None:
        if self._stopped.is_set():
            raise CancelledError


class _FileRange(io.RawIOBase):
    """A range of a file as a file; `before_read` may raise to end an upload."""

    def __init__(
        self, file: BinaryIO, start: int, size: int, before_read: Callable[[], None]
    ) -> None:
        self._file = file
        self._start = start
        self._before_read = before_read
        self.size = min(size, os.fstat(file.fileno()).st_size - start)
        self._file.seek(start)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._file.tell() - self._start

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        assert whence == os.SEEK_SET
        return self._file.seek(self._start + offset) - self._start

    def read(self, size: int = -1) -> bytes:
        self._before_read()
        left = self.size - self.tell()
        return self._file.read(left if size < 0 else min(size, left))

    def crc32c(self) -> str:
        """Returns the checksum of the whole range as 8 hexadecimal digits."""
        checksum = google_crc32c.Checksum()
        self.seek(0)
        while chunk := self.read(bucket.CHUNK_BYTES):
            checksum.update(chunk)
        self.seek(0)
        return str(checksum.digest().hex())
