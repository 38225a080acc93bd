"""Paths of the files of a set of shards."""

import glob

import constants
from speech.system import storage


def shard_path(tfrecords_file: str, start: int) -> str:
    return f"{tfrecords_file}.{start:08d}"


def shard_pattern(tfrecords_file: str) -> str:
    """A glob that matches the shards of this set alone, whatever characters its name has."""
    return f"{glob.escape(tfrecords_file)}.{'[0-9]' * 8}"


def lock_path(tfrecords_file: str) -> str:
    """The file that a run holds while it writes the set."""
    return storage.hidden_path(tfrecords_file, ".lock")


def run_folder(tfrecords_file: str) -> str:
    """The folder where workers elsewhere find their work and leave receipts of what is done.

    No shard pattern matches it. A receipt is the index of one shard, and is named like one.
    """
    return storage.hidden_path(tfrecords_file, ".run")


def index_path(tfrecords_file: str) -> str:
    return tfrecords_file + constants.INDEX_SUFFIX
