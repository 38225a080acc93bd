"""Exports utterances as DeepSpeech's CSV files, with audio in a format that DeepSpeech reads."""

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

from speech.audio.reader import INT16_SUBTYPE
from speech.corpora.formats.deepspeech_csv import SPEAKER_COLUMN
from speech.corpora.utterance import Utterance
from speech.preparation.parallel import map_utterances
from speech.preparation.utterance import (
    EMPTY,
    UNREADABLE,
    UnusableError,
    read_samples,
    require_transcript,
)
from speech.system import storage
from speech.system.lock import exclusive
from speech.system.progress_bar import progress_bar
from speech.text.characters import in_utf8
from utils import UserError, is_number

HEADER = ("wav_filename", "wav_filesize", "transcript")
WRITE_CSV = "--write_csv"  # the flag that names the folder of the tables

NAMED_IDS = 5  # skipped utterances that the report names for each reason

WAV_HEADER_BYTES = 44  # minimum
SAMPLE_BYTES = 2
NAME_CHARACTERS = 80  # maximum length of an id in the name of its file


@dataclass(frozen=True)
class Written:
    """The result of `write_csv`."""

    rows: int  # utterances in the table
    decoded: int  # number of audio files written for it, by this or an earlier run
    left_out: dict[str, list[str]]  # reason -> ids of utterances that are not in the table

    def lines(self) -> list[str]:
        """Reports the decoded audio and the utterances that are left out."""
        report = [f"decoded: {self.decoded}"] if self.decoded else []
        return report + [
            f"left out, {reason}: {len(ids)}: {', '.join(ids[:NAMED_IDS])}"
            + (f", ... and {len(ids) - NAMED_IDS} more" if len(ids) > NAMED_IDS else "")
            for reason, ids in self.left_out.items()
        ]


@dataclass(frozen=True)
class _Row:
    """A row of the table."""

    wav_filename: str
    wav_filesize: int
    transcript: str
    speaker: str  # "": unknown


def check_target(path: str, utterances: list[Utterance], sample_rate: int) -> None:
    """Checks that `write_csv` may write this table, without decoding or writing.

    The arguments are those of `write_csv`.

    Raises:
        UserError: the path is in a bucket, the rate is invalid, or the path is that of a table that
            the utterances come from, or of a file with other content than the new table.
    """
    if storage.in_bucket(path):
        raise UserError(f"{path} is in a bucket, which DeepSpeech can't read: name a local file.")
    if sample_rate <= 0:
        raise UserError(
            f"--sample_rate={sample_rate} is not positive: give samples per second, as in "
            "--sample_rate=16000."
        )
    known = _content(path)
    if known is None:
        return
    if any(
        os.path.exists(table) and os.path.samefile(table, path) for table in _tables(utterances)
    ):
        raise UserError(
            f"{path} is a table of this corpus and would be overwritten: name another folder with "
            f"{WRITE_CSV}."
        )
    # A finished export has all audio files, except for unreadable recordings.
    rows = (_row_or_reason(each, path, sample_rate, decode=False) for each in utterances)
    _refuse_other(path, known, _csv([row for row in rows if isinstance(row, _Row)]))


def write_csv(
    path: str, utterances: list[Utterance], sample_rate: int, workers: int = 1
) -> Written:
    """Writes a table of 16-bit mono WAV files at one rate, as DeepSpeech reads them.

    Names a recording of this form by its own path, relative to the table if it is below the
    table's folder. Decodes all others, and segments, into `wav_folder` next to the table; reuses
    files of an earlier run. Leaves out utterances without audio or transcript. The table has a
    column of speakers if any speaker is known.

    Args:
        path: local; the table is written after all audio. An existing table is never replaced;
            it must be the same one, of an earlier run.
        sample_rate: Hz.
        workers: processes that decode; 1: this process.

    Raises:
        UserError: as `check_target`, another run is writing the table, or a file can't be written.
    """
    check_target(path, utterances, sample_rate)
    storage.make_folder(os.path.dirname(path))
    with exclusive(storage.hidden_path(path, ".lock"), "this table", WRITE_CSV):
        rows: list[_Row] = []
        left_out: defaultdict[str, list[str]] = defaultdict(list)
        work = partial(_row_or_reason, path=path, sample_rate=sample_rate)
        made = map_utterances(work, utterances, workers)
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
    """Returns the paths of the tables and texts that utterances come from."""
    split = (each.place.rpartition(":") for each in utterances)
    return {table if is_number(line) else f"{table}{colon}{line}" for table, colon, line in split}


