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

import struct
from collections.abc import Iterable, Iterator
from typing import Protocol

import google_crc32c
import numpy as np

from speech.features.types import Features
from speech.system import storage

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


def encode_example(
    features: Features,
    label: list[int],
    utterance_id: str,
    transcript: str,
    padded_frames: int = 0,
    padded_labels: int = 0,
) -> bytes:
    """A serialised tf.train.Example, the same bytes for the same arguments.

    Args:
        features: float32 [bins, frames].
        label: labels of the transcript.
        padded_frames: pads to this number of frames; 0 stores the frames as they are.
        padded_labels: pads to this number of labels; 0 stores the labels as they are.
    """
    bins, frames = features.shape
    padded = np.zeros((bins, max(frames, padded_frames)), "<f4")  # [bins, padded frames]
    padded[:, :frames] = features
    padded_label = label + [0] * max(padded_labels - len(label), 0)
    entries = {
        "feature_length": _int64_list([frames]),
        "features": _list(_FLOAT_LIST, [padded.data]),
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
