"""Where the recordings of a corpus lie, and the ids that their utterances have by it."""

import os
import posixpath
import re

from speech.system import storage
from speech.system.bucket import BUCKET_PREFIX

# Of a path that leads elsewhere an id has so many parts, and nobody learns the others.
LAST_PARTS = 3

# An id's first dash stands between its speaker and the path, its first slash in the path.
SPEAKER_MARK = "-"
_MARKS = re.compile(r"[-/\s]+")


class AudioPaths:
    """Finds the recordings that a corpus names, and makes ids of their paths."""

    def __init__(self, root: str) -> None:
        """root: folder, local or gs://, that relative paths start at."""
        self._root = _normalised(root)
        self._root_parts = _parts(self._root)
        self._listed: dict[str, dict[str, int | None]] = {}  # folders of buckets -> their files

    def find(self, name: str) -> tuple[str, int | None]:
        """The path of a recording and its bytes; None if it isn't there.

        Blanks around the name are ignored and backslashes are slashes, unless there is a file
        with just this name.
        """
        path = self._path(name)
        size = self._size(path)
        if size is None:
            path = self._path(name.strip().replace("\\", "/"))
            size = self._size(path)
        return path, size

    def utterance_id(self, path: str, speaker: str, start_seconds: float | None = None) -> str:
        """The id of an utterance: SPEAKER-FOLDER/.../NAME@START.

        The path starts with the name of the root's own folder. Without a speaker no dash stands in
        there: by the first dash of an id its speaker is told.

        Args:
            start_seconds: where in the recording a stretch begins; None: it is all of it.
        """
        below = self._below(path)
        if speaker:
            prefix = _MARKS.sub("_", speaker) + SPEAKER_MARK
        else:
            prefix = ""
            below[0] = below[0].replace(SPEAKER_MARK, "_") if len(below) > 1 else below[0]
        stretch = "" if start_seconds is None else f"@{round(start_seconds, 3):.12g}"
        # A file's name needn't be UTF-8, an id must.
        path_part = "/".join(below).encode("utf-8", "backslashreplace").decode()
        return f"{prefix}{path_part}{stretch}"

    def _below(self, path: str) -> list[str]:
        """The parts of a path, without suffix, from the root's folder or one beside it on."""
        parts = _parts(os.path.splitext(path)[0])
        above = self._root_parts[:-1]
        for start in (self._root_parts, above):
            if start and parts[: len(start)] == start:
                return parts[len(above) :]
        return parts[-LAST_PARTS:]

    def _path(self, name: str) -> str:
        if storage.in_bucket(name) or os.path.isabs(name):
            return _normalised(name)
        return _normalised(storage.join(self._root, name))

    def _size(self, path: str) -> int | None:
        if not storage.in_bucket(path):
            try:
                return os.stat(path).st_size
            except (OSError, ValueError):  # a name that no file can have is a ValueError
                return None
        folder = self._folder_to_list(path)
        if folder not in self._listed:
            self._listed[folder] = dict(storage.files_below(folder))
        return self._listed[folder].get(path)

    def _folder_to_list(self, path: str) -> str:
        """A folder that is worth one request for all the files below it."""
        root = self._root + "/"
        if not path.startswith(root):
            return path.rpartition("/")[0]
        first, slash, _ = path.removeprefix(root).partition("/")
        return root + first if slash else self._root


def _normalised(path: str) -> str:
    """In a bucket .. and // are names like others."""
    if not storage.in_bucket(path):
        return path
    return BUCKET_PREFIX + posixpath.normpath(path.removeprefix(BUCKET_PREFIX))


def _parts(path: str) -> list[str]:
    if storage.in_bucket(path):
        return path.removeprefix(BUCKET_PREFIX).split("/")
    return [part for part in os.path.abspath(path).split(os.sep) if part]
