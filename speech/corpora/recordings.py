"""The recordings of a corpus by their utterances' ids, to be heard in a report."""

import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator

from speech.corpora.utterance import COPY_MARK
from speech.system import storage
from utils import UserError, is_number

# What find_audio looks for, the first that there is of an utterance.
AUDIO_SUFFIXES = (".flac", ".wav", ".mp3", ".ogg", ".opus", ".m4a")

# Behind an id that several utterances have, as in "ru/wav/x (2)".
_NUMBER = re.compile(r" \([0-9]+\)$")

# An utterance's id -> its recording, a whole file; None if there is none.
Audio = Callable[[str], bytes | None]


def find_audio(folders: Iterable[str]) -> Audio:
    """A lookup of the recordings in LibriSpeech's layout, or in any folders below.

    A file is found by its name, which an id ends with; of several files of that name the one
    whose path shares most parts with the id's, such as anna-ru/wav/x. If the path doesn't tell
    which of them it is, and for a stretch of a recording (x@12.5), there is none. A copy that
    preparation augmented (ID#1) has the recording that it was made from.

    Args:
        folders: local or gs://; of two recordings of one id the first folder's is taken.

    Raises:
        UserError: a folder has no recording or can't be read.
    """
    paths: defaultdict[str, list[str]] = defaultdict(list)  # name without suffix -> best first
    for folder in folders:
        found: list[str] = []
        by_suffix = [path for path, _ in storage.files_below(folder)]
        for suffix in AUDIO_SUFFIXES:
            found += sorted(path for path in by_suffix if path.lower().endswith(suffix))
        if not found:
            raise UserError(
                f"{folder} holds no recordings ({', '.join(AUDIO_SUFFIXES)}): name the folder that "
                "the test set was prepared from."
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
    """The path that is most like an id; None if two folders' are equally so."""
    shared = [_shared_parts(path, utterance_id) for path in paths]
    best = [path for path, count in zip(paths, shared, strict=True) if count == max(shared)]
    told = "/" not in utterance_id or len({os.path.dirname(path) for path in best}) == 1
    return best[0] if told else None


def _shared_parts(path: str, utterance_id: str) -> int:
    """How many folders before its name a path has in common with an id."""
    of_path, of_id = path.split("/")[-2::-1], utterance_id.split("/")[-2::-1]
    shared = 0
    for in_path, in_id in zip(of_path, of_id, strict=False):
        # The first folder may stand behind the speaker, or have lost its dashes.
        if in_id not in (in_path, in_path.replace("-", "_")) and not in_id.endswith(f"-{in_path}"):
            break
        shared += 1
    return shared


def _possible_ids(utterance_id: str) -> Iterator[str]:
    """An id, that of what it is a copy of, and that before equal ones were numbered."""
    recorded = _recorded_id(utterance_id)
    yield utterance_id
    yield recorded
    yield _NUMBER.sub("", recorded)


def _recorded_id(utterance_id: str) -> str:
    """As `corpora.Utterance.recorded_id`, of an id alone."""
    recorded, mark, copy = utterance_id.rpartition(COPY_MARK)
    return recorded if mark and is_number(copy) else utterance_id
