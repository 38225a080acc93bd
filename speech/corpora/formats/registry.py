"""Reads corpora of all formats, by name or detected, into one list of utterances."""

import codecs
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

import constants
from speech.audio.reader import SUFFIXES
from speech.corpora.formats import (
    commands,
    common_voice,
    deepspeech_csv,
    folders,
    json_lines,
    librispeech,
    recordings,
    tables,
)
from speech.corpora.formats.librispeech import TRANSCRIPT_SUFFIX
from speech.corpora.formats.reading import Reading
from speech.corpora.utterance import Utterance
from speech.system import storage
from utils import UserError, is_number

__all__ = ["FORMATS", "TABLE_SUFFIXES", "Reader", "Reading", "check_disjoint", "detect", "read"]

# Maps the path of a corpus and options to its utterances, in any order. Ids may repeat: `read`
# numbers repeated ids.
Reader = Callable[[str, Reading], list[Utterance]]

FORMATS: dict[str, Reader] = {
    "librispeech": librispeech.read,
    "csv": deepspeech_csv.read,
    "common_voice": common_voice.read,
    "json": json_lines.read,
    "commands": commands.read,
    "folder": folders.read,
    "recordings": recordings.read,
}

JSON_SUFFIXES = (".json", ".jsonl", ".manifest")
TABLE_SUFFIXES = (".csv", ".tsv", *JSON_SUFFIXES)

# Option of a Reading -> the formats that use it.
USED_BY = {
    "audio_root": ("csv", "common_voice", "json", "commands"),
    "id_pattern": ("commands",),
}
# Formats of tables, and of folders; commands are named by either.
OF_TABLES = ("csv", "common_voice", "json")
OF_FOLDERS = ("librispeech", "folder", "recordings")

FILES_PATH = "--files_path"
NAMED_TABLES = 10  # number of a folder's tables that a message names


def read(
    paths: list[str], format_name: str | None, reading: Reading, flag: str = FILES_PATH
) -> list[Utterance]:
    """Reads one or several corpora; returns the utterances sorted by id.

    Repeated ids get a number, as in "ru/wav/x (2)", in the order of their places in the corpora,
    so that the ids don't depend on the order of the paths.

    Args:
        paths: tables or folders, local or gs://.
        format_name: one of FORMATS, for all paths; None: detected for each path.
        flag: flag that names the paths, for messages.

    Raises:
        UserError: a path doesn't exist, is named twice, can't be read, is a folder where the
            format needs a table or vice versa, or contains no utterance; or no format uses one of
            the options.
    """
    if not all(paths):
        raise UserError(
            f"{flag}={','.join(paths)} has an empty name: leave out the comma beside it."
        )
    if not paths:
        raise UserError(f"There is no corpus to read. Name a table or a folder with {flag}.")
    if format_name is not None and format_name not in FORMATS:
        raise UserError(
            f"--format={format_name} is unknown: choose one of {', '.join(sorted(FORMATS))}."
        )
    check_disjoint({flag: paths})
    chosen_formats = []
    for path in paths:
        _check_there(path, flag)
        if format_name:
            _check_kind(path, format_name, flag)
        chosen_formats.append(format_name or detect(path, flag))
    _check_used(reading, chosen_formats)
    reading = replace(reading, flag=flag)
    found: list[Utterance] = []
    for path, chosen in zip(paths, chosen_formats, strict=True):
        utterances = FORMATS[chosen](path, reading)
        if not utterances:
            raise UserError(
                f"{path} contains no utterances of the format {chosen}. Name another corpus with "
                f"{flag}."
            )
        found += utterances
    return _with_unique_ids(found)


def detect(path: str, flag: str = FILES_PATH) -> str:
    """Detects the format of a corpus from the header of a table or the files of a folder.

    An unknown table named *.csv, *.tsv or *.json has the format of its suffix: the reader then
    reports the missing columns.

    Args:
        flag: see `read`.

    Raises:
        UserError: the format is unknown.
    """
    if _is_folder(path):
        return _detect_folder(path, flag)
    return _detect_file(path, flag)


def _detect_file(path: str, flag: str) -> str:
    beginning = _beginning(path)
    if beginning.lstrip().startswith(("{", "[")):
        return "json"
    for name in tables.formats_of(tables.header_columns(beginning)):
        # Many other tables have a column `id`.
        if name != "commands" or os.path.basename(path) == commands.TABLE:
            return name
    suffix = os.path.splitext(path)[1].lower()
    if suffix in JSON_SUFFIXES:
        return "json"
    of_suffix = {".csv": "csv", ".tsv": "common_voice"}
    if suffix not in of_suffix:
        raise UserError(
            f"{path} is not a table of a known format ({', '.join(sorted(FORMATS))}): see "
            f"docs/corpora.md, and name one with {flag}."
        )
    return "commands" if os.path.basename(path) == commands.TABLE else of_suffix[suffix]


def _beginning(path: str) -> str:
    """Reads the first characters of a file, whatever its encoding."""
    try:
        with storage.open_reader(path) as reader:
            content = reader.read(tables.HEADER_CHARACTERS)
    except OSError as error:
        raise UserError(f"{path} can't be read: {error.strerror}. Check its permissions.") from None
    utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    text = content.decode("utf-16" if utf16 else "utf-8-sig", errors="replace")
    return text.replace("\0", "")


