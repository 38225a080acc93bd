"""Reads LibriSpeech's layout."""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from speech.corpora.download import ARCHIVE_MD5
from speech.corpora.formats.reading import Reading
from speech.corpora.utterance import Utterance
from speech.system import storage
from utils import UserError, lines_of

TRANSCRIPT_SUFFIX = ".trans.txt"
AUDIO_SUFFIX = ".flac"


@dataclass(frozen=True)
class _Found:
    """The files of the folders, by utterance id."""

    audio: dict[str, str] = field(default_factory=dict)  # paths
    sizes: dict[str, int | None] = field(default_factory=dict)  # bytes of the audio
    transcripts: dict[str, str] = field(default_factory=dict)
    speakers: dict[str, str] = field(default_factory=dict)


def read(path: str, reading: Reading) -> list[Utterance]:
    """Reads one split; the rules of a language, if there is one, change the case later."""
    return find_utterances([path], reading.flag, lower=reading.language is None)


def find_utterances(
    folders: list[str], flag: str = "--files_path", lower: bool = True
) -> list[Utterance]:
    """Finds the utterances of one or several splits in LibriSpeech's layout, sorted by id.

    The layout is speaker/chapter/SPEAKER-CHAPTER-NNNN.flac next to SPEAKER-CHAPTER.trans.txt,
    whose lines are an id, a space, and the transcript in upper case. Keeps utterances with only
    audio or only a transcript, so that they are counted. The speaker is the folder SPEAKER, in
    LibriSpeech also the first part of the id.

    Args:
        flag: flag that names the folders, for messages.
        lower: converts transcripts to lower case, as for English.

    Raises:
        UserError: a folder is missing or contains no utterance, an id occurs twice, or a
            transcript file can't be read.
    """
    found = _Found()
    for folder in folders:
        before = len(found.audio) + len(found.transcripts)
        _list_split(folder, found, flag, lower)
        if len(found.audio) + len(found.transcripts) == before:
            raise UserError(
                f"{folder} contains no utterances: LibriSpeech's layout is "
                f"{os.path.join(folder, 'SPEAKER', 'CHAPTER', '*' + AUDIO_SUFFIX)} with a "
                f"*{TRANSCRIPT_SUFFIX} in the same folder. Give the folder of a split with {flag}."
            )
    return [
        Utterance(
            utterance_id,
            found.audio.get(utterance_id),
            found.transcripts.get(utterance_id),
            found.speakers.get(utterance_id) or _first_part(utterance_id),
            found.sizes.get(utterance_id),
        )
        for utterance_id in sorted(found.audio.keys() | found.transcripts.keys())
    ]


def _list_split(folder: str, found: _Found, flag: str, lower: bool) -> None:
    if not storage.in_bucket(folder) and not os.path.isdir(folder):
        split = os.path.basename(os.path.normpath(folder))
        raise UserError(
            f"{folder} is not a folder. Name one with {flag}, or download LibriSpeech: python "
            f"prepare_libri.py --download={split if split in ARCHIVE_MD5 else 'train-clean-100'}"
        )
    texts = []
    for path, size in storage.files_below(folder):
        parent, name = os.path.split(path)
        if name.endswith((AUDIO_SUFFIX, TRANSCRIPT_SUFFIX)):
            _check_depth(folder, parent, flag)
        if name.endswith(AUDIO_SUFFIX):
            utterance_id = name[: -len(AUDIO_SUFFIX)]
            if utterance_id in found.audio:
                raise UserError(
                    f"The utterance {utterance_id} exists twice: {found.audio[utterance_id]} and "
                    f"{path}. Remove one of them."
                )
            found.audio[utterance_id] = path
            found.sizes[utterance_id] = size
            found.speakers[utterance_id] = _speaker(folder, parent, utterance_id)
        elif name.endswith(TRANSCRIPT_SUFFIX):
            texts.append(path)
    with ThreadPoolExecutor(storage.PARALLEL_REQUESTS) as readers:
        for path, lines in zip(texts, readers.map(_read_lines, texts), strict=True):
            _take_transcripts(path, lines, found.transcripts, lower)


def _speaker(folder: str, parent: str, utterance_id: str) -> str:
    """Returns the folder SPEAKER of SPEAKER/CHAPTER; in a flatter layout, the id's first part."""
    below = os.path.relpath(parent, folder).split(os.sep)
    return below[0] if len(below) == 2 else _first_part(utterance_id)


def _first_part(utterance_id: str) -> str:
    return utterance_id.split("-")[0]


def _check_depth(folder: str, parent: str, flag: str) -> None:
    """Refuses a folder of splits, which would mix training and test data."""
    below = os.path.relpath(parent, folder).split(os.sep)
    if len(below) > 2:
        raise UserError(
            f"{parent} is deeper below {folder} than SPEAKER/CHAPTER: {folder} seems to contain "
            f"several splits. Name the splits with {flag}, as in "
            f"{os.path.join(folder, *below[:-2])}, separated by commas."
        )


def _read_lines(path: str) -> list[str]:
    try:
        return lines_of(storage.read_bytes(path).decode("utf-8-sig"))
    except OSError as error:
        raise UserError(f"The transcripts {path} can't be read: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        raise UserError(
            f"The transcripts {path} are not UTF-8 ({error}): save them as UTF-8."
        ) from None


def transcript_line(line: str, lower: bool) -> tuple[str, str]:
    """Returns the id and the transcript in a line of a transcript file, "" if missing.

    Args:
        lower: see `find_utterances`.
    """
    utterance_id, transcript = [*line.split(maxsplit=1), "", ""][:2]
    transcript = transcript.rstrip()
    return utterance_id, transcript.lower() if lower else transcript


def _take_transcripts(
    path: str, lines: list[str], transcripts: dict[str, str], lower: bool
) -> None:
    for number, line in enumerate(lines, start=1):
        utterance_id, transcript = transcript_line(line, lower)
        if not transcript:
            continue  # the line is only an id: an utterance without transcript
        if utterance_id in transcripts:
            raise UserError(
                f"{path}, line {number}: {utterance_id} already has a transcript. Remove one."
            )
        transcripts[utterance_id] = transcript
