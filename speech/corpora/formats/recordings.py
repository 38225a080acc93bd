"""Reads the takes that people recorded in the web page of serve.py."""

import os

from speech.corpora.formats.reading import Reading
from speech.corpora.utterance import Utterance, transcript_of
from speech.recordings.store import DATABASE, Take, audio_path, read_usable_takes
from speech.system import storage
from utils import UserError

__all__ = ["DATABASE", "read"]


def read(path: str, reading: Reading) -> list[Utterance]:
    """Reads the usable takes of a folder that serve.py --recordings writes.

    A speaker's name in the corpus is a number, since it may be published with the corpus.

    Raises:
        UserError: the folder is in a bucket, has no database, or a damaged one.
    """
    if storage.in_bucket(path):
        raise UserError(
            f"{path} is in a bucket, where no database can be read: copy the folder to this "
            "machine."
        )
    return [_utterance(path, take) for take in read_usable_takes(path)]


def _utterance(folder: str, take: Take) -> Utterance:
    speaker = f"speaker{take.speaker_id}"
    recording = audio_path(folder, take.audio)
    return Utterance(
        f"{speaker}-{take.prompt_id or 'correction'}-{take.take_id}",
        recording,
        transcript_of(take.text),
        speaker,
        os.path.getsize(recording) if os.path.isfile(recording) else None,
        stated_seconds=take.seconds,
        place=f"{os.path.join(folder, DATABASE)}:{take.take_id}",
    )
