"""The engine behind the prepare doors: utterances -> shards and their index.

Utterances keep their corpus position, shards cover fixed ranges of positions, and a shard gets its
name only when it is whole; so the same command goes on where an earlier run was stopped, and
writes the same bytes that an undisturbed run writes.
"""

import hashlib
import os
import signal
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, islice, pairwise
from typing import NoReturn, TypeVar

import numpy as np
from absl import logging
from tqdm import tqdm

import constants
from speech.audio.reader import AudioError, read_audio
from speech.augmentation.waveform import augment_copy
from speech.corpora.utterance import Utterance
from speech.features.front_end import CORPUS, extract_by_bin
from speech.features.normalisation import Sums
from speech.shards.index import (
    FRAMES_BAR,
    LABELS_BAR,
    Index,
    Shard,
    ShardSettings,
    Skipped,
    histogram,
    read_index,
)
from speech.shards.paths import index_path, lock_path, run_folder, shard_path, shard_pattern
from speech.shards.records import ShardWriter, encode_example
from speech.system import storage
from speech.system.command_line import progress_bar
from speech.system.lock import Lock, exclusive
from speech.system.workers import DeadWorkerError, map_in_order
from speech.text.showing import array_summary
from utils import AlphabetError, UserError

# Why an utterance is in no shard.
NO_AUDIO = "no audio"
NO_TRANSCRIPT = "no transcript"
UNREADABLE = "unreadable audio"
EMPTY = "no samples"
TOO_LONG = "too many frames"
LABEL_TOO_LONG = "too many labels"
UNKNOWN_CHARACTER = "unknown character"
UNALIGNABLE = "more labels than CTC can align"

DESCRIBED_LABELS = 20  # as numbers, of an utterance that --logging=debug describes


Audio = TypeVar("Audio")
Outcome = TypeVar("Outcome")


@dataclass(frozen=True)
class Prepared:
    """An utterance turned into a record, or the reason why not."""

    payload: bytes = b""  # serialised tf.train.Example
    frames: int = 0
    labels: int = 0
    audio_seconds: float = 0.0
    sums: Sums | None = None  # of the features, if they are to be normalised over the corpus
    reason: str = ""  # empty: the record is good
    detail: str = ""
    description: str = ""  # of features and label, for --logging=debug; empty: not asked for


def prepare_utterance(
    utterance: Utterance, settings: ShardSettings, described: bool = False
) -> Prepared:
    """Reads, checks and encodes one utterance; never raises for what the utterance is.

    Args:
        described: a good record gets a description of its features and label.

    Raises:
        UserError: what an augmented copy needs besides its utterance can't be read.
    """
    try:
        label, samples = label_and_audio(utterance, settings, read_audio)
    except UnusableError as error:
        return Prepared(reason=error.reason, detail=_placed(utterance, error.detail))
    if utterance.copy:
        samples = augment_copy(
            samples,
            utterance.recorded_id,
            utterance.copy,
            settings.copies,
            settings.front_end.sample_rate,
        )
    frames = settings.front_end.frames(len(samples))
    reason, detail = unusable(len(samples), frames, label, settings)
    if reason:
        detail = f"{utterance.audio_path}: {detail}"
        return Prepared(reason=reason, detail=_placed(utterance, detail))
    features = extract_by_bin(samples, settings.front_end)  # [bins, frames]
    payload = encode_example(
        features,
        label,
        utterance.utterance_id,
        # As the labels have it, in NFC: what a perfect model would write.
        settings.alphabet.decode(label),
        padded_frames=settings.max_sequence_length if settings.padded else 0,
        padded_labels=settings.max_label_length if settings.padded else 0,
    )
    return Prepared(
        payload,
        frames,
        len(label),
        audio_seconds=len(samples) / settings.front_end.sample_rate,
        sums=Sums.of(features) if settings.front_end.normalisation == CORPUS else None,
        description=_description(utterance, features.T, label, settings) if described else "",
    )


def _description(
    utterance: Utterance, features: np.ndarray, label: list[int], settings: ShardSettings
) -> str:
    """Describes features [frames, bins] and label for people who look for an error."""
    return (
        f"{utterance.utterance_id}: features [frames, bins] {array_summary(features)}\n"
        f"  {len(label)} labels of {settings.alphabet.decode(label)!r}: "
        f"{', '.join(map(str, label[:DESCRIBED_LABELS]))}"
    )