def _content(path: str) -> bytes | None:
    """Reads the existing content of a table; None if it doesn't exist."""
    try:
        return storage.read_bytes(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise UserError(
            f"{path} exists and can't be read: {error.strerror}. Remove it, or name another folder "
            f"with {WRITE_CSV}."
        ) from None


def _refuse_other(path: str, known: bytes, content: bytes) -> None:
    if known != content:
        raise UserError(f"{path} exists with other content: name another folder with {WRITE_CSV}.")


def _csv(rows: list[_Row]) -> bytes:
    speakers = any(row.speaker for row in rows)
    table = io.StringIO()
    plain = csv.writer(table, lineterminator="\n")
    quoted = csv.writer(table, lineterminator="\n", quoting=csv.QUOTE_ALL)
    plain.writerow((*HEADER, SPEAKER_COLUMN) if speakers else HEADER)
    for row in rows:
        fields = [row.wav_filename, str(row.wav_filesize), row.transcript]
        fields += [row.speaker] if speakers else []
        # By default the writer quotes only its own line end.
        (quoted if "\r" in "".join(fields) else plain).writerow(fields)
    return in_utf8(table.getvalue()).encode()


def wav_folder(path: str) -> str:
    """Returns the folder next to a table for the audio files that are written with it."""
    return os.path.splitext(path)[0] + "_wav"


def _row_or_reason(
    utterance: Utterance, path: str, sample_rate: int, decode: bool = True
) -> _Row | str:
    """Returns the row of an utterance, or the reason why it has none.

    Args:
        decode: writes missing audio files; otherwise they count as unreadable.
    """
    try:
        return _row(utterance, path, sample_rate, decode)
    except UnusableError as error:
        return error.reason


def _row(utterance: Utterance, path: str, sample_rate: int, decode: bool) -> _Row:
    transcript = require_transcript(utterance)
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
    """Says whether DeepSpeech reads a recording as it is, and the utterance is all of it."""
    if storage.in_bucket(path) or utterance.start_seconds or utterance.seconds is not None:
        return False
    try:
        path.encode()  # a table in UTF-8 must be able to name it
        with wave.open(path) as file:
            form = (file.getnchannels(), file.getsampwidth(), file.getframerate())
            promised = file.getnframes() * SAMPLE_BYTES
    except (OSError, EOFError, ValueError, wave.Error):
        return False
    # A file that is cut short is decoded: TensorFlow refuses such files.
    actual = os.path.getsize(path) - WAV_HEADER_BYTES
    return form == (1, SAMPLE_BYTES, sample_rate) and 0 < promised <= actual


def _file_name(utterance: Utterance, sample_rate: int) -> str:
    """Returns the name of an utterance's file, which changes with its audio."""
    audio = (
        *(utterance.utterance_id, utterance.audio_path, utterance.audio_bytes),
        *(utterance.start_seconds, utterance.seconds, sample_rate),
    )
    digest = hashlib.sha256(repr(audio).encode("utf-8", "backslashreplace")).hexdigest()[:12]
    name = re.sub(r"[^A-Za-z0-9.-]+", "_", utterance.utterance_id)[-NAME_CHARACTERS:]
    return f"{name.lstrip('.-_') or 'utterance'}-{digest}.wav"


def _wav(utterance: Utterance, audio_path: str, sample_rate: int) -> bytes:
    samples = read_samples(utterance, sample_rate)
    if not len(samples):
        raise UnusableError(EMPTY, audio_path)
    whole = np.clip(np.rint(samples), -(2**15), 2**15 - 1).astype(np.int16)
    file = io.BytesIO()
    soundfile.write(file, whole, sample_rate, format="WAV", subtype=INT16_SUBTYPE)
    return file.getvalue()


def _relative(wav: str, path: str) -> str:
    """Returns a file's path relative to the table's folder if it is below, else absolute."""
    folder, absolute = os.path.dirname(os.path.abspath(path)), os.path.abspath(wav)
    inside = os.path.commonpath([folder, absolute]) == folder
    return os.path.relpath(absolute, folder) if inside else absolute
