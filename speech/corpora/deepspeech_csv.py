"""DeepSpeech's CSV files: read as utterances, and written."""

import csv
import hashlib
import io
import os
import re
import wave
from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import soundfile

from speech import storage
from speech.audio import INT16_SUBTYPE, AudioError, read_audio
from speech.command_line import progress_bar
from speech.corpora import tables
from speech.corpora.audio_paths import AudioPaths
from speech.corpora.common_voice import speaker_of
from speech.corpora.reading import Reading, refuse_problems
from speech.corpora.utterance import Utterance, transcript_of
from utils import UserError

HEADER = ("wav_filename", "wav_filesize", "transcript")

# Why an utterance is not written, in the words of speech.prepare.
NO_AUDIO = "no audio"
NO_TRANSCRIPT = "no transcript"
UNREADABLE = "unreadable audio"
EMPTY = "no samples"

_SIZE = re.compile(r"[0-9]{1,18}")  # bytes

NAMED_IDS = 5  # of utterances that are left out, for each reason

WAV_HEADER_BYTES = 44  # at least
SAMPLE_BYTES = 2
NAME_CHARACTERS = 80  # of an id, at most, in the name of a file that is written for it


def read(path: str, reading: Reading) -> list[Utterance]:
    """Utterances of a table with the columns wav_filename and transcript, and maybe wav_filesize,
    speaker or client_id, and others.

    Paths are absolute, or relative to reading.audio_root or else to the table's folder.

    Raises:
        UserError: the table can't be read, lacks a column, or has bad rows.
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
        speaker = row.fields.get("speaker", "").strip() or speaker_of(
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


@dataclass(frozen=True)
class Written:
    """What `write_csv` has done."""

    rows: int  # utterances in the table
    decoded: int  # of them, those whose audio was written anew, now or by an earlier run
    left_out: dict[str, list[str]]  # reason -> ids of the utterances that are not in it

    def lines(self) -> list[str]:
        """What to tell of the audio, and of the utterances that are left out."""
        told = [f"{self.decoded} recordings were decoded"] if self.decoded else []
        return told + [
            f"{len(ids)} left out, {reason}: {', '.join(ids[:NAMED_IDS])}"
            + (f", ... and {len(ids) - NAMED_IDS} more" if len(ids) > NAMED_IDS else "")
            for reason, ids in self.left_out.items()
        ]


class _UnusableError(Exception):
    """Why an utterance can't be written."""


def write_csv(path: str, utterances: list[Utterance], sample_rate: int) -> Written:
    """Writes a table that Mozilla's programs read: 16-bit mono WAV files at one rate.

    A recording that is such a file is named where it lies, relative to the table if it is below
    the table's folder. All others, stretches among them, are decoded into `wav_folder` beside
    the table; a file that an earlier run has written is taken as it is. Utterances without audio
    or transcript are left out.

    Args:
        path: local; it appears when all audio is there.
        sample_rate: Hz.

    Raises:
        UserError: the path lies in a bucket, or a file can't be written.
    """
    if storage.in_bucket(path):
        raise UserError(
            f"{path} lies in a bucket, where Mozilla's programs don't read: name a local file."
        )
    storage.make_folder(os.path.dirname(path))
    rows: list[tuple[str, int, str]] = []
    left_out: defaultdict[str, list[str]] = defaultdict(list)
    with progress_bar(len(utterances), "utt") as progress:
        for each in utterances:
            try:
                rows.append(_row(path, each, sample_rate))
            except _UnusableError as error:
                left_out[str(error)].append(each.utterance_id)
            progress.update()
    storage.write_text(path, _csv([HEADER, *rows]))
    within = os.path.basename(wav_folder(path)) + "/"
    return Written(len(rows), sum(row[0].startswith(within) for row in rows), dict(left_out))


def _csv(rows: list[tuple[str, ...] | tuple[str, int, str]]) -> str:
    table = io.StringIO()
    plain = csv.writer(table, lineterminator="\n")
    quoted = csv.writer(table, lineterminator="\n", quoting=csv.QUOTE_ALL)
    for row in rows:
        # Of itself the writer quotes only the line end that it writes.
        (quoted if "\r" in "".join(map(str, row)) else plain).writerow(row)
    return table.getvalue()


def wav_folder(path: str) -> str:
    """The folder beside a table for the audio that is written with it."""
    return os.path.splitext(path)[0] + "_wav"


def _row(path: str, utterance: Utterance, sample_rate: int) -> tuple[str, int, str]:
    if utterance.audio_path is None:
        raise _UnusableError(NO_AUDIO)
    if utterance.transcript is None:
        raise _UnusableError(NO_TRANSCRIPT)
    wav = utterance.audio_path
    if not _is_wav(utterance, wav, sample_rate):
        wav = os.path.join(wav_folder(path), _file_name(utterance, sample_rate))
        if not os.path.exists(wav):
            storage.write_bytes(wav, _wav(utterance, wav, sample_rate))
    return _relative(wav, path), os.path.getsize(wav), utterance.transcript


def _is_wav(utterance: Utterance, path: str, sample_rate: int) -> bool:
    """Whether a recording is a file that Mozilla's programs read, all of it this utterance."""
    if storage.in_bucket(path) or utterance.start_seconds or utterance.seconds is not None:
        return False
    try:
        path.encode()  # else a table in UTF-8 can't name it
        with wave.open(path) as file:
            form = (file.getnchannels(), file.getsampwidth(), file.getframerate())
            promised = file.getnframes() * SAMPLE_BYTES
    except (OSError, EOFError, ValueError, wave.Error):
        return False
    # Of a file that is cut short, what is there is written anew: TensorFlow refuses such files.
    there = os.path.getsize(path) - WAV_HEADER_BYTES
    return form == (1, SAMPLE_BYTES, sample_rate) and 0 < promised <= there


def _file_name(utterance: Utterance, sample_rate: int) -> str:
    """A name that an utterance has as long as its audio stays what it is."""
    told = (
        *(utterance.utterance_id, utterance.audio_path, utterance.audio_bytes),
        *(utterance.start_seconds, utterance.seconds, sample_rate),
    )
    digest = hashlib.sha256(repr(told).encode("utf-8", "backslashreplace")).hexdigest()[:12]
    name = re.sub(r"[^A-Za-z0-9.-]+", "_", utterance.utterance_id)[-NAME_CHARACTERS:]
    return f"{name.lstrip('.-_') or 'utterance'}-{digest}.wav"


def _wav(utterance: Utterance, path: str, sample_rate: int) -> bytes:
    samples = _samples(utterance, sample_rate)
    if not len(samples):
        raise _UnusableError(EMPTY)
    whole = np.clip(np.rint(samples), -(2**15), 2**15 - 1).astype(np.int16)
    file = io.BytesIO()
    soundfile.write(file, whole, sample_rate, format="WAV", subtype=INT16_SUBTYPE)
    return file.getvalue()


def _samples(utterance: Utterance, sample_rate: int) -> np.ndarray:
    """The samples of an utterance's stretch of its file, at int16 scale: [samples]."""
    assert utterance.audio_path is not None
    try:
        return read_audio(
            utterance.audio_path, sample_rate, utterance.start_seconds, utterance.seconds
        )
    except AudioError:
        raise _UnusableError(UNREADABLE) from None


def _relative(wav: str, path: str) -> str:
    """How a table names a file: from its own folder on if it lies below, else absolutely."""
    folder, absolute = os.path.dirname(os.path.abspath(path)), os.path.abspath(wav)
    inside = os.path.commonpath([folder, absolute]) == folder
    return os.path.relpath(absolute, folder) if inside else absolute