def _detect_folder(path: str, flag: str) -> str:
    files = [found for found, _ in storage.files_below(path)]
    names = {os.path.relpath(found, path) for found in files}
    if recordings.DATABASE in names:
        return "recordings"
    if commands.TABLE in names:
        return "commands"
    if any(name.endswith(TRANSCRIPT_SUFFIX) for name in names):
        return "librispeech"
    audio = [name for name in names if name.lower().endswith(SUFFIXES)]
    texts = {
        os.path.splitext(name)[0] for name in names if name.lower().endswith(folders.TEXT_SUFFIX)
    }
    if any(texts.intersection(folders.text_names(name)) for name in audio):
        return "folder"
    tables_there = _tables_in(path, names)
    if tables_there:
        raise UserError(
            f"{path} is a folder with tables ({tables_there}): name the tables with {flag}."
        )
    raise UserError(
        f"{path} is a folder without {commands.TABLE}, *{TRANSCRIPT_SUFFIX}, or "
        f"*{folders.TEXT_SUFFIX} next to audio files: see docs/corpora.md, and name another with "
        f"{flag}."
    )


def _tables_in(folder: str, names: Iterable[str]) -> str:
    """Returns the paths of the first tables among a folder's files, for a message."""
    inside = [
        storage.join(folder, name)
        for name in sorted(names)
        if name.lower().endswith(TABLE_SUFFIXES) and not name.endswith(constants.INDEX_SUFFIX)
    ]
    more = [f"and {len(inside) - NAMED_TABLES} more"] if len(inside) > NAMED_TABLES else []
    return ", ".join(inside[:NAMED_TABLES] + more)


def check_disjoint(paths_of: Mapping[str, Sequence[str]]) -> None:
    """Checks that each table or folder is named once in all sets.

    Args:
        paths_of: flag of a set -> its paths, local or gs://.

    Raises:
        UserError: a path is named twice, by one flag or by two, also in different spelling.
    """
    known: dict[str, str] = {}  # path -> flag
    for flag, paths in paths_of.items():
        for path in paths:
            whole = path.rstrip("/") if storage.in_bucket(path) else os.path.abspath(path)
            if known.get(whole) == flag:
                raise UserError(f"{flag} names {path} twice: leave one of them out.")
            if whole in known:
                raise UserError(
                    f"{path} is named by {known[whole]} and by {flag}, but sets must be disjoint: "
                    "leave one of them out."
                )
            known[whole] = flag


def _check_kind(path: str, format_name: str, flag: str) -> None:
    """Checks that a path is a table or a folder, as its format requires."""
    if _is_folder(path):
        if format_name in OF_TABLES:
            names = [os.path.relpath(found, path) for found, _ in storage.files_below(path)]
            there = _tables_in(path, names)
            raise UserError(
                f"{path} is a folder, and --format={format_name} requires tables: name the tables "
                f"in it with {flag}{f' ({there})' if there else ''}."
            )
    elif format_name in OF_FOLDERS:
        raise UserError(
            f"{path} is a file, and --format={format_name} requires a folder: name one with "
            f"{flag}, or leave out --format."
        )
    elif format_name == "commands" and not path.endswith(commands.TABLE):
        raise UserError(
            f"{path} is not named {commands.TABLE}, as --format=commands requires: name its folder "
            f"with {flag}, or leave out --format."
        )


def _check_used(reading: Reading, chosen_formats: Sequence[str]) -> None:
    for setting, users in USED_BY.items():
        value = getattr(reading, setting)
        if value and not set(users) & set(chosen_formats):
            chosen = " and ".join(dict.fromkeys(chosen_formats))
            raise UserError(
                f"--{setting}={value} has no effect on the format {chosen}, only on "
                f"{' and '.join(users)}: leave it out, or choose another --format."
            )


def _check_there(path: str, flag: str) -> None:
    if not _bucket_folder(path) and not storage.exists(path):
        raise UserError(f"{path} doesn't exist. Name a table or a folder with {flag}.")


def _is_folder(path: str) -> bool:
    return os.path.isdir(path) or _bucket_folder(path)


def _bucket_folder(path: str) -> bool:
    return storage.in_bucket(path) and next(storage.files_below(path), None) is not None


def _with_unique_ids(utterances: list[Utterance]) -> list[Utterance]:
    taken = {each.utterance_id for each in utterances}
    numbered: list[Utterance] = []
    last, number = None, 1
    for each in sorted(utterances, key=_order):
        number = number + 1 if each.utterance_id == last else 1
        last = utterance_id = each.utterance_id
        if number > 1:
            while (utterance_id := f"{each.utterance_id} ({number})") in taken:
                number += 1
            taken.add(utterance_id)
        numbered.append(replace(each, utterance_id=utterance_id))
    return sorted(numbered, key=lambda each: each.utterance_id)


def _order(utterance: Utterance) -> tuple[str, str, int, str]:
    """Returns a sort key: the id, then the place, with line 9 of a table before line 10."""
    table, colon, line = utterance.place.rpartition(":")
    audio_path = utterance.audio_path or ""
    if colon and is_number(line):
        return utterance.utterance_id, table, int(line), audio_path
    return utterance.utterance_id, utterance.place, 0, audio_path
