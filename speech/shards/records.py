"""Shards: TFRecord files of utterances, and the index that describes them.

A set of shards named `train.tfrecords` is the files `train.tfrecords.00000000`,
`train.tfrecords.00020000`, ... (the number is the corpus position of a shard's first utterance) and
`train.tfrecords.index.json`. A record is a tf.train.Example:

    features        float list, [bins, frames, 1] in row-major order, zero-padded in frames
    feature_length  frames before the padding
    label           int64 list, zero-padded
    label_length    labels before the padding
    utterance_id    bytes, UTF-8
    transcript      bytes, UTF-8

Records are encoded here by hand: python protobuf takes a float list in number by number, which
needs more time than all the rest, and nothing that prepares data needs TensorFlow.
"""

import fnmatch
import glob
import json
import os
import posixpath
import re
import struct
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import reduce
from operator import add
from typing import Any, Protocol

import google_crc32c
import numpy as np
from absl import logging

import constants
from speech.augmentation.waveform import NO_COPIES, Copies
from speech.features.front_end import CORPUS, FrontEnd
from speech.features.normalisation import Statistics, Sums
from speech.system import storage, typed_json
from speech.system.typed_json import FieldError
from utils import Alphabet, UserError, is_number

INDEX_FORMAT = 1

# Width of a histogram's bar: frames and labels differ by a factor of about ten.
FRAMES_BAR = 10
LABELS_BAR = 5

# Field numbers and wire type of tensorflow/core/example/{example,feature}.proto.
_LENGTH_DELIMITED = 2
_EXAMPLE_FEATURES = _FEATURES_FEATURE = _MAP_KEY = _LIST_VALUE = 1
_MAP_VALUE = 2
_BYTES_LIST, _FLOAT_LIST, _INT64_LIST = 1, 2, 3


# What stands before a record's payload, its length and the length's checksum, and behind it.
RECORD_HEADER = struct.Struct("<QI")
RECORD_FOOTER = struct.Struct("<I")

# A serialised message in pieces that are yet to be joined.
Pieces = list[bytes | memoryview]


# --- One record -----------------------------------------------------------------------------------


def encode_example(
    features: np.ndarray,
    label: list[int],
    utterance_id: str,
    transcript: str,
    padded_frames: int = 0,
    padded_labels: int = 0,
) -> bytes:
    """A serialised tf.train.Example, the same bytes for the same arguments.

    Args:
        features: float32 [frames, bins].
        label: labels of the transcript.
        padded_frames: pads to this number of frames; 0 stores the frames as they are.
        padded_labels: pads to this number of labels; 0 stores the labels as they are.
    """
    frames, bins = features.shape
    frequency_major = np.zeros((bins, max(frames, padded_frames)), "<f4")  # [bins, frames]
    frequency_major[:, :frames] = features.T
    padded_label = label + [0] * max(padded_labels - len(label), 0)
    entries = {
        "feature_length": _int64_list([frames]),
        "features": _list(_FLOAT_LIST, [frequency_major.data]),
        "label": _int64_list(padded_label),
        "label_length": _int64_list([len(label)]),
        "transcript": _list(_BYTES_LIST, [transcript.encode()]),
        "utterance_id": _list(_BYTES_LIST, [utterance_id.encode()]),
    }
    features_map = [
        piece
        for key, value in entries.items()
        for piece in _message(
            _FEATURES_FEATURE, [*_message(_MAP_KEY, [key.encode()]), *_message(_MAP_VALUE, value)]
        )
    ]
    return b"".join(_message(_EXAMPLE_FEATURES, features_map))


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def _message(field_number: int, payload: Pieces) -> Pieces:
    """A field of that number, in pieces: the floats are copied once, when all is joined."""
    length = sum(memoryview(piece).nbytes for piece in payload)
    return [_varint(field_number << 3 | _LENGTH_DELIMITED), _varint(length), *payload]


def _list(kind: int, payload: Pieces) -> Pieces:
    """A Feature whose list of `kind` holds one bytes value, or packed numbers."""
    return _message(kind, _message(_LIST_VALUE, payload))


def _int64_list(numbers: Iterable[int]) -> Pieces:
    return _list(_INT64_LIST, [b"".join(map(_varint, numbers))])


def _masked_crc32c(payload: bytes) -> int:
    crc = google_crc32c.value(payload)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def frame_record(payload: bytes) -> tuple[bytes, bytes, bytes]:
    """What TFRecord files hold of a record: length and its checksum, payload, its checksum."""
    length_crc32c = _masked_crc32c(struct.pack("<Q", len(payload)))
    return (
        RECORD_HEADER.pack(len(payload), length_crc32c),
        payload,
        RECORD_FOOTER.pack(_masked_crc32c(payload)),
    )


