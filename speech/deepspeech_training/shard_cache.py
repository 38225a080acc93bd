"""Keeps the shards of CSV files in folders that are named by all that the shards depend on.

So shards are used again by every run with the same files, recordings, front end and alphabet.
"""

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from speech.corpora.formats import registry
from speech.corpora.utterance import Utterance
from speech.deepspeech_training.door_process import run_door
from speech.system import storage
from utils import DEEPSPEECH_ENGLISH, UserError

# Utterances of any length are kept, and an unusable one is an error, as in DeepSpeech.
_LIKE_DEEPSPEECH = (
    "--recipe=deepspeech",
    "--max_sequence_length=1000000",
    "--max_label_length=100000",
    "--strict",
)


@dataclass(frozen=True)
class CachedSet:
    """A set of CSV files, and the folder of its shards, which may have to be written."""

    name: str  # train, dev or test
    files: tuple[str, ...]
    arguments: tuple[str, ...]  # of prepare_csv.py
    folder: str
    default_alphabet: str  # file to write DeepSpeech's alphabet into; empty: another is given
    recordings: Mapping[str, str]  # utterance id -> path

    @property
    def pattern(self) -> str:
        return storage.join(self.folder, f"{self.name}.tfrecords.*")

    def prepare(self, logging: str) -> None:
        """Writes the shards that aren't there yet.

        Args:
            logging: level of prepare_csv.py's messages.

        Raises:
            UserError: the set can't be prepared.
        """
        if self.default_alphabet:
            storage.make_folder(os.path.dirname(self.default_alphabet))
            lines = "".join(f"{each}\n" for each in DEEPSPEECH_ENGLISH.characters)
            storage.write_text(self.default_alphabet, lines)
        folder = f"--tfrecords_dir={self.folder}"
        run_door("prepare_csv", (*self.arguments, folder, f"--logging={logging}"))


def find_set(
    name: str, files: tuple[str, ...], arguments: Sequence[str], alphabet: str, cache: str
) -> CachedSet:
    """Reads the CSV files of a set, and names the folder of its shards.

    Args:
        name: train, dev or test.
        arguments: of prepare_csv.py, for the front end, copies and limits.
        alphabet: file, utf-8, or empty for DeepSpeech's.
        cache: folder of all sets.

    Raises:
        UserError: a table or a recording doesn't exist or can't be read.
    """
    flag = f"--{name}_files"
    utterances = registry.read(list(files), "csv", registry.Reading(), flag)
    missing = [each for each in utterances if each.audio_bytes is None]
    if missing:
        raise UserError(
            f"{missing[0].where}: there is no {missing[0].audio_path} (of {len(missing)} missing "
            f"recordings). Correct {', '.join(files)}: paths are absolute, or relative to its "
            "folder."
        )
    default = "" if alphabet else storage.join(cache, "alphabet.txt")
    named = f"--alphabet={alphabet or default}"
    given = (f"{flag}={','.join(files)}", *_LIKE_DEEPSPEECH, *arguments, named)
    known = hashlib.sha256("\n".join(given).encode())
    if os.path.isfile(alphabet):
        known.update(Path(alphabet).read_bytes())
    for each in utterances:
        known.update(repr((each, _modified(each))).encode())
    folder = storage.join(cache, f"{name}-{known.hexdigest()[:16]}")
    recordings = {each.utterance_id: each.audio_path or "" for each in utterances}
    return CachedSet(name, files, given, folder, default, recordings)


def _modified(utterance: Utterance) -> float | None:
    """Returns when a local recording was changed last."""
    path = utterance.audio_path
    return os.path.getmtime(path) if path and os.path.exists(path) else None
