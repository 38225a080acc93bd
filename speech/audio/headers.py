"""Completes headers of sound files that have no length, and finds wavs that are cut short.

A program writes the length when it closes the file. After a crash, or in a pipe, the header keeps a
placeholder although samples follow. libsndfile reads a wav or au file with such a header as empty,
and refuses a caf file.
"""

import io
import os
import struct
from collections.abc import Iterator
from typing import NamedTuple

# Bytes at the beginning of a file that are searched for its chunk of samples.
HEAD_BYTES = 2**20

RIFF_MAGICS, RF64_MAGIC, AU_MAGIC, CAF_MAGIC = (b"RIFF", b"RF64"), b"RF64", b".snd", b"caff"
# Placeholders of lengths.
AU_PLACEHOLDERS = (0, 0x7FFFFFFF, 0xFFFFFFFF)
CAF_PLACEHOLDERS = (0, -1)
# Least length of a wav that means an unknown one: programs that write a wav into a pipe put 0 in
# its header, or about the largest number that fits.
NO_LENGTH = 0x7FFF0000
CUT_SLACK = 8  # bytes: some writers count the padding of a chunk but don't write it

# A field of a header: its offset in the file, and the bytes that it should have.
Field = tuple[int, bytes]


class CutWav(NamedTuple):
    """The bytes of a wav that is cut short."""

    promised: int  # up to the end of its samples, by its header
    there: int

    def __str__(self) -> str:
        return f"the wav's header promises {self.promised} bytes, the file has {self.there}"


def find_cut(path: str) -> CutWav | None:
    """Finds out whether a local file is a wav that is cut short.

    libsndfile reads the rest of one without an error.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(12)
            if head[:4] not in RIFF_MAGICS or head[8:] != b"WAVE":
                return None
            head += file.read(HEAD_BYTES)
            size = file.seek(0, os.SEEK_END)
    except OSError:
        return None
    for kind, start, length in _chunks(head, 12, "<4sI"):
        if kind == b"data":
            is_cut = length < NO_LENGTH and start + length > size + CUT_SLACK
            return CutWav(start + length, size) if is_cut else None
    return None


class CompletedFile(io.BufferedReader):
    """A file that is read as if a field of its header had other bytes."""

    def __init__(self, file: io.FileIO, field: Field) -> None:
        super().__init__(file)
        self._start, self._bytes = field

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        position = self.tell()
        count = super().readinto(buffer)
        first = max(position, self._start)
        last = min(position + count, self._start + len(self._bytes))
        if first < last:
            content = self._bytes[first - self._start : last - self._start]
            memoryview(buffer).cast("B")[first - position : last - position] = content
        return count


def missing_length(file: io.BufferedIOBase) -> Field | None:
    """Finds the length of the samples in a wav, au or caf file whose header has a placeholder.

    Args:
        file: a seekable file; its position afterwards is undefined.

    Returns:
        the field with the length to the end of the file; None if nothing is missing.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    head = file.read(HEAD_BYTES)
    if head.startswith(AU_MAGIC):
        return _length_in_au(head, size)
    if head.startswith(CAF_MAGIC):
        return _length_in_caf(head, size)
    if head[:4] in RIFF_MAGICS and head[8:12] == b"WAVE":
        return _length_in_wav(head, size)
    return None


def _length_in_au(head: bytes, size: int) -> Field | None:
    start, length = struct.unpack_from(">II", head.ljust(12, b"\0"), 4)
    # libsndfile reads to the end of the file for this one placeholder.
    return (8, b"\xff" * 4) if length in AU_PLACEHOLDERS and size > start else None


def _length_in_caf(head: bytes, size: int) -> Field | None:
    for kind, start, length in _chunks(head, 8, ">4sq"):
        if kind == b"data":
            missing = length in CAF_PLACEHOLDERS and size > start
            return (start - 8, struct.pack(">q", size - start)) if missing else None
    return None


def _length_in_wav(head: bytes, size: int) -> Field | None:
    field, form = None, "<I"
    for kind, start, _ in _chunks(head, 12, "<4sI"):
        if kind == b"ds64" and head.startswith(RF64_MAGIC):
            field, form = start + 8, "<q"  # after the length of the whole file
        if kind == b"data":
            field = start - 4 if field is None else field
            (length,) = struct.unpack_from(form, head, field)
            if length or size <= start or _ends_in_chunks(head, start, size):
                return None
            return field, struct.pack(form, min(size - start, 2**32 - 1 if form == "<I" else size))
    return None


def _ends_in_chunks(head: bytes, position: int, size: int) -> bool:
    """Returns whether chunks, such as tags, fill the file from here: then there are no samples."""
    for kind, start, length in _chunks(head, position, "<4sI"):
        if not (kind.isascii() and kind.decode().isprintable()):
            return False
        position = start + length + length % 2
    return position in (size, size + 1)  # the last one may miss its padding


def _chunks(head: bytes, position: int, form: str) -> Iterator[tuple[bytes, int, int]]:
    """Yields kind, start and length of the content of each chunk whose header is in `head`."""
    header = struct.Struct(form)
    while 0 <= position <= len(head) - header.size:
        kind, length = header.unpack_from(head, position)
        yield kind, position + header.size, length
        position += header.size + length + length % 2