class Readable(Protocol):
    """Anything that gives bytes in turn."""

    def read(self, size: int, /) -> bytes: ...


def read_records(file: Readable) -> Iterator[bytes]:
    """The payloads of a TFRecord file, each checked against its own checksums.

    Raises:
        RecordError: a record is damaged or cut short.
    """
    offset = 0
    while header := file.read(RECORD_HEADER.size):
        if len(header) < RECORD_HEADER.size:
            raise RecordError(offset, "is cut short")
        length, length_crc32c = RECORD_HEADER.unpack(header)
        if length_crc32c != _masked_crc32c(header[:8]):
            raise RecordError(offset, "has a damaged length")
        payload, footer = file.read(length), file.read(RECORD_FOOTER.size)
        if len(footer) < RECORD_FOOTER.size:
            raise RecordError(offset, "is cut short")
        if RECORD_FOOTER.unpack(footer)[0] != _masked_crc32c(payload):
            raise RecordError(offset, "is damaged")
        yield payload
        offset += len(header) + len(payload) + len(footer)


class RecordError(Exception):
    """A record of a shard that isn't what was written."""

    def __init__(self, offset: int, problem: str) -> None:
        super().__init__(f"the record at byte {offset} {problem}")


# --- One shard ------------------------------------------------------------------------------------


class ShardWriter:
    """Writes one shard, which gets its name from `commit`.

    As a context manager it leaves nothing behind if the shard was not committed.
    """

    def __init__(self, path: str, partial: str | None = None) -> None:
        """partial: as of `storage.open_writer`."""
        self.bytes = 0
        self._writer = storage.open_writer(path, partial)

    def write(self, payload: bytes) -> None:
        for piece in frame_record(payload):
            self._writer.write(piece)
            self.bytes += len(piece)

    def commit(self) -> str:
        """Puts the whole shard under its own name; returns its CRC32C as 8 hexadecimal digits."""
        return self._writer.commit()

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(self, *unused: object) -> None:
        self._writer.close()


# --- The index ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shard:
    """One shard file and what it holds."""

    file: str  # name beside the index
    start: int  # corpus position of its first utterance
    end: int  # corpus position behind its last one
    records: int  # utterances written; the others of the range are in the index's `skipped`
    bytes: int  # of the file
    crc32c: str  # of the file, 8 hexadecimal digits
    audio_seconds: float  # of the utterances written
    longest_frames: int
    longest_label: int
    # Lower edge of a histogram's bar -> utterances; keys are text because JSON's are.
    frames_histogram: dict[str, int]
    labels_histogram: dict[str, int]
    # Of the features written; None if there are none, or they are normalised otherwise.
    sums: Sums | None = None


@dataclass(frozen=True)
class Skipped:
    """An utterance that is in the corpus but in no shard."""

    position: int
    utterance_id: str
    reason: str  # one of the reasons in speech.preparation.utterance
    detail: str  # what exactly, for the person who mends it


@dataclass(frozen=True)
class ShardSettings:
    """What decides the bytes of a set of shards, apart from the corpus."""

    front_end: FrontEnd
    alphabet: Alphabet
    partition_size: int  # corpus positions a shard covers
    max_sequence_length: int  # frames
    max_label_length: int  # labels
    padded: bool  # whether records are padded to the two lengths above
    stride: int  # frames per output of the network that CTC has to align labels to
    copies: Copies = NO_COPIES  # that are made of each utterance; older indexes don't have them

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "alphabet": self.alphabet.to_json()}


