"""Reads tables with a header."""

import csv
import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from speech.corpora.formats.reading import read_text
from utils import UserError, lines_of

SEPARATORS = ",;\t"

# First line in which Excel names the separator; Excel itself never shows it.
_SEPARATOR_LINE = re.compile(r"\s*sep=([^\"\r\n])(?:\r\n|\r|\n|$)", re.IGNORECASE)

# Number of characters that are searched for a header.
HEADER_CHARACTERS = 1 << 16

# Number of names that a message shows, and of characters of each.
SHOWN_NAMES = 20
SHOWN_CHARACTERS = 40

# Required columns of each format; they identify the format of a table.
COLUMNS = {
    "csv": ("wav_filename", "transcript"),
    "common_voice": ("path", "sentence"),
    "commands": ("id",),
}


@dataclass(frozen=True)
class Row:
    """A row of a table."""

    line: int  # number of its first line, from 1
    fields: dict[str, str]  # column -> text


@dataclass
class Table:
    """The rows of a table that match its header, and the errors of all others."""

    path: str
    columns: list[str]  # in lower case, without blanks around them
    rows: list[Row] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)  # see reading.refuse_problems

    def place(self, row: Row) -> str:
        return f"{self.path}:{row.line}"

    def refuse(self, row: Row, what: str) -> None:
        self.problems.append(f"line {row.line}: {what}")


# Line where a row starts, and its fields or its error.
_Rows = Iterator[tuple[int, list[str] | csv.Error]]


def read_csv(path: str, format_name: str) -> Table:
    """Reads a table with quoted fields and the separator that its header uses.

    Raises:
        UserError: the file can't be read, or has no column of COLUMNS[format_name].
    """
    return _read(path, format_name, _csv_rows)


def read_tsv(path: str, format_name: str) -> Table:
    """Reads a table with tabs between the fields and no quoting; errors as `read_csv`."""
    return _read(path, format_name, _tsv_rows)


def _read(path: str, format_name: str, rows_of: Callable[[str], _Rows]) -> Table:
    rows = rows_of(read_text(path))
    _, header = next(rows, (1, []))
    columns = [] if isinstance(header, csv.Error) else _names(header)
    _check_columns(path, columns, format_name)
    table = Table(path, columns)
    for line, fields in rows:
        if isinstance(fields, csv.Error):
            table.problems.append(f"line {line}: {fields}")
        elif len(fields) != len(columns):
            table.problems.append(f"line {line}: {len(fields)} fields instead of {len(columns)}")
        else:
            table.rows.append(Row(line, dict(zip(columns, fields, strict=True))))
    return table


def _check_columns(path: str, columns: list[str], format_name: str) -> None:
    needed = COLUMNS[format_name]
    missing = [name for name in needed if name not in columns]
    if missing:
        others = [name for name in formats_of(columns) if name != format_name]
        other = f" It may be of the format {' or '.join(others)}." if others else ""
        raise UserError(
            f"{path} has no column {' and '.join(missing)}: its first line names "
            f"{format_names(columns) or 'none'}, and a table of the format {format_name} needs "
            f"{', '.join(needed)}.{other}"
        )
    twice = sorted({name for name in columns if name and columns.count(name) > 1})
    if twice:
        raise UserError(
            f"{path} has the column {format_names(twice)} more than once: rename all but one."
        )


def format_names(names: list[str]) -> str:
    """Formats names from a file for a message: a binary file may have strange and long ones."""
    short = [name[:SHOWN_CHARACTERS] for name in names[:SHOWN_NAMES]]
    more = [f"and {len(names) - SHOWN_NAMES} more"] if len(names) > SHOWN_NAMES else []
    return "".join(each if each.isprintable() else "?" for each in ", ".join(short + more))


def formats_of(columns: list[str]) -> list[str]:
    """Returns the formats whose required columns are all there."""
    return [name for name, needed in COLUMNS.items() if set(needed) <= set(columns)]


def header_columns(text: str) -> list[str]:
    """Returns the column names in the first characters of a file."""
    return _names(_header(text, separator_of(text)))


def separator_of(text: str) -> str:
    """Returns the separator that Excel's line sep=; names, else the one of SEPARATORS that divides
    the first line into most columns."""
    if named := _SEPARATOR_LINE.match(text):
        return named[1]
    return max(SEPARATORS, key=lambda separator: len(_header(text, separator)))


def _header(text: str, separator: str) -> list[str]:
    lines = io.StringIO(_without_separator_line(text[:HEADER_CHARACTERS]), newline="")
    rows = csv.reader(lines, delimiter=separator)
    return next((row for row in rows if _any(row)), [])


def _without_separator_line(text: str) -> str:
    """Empties Excel's line sep=;, so that the other lines keep their numbers."""
    return _SEPARATOR_LINE.sub("\n", text, count=1) if _SEPARATOR_LINE.match(text) else text


def _names(header: list[str]) -> list[str]:
    return [name.strip().lower() for name in header]


def _any(fields: list[str]) -> bool:
    return any(field and not field.isspace() for field in fields)


def _csv_rows(text: str) -> _Rows:
    # Strict: otherwise a quote that is never closed swallows all rows below it.
    lines = io.StringIO(_without_separator_line(text), newline="")
    reader = csv.reader(lines, delimiter=separator_of(text), strict=True)
    while True:
        line = reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield line, _explain(error)
            continue
        if _any(fields):
            yield line, fields


def _explain(error: csv.Error) -> csv.Error:
    # The csv module has no separate class for this error.
    if str(error).startswith("field larger than field limit"):
        limit = csv.field_size_limit()
        return csv.Error(
            f"a field has more than {limit} characters: split it, or close the quote before it"
        )
    return csv.Error(f"its quotes don't match ({error})")


def _tsv_rows(text: str) -> _Rows:
    for line, row in enumerate(lines_of(_without_separator_line(text)), start=1):
        fields = row.split("\t")
        if _any(fields):
            yield line, fields
