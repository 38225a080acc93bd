"""Common Voice's releases -> utterances."""

import os

from speech.audio.reader import SUFFIXES
from speech.corpora.formats import tables
from speech.corpora.formats.audio_paths import AudioPaths
from speech.corpora.formats.reading import Reading, refuse_problems
from speech.corpora.utterance import Utterance, transcript_of
from speech.system import storage

CLIPS = "clips"  # folder beside the tables
SUFFIX = ".mp3"  # which a path may lack

# A client_id is a hash of 128 characters, which so many of its first ones stand for.
HASH_CHARACTERS = 32  # at least
SPEAKER_CHARACTERS = 10


def read(path: str, reading: Reading) -> list[Utterance]:
    """Utterances of a table such as validated.tsv: client_id, path, sentence and other columns.

    The clips lie in clips/ beside the table, or in reading.audio_root.

    Raises:
        UserError: the table can't be read, lacks a column, or has bad rows.
    """
    table = tables.read_tsv(path, "common_voice")
    beside = os.path.dirname(path)
    audio = AudioPaths(reading.audio_root or beside)
    utterances = []
    for row in table.rows:
        name = row.fields["path"].strip()
        if not name:
            table.refuse(row, "path is empty")
            continue
        if not name.lower().endswith(SUFFIXES):
            name += SUFFIX
        found, size = audio.find(name if reading.audio_root else storage.join(CLIPS, name))
        speaker = speaker_of(row.fields.get("client_id", ""))
        utterances.append(
            Utterance(
                audio.utterance_id(found, speaker),
                found,
                transcript_of(row.fields["sentence"]),
                speaker,
                size,
                place=table.place(row),
            )
        )
    refuse_problems(path, table.problems)
    return utterances


def speaker_of(client_id: str) -> str:
    """The first characters of a hash; any other client_id as it is."""
    client_id = client_id.strip()
    return client_id[:SPEAKER_CHARACTERS] if len(client_id) >= HASH_CHARACTERS else client_id
