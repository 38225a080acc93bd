"""Recordings of numbered commands -> utterances."""

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
from speech.text.showing import in_utf8
from utils import UserError, in_western_digits, is_number

TABLE = "commands.csv"
ID_COLUMN = "id"

# The id is the number that a name ends with, in the digits of any script; the speaker what it
# begins with, its folder if it has one: maria_012, maria/012, speaker3-ok_espejo-7.
DEFAULT_PATTERN = r"^(?:(?P<speaker>[^/_-]+)(?:[/_-].*)?[/_-])?(?P<id>\d+)$"


def read(path: str, reading: Reading) -> list[Utterance]:
    """Utterances of a folder of recordings whose names tell what was said, by commands.csv.

    A recording whose name has no id, or one that commands.csv doesn't have, is an utterance
    without transcript. Such ones, and commands that nobody says, are logged as warnings.

    Args:
        path: the folder that holds commands.csv, or that file. The recordings lie below it, or
            below reading.audio_root. reading.id_pattern is searched in each one's path from there
            on, without its suffix.

    Raises:
        UserError: commands.csv can't be read, lacks a column or has bad rows; the pattern is none;
            there are no recordings, or the pattern finds no id in any.
    """
    pattern = _compiled(reading.id_pattern or DEFAULT_PATTERN)
    table_path = path if path.endswith(TABLE) else storage.join(path, TABLE)
    texts = _texts(table_path, reading.language)
    folder = reading.audio_root or os.path.dirname(table_path) or "."
    audio = AudioPaths(folder)
    utterances: list[Utterance] = []
    said: set[str] = set()
    nameless: list[str] = []
    unknown: list[str] = []
    for recording, size in sorted(_recordings(folder)):
        speaker, command = _parsed(pattern, recording, folder)
        place, text = texts.get(command, (recording, ""))
        if command not in texts:
            (unknown if command else nameless).append(recording)
        said.add(command)
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
    _warn(nameless, f"recordings have no id in their name, as {pattern.pattern} finds one")
    _warn(unknown, f"recordings have an id that {table_path} doesn't have")
    silent = [place for command, (place, _) in texts.items() if command not in said]
    _warn(silent, "commands have no recording")
    return utterances


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise UserError(f"--id_pattern={pattern} is no regular expression: {error}.") from None
    if ID_COLUMN not in compiled.groupindex:
        raise UserError(
            f"--id_pattern={pattern} has no group for the id: write (?P<id>...), and "
            "(?P<speaker>...) if the names tell who speaks."
        )
    return compiled


def _recordings(folder: str) -> Iterator[tuple[str, int | None]]:
    for path, size in storage.files_below(folder):
        hidden = os.path.basename(path).startswith(".")
        if path.lower().endswith(SUFFIXES) and not hidden:
            yield path, size


def _parsed(pattern: re.Pattern[str], recording: str, folder: str) -> tuple[str, str]:
    """The speaker and the id in a recording's name, "" for what isn't in there."""
    name = os.path.splitext(os.path.relpath(recording, folder))[0].replace(os.sep, "/")
    found = pattern.search(name)
    if found is None:
        return "", ""
    groups = found.groupdict()
    return in_utf8((groups.get("speaker") or "").strip()), _comparable(groups[ID_COLUMN] or "")


def _comparable(command: str) -> str:
    """A number without its leading zeros, in the digits 0 to 9: 012 and ١٢ are 12, 000 is 0."""
    command = in_western_digits(command.strip())
    return (command.lstrip("0") or "0") if is_number(command) else command


def _texts(path: str, language: str | None) -> dict[str, tuple[str, str]]:
    """Command's id -> its place in the table, and its text."""
    table = tables.read_csv(path, "commands")
    column = _text_column(table, language)
    texts: dict[str, tuple[str, str]] = {}
    for row in table.rows:
        command = _comparable(row.fields[ID_COLUMN])
        if not command:
            table.refuse(row, "id is empty")
        elif command in texts:
            table.refuse(
                row, f"id {tables.shown([command])} is there already, at {texts[command][0]}"
            )
        else:
            texts[command] = (table.place(row), row.fields[column])
    refuse_problems(path, table.problems)
    return texts


def _text_column(table: tables.Table, language: str | None) -> str:
    columns = [name for name in table.columns if name and name != ID_COLUMN]
    named = tables.shown(columns)
    if not columns:
        raise UserError(
            f"{table.path} has no column of texts: write them behind the ids, with the language "
            f"in the first line, as in {ID_COLUMN},es."
        )
    if len(columns) == 1:
        return columns[0]
    several = f"{table.path} has several columns of texts, {named}"
    if language is None:
        raise UserError(f"{several}: choose one with --language.")
    chosen = language.strip().lower()
    if chosen not in columns:
        raise UserError(
            f"{several}, and none of them is called --language={language}: call that of the "
            f"language {chosen}, or choose another."
        )
    return chosen


def _check_ids(folder: str, pattern: str, utterances: list[Utterance], nameless: list[str]) -> None:
    if not utterances:
        raise UserError(f"{folder} holds no recordings: name their folder with --audio_root.")
    if len(nameless) == len(utterances):
        raise UserError(
            f"No recording in {folder} has an id in its name, as {pattern} finds one: the first "
            f"is {nameless[0]}. Say with --id_pattern where the id stands."
        )


def _warn(found: list[str], what: str) -> None:
    if found:
        named = ", ".join(found[:NAMED_PROBLEMS])
        more = len(found) - NAMED_PROBLEMS
        logging.warning(
            "%d %s: %s%s", len(found), what, named, f" and {more} more" if more > 0 else ""
        )
