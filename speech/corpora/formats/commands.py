"""Reads recordings of numbered commands."""

import os
import re
from collections.abc import Iterator

from absl import logging

from speech.audio.reader import SUFFIXES
from speech.corpora.formats import tables
from speech.corpora.formats.audio_paths import AudioPaths
from speech.corpora.formats.reading import NAMED_PROBLEMS, Reading, refuse_problems
from speech.corpora.utterance import Utterance, transcript_of
from speech.system import storage
from speech.text.characters import in_utf8
from utils import UserError, in_western_digits, is_number

TABLE = "commands.csv"
ID_COLUMN = "id"

# The id is the number at the end of a name, in the digits of any script. The speaker is its first
# part, or the folder: maria_012, maria/012, speaker3-ok_espejo-7.
DEFAULT_PATTERN = r"^(?:(?P<speaker>[^/_-]+)(?:[/_-].*)?[/_-])?(?P<id>\d+)$"


def read(path: str, reading: Reading) -> list[Utterance]:
    """Reads a folder of recordings whose names contain the id of a command in commands.csv.

    A recording without an id, or with an id that is missing from commands.csv, becomes an
    utterance without transcript. Warnings name these recordings, and commands without recording.

    Args:
        path: the folder of commands.csv, or that file. The recordings are below it, or below
            reading.audio_root. reading.id_pattern is searched for in the rest of each path,
            without its suffix.

    Raises:
        UserError: commands.csv can't be read, has no such column or bad rows; the pattern is
            invalid; there are no recordings, or none has an id.
    """
    pattern = _compile(reading.id_pattern or DEFAULT_PATTERN)
    table_path = path if path.endswith(TABLE) else storage.join(path, TABLE)
    texts = _texts(table_path, reading.language)
    folder = reading.audio_root or os.path.dirname(table_path) or "."
    audio = AudioPaths(folder)
    utterances: list[Utterance] = []
    spoken: set[str] = set()
    nameless: list[str] = []
    unknown: list[str] = []
    for recording, size in sorted(_recordings(folder)):
        speaker, command = _parse_name(pattern, recording, folder)
        place, text = texts.get(command, (recording, ""))
        if command not in texts:
            (unknown if command else nameless).append(recording)
        spoken.add(command)
        utterances.append(
            Utterance(
                audio.utterance_id(recording, speaker),
                recording,
                transcript_of(text),
                speaker,
                size,
                place=place,
            )
        )
    _check_ids(folder, pattern.pattern, utterances, nameless)
    _warn(nameless, f"recordings have no id in their name that matches {pattern.pattern}")
    _warn(unknown, f"recordings have an id that is missing from {table_path}")
    unspoken = [place for command, (place, _) in texts.items() if command not in spoken]
    _warn(unspoken, "commands have no recording")
    return utterances


def _compile(pattern: str) -> re.Pattern[str]:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise UserError(f"--id_pattern={pattern} is not a regular expression: {error}.") from None
    if ID_COLUMN not in compiled.groupindex:
        raise UserError(
            f"--id_pattern={pattern} has no group for the id: write (?P<id>...), and "
            "(?P<speaker>...) if the names contain the speaker."
        )
    return compiled


def _recordings(folder: str) -> Iterator[tuple[str, int | None]]:
    for path, size in storage.files_below(folder):
        hidden = os.path.basename(path).startswith(".")
        if path.lower().endswith(SUFFIXES) and not hidden:
            yield path, size


def _parse_name(pattern: re.Pattern[str], recording: str, folder: str) -> tuple[str, str]:
    """Returns the speaker and the id in a recording's name; "" if it has none."""
    name = os.path.splitext(os.path.relpath(recording, folder))[0].replace(os.sep, "/")
    found = pattern.search(name)
    if found is None:
        return "", ""
    groups = found.groupdict()
    return in_utf8((groups.get("speaker") or "").strip()), _comparable(groups[ID_COLUMN] or "")


def _comparable(command: str) -> str:
    """Normalises a number: 012 and ١٢ become 12, 000 becomes 0."""
    command = in_western_digits(command.strip())
    return (command.lstrip("0") or "0") if is_number(command) else command


def _texts(path: str, language: str | None) -> dict[str, tuple[str, str]]:
    """Returns id of a command -> its place in the table, and its text."""
    table = tables.read_csv(path, "commands")
    column = _text_column(table, language)
    texts: dict[str, tuple[str, str]] = {}
    for row in table.rows:
        command = _comparable(row.fields[ID_COLUMN])
        if not command:
            table.refuse(row, "id is empty")
        elif command in texts:
            table.refuse(row, f"id {tables.format_names([command])} repeats {texts[command][0]}")
        else:
            texts[command] = (table.place(row), row.fields[column])
    refuse_problems(path, table.problems)
    return texts


def _text_column(table: tables.Table, language: str | None) -> str:
    columns = [name for name in table.columns if name and name != ID_COLUMN]
    named = tables.format_names(columns)
    if not columns:
        raise UserError(
            f"{table.path} has no column of texts: add one with the language in the first line, as "
            f"in {ID_COLUMN},es."
        )
    if len(columns) == 1:
        return columns[0]
    several = f"{table.path} has several columns of texts, {named}"
    if language is None:
        raise UserError(f"{several}: choose one with --language.")
    chosen = language.strip().lower()
    if chosen not in columns:
        raise UserError(
            f"{several}, and none is named --language={language}: rename one to {chosen}, or "
            "choose another."
        )
    return chosen


def _check_ids(folder: str, pattern: str, utterances: list[Utterance], nameless: list[str]) -> None:
    if not utterances:
        raise UserError(f"{folder} contains no recordings: name their folder with --audio_root.")
    if len(nameless) == len(utterances):
        raise UserError(
            f"No recording in {folder} has an id in its name that matches {pattern}: the first is "
            f"{nameless[0]}. Give a pattern of the names with --id_pattern."
        )


def _warn(found: list[str], what: str) -> None:
    if found:
        named = ", ".join(found[:NAMED_PROBLEMS])
        more = len(found) - NAMED_PROBLEMS
        logging.warning(
            "%d %s: %s%s", len(found), what, named, f" and {more} more" if more > 0 else ""
        )
