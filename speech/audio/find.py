"""The recordings that a command line names: files, folders, patterns, standard input."""

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
    """Paths in order, each file once; STANDARD_INPUT, if it is named, first.

    - A file is taken whatever its name, local or gs://.
    - Of a folder all files below with one of audio.SUFFIXES are, but for hidden ones.
    - A pattern (*, ?, [...], ** for folders) is what a shell makes of it, and of the folders that
      it matches the audio below. One that ends with such a mark takes only audio, as of a folder.
      A file or folder with just this name comes before what the pattern matches.

    Raises:
        UserError: no argument, or one that names nothing.
    """
    found: dict[str, str] = {}  # a file's identity -> its path
    arguments = list(arguments)
    if not arguments:
        raise UserError(f"No audio is named: {REMEDY}")
    for argument in arguments:
        for path in _files_of(argument):
            same = found.setdefault(_identity(path), path)
            if path < same:  # so that their order on the command line is none
                found[_identity(path)] = path
    return sorted(found.values(), key=lambda path: (path != STANDARD_INPUT, path))


def _identity(path: str) -> str:
    local = path != STANDARD_INPUT and not storage.in_bucket(path)
    return os.path.realpath(path) if local else path


def _files_of(argument: str) -> list[str]:
    """The files that one argument names; at least one."""
    if argument == STANDARD_INPUT:
        return [argument]
    if storage.in_bucket(argument):
        named = list(storage.sizes(glob.escape(argument)))
        if not glob.has_magic(argument):
            return named or _files_below(argument)
        if named := named or _audio_below(argument):
            return named
        files = list(storage.sizes(storage.meant(argument)))
    elif os.path.isdir(argument):
        return _files_below(argument)
    elif os.path.exists(argument):
        return [argument]
    elif not glob.has_magic(argument):
        raise UserError(f"{argument or repr(argument)} isn't there: {REMEDY}")
    else:
        matches = glob.glob(storage.meant(argument), recursive=True)
        files = [path for path in matches if not os.path.isdir(path)]
        for folder in set(matches) - set(files):
            files += _audio_below(folder)
    if argument.endswith(WILDCARD_ENDS):
        files = [path for path in files if _is_audio(path)]
    if not files:
        raise UserError(f"{argument} matches no audio: {REMEDY}")
    return files


def _files_below(folder: str) -> list[str]:
    files = _audio_below(folder)
    if not files:
        raise UserError(
            f"{folder} holds no audio: no file below is named as one ({', '.join(SUFFIXES)}). Name "
            "files themselves, or another folder."
        )
    return files


def _audio_below(folder: str) -> list[str]:
    return [path for path, _ in storage.files_below(folder) if _is_audio(path)]


def _is_audio(path: str) -> bool:
    """By its name; not a hidden file, such as one that is being written."""
    name = path.rpartition("/")[2]
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")
