"""Finds the recordings of utterances by their ids, for the players of a report."""

import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator

from speech.corpora.utterance import COPY_MARK
from speech.system import storage
from utils import UserError, is_number

# Suffixes that find_audio looks for; an earlier one is preferred.
AUDIO_SUFFIXES = (".flac", ".wav", ".mp3", ".ogg", ".opus", ".m4a")

# Appended to an id that several utterances share, as in "ru/wav/x (2)".
_NUMBER = re.compile(r" \([0-9]+\)$")

# Maps an utterance's id to the content of its audio file; None if there is no file.
Audio = Callable[[str], bytes | None]


def find_audio(folders: Iterable[str]) -> Audio:
    """Returns a lookup of the recordings in these folders, in LibriSpeech's or any other layout.

    A file is found by its name, the last part of an id. Among several files of that name the
    lookup chooses the one whose path shares most parts with the id, such as anna-ru/wav/x. It
    finds none if the choice is ambiguous, or for a segment of a recording (x@12.5). An augmented
    copy (ID#1) has the recording of its original.

    Args:
        folders: local or gs://; the first folder that contains a recording wins.

    Raises:
        UserError: a folder contains no recording or can't be read.
    """
    paths: defaultdict[str, list[str]] = defaultdict(list)  # name without suffix -> best first
    for folder in folders:
        found: list[str] = []
        by_suffix = [path for path, _ in storage.files_below(folder)]
        for suffix in AUDIO_SUFFIXES:
            found += sorted(path for path in by_suffix if path.lower().endswith(suffix))
        if not found:
            raise UserError(
                f"{folder} contains no recordings ({', '.join(AUDIO_SUFFIXES)}): name the folder "
                "that the test set was prepared from."
            )
        for path in found:
            paths[os.path.splitext(os.path.basename(path))[0]].append(path)

    def read(utterance_id: str) -> bytes | None:
        for each in _possible_ids(utterance_id):
            if each.rpartition("/")[2] in paths:
                path = _best(paths[each.rpartition("/")[2]], each)
                break
        else:
            return None
        if path is None:
            return None
        try:
            return storage.read_bytes(path)
        except OSError:  # a report without this player is better than none
            return None

    return read


def _best(paths: list[str], utterance_id: str) -> str | None:
    """Returns the path most similar to an id; None if paths in two folders are equally similar."""
    shared = [_shared_parts(path, utterance_id) for path in paths]
    best = [path for path, count in zip(paths, shared, strict=True) if count == max(shared)]
    unambiguous = "/" not in utterance_id or len({os.path.dirname(path) for path in best}) == 1
    return best[0] if unambiguous else None


def _shared_parts(path: str, utterance_id: str) -> int:
    """Returns the number of folders before its name that a path shares with an id."""
    of_path, of_id = path.split("/")[-2::-1], utterance_id.split("/")[-2::-1]
    shared = 0
    for in_path, in_id in zip(of_path, of_id, strict=False):
        # The first folder may follow the speaker, or have underscores for dashes.
        if in_id not in (in_path, in_path.replace("-", "_")) and not in_id.endswith(f"-{in_path}"):
            break
        shared += 1
    return shared


def _possible_ids(utterance_id: str) -> Iterator[str]:
    """Yields the id, the id of the original of a copy, and that without a number."""
    recorded = _recorded_id(utterance_id)
    yield utterance_id
    yield recorded
    yield _NUMBER.sub("", recorded)


def _recorded_id(utterance_id: str) -> str:
    """Returns `Utterance.recorded_id` for an id without its utterance."""
    recorded, mark, copy = utterance_id.rpartition(COPY_MARK)
    return recorded if mark and is_number(copy) else utterance_id
