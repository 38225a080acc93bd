"""Reads folders of audio with a text file next to each audio file."""

import os
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor

from speech.audio.reader import SUFFIXES
from speech.corpora.formats.audio_paths import AudioPaths
from speech.corpora.formats.reading import Reading, decode, refuse_problems
from speech.corpora.utterance import Utterance, transcript_of
from speech.system import storage
from speech.text.characters import in_utf8
from utils import UserError, lines_of

TEXT_SUFFIX = ".txt"

_Recording = tuple[str, int | None]  # path, bytes
_NO_RECORDING: list[tuple[str | None, int | None]] = [(None, None)]


def read(path: str, reading: Reading) -> list[Utterance]:
    """Reads a folder in which NAME.txt or NAME.wav.txt is the transcript of NAME.wav.

    The speaker is the name of the first subfolder, if there is one. Keeps audio without text and
    text without audio, so that they are counted. Joins the lines of a text.

    Raises:
        UserError: a folder or a text can't be read, or a recording has two texts.
    """
    audio = AudioPaths(path)
    sounds: list[_Recording] = []
    texts: dict[str, str] = {}  # path without suffix -> path
    for found, size in storage.files_below(path):
        stem, suffix = os.path.splitext(found)
        if os.path.basename(found).startswith("."):
            continue
        if suffix.lower() in SUFFIXES:
            sounds.append((found, size))
        elif suffix.lower() == TEXT_SUFFIX:
            texts[stem] = found
    transcripts = _read_all(path, texts)
    recordings = _by_text(path, sounds, texts)
    utterances = []
    for stem in sorted(recordings.keys() | texts.keys()):
        speaker = _speaker(path, stem)
        place = texts.get(stem, "")
        for recording, size in recordings.get(stem, _NO_RECORDING):
            named = recording or place
            utterances.append(
                Utterance(
                    audio.utterance_id(named, speaker),
                    recording,
                    transcripts.get(stem),
                    speaker,
                    size,
                    place=place or named,
                )
            )
    return utterances


def text_names(name: str) -> tuple[str, str]:
    """Returns the possible names of a recording's text, without suffix."""
    return os.path.splitext(name)[0], name


def _by_text(
    folder: str, sounds: list[_Recording], texts: dict[str, str]
) -> dict[str, list[_Recording]]:
    """Groups the recordings by the keys of their texts, else by their paths without suffix.

    Raises:
        UserError: a recording has two texts.
    """
    recordings: defaultdict[str, list[_Recording]] = defaultdict(list)
    problems = []
    for found, size in sounds:
        stems = [stem for stem in text_names(found) if stem in texts]
        if len(stems) > 1:
            named = " and ".join(texts[stem] for stem in stems)
            problems.append(f"{found} has two texts, {named}")
        recordings[stems[0] if stems else os.path.splitext(found)[0]].append((found, size))
    refuse_problems(folder, problems)
    return recordings


def _speaker(folder: str, stem: str) -> str:
    first, slash, _ = os.path.relpath(stem, folder).replace(os.sep, "/").partition("/")
    return in_utf8(first) if slash else ""


def _read_all(folder: str, texts: dict[str, str]) -> dict[str, str | None]:
    """Reads the texts: key -> transcript."""
    with ThreadPoolExecutor(storage.PARALLEL_REQUESTS) as readers:
        read_texts = list(readers.map(_read_text, texts.values()))
    errors = [str(each) for each in read_texts if isinstance(each, UserError)]
    refuse_problems(folder, [each.removesuffix(".") for each in errors])
    return {
        stem: transcript_of(each)
        for stem, each in zip(texts, read_texts, strict=True)
        if isinstance(each, str)
    }


def _read_text(path: str) -> str | UserError:
    """Reads a text file as one line; returns the error if it can't be read."""
    try:
        text = decode(path, storage.read_bytes(path))
    except OSError as error:
        return UserError(f"{path} can't be read: {error.strerror}.")
    except UserError as error:
        return error
    return " ".join(line.strip() for line in lines_of(text) if line.strip())
