"""Reads text files, plain or gzipped, and the transcripts of corpora in blocks of lines."""

import contextlib
import gzip
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, cast

from speech.corpora.formats import registry
from speech.corpora.formats.librispeech import TRANSCRIPT_SUFFIX, transcript_line
from speech.system import storage
from utils import UserError, lines_of

GZIP_MAGIC = b"\x1f\x8b"
BLOCK = 1 << 20  # bytes read at a time


@dataclass(frozen=True)
class TextFile:
    """A file of sentences, one per line, or the table of a corpus."""

    path: str  # local or gs://
    flag: str  # flag that names it, for messages
    # Language of the text, see corpora.formats.reading.Reading.
    language: str | None = None

    @property
    def transcripts(self) -> bool:
        """Whether each line is an utterance id and its transcript, as in LibriSpeech."""
        return self.path.endswith(TRANSCRIPT_SUFFIX)

    @property
    def table(self) -> bool:
        """Whether it is the table of a corpus, such as train.csv, with transcripts."""
        return self.path.lower().endswith(registry.TABLE_SUFFIXES)


def find_text(paths: list[str], flag: str, language: str | None = None) -> list[TextFile]:
    """Finds the named files, and LibriSpeech's transcripts in named folders.

    Args:
        flag: flag that names them.
        language: language of the text; a corpus may have several.

    Raises:
        UserError: a file is missing or empty, or a folder has no transcripts.
    """
    return [TextFile(file, flag, language) for path in paths for file in _files_of(path, flag)]


def _files_of(path: str, flag: str) -> list[str]:
    size = storage.size(path) if not os.path.isdir(path) else None
    if size:
        return [path]
    if size == 0:
        raise UserError(f"{flag}={path} is empty: name a text file with one sentence per line.")
    below = [each for each, _ in storage.files_below(path) if each.endswith(TRANSCRIPT_SUFFIX)]
    if below:
        return sorted(below)
    if os.path.isdir(path):
        raise UserError(
            f"{flag}={path} is a folder without *{TRANSCRIPT_SUFFIX}: name the files in it, "
            "separated by commas."
        )
    raise UserError(f"{flag}={path} doesn't exist: check the path.")


def read_blocks(file: TextFile) -> Iterator[str]:
    """Yields the text of a file in blocks of complete lines, without utterance ids.

    For the table of a corpus these are the transcripts, one per line.

    Raises:
        UserError: it can't be read, is cut short, or isn't UTF-8; with the line.
    """
    if file.table:
        yield _transcripts(file)
        return
    lines = 0
    try:
        with open_text(file.path) as reader:
            for block in _whole_lines(reader):
                try:
                    text = block.decode("utf-8" if lines else "utf-8-sig")
                except UnicodeDecodeError as error:
                    line = lines + _line_ends(block[: error.start]) + 1
                    raise UserError(
                        f"{file.flag}={file.path}, line {line}, is not UTF-8 ({error.reason}: "
                        f"0x{block[error.start]:02x}): save it as UTF-8."
                    ) from None
                lines += _line_ends(block)
                yield _without_ids(text, file.language) if file.transcripts else text
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(
            f"{file.flag}={file.path} can't be read: {reason(error)}. Check that it is complete "
            "and readable."
        ) from None


def _without_ids(text: str, language: str | None) -> str:
    """Removes the utterance ids from LibriSpeech's lines."""
    transcripts = (transcript_line(line, language is None)[1] for line in lines_of(text))
    return "".join(f"{each}\n" for each in transcripts)


def _transcripts(file: TextFile) -> str:
    reading = registry.Reading(language=file.language)
    try:
        utterances = registry.read([file.path], None, reading, file.flag)
    except UserError as error:
        raise UserError(f"{file.flag}: {error}") from None
    lines = (" ".join(lines_of(each.transcript)) for each in utterances if each.transcript)
    return "".join(f"{line}\n" for line in lines)


def reason(error: Exception) -> str:
    """Returns the reason why a file can't be read, without its name."""
    return getattr(error, "strerror", None) or str(error)


@contextlib.contextmanager
def open_text(path: str) -> Iterator[BinaryIO]:
    """Opens a text file, plain or gzipped, for reading bytes.

    Raises:
        OSError: it can't be read. Reading may raise it, too, and EOFError or zlib.error if the
            file is damaged.
        UserError: the bucket can't be read.
    """
    with storage.open_reader(path) as reader:
        magic = reader.read(len(GZIP_MAGIC))
        reader.seek(0)
        yield cast(BinaryIO, gzip.GzipFile(fileobj=reader)) if magic == GZIP_MAGIC else reader


def _line_ends(block: bytes) -> int:
    return block.count(b"\n") + block.count(b"\r") - block.count(b"\r\n")


def _whole_lines(reader: BinaryIO) -> Iterator[bytes]:
    """Yields blocks that end with a line end, except for the last block."""
    pieces: list[bytes] = []  # of an incomplete line
    while block := reader.read(BLOCK):
        # A last \r may belong to a \n in the next block.
        end = max(block.rfind(b"\n"), block.rfind(b"\r", 0, -1)) + 1
        if end:
            yield b"".join([*pieces, block[:end]])
            pieces = []
        pieces.append(block[end:])
    if last := b"".join(pieces):
        yield last
