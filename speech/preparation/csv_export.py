"""Utterances -> DeepSpeech's CSV files, and audio that Mozilla's programs read."""

import csv
import hashlib
import io
import os
import re
import wave
from collections import defaultdict
from contextlib import closing
from dataclasses import dataclass
from functools import partial

import numpy as np
import soundfile

from speech.audio.reader import INT16_SUBTYPE, read_audio
from speech.corpora.formats.deepspeech_csv import SPEAKER_COLUMN
from speech.corpora.utterance import Utterance
from speech.preparation.write_shards import (
    EMPTY,
    UNREADABLE,
    UnusableError,
    audio_of,
    checked_transcript,
    in_order,
)
from speech.system import storage
from speech.system.command_line import progress_bar
from speech.system.lock import exclusive
from utils import UserError, is_number

HEADER = ("wav_filename", "wav_filesize", "transcript")
WRITE_CSV = "--write_csv"  # the flag that names the folder of the tables

NAMED_IDS = 5  # of utterances that are left out, for each reason

WAV_HEADER_BYTES = 44  # at least
SAMPLE_BYTES = 2
NAME_CHARACTERS = 80  # of an id, at most, in the name of a file that is written for it


@dataclass(frozen=True)
class Written:
    """What `write_csv` has done."""

    rows: int  # utterances in the table
    decoded: int  # of them, those whose audio was written anew, now or by an earlier run
    left_out: dict[str, list[str]]  # reason -> ids of the utterances that are not in it

    def lines(self) -> list[str]:
        """What to tell of the audio, and of the utterances that are left out."""
        told = [f"decoded: {self.decoded}"] if self.decoded else []
        return told + [
            f"left out, {reason}: {len(ids)}: {', '.join(ids[:NAMED_IDS])}"
            + (f", ... and {len(ids) - NAMED_IDS} more" if len(ids) > NAMED_IDS else "")
            for reason, ids in self.left_out.items()
        ]


@dataclass(frozen=True)
class _Row:
    """A row of a table that is written."""

    wav_filename: str
    wav_filesize: int
    transcript: str
    speaker: str  # "": unknown


def check_target(path: str, utterances: list[Utterance], sample_rate: int) -> None:
    """Decodes nothing and writes nothing: whether `write_csv` may write this table.

    The arguments are those of `write_csv`.

    Raises:
        UserError: the path lies in a bucket, the rate is none, or the path is that of a table that
            the utterances come from, or of any other file but the very table that would be written.
    """
    if storage.in_bucket(path):
        raise UserError(
            f"{path} lies in a bucket, where Mozilla's programs don't read: name a local file."
        )
    if sample_rate <= 0:
        raise UserError(
            f"--sample_rate={sample_rate} is no rate: give samples a second, as in "
            "--sample_rate=16000."
        )
    known = _content(path)
    if known is None:
        return
    if any(
        os.path.exists(table) and os.path.samefile(table, path) for table in _tables(utterances)
    ):
        raise UserError(
            f"{path} is a table that is read here, and would be written over: name another folder "
            f"with {WRITE_CSV}."
        )
    # Of a finished export all audio is there, and what isn't there couldn't be read then.
    there = (_row_or_reason(each, path, sample_rate, decode=False) for each in utterances)
    _refuse_other(path, known, _csv([row for row in there if isinstance(row, _Row)]))


def write_csv(
    path: str, utterances: list[Utterance], sample_rate: int, workers: int = 1
) -> Written:
    """Writes a table that Mozilla's programs read: 16-bit mono WAV files at one rate.

    A recording that is such a file is named where it lies, relative to the table if it is below
    the table's folder. All others, stretches among them, are decoded into `wav_folder` beside
    the table; a file that an earlier run has written is taken as it is. Utterances without audio
    or transcript are left out. If anybody's speaker is known, the table has a column for it.

    Args:
        path: local; it appears when all audio is there. What is there already is never replaced;
            only the very same table may be, of an earlier run.
        sample_rate: Hz.
        workers: processes that decode; 1 stays in this one.

    Raises:
        UserError: as `check_target`, another run is writing the table, or a file can't be written.
    """
    check_target(path, utterances, sample_rate)
    storage.make_folder(os.path.dirname(path))
    with exclusive(storage.hidden_path(path, ".lock"), "this table", WRITE_CSV):
        rows: list[_Row] = []
        left_out: defaultdict[str, list[str]] = defaultdict(list)
        work = partial(_row_or_reason, path=path, sample_rate=sample_rate)
        made = in_order(work, utterances, workers)
        with closing(made), progress_bar(len(utterances), "utt") as progress:
            for each, row in zip(utterances, made, strict=True):
                if isinstance(row, _Row):
                    rows.append(row)
                else:
                    left_out[row].append(each.utterance_id)
                progress.update()
        content = _csv(rows)
        known = _content(path)
        if known is None:
            storage.write_bytes(path, content)
        else:
            _refuse_other(path, known, content)
    within = os.path.basename(wav_folder(path)) + "/"
    decoded = sum(row.wav_filename.startswith(within) for row in rows)
    return Written(len(rows), decoded, dict(left_out))


