"""The recordings of a corpus by their utterances' ids, to be heard in a report."""

import base64
from collections.abc import Callable, Iterable

from speech import storage
from speech.corpora import COPY_MARK
from utils import UserError

# What find_audio looks for, the first that there is of an utterance.
AUDIO_SUFFIXES = (".flac", ".wav", ".mp3", ".ogg", ".opus", ".m4a")

# How the formats' files begin, at a number of bytes from their start.
AUDIO_TYPES = (
    (0, b"fLaC", "audio/flac"),
    (0, b"RIFF", "audio/wav"),
    (0, b"OggS", "audio/ogg"),
    (4, b"ftyp", "audio/mp4"),
)
OTHER_AUDIO_TYPE = "audio/mpeg"  # which begins in many ways

# An utterance's id -> its recording, a whole file; None if there is none.
Audio = Callable[[str], bytes | None]


def find_audio(folders: Iterable[str]) -> Audio:
    """A lookup of the recordings in LibriSpeech's layout, or in any folders below.

    A copy that preparation augmented (ID#1) has the recording that it was made from.

    Args:
        folders: local or gs://; of two recordings of one id the first folder's is taken.

    Raises:
        UserError: a folder has no recording or can't be read.
    """
    paths: dict[str, str] = {}
    for folder in folders:
        found: dict[str, str] = {}
        by_suffix = [path for path, _ in storage.files_below(folder)]
        for suffix in AUDIO_SUFFIXES:
            for path in sorted(path for path in by_suffix if path.lower().endswith(suffix)):
                found.setdefault(path.rpartition("/")[2][: -len(suffix)], path)
        if not found:
            raise UserError(
                f"{folder} holds no recordings ({', '.join(AUDIO_SUFFIXES)}): name the folder that "
                "the test set was prepared from."
            )
        paths = {**found, **paths}

    def read(utterance_id: str) -> bytes | None:
        path = paths.get(utterance_id) or paths.get(_recorded_id(utterance_id))
        if path is None:
            return None
        try:
            return storage.read_bytes(path)
        except OSError:  # a report without this player is better than none
            return None

    return read


def _recorded_id(utterance_id: str) -> str:
    """As `corpora.Utterance.recorded_id`, of an id alone."""
    recorded, mark, copy = utterance_id.rpartition(COPY_MARK)
    return recorded if mark and copy.isdecimal() else utterance_id


def data_uri(recording: bytes) -> str:
    """A recording as an address that holds all of it."""
    return f"data:{_audio_type(recording)};base64,{base64.b64encode(recording).decode()}"


def _audio_type(recording: bytes) -> str:
    for start, beginning, kind in AUDIO_TYPES:
        if recording[start:].startswith(beginning):
            return kind
    return OTHER_AUDIO_TYPE
