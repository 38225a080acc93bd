"""Corpora by their formats' names: what people have -> one list of utterances."""

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
    tables,
)
from speech.corpora.formats.librispeech import TRANSCRIPT_SUFFIX, librispeech
from speech.corpora.formats.reading import Reading
from speech.corpora.utterance import Utterance
from speech.system import storage
from utils import UserError, is_number

__all__ = ["FORMATS", "TABLE_SUFFIXES", "Reader", "Reading", "check_apart", "detect", "read"]

# A corpus's path and what its reader may be told -> its utterances, in any order. An id may come
# again: `read` numbers such ones.
Reader = Callable[[str, Reading], list[Utterance]]

FORMATS: dict[str, Reader] = {
    "librispeech": lambda path, reading: librispeech(
        [path], reading.flag, lower=reading.language is None
    ),
    "csv": deepspeech_csv.read,
    "common_voice": common_voice.read,
    "json": json_lines.read,
    "commands": commands.read,
    "folder": folders.read,
}

JSON_SUFFIXES = (".json", ".jsonl", ".manifest")
TABLE_SUFFIXES = (".csv", ".tsv", *JSON_SUFFIXES)

# Setting of a Reading -> the formats that have a use for it.
USED_BY = {
    "audio_root": ("csv", "common_voice", "json", "commands"),
    "id_pattern": ("commands",),
}
# Formats that are tables, and those that are folders; commands are named by either.
OF_TABLES = ("csv", "common_voice", "json")
OF_FOLDERS = ("librispeech", "folder")

FILES_PATH = "--files_path"
NAMED_TABLES = 10  # of a folder, in a message


def read(
    paths: list[str], format_name: str | None, reading: Reading, flag: str = FILES_PATH
) -> list[Utterance]:
    """The utterances of one or several corpora, sorted by id.

    Of utterances with the same id all but the first get a number, as in "ru/wav/x (2)", in the
    order of the places where the corpora tell of them; so their order doesn't depend on that of
    the paths.

    Args:
        paths: tables or folders, local or gs://.
        format_name: of FORMATS, for all of them; None: each one's is found out.
        flag: that names the paths, for messages.

    Raises:
        UserError: a path isn't there, is named twice, can't be read, is a folder where the format
            wants a table or the other way round, or holds no utterance; or none of the formats has
            a use for what is to be told to it.
    """
    if not all(paths):
        raise UserError(
            f"{flag}={','.join(paths)} has an empty name: leave out the comma beside it."
        )
    if not paths:
        raise UserError(f"There is no corpus to read. Name a table or a folder with {flag}.")
    if format_name is not None and format_name not in FORMATS:
        raise UserError(
            f"--format={format_name} is not known: choose among {', '.join(sorted(FORMATS))}."
        )
    check_apart({flag: paths})
    chosen_formats = []
    for path in paths:
        _check_there(path, flag)
        if format_name:
            _check_kind(path, format_name, flag)
        chosen_formats.append(format_name or detect(path, flag))
    _check_used(reading, chosen_formats)
    told = replace(reading, flag=flag)
    found: list[Utterance] = []
    for path, chosen in zip(paths, chosen_formats, strict=True):
        utterances = FORMATS[chosen](path, told)
        if not utterances:
            raise UserError(
                f"{path} holds no utterances of the format {chosen}. Name another corpus with "
                f"{flag}."
            )
        found += utterances
    return _with_unique_ids(found)


def detect(path: str, flag: str = FILES_PATH) -> str:
    """The name of a corpus's format, told by its header or by what its folder holds.

    A table that is like none, but is called .csv, .tsv or .json, is taken to be one: its reader
    says what it lacks.

    Args:
        flag: as of `read`.

    Raises:
        UserError: it can't be told.
    """
    if _is_folder(path):
        return _detect_folder(path, flag)
    return _detect_file(path, flag)


def _detect_file(path: str, flag: str) -> str:
    beginning = _beginning(path)
    if beginning.lstrip().startswith(("{", "[")):
        return "json"
    for name in tables.formats_of(tables.header_columns(beginning)):
        # An id is in many tables.
        if name != "commands" or os.path.basename(path) == commands.TABLE:
            return name
    suffix = os.path.splitext(path)[1].lower()
    if suffix in JSON_SUFFIXES:
        return "json"
    of_suffix = {".csv": "csv", ".tsv": "common_voice"}
    if suffix not in of_suffix:
        raise UserError(
            f"{path} is no table of a known format ({', '.join(sorted(FORMATS))}): docs/corpora.md "
            f"shows them. Name one with {flag}."
        )
    return "commands" if os.path.basename(path) == commands.TABLE else of_suffix[suffix]


