"""Files on this machine or in Google Cloud Storage (gs://bucket/path), by one set of names.

TensorFlow is imported only for gs:// paths, so that preparing data on a workstation needs none.
"""

import contextlib
import glob
import os
from typing import Any

from utils import UserError

BUCKET_PREFIX = "gs://"


def in_bucket(path: str) -> bool:
    return path.startswith(BUCKET_PREFIX)


def join(folder: str, name: str) -> str:
    return f"{folder.rstrip('/')}/{name}" if in_bucket(folder) else os.path.join(folder, name)


def matching(pattern: str) -> list[str]:
    """Sorted paths that match a glob pattern."""
    if not in_bucket(pattern):
        return sorted(glob.glob(pattern))
    return sorted(_gfile(pattern, lambda gfile: gfile.glob(pattern)))


def exists(path: str) -> bool:
    if not in_bucket(path):
        return os.path.exists(path)
    return bool(_gfile(path, lambda gfile: gfile.exists(path)))


def size(path: str) -> int:
    """Bytes of a file that exists."""
    if not in_bucket(path):
        return os.path.getsize(path)
    return int(_gfile(path, lambda gfile: gfile.stat(path).length))


def read_text(path: str) -> str:
    """The text of a UTF-8 file.

    Raises:
        UserError: the file isn't there or can't be read.
    """
    if in_bucket(path):
        return str(_gfile(path, lambda gfile: _read(gfile.GFile(path))))
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} can't be read: {error}") from None


def make_folder(path: str) -> None:
    """Makes a folder and those above it where they are missing; a bucket needs none.

    Raises:
        UserError: it can't be made, or not be written into.
    """
    if in_bucket(path):
        return
    try:
        os.makedirs(path or ".", exist_ok=True)
    except OSError as error:
        raise UserError(f"The folder {path} can't be made: {error.strerror}.") from None
    if not os.access(path or ".", os.W_OK):
        raise UserError(f"The folder {path} can't be written into: choose another.")


def write_text(path: str, text: str) -> None:
    """Writes a UTF-8 file so that a reader sees either the old text or the whole new one.

    Raises:
        UserError: the file can't be written.
    """
    if in_bucket(path):
        # An object in a bucket appears only when it is whole.
        _gfile(path, lambda gfile: _write(gfile.GFile(path, "w"), text))
        return
    partial = partial_path(path)
    try:
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        with open(partial, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.remove(partial)
        raise UserError(f"{path} can't be written: {error.strerror}.") from None


def partial_path(path: str) -> str:
    """The name that a file has in its folder until it is whole; no shard pattern matches it."""
    folder, name = os.path.split(path)
    return os.path.join(folder, f".{name}.partial")


def _read(file: Any) -> str:
    with file:
        return str(file.read())


def _write(file: Any, text: str) -> None:
    with file:
        file.write(text)


def _gfile(path: str, action: Any) -> Any:
    import tensorflow as tf

    try:
        return action(tf.io.gfile)
    except tf.errors.OpError as error:
        raise UserError(
            f"{path} can't be reached: {error.message} Check the bucket's name and your access "
            "(gcloud auth application-default login)."
        ) from None
