"""Copies a local set of shards into a bucket.

A shard goes up in parts that are sent side by side, each an object of its own until the service
joins them under the shard's name; a part that has arrived is not sent again. So an upload that was
stopped goes on where it was, and one big shard is sent as quickly as many small ones. What arrives
is compared with the index's checksums, and the index comes last.
"""

import io
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, BinaryIO, NoReturn

import google_crc32c
from absl import logging
from tqdm import tqdm

from speech import bucket, storage
from speech.records import Index, Shard, index_path, read_index, shard_path
from utils import UserError

# The service joins at most this many objects at once.
MOST_PARTS = 32

# Smallest part: below, a request's own time outweighs that of the bytes.
PART_BYTES = 64 * 2**20

PARALLEL_PARTS = 8


@dataclass(frozen=True)
class Uploaded:
    """What an upload has done."""

    sent: int  # shards
    already_there: int  # shards
    bytes: int  # sent by this run, without the parts that an earlier one had sent


def upload(tfrecords_file: str, folder: str, part_bytes: int = PART_BYTES) -> Uploaded:
    """Copies the finished shards of a local set, then their index.

    Args:
        folder: gs://bucket/path.
        part_bytes: size of the smallest part.

    Raises:
        UserError: there is no such set, a shard is not as the index says, the bucket holds
            another set of that name, or it can't be reached.
    """
    index = read_index(tfrecords_file)
    if index is None:
        raise UserError(
            f"{index_path(tfrecords_file)} is missing: prepare the shards first, or name those "
            "that are there with --tfrecords_file."
        )
    target = storage.join(folder, os.path.basename(tfrecords_file))
    _check_same_set(index, target)
    if not index.complete:
        logging.warning("%s is incomplete: only its finished shards are copied.", tfrecords_file)
    there = bucket.matching(f"{target}.*")
    waiting = [shard for shard in index.shards if not _arrived(shard, there, target)]
    paths = {shard: shard_path(tfrecords_file, shard.start) for shard in waiting}
    with (
        tqdm(total=sum(shard.bytes for shard in waiting), unit="B", unit_scale=True) as progress,
        _Sender(progress) as sender,
    ):
        sent = [
            sender.send(paths[shard], shard_path(target, shard.start), shard, part_bytes)
            for shard in waiting
        ]
        for join_parts in sent:
            join_parts()
    # An earlier upload may have been stopped between joining parts and deleting them.
    for leftover in bucket.matching(_part_path(f"{target}.*", "??")):
        bucket.delete(leftover)
    storage.write_text(index_path(target), index.to_json())
    return Uploaded(len(waiting), len(index.shards) - len(waiting), sender.bytes)


def _arrived(shard: Shard, there: dict[str, Any], target: str) -> bool:
    found = there.get(shard_path(target, shard.start))
    return found is not None and bucket.crc32c_of(found) == shard.crc32c


def _part_path(target: str, number: str) -> str:
    """The object that holds a part of a shard until all are there; no shard pattern matches it."""
    folder, name = os.path.split(target)
    return storage.join(folder, f".{name}.part{number}")


def _check_same_set(index: Index, target: str) -> None:
    there = read_index(target)
    if there and (index.settings, index.corpus_digest) != (there.settings, there.corpus_digest):
        raise UserError(
            f"{index_path(target)} is of another set (other settings or another corpus): remove "
            "that one, or upload to another folder."
        )


class _Sender:
    """Sends parts of shards side by side; as a context manager it stops them when one fails."""

    def __init__(self, progress: "tqdm[NoReturn]") -> None:
        self.bytes = 0
        self._progress = progress
        self._pool = ThreadPoolExecutor(PARALLEL_PARTS)
        self._stopped = threading.Event()

    def __enter__(self) -> "_Sender":
        return self

    def __exit__(self, *unused: object) -> None:
        self._stopped.set()
        self._pool.shutdown(cancel_futures=True)

    def send(self, path: str, target: str, shard: Shard, part_bytes: int) -> Callable[[], None]:
        """Starts to send the file `path`; returns what waits for it and gives it its name."""
        size = max(part_bytes, -(-shard.bytes // MOST_PARTS))
        starts = range(0, shard.bytes, size)
        parts = [_part_path(target, f"{number:02d}") for number in range(len(starts))]
        whole = self._pool.submit(self._check, path, shard)
        sent = [
            self._pool.submit(self._send_part, path, start, size, part, whole)
            for start, part in zip(starts, parts, strict=True)
        ]

        def join_parts() -> None:
            whole.result()
            for part in sent:
                part.result()
            bucket.join(parts, target)
            if bucket.crc32c_of(bucket.find(target)) != shard.crc32c:
                bucket.delete(target)
                raise UserError(f"{target} arrived damaged and is removed: upload it again.")

        return join_parts

    def _check(self, path: str, shard: Shard) -> None:
        """Raises UserError if the file isn't what was written: before it is sent, not after."""
        try:
            crc32c = google_crc32c.Checksum()
            with open(path, "rb") as file:
                while chunk := file.read(bucket.CHUNK_BYTES):
                    self._stop_if_asked()
                    crc32c.update(chunk)
        except OSError as error:
            raise UserError(f"{path} can't be read: {error.strerror}.") from None
        if crc32c.digest().hex() != shard.crc32c:
            raise UserError(
                f"{path} is not what was written: remove it, run the prepare command that made it "
                "again, and then upload."
            )

    def _send_part(
        self, path: str, start: int, size: int, target: str, whole: "Future[None]"
    ) -> None:
        whole.result()
        with open(path, "rb") as file:
            part = _Stretch(file, start, size, self._stop_if_asked)
            found = bucket.find(target)
            if found is not None and bucket.crc32c_of(found) == part.crc32c():
                self._progress.update(part.size)
                return
            bucket.send(part, part.size, target)
        self._progress.update(part.size)
        self.bytes += part.size

    def _stop_if_asked(self) -> None:
        if self._stopped.is_set():
            raise InterruptedError


class _Stretch(io.RawIOBase):
    """A stretch of a file as a file of its own; `before_read` may raise to end an upload."""

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
        """Of the whole stretch, as 8 hexadecimal digits."""
        checksum = google_crc32c.Checksum()
        self.seek(0)
        while chunk := self.read(bucket.CHUNK_BYTES):
            checksum.update(chunk)
        self.seek(0)
        return checksum.digest().hex()
