"""Resumes the preparation of a set: finds the missing shards and checks that nothing changed."""

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

from absl import logging

import constants
from speech.corpora.utterance import Utterance
from speech.shards.index import Index, ShardSettings, read_index
from speech.shards.paths import index_path, lock_path, run_folder, shard_path, shard_pattern
from speech.system import storage
from speech.system.lock import Lock, exclusive
from utils import UserError


@dataclass(frozen=True)
class UnfinishedSet:
    """A set of shards whose lock this process holds."""

    index: Index  # of the existing shards
    missing: tuple[int, ...]  # corpus positions where the missing shards begin
    lock: Lock


@contextmanager
def lock_unfinished(
    utterances: list[Utterance],
    tfrecords_file: str,
    settings: ShardSettings,
    starting_position: int,
) -> Iterator[UnfinishedSet]:
    """Holds the lock of a set while the block runs, and finds its missing shards.

    Raises:
        UserError: as `write_shards.prepare`, before anything is written.
    """
    if not 0 <= starting_position < len(utterances):
        raise UserError(
            f"--starting_position={starting_position} is outside the corpus of "
            f"{len(utterances)} utterances: give a number from 0 to {len(utterances) - 1}."
        )
    with exclusive(lock_path(tfrecords_file)) as lock:
        index = _load_index(utterances, tfrecords_file, settings, starting_position)
        missing = _missing_starts(index, starting_position)
        if not missing:
            logging.info("%s is finished: nothing to do.", tfrecords_file)
        yield UnfinishedSet(index, tuple(missing), lock)


def _missing_starts(index: Index, starting_position: int) -> list[int]:
    """Returns the corpus positions where the missing shards begin."""
    done = {shard.start for shard in index.shards}
    starts = range(starting_position, index.corpus_utterances, index.settings.partition_size)
    missing = [start for start in starts if start not in done]
    if 0 < len(missing) < len(starts):
        logging.info("%d of %d shards exist already.", len(starts) - len(missing), len(starts))
    return missing


def _load_index(
    utterances: list[Utterance], tfrecords_file: str, settings: ShardSettings, starting: int
) -> Index:
    """Reads the index of the set, or returns an empty one.

    Raises:
        UserError: the set has other settings, another corpus or other starting positions.
    """
    empty = Index(settings, len(utterances), corpus_digest(utterances))
    index = merge_receipts(read_index(tfrecords_file), tfrecords_file)
    if index is None:
        return empty
    _check_same_settings(index.settings, settings, tfrecords_file)
    if (index.corpus_utterances, index.corpus_digest) != (len(utterances), empty.corpus_digest):
        raise UserError(
            f"{index_path(tfrecords_file)} belongs to another corpus: {index.corpus_utterances} "
            f"utterances then, {len(utterances)} now, or some audio or transcript has changed. "
            "Remove the old set to prepare it again, or give the new one another --tfrecords_file."
        )
    _check_starting_position(index, starting, tfrecords_file)
    return _without_lost_shards(index, tfrecords_file)


def corpus_digest(utterances: list[Utterance]) -> str:
    """Returns a SHA-256 of ids, transcripts and audio sizes, which changes with the corpus."""
    digest = hashlib.sha256()
    for each in utterances:
        digest.update(repr((each.utterance_id, each.transcript, each.audio_bytes)).encode())
        if each.start_seconds or each.seconds is not None:
            digest.update(repr((each.start_seconds, each.seconds)).encode())
    return digest.hexdigest()


def _check_same_settings(old: ShardSettings, new: ShardSettings, tfrecords_file: str) -> None:
    if old == new:
        return
    before, now = _flatten(old.to_json()), _flatten(new.to_json())
    changes = [
        f"{key} {before[key]} then, {now[key]} now" for key in now if before[key] != now[key]
    ]
    raise UserError(
        f"{index_path(tfrecords_file)} was made with other settings: {'; '.join(changes)}. Use "
        "the same ones, remove the old set, or give the new one another --tfrecords_file."
    )


def _flatten(settings: dict[str, object]) -> dict[str, object]:
    flat: dict[str, object] = {}
    for key, value in settings.items():
        flat.update(value if isinstance(value, dict) else {key: value})
    return flat


def _check_starting_position(index: Index, starting: int, tfrecords_file: str) -> None:
    size = index.settings.partition_size
    for shard in index.shards:
        if (shard.start - starting) % size:
            raise UserError(
                f"--starting_position={starting} would cut through {shard.file}: shards of "
                f"{tfrecords_file} start at {shard.start % size} plus a multiple of {size}."
            )


def _without_lost_shards(index: Index, tfrecords_file: str) -> Index:
    """Drops shards from the index whose files are missing or changed: they are written again."""
    sizes = storage.sizes(shard_pattern(tfrecords_file))
    for shard in index.shards:
        path = shard_path(tfrecords_file, shard.start)
        if sizes.get(path) != shard.bytes:
            logging.warning("%s is missing or has changed: it is written again.", path)
            index = index.without_shard(shard)
    return index


# --- Receipts of workers on other machines --------------------------------------------------------


def merge_receipts(index: Index | None, tfrecords_file: str) -> Index | None:
    """Adds the shards that remote workers have finished to a set's index (see run_folder).

    Writes the index if it changes, and removes the folder of the run.

    Args:
        index: of the set; None if there is none yet.
    """
    merged = index
    read = partial(_read_receipt, tfrecords_file)
    with ThreadPoolExecutor(storage.PARALLEL_REQUESTS) as readers:
        for receipt in readers.map(read, receipts(tfrecords_file)):
            if receipt is not None:
                merged = _with_receipt(merged, receipt)
    if merged is not None and merged != index:
        storage.write_text(index_path(tfrecords_file), merged.to_json())
    storage.remove_folder(run_folder(tfrecords_file))
    return merged


def receipts(tfrecords_file: str) -> list[str]:
    """Returns the paths of the receipts in the folder of a run, in the order of the shards."""
    files = storage.files_below(run_folder(tfrecords_file))
    return sorted(path for path, _ in files if path.endswith(constants.INDEX_SUFFIX))


def _read_receipt(tfrecords_file: str, path: str) -> Index | None:
    """Reads the index of one shard from a receipt; None if the shard no longer exists."""
    receipt = Index.from_json(storage.read_text(path), path)
    if len(receipt.shards) != 1:
        raise UserError(
            f"{path} is the receipt of one shard but names {len(receipt.shards)}: remove it to "
            "prepare the shard again."
        )
    (shard,) = receipt.shards
    exists = storage.size(shard_path(tfrecords_file, shard.start)) == shard.bytes
    return receipt if exists else None


def _with_receipt(index: Index | None, receipt: Index) -> Index:
    index = index or replace(receipt, shards=(), skipped=())
    (shard,) = receipt.shards
    of_this_set = replace(receipt, shards=index.shards, skipped=index.skipped) == index
    if not of_this_set or shard.start in {known.start for known in index.shards}:
        return index
    return index.with_shard(shard, receipt.skipped)
