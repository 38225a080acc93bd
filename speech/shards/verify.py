"""Rereads a set of shards, local or in a bucket, and finds the shards that are damaged."""

import threading
from collections.abc import Container
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import BinaryIO, NoReturn

import google_crc32c
from absl import logging
from tqdm import tqdm

from speech.shards.index import Shard, read_index
from speech.shards.paths import index_path, shard_path, shard_pattern
from speech.shards.records import RecordError, read_records
from speech.system import storage
from speech.system.progress_bar import progress_bar
from utils import UserError

# Shards read in parallel: enough to keep a disk or a network busy.
PARALLEL_SHARDS = 8


@dataclass(frozen=True)
class Verified:
    """Result of rereading a set."""

    records: int  # in intact shards
    bytes: int  # of these shards
    damages: tuple[str, ...]  # one per damaged shard: its path and what is wrong


def verify(tfrecords_file: str) -> Verified:
    """Reads every record of a set and compares it with its checksum and that of the index.

    Raises:
        UserError: the set doesn't exist, or the bucket can't be reached.
    """
    index = read_index(tfrecords_file)
    if index is None:
        raise UserError(
            f"{index_path(tfrecords_file)} is missing: name the set to verify with "
            "--tfrecords_file."
        )
    if not index.complete:
        logging.warning("%s is incomplete: only its finished shards are read.", tfrecords_file)
    paths = [shard_path(tfrecords_file, shard.start) for shard in index.shards]
    there = storage.sizes(shard_pattern(tfrecords_file))
    stopped = threading.Event()
    with (
        ThreadPoolExecutor(PARALLEL_SHARDS) as readers,
        progress_bar(index.bytes, "B") as progress,
    ):
        try:
            found = list(
                readers.map(partial(_damage, there, progress, stopped), paths, index.shards)
            )
        finally:
            stopped.set()  # so that Ctrl-C doesn't wait for shards that are being read
    intact = [shard for shard, damage in zip(index.shards, found, strict=True) if not damage]
    return Verified(
        records=sum(shard.records for shard in intact),
        bytes=sum(shard.bytes for shard in intact),
        damages=tuple(
            f"{path}: {damage}" for path, damage in zip(paths, found, strict=True) if damage
        ),
    )


def _damage(
    there: Container[str],
    progress: "tqdm[NoReturn]",
    stopped: threading.Event,
    path: str,
    shard: Shard,
) -> str:
    """Returns what is wrong with a shard; empty if nothing is."""
    if path not in there:
        return "is missing"
    try:
        with storage.open_reader(path) as file:
            counting = _CountingReader(file, progress)
            records = 0
            for _ in read_records(counting):
                if stopped.is_set():
                    return "was not read to its end"
                records += 1
    except RecordError as error:
        return str(error)
    except OSError as error:
        return f"can't be read: {error.strerror}"
    if records != shard.records:
        return f"has {records} records, the index says {shard.records}"
    if counting.crc32c != shard.crc32c:
        return f"has the checksum {counting.crc32c}, the index says {shard.crc32c}"
    return ""


class _CountingReader:
    """A file that updates a progress bar and a checksum as it is read."""

    def __init__(self, file: BinaryIO, progress: "tqdm[NoReturn]") -> None:
        self._file = file
        self._progress = progress
        self._checksum = google_crc32c.Checksum()

    def read(self, size: int) -> bytes:
        content = self._file.read(size)
        self._checksum.update(content)
        self._progress.update(len(content))
        return content

    @property
    def crc32c(self) -> str:
        """Returns the checksum of all bytes read so far, as 8 hexadecimal digits."""
        return str(self._checksum.digest().hex())
