"""Finds the shards that a pattern matches and checks them against their index."""

import fnmatch
import os
import posixpath
import re
from dataclasses import dataclass, replace

from absl import logging

from speech.shards.index import Index, read_index
from speech.shards.paths import index_path
from speech.system import storage
from utils import UserError


@dataclass(frozen=True)
class ShardSet:
    """The shards that a pattern matches, and their index."""

    pattern: str
    files: tuple[str, ...]  # paths, in the corpus's order
    index: Index  # of these shards alone

    @property
    def name(self) -> str:
        """Returns the set's name, as in NAME.tfrecords.00000000."""
        return posixpath.basename(self.files[0]).rpartition(".")[0].removesuffix(".tfrecords")


def find_shards(pattern: str) -> ShardSet:
    """Finds the shards that `pattern` matches and reads their index.

    Args:
        pattern: a glob, local or gs://, as in `storage.resolve_pattern`.

    Raises:
        UserError: no shard matches, they belong to several sets, their index is missing or
            disagrees with them, or a shard is missing or truncated.
    """
    is_shard = re.compile(r"(.*)\.[0-9]{8}$").match
    meant = storage.resolve_pattern(pattern)
    sizes = storage.sizes(meant)
    matches = [match for match in map(is_shard, sizes) if match]
    if not matches:
        raise UserError(
            f"No shards match {pattern}. Fetch LibriSpeech (python prepare_libri.py "
            "--download=train-clean-100,dev-clean,test-clean) and write its shards (python "
            "prepare_libri.py), or those of your own speech (--files_path=... "
            "--tfrecords_file=...); name them as in data/train.tfrecords.*"
        )
    names = sorted({match[1] for match in matches})
    if len(names) > 1:
        raise UserError(f"{pattern} matches several sets, {', '.join(names)}: name one of them.")
    index = read_index(names[0])
    if index is None:
        raise UserError(
            f"The index {index_path(names[0])} is missing: copy it along with the shards."
        )
    files = {os.path.basename(match[0]): match[0] for match in matches}
    _check_shards(index, files, sizes, index_path(names[0]), os.path.basename(meant))
    shards = tuple(shard for shard in index.shards if shard.file in files)
    if len(shards) == len(index.shards) and not index.complete:
        logging.warning(
            "%s is incomplete: repeat the command that prepared it, to finish it.", names[0]
        )
    return ShardSet(
        pattern, tuple(files[shard.file] for shard in shards), replace(index, shards=shards)
    )


def _check_shards(
    index: Index,
    files: dict[str, str],
    sizes: dict[str, int],
    index_file: str,
    name_pattern: str,
) -> None:
    known = {shard.file: shard for shard in index.shards}
    for name in files:
        if name not in known:
            raise UserError(
                f"The index {index_file} doesn't list {name}: repeat the command that prepared "
                "the set, to finish it."
            )
        if sizes[files[name]] != known[name].bytes:
            raise UserError(
                f"{files[name]} has {sizes[files[name]]} bytes, its index says "
                f"{known[name].bytes}: copy or prepare it again."
            )
    for name in known.keys() - files.keys():
        if fnmatch.fnmatch(name, name_pattern):
            raise UserError(f"{name}, which {index_file} lists, is missing: copy it there too.")
