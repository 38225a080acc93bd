"""Files of text, also compressed, and corpora's transcripts -> blocks of whole lines."""

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
BLOCK = 1 << 20  # bytes that are read at a time


@dataclass(frozen=True)
class TextFile:
    """A file of sentences, one a line, or the table of a corpus."""

    path: str  # local or gs://
    flag: str  # that named it, for messages
    # That the text is written in, as of corpora.formats.Reading.
    language: str | None = None

    @property
    def transcripts(self) -> bool:
        """Whether each line is an utterance's id and its transcript, as in LibriSpeech."""
        return self.path.endswith(TRANSCRIPT_SUFFIX)

    @property
    def table(self) -> bool:
        """Whether it is a corpus's table, such as train.csv, of which the transcripts count."""
        return self.path.lower().endswith(registry.TABLE_SUFFIXES)


def find_text(paths: list[str], flag: str, language: str | None = None) -> list[TextFile]:
    """The files that are named, and LibriSpeech's transcripts in the folders that are.

    Args:
        flag: that names them.
        language: that they are written in, of which a corpus may have several.

    Raises:
        UserError: one is not there or is empty, or a folder has no transcripts.
    """
    return [TextFile(file, flag, language) for path in paths for file in _files_of(path, flag)]


def _files_of(path: str, flag: str) -> list[str]:
    size = storage.size(path) if not os.path.isdir(path) else None
    if size:
        return [path]
    if size == 0:
        raise UserError(f"{flag}={path} is empty: name a file of text, one sentence a line.")
    below = [each for each, _ in storage.files_below(path) if each.endswith(TRANSCRIPT_SUFFIX)]
    if below:
        return sorted(below)
    if os.path.isdir(path):
        raise UserError(
            f"{flag}={path} is a folder without *{TRANSCRIPT_SUFFIX}: name the files in it, "
            "separated by commas."
        )
    raise UserError(f"{flag}={path} isn't there: check the path.")


def read_blocks(file: TextFile) -> Iterator[str]:
    """The text of a file in blocks of whole lines, without utterances' ids.

    Of a corpus's table it is the transcripts, one a line.

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
                        f"0x{block[error.start]:02x}): save the text so."
                    ) from None
                lines += _line_ends(block)
                yield _without_ids(text, file.language) if file.transcripts else text
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(
            f"{file.flag}={file.path} can't be read: {reason(error)}. Check that it is whole and "
            "may be read."
        ) from None


def _without_ids(text: str, language: str | None) -> str:
    """The transcripts of LibriSpeech's lines, which begin with the utterance's id."""
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
    """Why a file can't be read, without its name."""
    return getattr(error, "strerror", None) or str(error)


@contextlib.contextmanager
def open_text(path: str) -> Iterator[BinaryIO]:
    """The bytes of a file of text, of a gzipped one decompressed.

    Raises:
        OSError: it can't be read; so does reading it, which also raises EOFError or zlib.error if
            it is damaged.
        UserError: the same of the bucket.
    """
    with storage.open_reader(path) as reader:
        magic = reader.read(len(GZIP_MAGIC))
        reader.seek(0)
        yield cast(BinaryIO, gzip.GzipFile(fileobj=reader)) if magic == GZIP_MAGIC else reader


def _line_ends(block: bytes) -> int:
    return block.count(b"\n") + block.count(b"\r") - block.count(b"\r\n")


def _whole_lines(reader: BinaryIO) -> Iterator[bytes]:
    """Blocks that end with a line; the last one needn't."""
    pieces: list[bytes] = []  # of a line that goes on
    while block := reader.read(BLOCK):
        # The \n that ends the same line as a last \r may come in the next block.
        end = max(block.rfind(b"\n"), block.rfind(b"\r", 0, -1)) + 1
        if end:
            yield b"".join([*pieces, block[:end]])
            pieces = []
        pieces.append(block[end:])
    if last := b"".join(pieces):
        yield last
