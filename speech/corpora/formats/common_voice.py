"""Reads the releases of Common Voice."""

import os

from speech.audio.reader import SUFFIXES
from speech.corpora.formats import tables
from speech.corpora.formats.audio_paths import AudioPaths
from speech.corpora.formats.reading import Reading, refuse_problems
from speech.corpora.utterance import Utterance, transcript_of
from speech.system import storage

CLIPS = "clips"  # folder next to the tables
SUFFIX = ".mp3"  # added to a path without suffix

# A client_id is a hash of 128 characters, shortened to its first SPEAKER_CHARACTERS.
HASH_CHARACTERS = 32  # at least
SPEAKER_CHARACTERS = 10


def read(path: str, reading: Reading) -> list[Utterance]:
    """Reads a table such as validated.tsv with the columns client_id, path, sentence and others.

    The clips are in clips/ next to the table, or in reading.audio_root.

    Raises:
        UserError: the table can't be read, has no such column, or bad rows.
    """
    table = tables.read_tsv(path, "common_voice")
    audio = AudioPaths(reading.audio_root or os.path.dirname(path))
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
    """Returns the first characters of a hash; any other client_id as it is."""
    client_id = client_id.strip()
    return client_id[:SPEAKER_CHARACTERS] if len(client_id) >= HASH_CHARACTERS else client_id
