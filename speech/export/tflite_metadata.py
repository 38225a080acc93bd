"""Reads the metadata of a TensorFlow Lite file, without TensorFlow.

The file is a flatbuffer (flatbuffers.dev/internals). Numbers of fields are those of TensorFlow's
schema, tensorflow/lite/schema/schema.fbs.

The description's JSON begins with a line that older files don't have, "crc32c": the CRC-32C of all
bytes of the file except its own eight digits. TensorFlow Lite follows offsets without checking
them, so a damaged file would crash the process.
"""

import contextlib
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from speech.export.description import Description
from speech.system import storage
from utils import UserError

# The metadata's entry that holds a description.
DESCRIPTION_NAME = "speech_description"

CHECKSUM_LINE = b'\n "crc32c": "%08x",'
_CHECKSUM = re.compile(rb'\n "crc32c": "([0-9a-f]{8})",')

IDENTIFIER = b"TFL3"  # at byte 4 of every such file

# Fields of the schema's tables Model, Metadata and Buffer.
_MODEL_BUFFERS, _MODEL_METADATA = 4, 6
_METADATA_NAME, _METADATA_BUFFER = 0, 1
_BUFFER_DATA = 0


@dataclass(frozen=True)
class _Table:
    """A table of a flatbuffer, at a position in a file's bytes."""

    content: bytes
    position: int

    def _place(self, field: int) -> int | None:
        """Returns the position of a field; None if the table doesn't have it."""
        layout = self.position - self._number("<i", self.position)
        entry = 4 + 2 * field
        if entry >= self._number("<H", layout):
            return None
        offset = self._number("<H", layout + entry)
        return self.position + offset if offset else None

    def _number(self, kind: str, position: int) -> int:
        return int(struct.unpack_from(kind, self.content, position)[0])

    def _vector(self, field: int) -> tuple[int, int]:
        """Returns position and number of a vector's elements; (0, 0) if there is no vector."""
        place = self._place(field)
        if place is None:
            return 0, 0
        start = place + self._number("<I", place)
        return start + 4, self._number("<I", start)

    def number(self, field: int) -> int:
        """Returns a field's value, 0 by default."""
        place = self._place(field)
        return 0 if place is None else self._number("<I", place)

    def span(self, field: int) -> tuple[int, int]:
        """Returns the span of a field's bytes or text in the file: from, to."""
        start, length = self._vector(field)
        return start, start + length

    def bytes(self, field: int) -> bytes:
        """Returns a field's bytes or text."""
        start, end = self.span(field)
        return self.content[start:end]

    def tables(self, field: int) -> "Iterator[_Table]":
        """Yields the tables of a field."""
        start, count = self._vector(field)
        return (self._table(start + 4 * number) for number in range(count))

    def table(self, field: int, number: int) -> "_Table":
        """Returns one of `tables`."""
        start, count = self._vector(field)
        if number >= count:
            raise IndexError(number)
        return self._table(start + 4 * number)

    def _table(self, place: int) -> "_Table":
        return _Table(self.content, place + self._number("<I", place))


def _model(content: bytes) -> _Table:
    """Returns the root table of a file; raises ValueError if it isn't such a file."""
    if content[4:8] != IDENTIFIER:
        raise ValueError("its first bytes are different")
    return _Table(content, struct.unpack_from("<I", content)[0])


@contextlib.contextmanager
def _errors_named(path: str) -> Iterator[None]:
    """Converts errors of parsing a file to a UserError that names it."""
    try:
        yield
    except (struct.error, IndexError):  # an offset or number that points outside the file
        raise UserError(
            f"{path} is not a TensorFlow Lite model, or is damaged: copy it again, or export it "
            "again if it is of export.py."
        ) from None
    except ValueError as error:
        raise UserError(
            f"{path} is not a TensorFlow Lite model: {error}. Name a file of export.py."
        ) from None


def read_file(path: str) -> bytes:
    """Reads a local file into memory.

    It isn't mapped: overwriting a mapped file in place crashes the processes that map it.

    Raises:
        UserError: it can't be read.
    """
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise UserError(f"{path} can't be read: {error.strerror}.") from None


def read_description(path: str) -> Description:
    """Reads the description in a local TensorFlow Lite file.

    Raises:
        UserError: it can't be read, or see `description_in`.
    """
    return description_in(read_file(path), path)


def description_in(content: bytes, path: str) -> Description:
    """Checks a file's checksum, and returns its description.

    Args:
        path: of the file, for messages.

    Raises:
        UserError: it isn't a TensorFlow Lite file of export.py, or is damaged.
    """
    with _errors_named(path):
        start, end = _description_span(_model(content))
        if start == end:
            raise UserError(
                f"{path} doesn't contain alphabet and front end: it is damaged, or neither of "
                "export.py nor of DeepSpeech. Copy it again, or export it again if it is of an "
                "older export.py."
            )
        text = content[start:end]
        # If the line itself is damaged, from_json refuses it as an unknown field.
        if found := _CHECKSUM.search(text):
            digits = slice(start + found.start(1), start + found.end(1))
            if int(found[1], 16) != _checksum(content, digits):
                raise UserError(
                    f"{path} is damaged, its checksum is wrong: copy it again, or export it again."
                )
            text = text[: found.start()] + text[found.end() :]
        return Description.from_json(text.decode(), path)


def _description_span(model: _Table) -> tuple[int, int]:
    """Returns the span of the description in the file, from and to; (0, 0) if there is none."""
    for entry in model.tables(_MODEL_METADATA):
        if entry.bytes(_METADATA_NAME).decode() == DESCRIPTION_NAME:
            return model.table(_MODEL_BUFFERS, entry.number(_METADATA_BUFFER)).span(_BUFFER_DATA)
    return 0, 0


def _checksum(content: bytes, digits: slice) -> int:
    """Returns the CRC-32C of a file's bytes except the checksum's digits."""
    with memoryview(content) as view:
        return storage.crc32c(view[digits.stop :], storage.crc32c(view[: digits.start]))


def with_checksum(content: bytes) -> bytes:
    """Returns a file with its checksum.

    Args:
        content: with CHECKSUM_LINE % 0 in its description.
    """
    start, end = _description_span(_model(content))
    found = _CHECKSUM.search(content, start, end)
    assert found is not None
    digits = slice(*found.span(1))
    return content[: digits.start] + b"%08x" % _checksum(content, digits) + content[digits.stop :]
