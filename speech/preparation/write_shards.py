"""Writes the shards and the index of a set of utterances.

Shards cover fixed ranges of corpus positions, and a shard gets its name only when it is complete:
the same command resumes an interrupted run and writes the bytes of an uninterrupted one.
"""

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing
from functools import partial
from itertools import chain, islice
from typing import NoReturn

from absl import logging
from tqdm import tqdm

from speech.corpora.utterance import Utterance
from speech.features.normalisation import Sums
from speech.preparation.parallel import map_utterances
from speech.preparation.resume import lock_unfinished
from speech.preparation.utterance import PreparedUtterance, prepare_utterance
from speech.shards.index import (
    FRAMES_BAR,
    LABELS_BAR,
    Index,
    Shard,
    ShardSettings,
    Skipped,
    histogram,
)
from speech.shards.paths import index_path, shard_path
from speech.shards.records import ShardWriter
from speech.system import storage
from speech.system.lock import Lock
from speech.system.progress_bar import progress_bar
from utils import UserError


def prepare(
    utterances: list[Utterance],
    tfrecords_file: str,
    settings: ShardSettings,
    starting_position: int,
    workers: int,
    strict: bool,
) -> Index:
    """Writes the missing shards of a set, and the index after each of them.

    Args:
        utterances: the corpus, in order.
        tfrecords_file: path that the shards' names begin with.
        starting_position: corpus position to start at; earlier shards are left as they are.
        workers: processes that prepare utterances; 1: this process.
        strict: an unusable utterance is an error instead of being skipped.

    Raises:
        UserError: the existing set has other settings or another corpus, the starting position
            isn't the start of a shard, or the folder can't be written.
    """
    with lock_unfinished(utterances, tfrecords_file, settings, starting_position) as unfinished:
        index = unfinished.index
        if not unfinished.missing:
            return index
        size = settings.partition_size
        ranges = {start: utterances[start : start + size] for start in unfinished.missing}
        work = partial(prepare_utterance, settings=settings, describe=bool(logging.level_debug()))
        with (
            closing(map_utterances(work, list(chain(*ranges.values())), workers)) as records,
            progress_bar(sum(map(len, ranges.values())), "utt") as progress,
        ):
            for start, ranged in ranges.items():
                prepared = zip(ranged, islice(records, len(ranged)), strict=True)
                path = shard_path(tfrecords_file, start)
                progress.set_description(os.path.basename(path))
                counted = _count(prepared, progress, unfinished.lock)
                shard, skipped = write_shard(path, start, counted, strict)
                unfinished.lock.check()
                index = index.with_shard(shard, skipped)
                storage.write_text(index_path(tfrecords_file), index.to_json())
    return index


def _count(
    prepared: Iterable[tuple[Utterance, PreparedUtterance]],
    progress: "tqdm[NoReturn]",
    lock: Lock,
) -> Iterator[tuple[Utterance, PreparedUtterance]]:
    """Passes the utterances of a shard on and updates the progress bar."""
    for utterance, record in prepared:
        if record.description:
            logging.debug("%s", record.description)
        progress.update()
        yield utterance, record
    # Before the shard gets its name: another run may own the set by now.
    lock.check()


def write_shard(
    path: str,
    start: int,
    prepared: Iterable[tuple[Utterance, PreparedUtterance]],
    strict: bool,
    partial_path: str | None = None,
) -> tuple[Shard, list[Skipped]]:
    """Writes the shard that starts at the corpus position `start`.

    Args:
        partial_path: name of the shard until it is complete, see `storage.open_writer`.

    Returns:
        the shard, and the skipped utterances of its range.

    Raises:
        UserError: it can't be written, or `strict` and an utterance is unusable.
    """
    skipped: list[Skipped] = []
    frames: list[int] = []
    labels: list[int] = []
    sums: Sums | None = None
    seconds = 0.0
    try:
        with ShardWriter(path, partial_path) as writer:
            for position, (utterance, record) in enumerate(prepared, start):
                if record.reason:
                    _refuse_if(strict, utterance, record)
                    skipped.append(
                        Skipped(position, utterance.utterance_id, record.reason, record.detail)
                    )
                    continue
                writer.write(record.payload)
                frames.append(record.frames)
                labels.append(record.labels)
                seconds += record.audio_seconds
                if record.sums:
                    sums = sums + record.sums if sums else record.sums
            crc32c = writer.commit()
    except OSError as error:
        raise UserError(
            f"{path} can't be written: {error.strerror}. {_remedy(error)}, then run the same "
            "command again: it continues."
        ) from None
    shard = Shard(
        file=os.path.basename(path),
        start=start,
        end=start + len(frames) + len(skipped),
        records=len(frames),
        bytes=writer.bytes,
        crc32c=crc32c,
        audio_seconds=round(seconds, 3),
        longest_frames=max(frames, default=0),
        longest_label=max(labels, default=0),
        frames_histogram=histogram(frames, FRAMES_BAR),
        labels_histogram=histogram(labels, LABELS_BAR),
        sums=sums,
    )
    return shard, skipped


def _remedy(error: OSError) -> str:
    if isinstance(error, IsADirectoryError):
        return "Remove that folder"
    return "Free disk space or choose another folder with --tfrecords_file"


def _refuse_if(strict: bool, utterance: Utterance, prepared: PreparedUtterance) -> None:
    if strict:
        raise UserError(
            f"{utterance.utterance_id}: {prepared.reason} ({prepared.detail}). Correct it, or "
            "leave it out of the corpus."
        )


def summary(tfrecords_file: str, index: Index) -> str:
    """Returns a table of a set, for the end of its preparation."""
    rows = [
        ("shards", f"{len(index.shards)}"),
        ("utterances", f"{index.records} of {index.corpus_utterances}"),
        ("hours", f"{index.audio_seconds / 3600:.2f}"),
        ("longest", f"{index.longest_frames} frames, {index.longest_label} labels"),
        ("size", f"{index.bytes / 1e6:.1f} MB"),
        ("skipped", f"{len(index.skipped)}"),
    ]
    copies = index.settings.copies
    if copies.augmented_copies:
        augment = ", ".join(copies.augment)
        rows.insert(2, ("copies", f"{copies.augmented_copies} of each utterance: {augment}"))
    if index.skipped:
        rows[-1] = ("skipped", f"{len(index.skipped)}, named in {index_path(tfrecords_file)}")
    reasons = Counter(skipped.reason for skipped in index.skipped)
    rows += [(f"  {reason}", f"{count}") for reason, count in reasons.most_common()]
    if not index.complete:
        covered = sum(shard.end - shard.start for shard in index.shards)
        rows.append(("incomplete", f"{covered} of {index.corpus_utterances} positions covered"))
    width = max(len(name) for name, _ in rows)
    return "\n".join([tfrecords_file, *(f"  {name:<{width}}  {value}" for name, value in rows)])
