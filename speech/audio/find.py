"""Finds the recordings that a command line names: files, folders, patterns, standard input."""

import glob
import os
from collections.abc import Iterable

from speech.audio.reader import SUFFIXES
from speech.system import storage
from utils import UserError

STANDARD_INPUT = "-"

WILDCARD_ENDS = ("*", "?", "]")
REMEDY = "name files, folders, patterns, or - for standard input."


def find_audio_files(arguments: Iterable[str]) -> list[str]:
    """Returns paths in order, each file once; STANDARD_INPUT, if it is named, comes first.

    - A named file is always included, local or gs://.
    - A folder stands for all files below it with one of reader.SUFFIXES, except hidden ones.
    - A pattern (*, ?, [...], ** for folders) matches as in a shell; a folder that it matches stands
      for the audio below it. A pattern that ends with a wildcard matches only audio files.
      A file or folder with exactly this name takes precedence over the pattern.

    Raises:
        UserError: there is no argument, or an argument names nothing.
    """
    found: dict[str, str] = {}  # a file's identity -> its path
    arguments = list(arguments)
    if not arguments:
        raise UserError(f"No audio is named: {REMEDY}")
    for argument in arguments:
        for path in _files_of(argument):
            same = found.setdefault(_identity(path), path)
            if path < same:  # whatever their order on the command line
                found[_identity(path)] = path
    return sorted(found.values(), key=lambda path: (path != STANDARD_INPUT, path))


def _identity(path: str) -> str:
    local = path != STANDARD_INPUT and not storage.in_bucket(path)
    return os.path.realpath(path) if local else path


def _files_of(argument: str) -> list[str]:
    """Returns the files that one argument names; at least one."""
    if argument == STANDARD_INPUT:
        return [argument]
    if storage.in_bucket(argument):
        return _objects_of(argument)
    if os.path.isdir(argument):
        return _files_below(argument)
    if os.path.exists(argument):
        return [argument]
    if not glob.has_magic(argument):
        raise UserError(f"{argument or repr(argument)} doesn't exist: {REMEDY}")
    matches = glob.glob(storage.resolve_pattern(argument), recursive=True)
    files = [path for path in matches if not os.path.isdir(path)]
    for folder in set(matches) - set(files):
        files += _audio_below(folder)
    return _select_audio(files, argument)


def _objects_of(argument: str) -> list[str]:
    """Returns the objects that a gs:// path or pattern names; at least one."""
    named = list(storage.sizes(glob.escape(argument)))
    if not glob.has_magic(argument):
        return named or _files_below(argument)
    if named := named or _audio_below(argument):
        return named
    return _select_audio(list(storage.sizes(storage.resolve_pattern(argument))), argument)


def _select_audio(files: list[str], pattern: str) -> list[str]:
    """Selects audio by suffix from a pattern's matches, unless the pattern gives a suffix."""
    if pattern.endswith(WILDCARD_ENDS):
        files = [path for path in files if _is_audio(path)]
    if not files:
        raise UserError(f"{pattern} matches no audio: {REMEDY}")
    return files


def _files_below(folder: str) -> list[str]:
    files = _audio_below(folder)
    if not files:
        raise UserError(
            f"{folder} has no audio: no file below it has a known suffix ({', '.join(SUFFIXES)}). "
            "Name the files, or another folder."
        )
    return files


def _audio_below(folder: str) -> list[str]:
    return [path for path, _ in storage.files_below(folder) if _is_audio(path)]


def _is_audio(path: str) -> bool:
    """Tells by its name whether a file is audio; a hidden one, still being written, is not."""
    name = path.rpartition("/")[2]
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")