def _tables(utterances: list[Utterance]) -> set[str]:
    """The tables that utterances come from, and texts beside recordings."""
    split = (each.place.rpartition(":") for each in utterances)
    return {table if is_number(line) else f"{table}{colon}{line}" for table, colon, line in split}


def _content(path: str) -> bytes | None:
    """What is in a table that is to be written; None: it isn't there."""
    try:
        return storage.read_bytes(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise UserError(
            f"{path} is there and can't be read: {error.strerror}. Remove it, or name another "
            f"folder with {WRITE_CSV}."
        ) from None


def _refuse_other(path: str, known: bytes, content: bytes) -> None:
    if known != content:
        raise UserError(
            f"{path} is there already, and isn't what would be written: name another folder with "
            f"{WRITE_CSV}."
        )


def _csv(rows: list[_Row]) -> bytes:
    speakers = any(row.speaker for row in rows)
    table = io.StringIO()
    plain = csv.writer(table, lineterminator="\n")
    quoted = csv.writer(table, lineterminator="\n", quoting=csv.QUOTE_ALL)
    plain.writerow((*HEADER, SPEAKER_COLUMN) if speakers else HEADER)
    for row in rows:
        fields = [row.wav_filename, str(row.wav_filesize), row.transcript]
        fields += [row.speaker] if speakers else []
        # Of itself the writer quotes only the line end that it writes.
        (quoted if "\r" in "".join(fields) else plain).writerow(fields)
    return table.getvalue().encode(errors="backslashreplace")  # a folder's name needn't be UTF-8


def wav_folder(path: str) -> str:
    """The folder beside a table for the audio that is written with it."""
    return os.path.splitext(path)[0] + "_wav"


def _row_or_reason(
    utterance: Utterance, path: str, sample_rate: int, decode: bool = True
) -> _Row | str:
    """The row of an utterance, or why it has none.

    Args:
        decode: whether audio is written that isn't there; else it counts as unreadable.
    """
    try:
        return _row(utterance, path, sample_rate, decode)
    except UnusableError as error:
        return error.reason


def _row(utterance: Utterance, path: str, sample_rate: int, decode: bool) -> _Row:
    transcript = checked_transcript(utterance)
    assert utterance.audio_path is not None
    wav = utterance.audio_path
    if not _is_wav(utterance, wav, sample_rate):
        wav = os.path.join(wav_folder(path), _file_name(utterance, sample_rate))
        if not os.path.exists(wav):
            if not decode:
                raise UnusableError(UNREADABLE, utterance.audio_path)
            storage.write_bytes(wav, _wav(utterance, utterance.audio_path, sample_rate))
    size = os.path.getsize(wav)
    return _Row(_relative(wav, path), size, transcript, utterance.speaker)


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


def _wav(utterance: Utterance, audio_path: str, sample_rate: int) -> bytes:
    samples = audio_of(utterance, sample_rate, read_audio)
    if not len(samples):
        raise UnusableError(EMPTY, audio_path)
    whole = np.clip(np.rint(samples), -(2**15), 2**15 - 1).astype(np.int16)
    file = io.BytesIO()
    soundfile.write(file, whole, sample_rate, format="WAV", subtype=INT16_SUBTYPE)
    return file.getvalue()


def _relative(wav: str, path: str) -> str:
    """How a table names a file: from its own folder on if it lies below, else absolutely."""
    folder, absolute = os.path.dirname(os.path.abspath(path)), os.path.abspath(wav)
    inside = os.path.commonpath([folder, absolute]) == folder
    return os.path.relpath(absolute, folder) if inside else absolute
