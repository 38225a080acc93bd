"""What a TensorFlow Lite file carries beside its graph, read without TensorFlow.

The file is a flatbuffer (flatbuffers.dev/internals). Numbers of fields are those of TensorFlow's
schema, tensorflow/lite/schema/schema.fbs.

The description's JSON begins with a line that older files don't have, "crc32c": the CRC-32C of all
bytes of the file but its own eight digits. TensorFlow Lite follows a file's numbers without a check
of where they lead, so that damage would end the process.
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
    """A flatbuffer's table at a position of a file's bytes."""

    content: bytes
    position: int

    def _place(self, field: int) -> int | None:
        """Position of a field; None if it isn't there."""
        layout = self.position - self._number("<i", self.position)
        entry = 4 + 2 * field
        if entry >= self._number("<H", layout):
            return None
        offset = self._number("<H", layout + entry)
        return self.position + offset if offset else None

    def _number(self, kind: str, position: int) -> int:
        return int(struct.unpack_from(kind, self.content, position)[0])

    def _vector(self, field: int) -> tuple[int, int]:
        """Position and number of a vector's elements; of one that isn't there (0, 0)."""
        place = self._place(field)
        if place is None:
            return 0, 0
        start = place + self._number("<I", place)
        return start + 4, self._number("<I", start)

    def number(self, field: int) -> int:
        place = self._place(field)
        return 0 if place is None else self._number("<I", place)

    def span(self, field: int) -> tuple[int, int]:
        """Where bytes or text lie in the file: from, to."""
        start, length = self._vector(field)
        return start, start + length

    def bytes(self, field: int) -> bytes:
        start, end = self.span(field)
        return self.content[start:end]

    def tables(self, field: int) -> "Iterator[_Table]":
        start, count = self._vector(field)
        return (self._table(start + 4 * number) for number in range(count))

    def table(self, field: int, number: int) -> "_Table":
        """One of `tables`."""
        start, count = self._vector(field)
        if number >= count:
            raise IndexError(number)
        return self._table(start + 4 * number)

    def _table(self, place: int) -> "_Table":
        return _Table(self.content, place + self._number("<I", place))


def _model(content: bytes) -> _Table:
    if content[4:8] != IDENTIFIER:
        raise ValueError("its first bytes are other ones")
    return _Table(content, struct.unpack_from("<I", content)[0])


@contextlib.contextmanager
def _errors_named(path: str) -> Iterator[None]:
    """Turns errors of parsing a file into a UserError that names it."""
    try:
        yield
    except (struct.error, IndexError):  # a place or a number that leads out of the file
        raise UserError(
            f"{path} is not a TensorFlow Lite model, or one that is damaged: copy it again, or "
            "export it again."
        ) from None
    except ValueError as error:
        raise UserError(f"{path} is not a TensorFlow Lite model: {error}.") from None


def read_file(path: str) -> bytes:
    """Reads a file of this machine whole.

    It isn't mapped: a file that is overwritten in place would kill those that map it.

    Raises:
        UserError: it can't be read.
    """
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise UserError(f"{path} can't be read: {error.strerror}.") from None


def read_description(path: str) -> Description:
    """Reads what a TensorFlow Lite file of this machine says of itself.

    Raises:
        UserError: it can't be read, or as `description_in`.
    """
    return description_in(read_file(path), path)


def description_in(content: bytes, path: str) -> Description:
    """Returns what a file's content says of itself, once its checksum is known to be right.

    Args:
        path: for messages.

    Raises:
        UserError: it is damaged, no such file, or none that export.py has written.
    """
    with _errors_named(path):
        start, end = _description_span(_model(content))
        if start == end:
            raise UserError(
                f"{path} doesn't carry alphabet and front end: it wasn't written by export.py, or "
                "by an older one. Export it again."
            )
        text = content[start:end]
        # A line that is damaged itself is an unknown field of the description.
        if found := _CHECKSUM.search(text):
            digits = slice(start + found.start(1), start + found.end(1))
            if int(found[1], 16) != _checksum(content, digits):
                raise UserError(
                    f"{path} is damaged, its checksum is another: copy it again, or export it "
                    "again."
                )
            text = text[: found.start()] + text[found.end() :]
        return Description.from_json(text.decode(), path)


def _description_span(model: _Table) -> tuple[int, int]:
    """Returns where the description lies in the file, from and to; (0, 0): nowhere."""
    for entry in model.tables(_MODEL_METADATA):
        if entry.bytes(_METADATA_NAME).decode() == DESCRIPTION_NAME:
            return model.table(_MODEL_BUFFERS, entry.number(_METADATA_BUFFER)).span(_BUFFER_DATA)
    return 0, 0


def _checksum(content: bytes, digits: slice) -> int:
    """Returns the CRC-32C of a file's bytes but its digits."""
    with memoryview(content) as view:
        return storage.crc32c(view[digits.stop :], storage.crc32c(view[: digits.start]))


def with_checksum(content: bytes) -> bytes:
    """Returns a file with its checksum; content: with CHECKSUM_LINE % 0 in its description."""
    start, end = _description_span(_model(content))
    found = _CHECKSUM.search(content, start, end)
    assert found is not None
    digits = slice(*found.span(1))
    return content[: digits.start] + b"%08x" % _checksum(content, digits) + content[digits.stop :]


def buffer_spans(path: str) -> list[tuple[int, int]]:
    """Where each of the file's buffers that has data lies: from, to, in bytes."""
    with _errors_named(path):
        model = _model(read_file(path))
        spans = [buffer.span(_BUFFER_DATA) for buffer in model.tables(_MODEL_BUFFERS)]
    return [(start, end) for start, end in spans if end > start]