@dataclass(frozen=True)
class Index:
    """What a set of shards is made of; training and evaluation need nothing else to read it."""

    settings: ShardSettings
    corpus_utterances: int  # positions in the corpus
    corpus_digest: str  # SHA-256, see preparation.resume.corpus_digest
    shards: tuple[Shard, ...] = ()  # by their start
    skipped: tuple[Skipped, ...] = ()  # by their position

    @property
    def records(self) -> int:
        return sum(shard.records for shard in self.shards)

    @property
    def bytes(self) -> int:
        return sum(shard.bytes for shard in self.shards)

    @property
    def audio_seconds(self) -> float:
        return sum(shard.audio_seconds for shard in self.shards)

    @property
    def longest_frames(self) -> int:
        return max((shard.longest_frames for shard in self.shards), default=0)

    @property
    def longest_label(self) -> int:
        return max((shard.longest_label for shard in self.shards), default=0)

    @property
    def frames_histogram(self) -> dict[int, int]:
        """Frames, rounded down to FRAMES_BAR -> utterances; sorted."""
        total: Counter[int] = Counter()
        for shard in self.shards:
            total.update({int(edge): count for edge, count in shard.frames_histogram.items()})
        return dict(sorted(total.items()))

    @property
    def statistics(self) -> Statistics | None:
        """What normalises features over these shards; None if they are normalised otherwise."""
        sums = [shard.sums for shard in self.shards if shard.sums]
        return reduce(add, sums).statistics if sums else None

    @property
    def complete(self) -> bool:
        """Whether the shards cover the whole corpus."""
        return sum(shard.end - shard.start for shard in self.shards) == self.corpus_utterances

    def with_shard(self, shard: Shard, skipped: Iterable[Skipped]) -> "Index":
        """The index with one more shard and the utterances of its range that are not in it."""
        return replace(
            self,
            shards=tuple(sorted((*self.shards, shard), key=lambda each: each.start)),
            skipped=tuple(sorted((*self.skipped, *skipped), key=lambda each: each.position)),
        )

    def without_shard(self, lost: Shard) -> "Index":
        """The index before `lost` was written."""
        return replace(
            self,
            shards=tuple(shard for shard in self.shards if shard != lost),
            skipped=tuple(
                each for each in self.skipped if not lost.start <= each.position < lost.end
            ),
        )

    def to_json(self) -> str:
        content = json.dumps(
            {
                "format": INDEX_FORMAT,
                "settings": self.settings.to_json(),
                "corpus": {"utterances": self.corpus_utterances, "sha256": self.corpus_digest},
                "shards": [asdict(shard) for shard in self.shards],
                "skipped": [asdict(skipped) for skipped in self.skipped],
            },
            indent=1,
            ensure_ascii=False,
        )
        # The name of a file may hold bytes that aren't UTF-8; these, JSON has to write as \udcXX.
        return content.encode(errors="backslashreplace").decode() + "\n"

    @classmethod
    def from_json(cls, text: str, path: str) -> "Index":
        """The index in `text`; `path` is for the message of the UserError if it is none."""
        remedy = "remove it and prepare the shards again"
        with typed_json.explained(path, "an index of shards", remedy):
            content = typed_json.parse_object(text)
            typed_json.check_format(content, INDEX_FORMAT)
            file = typed_json.read(_IndexFile, content, "index")
            index = cls(
                file.settings,
                file.corpus.utterances,
                file.corpus.sha256,
                file.shards,
                file.skipped,
            )
            _check_consistent(index)
            return index


@dataclass(frozen=True)
class _Corpus:
    utterances: int
    sha256: str


@dataclass(frozen=True)
class _IndexFile:
    """The fields of an index's JSON."""

    format: int
    settings: ShardSettings
    corpus: _Corpus
    shards: tuple[Shard, ...]
    skipped: tuple[Skipped, ...]


def _check_consistent(index: Index) -> None:
    """Raises FieldError where an index was changed into one that no preparation writes."""
    positions = [skipped.position for skipped in index.skipped]
    behind_last = 0
    for number, shard in enumerate(index.shards):
        where = f"shards[{number}]"
        if not behind_last <= shard.start <= shard.end <= index.corpus_utterances:
            raise FieldError(
                f"{where}: start {shard.start} and end {shard.end} must lie between {behind_last} "
                f"and {index.corpus_utterances}"
            )
        if not shard.file.endswith(shard_path("", shard.start)):
            raise FieldError(f"{where}: file {shard.file!r} is no name of start {shard.start}")
        left_out = sum(shard.start <= position < shard.end for position in positions)
        if shard.records + left_out != shard.end - shard.start:
            raise FieldError(
                f"{where}: {shard.records} records and {left_out} skipped don't fill start "
                f"{shard.start} to end {shard.end}"
            )
        for edge in (*shard.frames_histogram, *shard.labels_histogram):
            if not is_number(edge):
                raise FieldError(f"{where}: a histogram has {edge!r}, which is no number")
        _check_sums(where, shard, index.settings.front_end)
        behind_last = shard.end


def _check_sums(where: str, shard: Shard, front_end: FrontEnd) -> None:
    """Sums must be there if features are to be normalised by them, and be of every bin."""
    bins = front_end.bins if front_end.normalisation == CORPUS and shard.records else 0
    found = shard.sums.bins if shard.sums else 0
    if found != bins:
        raise FieldError(f"{where}: sums of {found} bins, not of {bins}")


