"""Shared by the readers of all formats: their options, decoding, errors about many rows."""

import codecs
from collections.abc import Sequence
from dataclasses import dataclass

from speech.system import storage
from utils import UserError

# Number of bad rows that an error names; it counts the others.
NAMED_PROBLEMS = 10

_UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@dataclass(frozen=True)
class Reading:
    """Options of the readers; each format uses some of them."""

    # Folder that the relative paths of a table start at; None: the default of the format.
    audio_root: str | None = None
    id_pattern: str | None = None  # regular expression with a group `id`, see commands.py
    # Language of the text: chooses a column of commands.csv; its rules change the case.
    language: str | None = None
    flag: str = "--files_path"  # flag that names the corpus, for messages; set by registry.read


def read_text(path: str) -> str:
    """Reads a file in UTF-8 with or without a byte order mark, or in UTF-16 with one.

    Keeps the line ends.

    Raises:
        UserError: it can't be read, is empty or has another encoding.
    """
    try:
        content = storage.read_bytes(path)
    except OSError as error:
        raise UserError(
            f"{path} can't be read: {error.strerror}. Check that it exists and is readable."
        ) from None
    if not content:
        raise UserError(f"{path} is empty: fill it, or name another file.")
    return decode(path, content)


def decode(path: str, content: bytes) -> str:
    """Decodes the content of a file, see `read_text`."""
    try:
        if content.startswith(_UTF16_MARKS):
            return content.decode("utf-16")
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if error.encoding.startswith("utf-16"):
            raise UserError(f"{path} is damaged UTF-16 ({error.reason}): save it again.") from None
        line = content[: error.start].count(b"\n") + 1
        raise UserError(
            f"{path}, line {line}, is not UTF-8 ({error.reason}: 0x{content[error.start]:02x}): "
            "save the file as UTF-8."
        ) from None
    if "\0" in text:
        raise UserError(
            f"{path}, line {text[: text.index(chr(0))].count(chr(10)) + 1}, contains a zero "
            "byte, which is not text: save the file as UTF-8."
        )
    return text


def refuse_problems(path: str, problems: Sequence[str]) -> None:
    """Raises a UserError that names the first problems of a corpus, if there are any.

    Args:
        problems: place and error, as in "line 7: 2 fields instead of 3".
    """
    if not problems:
        return
    named = "; ".join(problems[:NAMED_PROBLEMS])
    more = len(problems) - NAMED_PROBLEMS
    others = f"; and {more} more" if more > 0 else ""
    it = "it" if len(problems) == 1 else "them"
    raise UserError(f"{path} can't be used: {named}{others}. Correct or remove {it}.")
