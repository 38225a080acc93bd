"""Corpora: folders of audio and transcripts -> a sorted list of utterances."""

import os
from dataclasses import dataclass

from speech.download import ARCHIVE_MD5
from utils import UserError

TRANSCRIPT_SUFFIX = ".trans.txt"
AUDIO_SUFFIX = ".flac"


@dataclass(frozen=True)
class Utterance:
    """One stretch of speech and what was said."""

    utterance_id: str  # unique in its corpus, e.g. 4088-158079-0015
    audio_path: str | None  # None: a transcript without audio
    transcript: str | None  # None: audio without transcript
    speaker: str  # who speaks, e.g. 4088; the same in every utterance of a person


def librispeech(folders: list[str]) -> list[Utterance]:
    """Utterances of one or several splits in LibriSpeech's layout, sorted by their id.

    The layout is speaker/chapter/SPEAKER-CHAPTER-NNNN.flac beside SPEAKER-CHAPTER.trans.txt, whose
    lines are an id, a space, and the transcript in capitals. Transcripts come back in lower case.
    An utterance with only audio or only a transcript is kept, so that it can be counted. Its
    speaker is the folder SPEAKER, which in LibriSpeech is also the first part of its id.

    Raises:
        UserError: a folder is missing or holds no utterance, an id occurs twice, or a transcript
            file can't be read.
    """
    audio: dict[str, str] = {}
    transcripts: dict[str, str] = {}
    speakers: dict[str, str] = {}
    for folder in folders:
        before = len(audio) + len(transcripts)
        _list_split(folder, audio, transcripts, speakers)
        if len(audio) + len(transcripts) == before:
            raise UserError(
                f"{folder} holds no utterances: LibriSpeech's layout is "
                f"{os.path.join(folder, 'SPEAKER', 'CHAPTER', '*' + AUDIO_SUFFIX)} with a "
                f"*{TRANSCRIPT_SUFFIX} beside. Give the folder of a split with --files_path."
            )
    return [
        Utterance(
            utterance_id,
            audio.get(utterance_id),
            transcripts.get(utterance_id),
            speakers.get(utterance_id) or _first_part(utterance_id),
        )
        for utterance_id in sorted(audio.keys() | transcripts.keys())
    ]


def _list_split(
    folder: str, audio: dict[str, str], transcripts: dict[str, str], speakers: dict[str, str]
) -> None:
    if not os.path.isdir(folder):
        split = os.path.basename(os.path.normpath(folder))
        raise UserError(
            f"{folder} is not a folder. Name one with --files_path, or fetch LibriSpeech: python "
            f"prepare_libri.py --download={split if split in ARCHIVE_MD5 else 'train-clean-100'}"
        )
    for parent, _, names in os.walk(folder, followlinks=True, onerror=_unreadable_folder):
        for name in names:
            path = os.path.join(parent, name)
            if name.endswith((AUDIO_SUFFIX, TRANSCRIPT_SUFFIX)):
                _check_depth(folder, parent)
            if name.endswith(AUDIO_SUFFIX):
                utterance_id = name[: -len(AUDIO_SUFFIX)]
                if utterance_id in audio:
                    raise UserError(
                        f"The utterance {utterance_id} is there twice: {audio[utterance_id]} and "
                        f"{path}. Remove one of them."
                    )
                audio[utterance_id] = path
                speakers[utterance_id] = _speaker(folder, parent, utterance_id)
            elif name.endswith(TRANSCRIPT_SUFFIX):
                _read_transcripts(path, transcripts)


def _speaker(folder: str, parent: str, utterance_id: str) -> str:
    """The folder SPEAKER of SPEAKER/CHAPTER; in a flatter layout the id has to tell."""
    below = os.path.relpath(parent, folder).split(os.sep)
    return below[0] if len(below) == 2 else _first_part(utterance_id)


def _first_part(utterance_id: str) -> str:
    return utterance_id.split("-")[0]


def _check_depth(folder: str, parent: str) -> None:
    """A folder of splits would become one set in which training and test speech are mixed."""
    below = os.path.relpath(parent, folder).split(os.sep)
    if len(below) > 2:
        raise UserError(
            f"{parent} lies deeper below {folder} than SPEAKER/CHAPTER: {folder} seems to hold "
            f"several splits. Name those you want with --files_path, as in "
            f"{os.path.join(folder, *below[:-2])}, separated by commas."
        )


def _unreadable_folder(error: OSError) -> None:
    raise UserError(f"The folder {error.filename} can't be read: {error.strerror}.")


def _read_transcripts(path: str, transcripts: dict[str, str]) -> None:
    try:
        with open(path, encoding="utf-8-sig") as file:
            lines = file.read().splitlines()
    except OSError as error:
        raise UserError(f"The transcripts {path} can't be read: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        raise UserError(f"The transcripts {path} are not UTF-8 ({error}): save them so.") from None
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        utterance_id, *words = line.split()
        if not words:
            continue  # an id alone is an utterance without transcript
        if utterance_id in transcripts:
            raise UserError(
                f"{path}, line {number}: {utterance_id} has a transcript already. Remove one."
            )
        transcripts[utterance_id] = " ".join(words).lower()