def histogram(lengths: Iterable[int], bar: int) -> dict[str, int]:
    """Lower edge of a bar -> how many of `lengths` lie in it, in the edges' order."""
    counts = Counter(length // bar * bar for length in lengths)
    return {str(edge): counts[edge] for edge in sorted(counts)}


def shard_path(tfrecords_file: str, start: int) -> str:
    return f"{tfrecords_file}.{start:08d}"


def shard_pattern(tfrecords_file: str) -> str:
    """A glob that matches the shards of this set alone, whatever characters its name has."""
    return f"{glob.escape(tfrecords_file)}.{'[0-9]' * 8}"


def lock_path(tfrecords_file: str) -> str:
    """The file that a run holds while it writes the set."""
    return storage.hidden_path(tfrecords_file, ".lock")


def run_folder(tfrecords_file: str) -> str:
    """The folder where workers elsewhere find their work and leave receipts of what is done.

    No shard pattern matches it. A receipt is the index of one shard, and is named like one.
    """
    return storage.hidden_path(tfrecords_file, ".run")


def index_path(tfrecords_file: str) -> str:
    return tfrecords_file + constants.INDEX_SUFFIX


def read_index(tfrecords_file: str) -> Index | None:
    """The index of a set, None if it has none yet."""
    path = index_path(tfrecords_file)
    if not storage.exists(path):
        return None
    return Index.from_json(storage.read_text(path), path)


@dataclass(frozen=True)
class ShardSet:
    """The shards that a pattern names."""

    pattern: str
    files: tuple[str, ...]  # paths, in the corpus's order
    index: Index  # of these shards alone

    @property
    def name(self) -> str:
        """The set's name, as in NAME.tfrecords.00000000."""
        return posixpath.basename(self.files[0]).rpartition(".")[0].removesuffix(".tfrecords")


def find_shards(pattern: str) -> ShardSet:
    """The shards that `pattern` matches and their index.

    Args:
        pattern: a glob, local or gs://, read as `storage.meant` does.

    Raises:
        UserError: there is none, they are of several sets, their index is missing or disagrees
            with them, or one is missing or cut short.
    """
    is_shard = re.compile(r"(.*)\.[0-9]{8}$").match
    meant = storage.meant(pattern)
    sizes = storage.sizes(meant)
    matches = [match for match in map(is_shard, sizes) if match]
    if not matches:
        raise UserError(
            f"No shards match {pattern}. Fetch LibriSpeech (python prepare_libri.py "
            "--download=train-clean-100,dev-clean,test-clean) and make shards of it (python "
            "prepare_libri.py), or of your own speech (--files_path=... --tfrecords_file=...); "
            "name them as in data/train.tfrecords.*"
        )
    names = sorted({match[1] for match in matches})
    if len(names) > 1:
        raise UserError(f"{pattern} matches several sets, {', '.join(names)}: name one of them.")
    index = read_index(names[0])
    if index is None:
        raise UserError(
            f"The index {index_path(names[0])} is missing: copy it along with the shards."
        )
    files = {os.path.basename(match[0]): match[0] for match in matches}
    _check_shards(index, files, sizes, index_path(names[0]), os.path.basename(meant))
    shards = tuple(shard for shard in index.shards if shard.file in files)
    if len(shards) == len(index.shards) and not index.complete:
        logging.warning(
            "%s is incomplete: run the prepare command that made it again to finish it.", names[0]
        )
    return ShardSet(
        pattern, tuple(files[shard.file] for shard in shards), replace(index, shards=shards)
    )


def _check_shards(
    index: Index,
    files: dict[str, str],
    sizes: dict[str, int],
    index_file: str,
    name_pattern: str,
) -> None:
    known = {shard.file: shard for shard in index.shards}
    for name in files:
        if name not in known:
            raise UserError(
                f"The index {index_file} doesn't know {name}: run the prepare command that made "
                "it again, it finishes the set."
            )
        if sizes[files[name]] != known[name].bytes:
            raise UserError(
                f"{files[name]} has {sizes[files[name]]} bytes, its index says "
                f"{known[name].bytes}: copy or prepare it again."
            )
    for name in known.keys() - files.keys():
        if fnmatch.fnmatch(name, name_pattern):
            raise UserError(f"{name}, which {index_file} lists, is missing: copy it there too.")
