"""What the readers of corpora share: what they are told, decoding, errors of many rows."""

import codecs
from collections.abc import Sequence
from dataclasses import dataclass

from speech.system import storage
from utils import UserError

# An error names so many bad rows, and counts the others.
NAMED_PROBLEMS = 10

_UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@dataclass(frozen=True)
class Reading:
    """What a reader may be told; each takes what it has a use for."""

    # Folder that the relative paths of a table start at; None: the one that the format says.
    audio_root: str | None = None
    id_pattern: str | None = None  # regular expression with a group `id`: see corpora.commands
    # That the text is written in: chooses a column of commands.csv, and its rules write capitals.
    language: str | None = None
    flag: str = "--files_path"  # that names the corpus, for messages; `formats.read` sets it


def read_text(path: str) -> str:
    """The text of a file: UTF-8 with or without a byte order mark, or UTF-16 with one.

    Line ends stay as they are.

    Raises:
        UserError: it can't be read, is empty or is in another encoding.
    """
    try:
        content = storage.read_bytes(path)
    except OSError as error:
        raise UserError(
            f"{path} can't be read: {error.strerror}. Check that it is there and may be read."
        ) from None
    if not content:
        raise UserError(f"{path} is empty: fill it, or name another file.")
    return decode(path, content)


def decode(path: str, content: bytes) -> str:
    """As `read_text`, of a file's bytes."""
    try:
        if content.startswith(_UTF16_MARKS):
            return content.decode("utf-16")
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if error.encoding.startswith("utf-16"):
            raise UserError(f"{path} is damaged UTF-16 ({error.reason}): save it anew.") from None
        line = content[: error.start].count(b"\n") + 1
        raise UserError(
            f"{path}, line {line}, is not UTF-8 ({error.reason}: 0x{content[error.start]:02x}): "
            "save the file as UTF-8."
        ) from None
    if "\0" in text:
        raise UserError(
            f"{path}, line {text[: text.index(chr(0))].count(chr(10)) + 1}, holds a zero byte, as "
            "no UTF-8 text does: save the file as UTF-8."
        )
    return text


def refuse_problems(path: str, problems: Sequence[str], remedy: str = "Mend or remove") -> None:
    """Raises a UserError that names the first problems of a corpus, if there are any.

    Args:
        problems: what is wrong and where, as in "line 7: 2 fields instead of 3".
        remedy: for all of them.
    """
    if not problems:
        return
    named = "; ".join(problems[:NAMED_PROBLEMS])
    more = len(problems) - NAMED_PROBLEMS
    others = f"; and {more} more" if more > 0 else ""
    it = "it" if len(problems) == 1 else "them"
    raise UserError(f"{path} can't be used: {named}{others}. {remedy} {it}.")
