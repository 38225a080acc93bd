"""Rereads a set of shards, local or in a bucket, and says what is no longer as it was written."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import NoReturn

import google_crc32c
from tqdm import tqdm

from speech import storage
from speech.records import (
    RecordError,
    Shard,
    frame_record,
    index_path,
    read_index,
    read_records,
    shard_path,
)
from utils import UserError

# Shards that are read side by side: enough to keep a disk or a network busy.
PARALLEL_SHARDS = 8


@dataclass(frozen=True)
class Verified:
    """What rereading a set has shown."""

    records: int  # in shards that are whole
    bytes: int
    damages: tuple[str, ...]  # one a damaged shard: its path and what is wrong


def verify(tfrecords_file: str) -> Verified:
    """Reads every record of a set and compares it with its own checksum and the index's.

    Raises:
        UserError: there is no such set, or the bucket can't be reached.
    """
    index = read_index(tfrecords_file)
    if index is None:
        raise UserError(f"{index_path(tfrecords_file)} is missing: there is no set to verify.")
    with (
        ThreadPoolExecutor(PARALLEL_SHARDS) as readers,
        tqdm(total=index.bytes, unit="B", unit_scale=True) as progress,
    ):
        damages = []
        for shard, damage in zip(
            index.shards,
            readers.map(partial(_damage, tfrecords_file, progress), index.shards),
            strict=True,
        ):
            if damage:
                damages.append((shard, damage))
    whole = [shard for shard in index.shards if shard not in [damaged for damaged, _ in damages]]
    return Verified(
        records=sum(shard.records for shard in whole),
        bytes=sum(shard.bytes for shard in whole),
        damages=tuple(
            f"{shard_path(tfrecords_file, shard.start)}: {damage}" for shard, damage in damages
        ),
    )


def _damage(tfrecords_file: str, progress: "tqdm[NoReturn]", shard: Shard) -> str:
    """What is wrong with a shard; empty if nothing is."""
    path = shard_path(tfrecords_file, shard.start)
    if not storage.exists(path):
        return "is missing"
    crc32c, records = google_crc32c.Checksum(), 0
    try:
        with storage.open_reader(path) as file:
            for payload in read_records(file):
                for piece in frame_record(payload):
                    crc32c.update(piece)
                    progress.update(len(piece))
                records += 1
    except RecordError as error:
        return str(error)
    except OSError as error:
        return f"can't be read: {error.strerror}"
    if records != shard.records:
        return f"has {records} records, the index says {shard.records}"
    if crc32c.digest().hex() != shard.crc32c:
        return f"has the checksum {crc32c.digest().hex()}, the index says {shard.crc32c}"
    return ""