def _beginning(path: str) -> str:
    """The first lines of a file, in whatever encoding."""
    try:
        with storage.open_reader(path) as reader:
            content = reader.read(tables.HEADER_CHARACTERS)
    except OSError as error:
        raise UserError(f"{path} can't be read: {error.strerror}. Check its rights.") from None
    utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    text = content.decode("utf-16" if utf16 else "utf-8-sig", errors="replace")
    return text.replace("\0", "")


def _detect_folder(path: str, flag: str) -> str:
    files = [found for found, _ in storage.files_below(path)]
    names = {os.path.relpath(found, path) for found in files}
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
            f"{path} is a folder with tables ({tables_there}): name those of one set with {flag}."
        )
    raise UserError(
        f"{path} is a folder without {commands.TABLE}, *{TRANSCRIPT_SUFFIX}, or "
        f"*{folders.TEXT_SUFFIX} beside audio: docs/corpora.md shows what can be read. Name "
        f"another with {flag}."
    )


def _tables_in(folder: str, names: Iterable[str]) -> str:
    """The paths of the first tables among a folder's files."""
    inside = [
        storage.join(folder, name)
        for name in sorted(names)
        if name.lower().endswith(TABLE_SUFFIXES) and not name.endswith(constants.INDEX_SUFFIX)
    ]
    more = [f"and {len(inside) - NAMED_TABLES} more"] if len(inside) > NAMED_TABLES else []
    return ", ".join(inside[:NAMED_TABLES] + more)


def check_apart(paths_of: Mapping[str, Sequence[str]]) -> None:
    """Whether each table or folder is named once in all sets.

    Args:
        paths_of: flag of a set -> the paths it names, local or gs://.

    Raises:
        UserError: one is named twice, by the same flag or by two, however it is written.
    """
    known: dict[str, str] = {}  # path -> flag
    for flag, paths in paths_of.items():
        for path in paths:
            whole = path.rstrip("/") if storage.in_bucket(path) else os.path.abspath(path)
            if known.get(whole) == flag:
                raise UserError(f"{flag} names {path} twice: leave one of them out.")
            if whole in known:
                raise UserError(
                    f"{path} is named by {known[whole]} and by {flag}, and no set may have what "
                    "another has: leave one of them out."
                )
            known[whole] = flag


def _check_kind(path: str, format_name: str, flag: str) -> None:
    """Whether a path is a table or a folder, as its format wants it."""
    if _is_folder(path):
        if format_name in OF_TABLES:
            names = [os.path.relpath(found, path) for found, _ in storage.files_below(path)]
            there = _tables_in(path, names)
            raise UserError(
                f"{path} is a folder, and --format={format_name} wants tables: name those in it "
                f"with {flag}{f' ({there})' if there else ''}."
            )
    elif format_name in OF_FOLDERS:
        raise UserError(
            f"{path} is a file, and --format={format_name} wants a folder: name one with {flag}, "
            "or leave out --format."
        )
    elif format_name == "commands" and not path.endswith(commands.TABLE):
        raise UserError(
            f"{path} is no {commands.TABLE}, which --format=commands wants: name the folder that "
            f"holds it with {flag}, or leave out --format."
        )


def _check_used(reading: Reading, chosen_formats: Sequence[str]) -> None:
    for setting, users in USED_BY.items():
        value = getattr(reading, setting)
        if value and not set(users) & set(chosen_formats):
            chosen = " and ".join(dict.fromkeys(chosen_formats))
            raise UserError(
                f"--{setting}={value} means nothing to the format {chosen}, only to "
                f"{' and '.join(users)}: leave it out, or choose another --format."
            )


def _check_there(path: str, flag: str) -> None:
    if not _bucket_folder(path) and not storage.exists(path):
        raise UserError(f"{path} isn't there. Name a table or a folder with {flag}.")


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
    """By id, and equal ids by where they stand: line 9 of a table before its line 10."""
    table, colon, line = utterance.place.rpartition(":")
    audio_path = utterance.audio_path or ""
    if colon and is_number(line):
        return utterance.utterance_id, table, int(line), audio_path
    return utterance.utterance_id, utterance.place, 0, audio_path
