"""What a TensorFlow Lite file carries beside its graph, read without TensorFlow.

The file is a flatbuffer (flatbuffers.dev/internals). Numbers of fields are those of TensorFlow's
schema, tensorflow/lite/schema/schema.fbs.
"""

import contextlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from speech.description import Description
from utils import UserError

# The metadata's entry that holds a description.
DESCRIPTION_NAME = "speech_description"

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

    def tables(self, field: int) -> "list[_Table]":
        start, count = self._vector(field)
        places = range(start, start + 4 * count, 4)
        return [_Table(self.content, place + self._number("<I", place)) for place in places]


@contextlib.contextmanager
def _model(content: bytes, path: str) -> Iterator[_Table]:
    """The Model in a file's content; path: for messages.

    Raises:
        UserError: it is none of TensorFlow Lite's, or it is damaged.
    """
    try:
        if content[4:8] != IDENTIFIER:
            raise ValueError("its first bytes are other ones")
        yield _Table(content, struct.unpack_from("<I", content)[0])
    except (struct.error, IndexError):  # a place or a number that leads out of the file
        raise UserError(
            f"{path} is not a TensorFlow Lite model, or one that is cut short: export it anew."
        ) from None
    except ValueError as error:
        raise UserError(f"{path} is not a TensorFlow Lite model: {error}.") from None


def read_file(path: str) -> bytes:
    """Reads a file of this machine whole; UserError if it can't be read.

    It isn't mapped: a file that is overwritten in place would kill those that map it.
    """
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise UserError(f"{path} can't be read: {error.strerror}.") from None


def read_description(path: str) -> Description:
    """Reads what a TensorFlow Lite file of this machine says of itself.

    Raises:
        UserError: it can't be read, is no such file, or none that export.py has written.
    """
    return description_in(read_file(path), path)


def description_in(content: bytes, path: str) -> Description:
    """Returns what a file's content says of itself; path: for messages; UserError likewise."""
    with _model(content, path) as model:
        for entry in model.tables(_MODEL_METADATA):
            if entry.bytes(_METADATA_NAME).decode() == DESCRIPTION_NAME:
                buffer = model.tables(_MODEL_BUFFERS)[entry.number(_METADATA_BUFFER)]
                return Description.from_json(buffer.bytes(_BUFFER_DATA).decode(), path)
    raise UserError(
        f"{path} doesn't carry alphabet and front end: it wasn't written by export.py, or by one "
        "before this. Export it anew."
    )


def buffer_spans(path: str) -> list[tuple[int, int]]:
    """Where each of the file's buffers that has data lies: from, to, in bytes."""
    with _model(read_file(path), path) as model:
        spans = [buffer.span(_BUFFER_DATA) for buffer in model.tables(_MODEL_BUFFERS)]
    return [(start, end) for start, end in spans if end > start]
