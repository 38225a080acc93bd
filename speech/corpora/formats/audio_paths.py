"""Finds the recordings that a corpus names, and builds utterance ids from their paths."""

import os
import posixpath
import re

from speech.system import storage
from speech.system.bucket import BUCKET_PREFIX

# Number of parts that an id keeps of a path outside the corpus, for privacy.
LAST_PARTS = 3

# The first dash of an id separates the speaker from the path.
SPEAKER_MARK = "-"
_MARKS = re.compile(r"[-/\s]+")


class AudioPaths:
    """Resolves the paths in a corpus and builds ids from them."""

    def __init__(self, root: str) -> None:
        """Args:
        root: folder, local or gs://, that relative paths start at.
        """
        self._root = _normalise(root)
        self._root_parts = _parts(self._root)
        self._listed: dict[str, dict[str, int | None]] = {}  # folder in a bucket -> its files

    def find(self, name: str) -> tuple[str, int | None]:
        """Returns the path of a recording and its size in bytes, None if it is missing.

        Strips blanks around the name and turns backslashes into slashes, unless a file has
        exactly this name.
        """
        path = self._path(name)
        size = self._size(path)
        if size is None:
            path = self._path(name.strip().replace("\\", "/"))
            size = self._size(path)
        return path, size

    def utterance_id(self, path: str, speaker: str, start_seconds: float | None = None) -> str:
        """Returns the id of an utterance: SPEAKER-FOLDER/.../NAME@START.

        The path starts with the name of the root folder. Without a speaker that name has no dash,
        because the first dash of an id ends the speaker.

        Args:
            start_seconds: start of a segment in the recording; None: the whole recording.
        """
        below = self._below(path)
        if speaker:
            prefix = _MARKS.sub("_", speaker) + SPEAKER_MARK
        else:
            prefix = ""
            below[0] = below[0].replace(SPEAKER_MARK, "_") if len(below) > 1 else below[0]
        stretch = "" if start_seconds is None else f"@{round(start_seconds, 3):.12g}"
        # An id is UTF-8; the name of a file may hold any bytes.
        path_part = "/".join(below).encode("utf-8", "backslashreplace").decode()
        return f"{prefix}{path_part}{stretch}"

    def _below(self, path: str) -> list[str]:
        """Returns the parts of a path without suffix, from the root folder or a sibling on."""
        parts = _parts(os.path.splitext(path)[0])
        above = self._root_parts[:-1]
        for start in (self._root_parts, above):
            if start and parts[: len(start)] == start:
                return parts[len(above) :]
        return parts[-LAST_PARTS:]

    def _path(self, name: str) -> str:
        if storage.in_bucket(name) or os.path.isabs(name):
            return _normalise(name)
        return _normalise(storage.join(self._root, name))

    def _size(self, path: str) -> int | None:
        if not storage.in_bucket(path):
            try:
                return os.stat(path).st_size
            except (OSError, ValueError):  # ValueError: no file can have this name
                return None
        folder = self._folder_to_list(path)
        if folder not in self._listed:
            self._listed[folder] = dict(storage.files_below(folder))
        return self._listed[folder].get(path)

    def _folder_to_list(self, path: str) -> str:
        """Returns a folder whose files are listed with one request."""
        root = self._root + "/"
        if not path.startswith(root):
            return path.rpartition("/")[0]
        first, slash, _ = path.removeprefix(root).partition("/")
        return root + first if slash else self._root


def _normalise(path: str) -> str:
    """Resolves .. and // in the path of a bucket, where they would be ordinary names."""
    if not storage.in_bucket(path):
        return path
    return BUCKET_PREFIX + posixpath.normpath(path.removeprefix(BUCKET_PREFIX))


def _parts(path: str) -> list[str]:
    if storage.in_bucket(path):
        return path.removeprefix(BUCKET_PREFIX).split("/")
    return [part for part in os.path.abspath(path).split(os.sep) if part]