def _placed(utterance: Utterance, detail: str) -> str:
    """The detail behind the place where the corpus tells of the utterance."""
    return f"{utterance.place}: {detail}" if utterance.place else detail


class UnusableError(Exception):
    """An utterance without label or audio."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


# As audio.read_audio: path, sample rate, start in seconds, length in seconds or None.
Read = Callable[[str, int, float, float | None], Audio]


def label_and_audio(
    utterance: Utterance, settings: ShardSettings, read: "Read[Audio]"
) -> tuple[list[int], Audio]:
    """The label of an utterance, and what `read` gives of its audio.

    Raises:
        UnusableError: one of them is missing or can't be read.
    """
    transcript = checked_transcript(utterance)
    try:
        label = settings.alphabet.encode(transcript, utterance.utterance_id)
    except AlphabetError as error:
        raise UnusableError(UNKNOWN_CHARACTER, str(error)) from None
    return label, audio_of(utterance, settings.front_end.sample_rate, read)


def checked_transcript(utterance: Utterance) -> str:
    """The transcript of an utterance that has one, and names its audio.

    Raises:
        UnusableError: one of them is missing.
    """
    if utterance.audio_path is None:
        raise UnusableError(NO_AUDIO, "a transcript without audio")
    if utterance.transcript is None:
        raise UnusableError(NO_TRANSCRIPT, utterance.audio_path)
    return utterance.transcript


def audio_of(utterance: Utterance, sample_rate: int, read: "Read[Audio]") -> Audio:
    """What `read` gives of an utterance's audio, which may be a stretch of its file.

    Raises:
        UnusableError: it isn't there or can't be read.
    """
    path = utterance.audio_path
    assert path is not None
    try:
        return read(path, sample_rate, utterance.start_seconds, utterance.seconds)
    except AudioError as error:
        reason = UNREADABLE if storage.exists(path) else NO_AUDIO
        raise UnusableError(reason, str(error)) from None


def labels_to_align(label: list[int]) -> int:
    """Outputs that CTC needs for a label: one a label and a blank between two equal ones."""
    return len(label) + sum(one == other for one, other in pairwise(label))


def unusable(
    samples: int, frames: int, label: list[int], settings: ShardSettings
) -> tuple[str, str]:
    """Reason and detail why an utterance of these lengths can't be used; empty if it can."""
    outputs = -(-frames // settings.stride)
    if samples == 0:
        return EMPTY, "the file has no samples"
    if frames > settings.max_sequence_length:
        return TOO_LONG, f"{frames} frames, at most {settings.max_sequence_length}"
    if len(label) > settings.max_label_length:
        return LABEL_TOO_LONG, f"{len(label)} labels, at most {settings.max_label_length}"
    if labels_to_align(label) > outputs:
        return UNALIGNABLE, f"{labels_to_align(label)} outputs needed, {outputs} there"
    return "", ""


def prepare(
    utterances: list[Utterance],
    tfrecords_file: str,
    settings: ShardSettings,
    starting_position: int,
    workers: int,
    strict: bool,
) -> Index:
    """Writes the shards that are still missing, and the index after each of them.

    Args:
        utterances: the corpus, in order.
        tfrecords_file: path that the shards' names begin with.
        starting_position: corpus position to begin at; what lies before it is left alone.
        workers: processes that prepare utterances; 1 stays in this one.
        strict: an unusable utterance is an error instead of being skipped.

    Raises:
        UserError: the set that is there has other settings or another corpus, the starting
            position isn't the start of a shard, or the folder can't be written.
    """
    with unfinished(utterances, tfrecords_file, settings, starting_position) as there:
        index = there.index
        if not there.missing:
            return index
        size = settings.partition_size
        ranges = {start: utterances[start : start + size] for start in there.missing}
        work = partial(prepare_utterance, settings=settings, described=bool(logging.level_debug()))
        with (
            closing(in_order(work, list(chain(*ranges.values())), workers)) as records,
            progress_bar(sum(map(len, ranges.values())), "utt") as progress,
        ):
            for start, ranged in ranges.items():
                prepared = zip(ranged, islice(records, len(ranged)), strict=True)
                path = shard_path(tfrecords_file, start)
                progress.set_description(os.path.basename(path))
                counted = _counted(prepared, progress, there.lock)
                shard, skipped = write_shard(path, start, counted, strict)
                there.lock.check()
                index = index.with_shard(shard, skipped)
                storage.write_text(index_path(tfrecords_file), index.to_json())
    return index


@dataclass(frozen=True)
class Unfinished:
    """A set of shards that nobody else may write while its lock is held."""

    index: Index  # of the shards that are there
    missing: tuple[int, ...]  # corpus positions where the others begin, of those that are wanted
    lock: Lock


@contextmanager
def unfinished(
    utterances: list[Utterance],
    tfrecords_file: str,
    settings: ShardSettings,
    starting_position: int,
) -> Iterator[Unfinished]:
    """Holds a set's lock while the block runs, and tells what is missing of the set.

    Raises:
        UserError: as `prepare`, before anything is written.
    """
    if not 0 <= starting_position < len(utterances):
        raise UserError(
            f"--starting_position={starting_position} lies outside the corpus of "
            f"{len(utterances)} utterances."
        )
    with exclusive(lock_path(tfrecords_file)) as lock:
        index = _continue_index(utterances, tfrecords_file, settings, starting_position)
        missing = _missing_starts(index, starting_position)
        if not missing:
            logging.info("%s is finished: nothing to do.", tfrecords_file)
        yield Unfinished(index, tuple(missing), lock)


def _missing_starts(index: Index, starting_position: int) -> list[int]:
    """Where the shards begin that have yet to be written."""
    done = {shard.start for shard in index.shards}
    starts = range(starting_position, index.corpus_utterances, index.settings.partition_size)
    missing = [start for start in starts if start not in done]
    if 0 < len(missing) < len(starts):
        logging.info("%d of %d shards are there already.", len(starts) - len(missing), len(starts))
    return missing


def in_order(
    work: Callable[[Utterance], Outcome], utterances: list[Utterance], workers: int
) -> Generator[Outcome, None, None]:
    """What `work`, which other processes can import, gives of each utterance.

    Args:
        workers: processes; 1 stays in this one.

    Raises:
        UserError: of `work`, or a process died; a repeat of the command continues.
    """
    attempt = partial(_outcome_or_error, work=work)
    try:
        for outcome in map_in_order(attempt, utterances, workers):
            if isinstance(outcome, UserError):
                raise outcome
            yield outcome
    except DeadWorkerError as death:
        utterance = utterances[death.position]
        raise UserError(
            f"A worker process died ({_cause(death.exit_code)}) at {utterance.utterance_id}, "
            f"{utterance.audio_path}. Run the same command again: it continues. If it happens "
            "again, use fewer --workers, or leave that recording out."
        ) from None


def _outcome_or_error(
    utterance: Utterance, work: Callable[[Utterance], Outcome]
) -> Outcome | UserError:
    """An error that isn't the utterance's, such as a bucket out of reach, ends no process."""
    try:
        return work(utterance)
    except UserError as error:
        return error


def _cause(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        if -exit_code not in {known.value for known in signal.Signals}:  # a real-time signal
            return f"signal {-exit_code}"
        name = signal.Signals(-exit_code).name
        return f"{name}, out of memory?" if name == "SIGKILL" else name
    return f"exit code {exit_code}, see above"


def _counted(
    prepared: Iterable[tuple[Utterance, Prepared]], progress: "tqdm[NoReturn]", lock: Lock
) -> Iterator[tuple[Utterance, Prepared]]:
    for utterance, record in prepared:
        if record.description:
            logging.debug("%s", record.description)
        progress.update()
        yield utterance, record
    # Before the shard gets its name: it may be another run's by now.
    lock.check()


def _continue_index(
    utterances: list[Utterance], tfrecords_file: str, settings: ShardSettings, starting: int
) -> Index:
    """The index of the set as it stands on disk, or an empty one."""
    fresh = Index(settings, len(utterances), corpus_digest(utterances))
    index = take_receipts(read_index(tfrecords_file), tfrecords_file)
    if index is None:
        return fresh
    _check_same_settings(index.settings, settings, tfrecords_file)
    if (index.corpus_utterances, index.corpus_digest) != (len(utterances), fresh.corpus_digest):
        raise UserError(
            f"{index_path(tfrecords_file)} is of another corpus: {index.corpus_utterances} "
            f"utterances then, {len(utterances)} now, or some audio or transcript has changed. "
            "Remove the old set to prepare it anew, or give the new one another --tfrecords_file."
        )
    _check_starting_position(index, starting, tfrecords_file)
    return _without_lost_shards(index, tfrecords_file)


def corpus_digest(utterances: list[Utterance]) -> str:
    """SHA-256 over ids, transcripts and the audio's sizes: it changes when a corpus is mended."""
    digest = hashlib.sha256()
    for each in utterances:
        digest.update(repr((each.utterance_id, each.transcript, each.audio_bytes)).encode())
        if each.start_seconds or each.seconds is not None:
            digest.update(repr((each.start_seconds, each.seconds)).encode())
    return digest.hexdigest()


def take_receipts(index: Index | None, tfrecords_file: str) -> Index | None:
    """Takes the shards into a set's index that workers elsewhere have finished (see run_folder).

    Writes the index if there are any, and removes the run's folder.

    Args:
        index: of the set as it is known; None if there is none yet.
    """
    known = index
    good_receipt = partial(_good_receipt, tfrecords_file)
    with ThreadPoolExecutor(storage.PARALLEL_REQUESTS) as readers:
        for receipt in readers.map(good_receipt, receipts(tfrecords_file)):
            if receipt is not None:
                known = _with_receipt(known, receipt)
    if known is not None and known != index:
        storage.write_text(index_path(tfrecords_file), known.to_json())
    storage.remove_folder(run_folder(tfrecords_file))
    return known


def receipts(tfrecords_file: str) -> list[str]:
    """Paths of the receipts in a run's folder, in their shards' order."""
    files = storage.files_below(run_folder(tfrecords_file))
    return sorted(path for path, _ in files if path.endswith(constants.INDEX_SUFFIX))


def _good_receipt(tfrecords_file: str, path: str) -> Index | None:
    """The index of one shard in a receipt, None if the shard isn't there any more."""
    receipt = Index.from_json(storage.read_text(path), path)
    if len(receipt.shards) != 1:
        raise UserError(
            f"{path} is the receipt of one shard and names {len(receipt.shards)}: remove it, and "
            "the shard is prepared again."
        )
    (shard,) = receipt.shards
    there = storage.size(shard_path(tfrecords_file, shard.start)) == shard.bytes
    return receipt if there else None


def _with_receipt(index: Index | None, receipt: Index) -> Index:
    index = index or replace(receipt, shards=(), skipped=())
    (shard,) = receipt.shards
    of_this_set = replace(receipt, shards=index.shards, skipped=index.skipped) == index
    if not of_this_set or shard.start in {known.start for known in index.shards}:
        return index
    return index.with_shard(shard, receipt.skipped)


def _check_same_settings(old: ShardSettings, new: ShardSettings, tfrecords_file: str) -> None:
    if old == new:
        return
    before, now = _flat(old.to_json()), _flat(new.to_json())
    changes = [
        f"{key} {before[key]} then, {now[key]} now" for key in now if before[key] != now[key]
    ]
    raise UserError(
        f"{index_path(tfrecords_file)} was made with other settings: {'; '.join(changes)}. Use "
        "the same ones, remove the old set, or give the new one another --tfrecords_file."
    )


def _flat(settings: dict[str, object]) -> dict[str, object]:
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
    """Forgets listed shards that are no longer there, so that they are written again."""
    sizes = storage.sizes(shard_pattern(tfrecords_file))
    for shard in index.shards:
        path = shard_path(tfrecords_file, shard.start)
        if sizes.get(path) != shard.bytes:
            logging.warning("%s is missing or has changed: it is written again.", path)
            index = index.without_shard(shard)
    return index


def write_shard(
    path: str,
    start: int,
    prepared: Iterable[tuple[Utterance, Prepared]],
    strict: bool,
    partial_path: str | None = None,
) -> tuple[Shard, list[Skipped]]:
    """Writes the shard that starts at the corpus position `start`.

    Args:
        partial_path: the shard's name until it is whole, as of `storage.open_writer`.

    Returns:
        the shard, and the utterances of its range that are not in it.

    Raises:
        UserError: it can't be written, or `strict` and an utterance can't be used.
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
            f"{path} can't be written: {error.strerror}. {_room_for_shard(error)}, then run the "
            "same command again: it continues."
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


def _room_for_shard(error: OSError) -> str:
    if isinstance(error, IsADirectoryError):
        return "Remove that folder"
    return "Make room or choose another folder with --tfrecords_file"


def _refuse_if(strict: bool, utterance: Utterance, prepared: Prepared) -> None:
    if strict:
        raise UserError(
            f"{utterance.utterance_id}: {prepared.reason} ({prepared.detail}). Mend it, or leave "
            "out --strict to skip such utterances."
        )


def summary(tfrecords_file: str, index: Index) -> str:
    """The closing table of a preparation."""
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
