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
from functools import partial
from typing import Any

import google_crc32c
from tqdm import tqdm

from speech import bucket, storage
from speech.records import Shard, index_path, read_index
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


@dataclass(frozen=True)
class _Part:
    """A stretch of a shard's file, and the object that holds it meanwhile."""

    path: str  # of the file
    start: int
    size: int
    target: str


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
    _check_same_set(tfrecords_file, target)
    there = bucket.matching(f"{target}.*")
    waiting = [shard for shard in index.shards if not _equal(shard, there.get(_to(folder, shard)))]
    local_folder = os.path.dirname(tfrecords_file)
    with _Sender(sum(shard.bytes for shard in waiting), part_bytes) as sender:
        for shard in waiting:
            sender.check(os.path.join(local_folder, shard.file), shard)
        sends = [
            sender.send(os.path.join(local_folder, shard.file), _to(folder, shard), shard)
            for shard in waiting
        ]
        for finish in sends:
            finish()
    storage.write_text(index_path(target), storage.read_text(index_path(tfrecords_file)))
    return Uploaded(len(waiting), len(index.shards) - len(waiting), sender.bytes)


def _to(folder: str, shard: Shard) -> str:
    return storage.join(folder, shard.file)


def _equal(shard: Shard, found: Any) -> bool:
    return found is not None and bucket.crc32c_of(found) == shard.crc32c


def _check_same_set(tfrecords_file: str, target: str) -> None:
    here, there = read_index(tfrecords_file), read_index(target)
    if here is None or there is None:
        return
    if (here.settings, here.corpus_digest) != (there.settings, there.corpus_digest):
        raise UserError(
            f"{index_path(target)} is of another set (other settings or another corpus): remove "
            "that one, or upload to another folder."
        )
