"""Paths of the files of a set of shards."""

import glob

import constants
from speech.system import storage


def shard_path(tfrecords_file: str, start: int) -> str:
    """Returns the path of the shard whose first utterance has the corpus position `start`."""
    return f"{tfrecords_file}.{start:08d}"


def shard_pattern(tfrecords_file: str) -> str:
    """Returns a glob that matches only the shards of this set, whatever characters its name has."""
    return f"{glob.escape(tfrecords_file)}.{'[0-9]' * 8}"


def lock_path(tfrecords_file: str) -> str:
    """Returns the path of the file that a run locks while it writes the set."""
    return storage.hidden_path(tfrecords_file, ".lock")


def run_folder(tfrecords_file: str) -> str:
    """Returns the folder with the work for other machines and their receipts of finished shards.

    No shard pattern matches it. A receipt is the index of one shard and is named like an index.
    """
    return storage.hidden_path(tfrecords_file, ".run")


def index_path(tfrecords_file: str) -> str:
    """Returns the path of the set's index."""
    return tfrecords_file + constants.INDEX_SUFFIX
