"""Writes and reads records of shards, and files of them.

A set of shards named `train.tfrecords` is the files `train.tfrecords.00000000`,
`train.tfrecords.00020000`, ... (the number is the corpus position of a shard's first utterance) and
`train.tfrecords.index.json`. A record is a tf.train.Example:

    features        float list, [bins, frames, 1] in row-major order, zero-padded in frames
    feature_length  frames before the padding
    label           int64 list, zero-padded
    label_length    labels before the padding
    utterance_id    bytes, UTF-8
    transcript      bytes, UTF-8

Records are encoded here by hand: Python's protobuf copies a float list number by number, which
takes longer than all the rest of preparation, and preparation needs no TensorFlow.
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

# A record's payload comes after its length and the length's checksum, and before its own checksum.
RECORD_HEADER = struct.Struct("<QI")
RECORD_FOOTER = struct.Struct("<I")

# Pieces of a serialised message, in order.
Pieces = list[bytes | memoryview]


def encode_example(
    features: Features,
    label: list[int],
    utterance_id: str,
    transcript: str,
    padded_frames: int = 0,
    padded_labels: int = 0,
) -> bytes:
    """Returns a serialised tf.train.Example; the same arguments give the same bytes.

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
    """Returns a field in pieces, so that floats are copied once, when all pieces are joined."""
    length = sum(memoryview(piece).nbytes for piece in payload)
    return [_varint(field_number << 3 | _LENGTH_DELIMITED), _varint(length), *payload]


def _list(kind: int, payload: Pieces) -> Pieces:
    """Returns a Feature: a list of `kind` with one bytes value or with packed numbers."""
    return _message(kind, _message(_LIST_VALUE, payload))


def _int64_list(numbers: Iterable[int]) -> Pieces:
    return _list(_INT64_LIST, [b"".join(map(_varint, numbers))])


def _masked_crc32c(payload: bytes) -> int:
    crc: int = google_crc32c.value(payload)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def frame_record(payload: bytes) -> tuple[bytes, bytes, bytes]:
    """Returns a record of a TFRecord file: its header, payload and footer."""
    length_crc32c = _masked_crc32c(struct.pack("<Q", len(payload)))
    return (
        RECORD_HEADER.pack(len(payload), length_crc32c),
        payload,
        RECORD_FOOTER.pack(_masked_crc32c(payload)),
    )


class Readable(Protocol):
    """A file to read from, or an object like one."""

    def read(self, size: int, /) -> bytes: ...


def read_records(file: Readable) -> Iterator[bytes]:
    """Yields the payloads of a TFRecord file, each checked against its checksums.

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
    """A record of a shard that differs from what was written."""

    def __init__(self, offset: int, problem: str) -> None:
        super().__init__(f"the record at byte {offset} {problem}")


class ShardWriter:
    """Writes one shard, which gets its name on `commit`.

    As a context manager it removes a shard that was not committed.
    """

    def __init__(self, path: str, partial: str | None = None) -> None:
        """partial: see `storage.open_writer`."""
        self.bytes = 0
        self._writer = storage.open_writer(path, partial)

    def write(self, payload: bytes) -> None:
        for piece in frame_record(payload):
            self._writer.write(piece)
            self.bytes += len(piece)

    def commit(self) -> str:
        """Gives the complete shard its name; returns its CRC32C as 8 hexadecimal digits."""
        return self._writer.commit()

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(self, *unused: object) -> None:
        self._writer.close()
