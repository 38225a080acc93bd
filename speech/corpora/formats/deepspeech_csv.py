"""Reads DeepSpeech's CSV files."""

import os
import re

from speech.corpora.formats import tables
from speech.corpora.formats.audio_paths import AudioPaths
from speech.corpora.formats.common_voice import speaker_of
from speech.corpora.formats.reading import Reading, refuse_problems
from speech.corpora.utterance import Utterance, transcript_of

SPEAKER_COLUMN = "speaker"

_SIZE = re.compile(r"[0-9]{1,18}")  # bytes


def read(path: str, reading: Reading) -> list[Utterance]:
    """Reads a table with the columns wav_filename and transcript.

    The columns wav_filesize, and speaker or client_id, are optional. Paths are absolute, or
    relative to reading.audio_root, else to the folder of the table.

    Raises:
        UserError: the table can't be read, has no such column, or bad rows.
    """
    table = tables.read_csv(path, "csv")
    audio = AudioPaths(reading.audio_root or os.path.dirname(path))
    utterances = []
    for row in table.rows:
        name = row.fields["wav_filename"]
        if not name.strip():
            table.refuse(row, "wav_filename is empty")
            continue
        found, size = audio.find(name)
        speaker = row.fields.get(SPEAKER_COLUMN, "").strip() or speaker_of(
            row.fields.get("client_id", "")
        )
        stated = row.fields.get("wav_filesize", "").strip()
        utterances.append(
            Utterance(
                audio.utterance_id(found, speaker),
                found,
                transcript_of(row.fields["transcript"]),
                speaker,
                size,
                stated_bytes=int(stated) if _SIZE.fullmatch(stated) else None,
                place=table.place(row),
            )
        )
    refuse_problems(path, table.problems)
    return utterances
