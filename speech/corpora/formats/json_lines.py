"""Reads JSON lines, the manifests of Baidu and NeMo."""

import json
import os
from collections.abc import Iterator
from typing import Any

from speech.corpora.formats.audio_paths import AudioPaths
from speech.corpora.formats.reading import Reading, read_text, refuse_problems
from speech.corpora.utterance import Utterance, transcript_of
from utils import lines_of

PATH_KEYS = ("audio_filepath", "key")
TEXT_KEY = "text"

LONGEST_SECONDS = 1e9  # larger numbers, Infinity and NaN are invalid times


class _BadValueError(Exception):
    """An error in an object; the message doesn't contain its place."""


def read(path: str, reading: Reading) -> list[Utterance]:
    """Reads a file of JSON objects, one per line, or of one JSON array of objects.

    An object has `audio_filepath` or `key`, the path of the audio, and `text`. Optional are
    `duration` and `offset` in seconds, and `speaker`. With an offset the utterance is a segment
    of `duration`; without one, `duration` is the stated length of the file.

    Raises:
        UserError: the file can't be read, or has bad objects.
    """
    audio = AudioPaths(reading.audio_root or os.path.dirname(path))
    utterances, problems = [], []
    for line, found in _objects(read_text(path)):
        try:
            if isinstance(found, _BadValueError):
                raise found
            utterances.append(_utterance(found, audio, f"{path}:{line}"))
        except _BadValueError as error:
            problems.append(f"line {line}: {error}")
    refuse_problems(path, problems)
    return utterances


def _utterance(found: Any, audio: AudioPaths, place: str) -> Utterance:
    if not isinstance(found, dict):
        raise _BadValueError("not a JSON object, {...}")
    name = next((found[key] for key in PATH_KEYS if key in found), None)
    if name is None:
        raise _BadValueError(f"neither {' nor '.join(PATH_KEYS)}, the path of the audio")
    if not isinstance(name, str) or not name.strip() or "\0" in name:
        raise _BadValueError(f"{name!r} is not a path")
    if TEXT_KEY not in found:
        raise _BadValueError(f"no {TEXT_KEY}")
    text, speaker = found[TEXT_KEY], found.get("speaker")
    if text is not None and not isinstance(text, str):
        raise _BadValueError(f"{TEXT_KEY} is {text!r}, not a text")
    seconds, offset = _seconds(found, "duration"), _seconds(found, "offset")
    speaker = "" if speaker is None else str(speaker).strip()
    for value in (name, text or "", speaker):
        _check_unicode(value)
    recording, size = audio.find(name)
    return Utterance(
        audio.utterance_id(recording, speaker, offset),
        recording,
        transcript_of(text or ""),
        speaker,
        size,
        start_seconds=offset or 0.0,
        seconds=None if offset is None else seconds,
        stated_seconds=seconds if offset is None else None,
        place=place,
    )


def _seconds(found: dict[str, Any], key: str) -> float | None:
    value = found.get(key)
    if value is None:
        return None
    good = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not good or not 0 <= value < LONGEST_SECONDS:
        raise _BadValueError(f"{key} is {value!r}, not a number of seconds")
    return float(value)


def _check_unicode(value: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise _BadValueError(f"{value!r} has half a character (a surrogate)") from None


def _objects(text: str) -> Iterator[tuple[int, Any]]:
    """Yields the line where each object starts, and the object or its error."""
    if text.lstrip().startswith("["):
        yield from _of_array(text)
        return
    for line, row in enumerate(lines_of(text), start=1):
        if not row.strip():
            continue
        try:
            yield line, json.loads(row)
        except (ValueError, RecursionError) as error:
            yield line, _broken(error)


def _of_array(text: str) -> Iterator[tuple[int, Any]]:
    """Yields as `_objects`, up to the first broken object."""
    decoder = json.JSONDecoder()
    line, counted = 1, 0  # the line of the character `counted`
    position = _after_space(text, text.index("[") + 1)
    closed = text.startswith("]", position)
    while not closed:
        line, counted = line + text.count("\n", counted, position), position
        try:
            found, position = decoder.raw_decode(text, position)
        except (ValueError, RecursionError) as error:
            yield line, _broken(error)
            return
        yield line, found
        position = _after_space(text, position)
        closed = text.startswith("]", position)
        if not closed and not text.startswith(",", position):
            yield line, _BadValueError("neither , nor ] after the object")
            return
        position = _after_space(text, position + (not closed))
    if text[position + 1 :].strip():
        yield line + text.count("\n", counted, position), _BadValueError("text after the last ]")


def _after_space(text: str, position: int) -> int:
    while position < len(text) and text[position] in " \t\r\n":
        position += 1
    return position


def _broken(error: Exception) -> _BadValueError:
    why = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
    return _BadValueError(f"not JSON ({why})")
