"""Words and their times -> subtitles (SRT, WebVTT), text and JSON."""

import json
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from speech.decoding.alignment import TimedWord
from speech.decoding.scorer import SPACE
from speech.text.characters import written_without_spaces

# What can be read in time, as broadcasters have it.
LINE_CHARACTERS = 42
LINES = 2
LONGEST_CUE_SECONDS = 7.0
# Short cues stay so long, if the next one doesn't start before.
SHORTEST_CUE_SECONDS = 1.0
# A gap between words that a cue ends at.
PAUSE_SECONDS = 0.6

ARROW = "-->"  # stands between a cue's times, so not in its text

# Decimals of seconds in JSON, as DeepSpeech has them.
DECIMALS = 4


@dataclass(frozen=True)
class Transcript:
    """What was heard in a stretch of a recording, or might have been."""

    words: tuple[TimedWord, ...]  # in their order; times in seconds from the recording's start
    confidence: float  # a log-probability: the larger the surer


@dataclass(frozen=True)
class Cue:
    """A subtitle."""

    start: int  # milliseconds
    end: int  # milliseconds, later than the start
    lines: tuple[str, ...]  # one or two


def joined(words: Sequence[TimedWord], separator: str = SPACE) -> str:
    """The text of words. Chinese and Japanese characters have no space between them.

    Args:
        separator: between other words; "" for an alphabet without a space, whose words are
            characters.
    """
    text = ""
    for word in words:
        if text and word.text:
            close = written_without_spaces(text[-1]) and written_without_spaces(word.text[0])
            text += "" if close else separator
        text += word.text
    return text


def cues(words: Sequence[TimedWord], separator: str = SPACE) -> list[Cue]:
    """Subtitles of at most two lines of 42 characters and 7 seconds, none over another.

    They end at pauses; where none comes in time, at the longest gap between the words of the later
    half. A word that is longer than a line is broken.

    Args:
        words: in their order, times in seconds.
        separator: as in `joined`.
    """
    pieces = [piece for word in words for piece in _pieces(word)]
    made: list[Cue] = []
    start = 0
    while start < len(pieces):
        stop = _cue_end(pieces, start, separator)
        inside = pieces[start:stop]
        behind = pieces[stop].start if stop < len(pieces) else float("inf")
        made.append(_cue(inside, behind, made[-1].end if made else 0, separator))
        start = stop
    return made


def srt(words: Sequence[TimedWord], separator: str = SPACE) -> str:
    """SubRip's subtitles; "" without words. There is no escaping; --> in the text becomes →."""
    return "".join(
        f"{number}\n{_time(cue.start, ',')} {ARROW} {_time(cue.end, ',')}\n"
        + "".join(f"{line.replace(ARROW, '→')}\n" for line in cue.lines)
        + "\n"
        for number, cue in enumerate(cues(words, separator), start=1)
    )


def webvtt(words: Sequence[TimedWord], separator: str = SPACE) -> str:
    """WebVTT's subtitles (https://www.w3.org/TR/webvtt1), escaped as it wants."""
    return "WEBVTT\n\n" + "".join(
        f"{_time(cue.start, '.')} {ARROW} {_time(cue.end, '.')}\n"
        + "".join(f"{_escaped(line)}\n" for line in cue.lines)
        + "\n"
        for cue in cues(words, separator)
    )


def plain_text(words: Sequence[TimedWord], separator: str = SPACE) -> str:
    """The words in lines that end at pauses; "" without words."""
    text, start = "", 0
    for i in range(1, len(words) + 1):
        if i == len(words) or _gap(words, i) >= PAUSE_SECONDS:
            text += joined(words[start:i], separator) + "\n"
            start = i
    return text


def deepspeech_json(candidates: Sequence[Transcript], name: str | None = None) -> str:
    """The JSON text that `deepspeech --json` prints.

    Args:
        candidates: the best first.
        name: the file's, which DeepSpeech doesn't tell; None: neither here.

    Raises:
        ValueError: a confidence or time is no finite number.
    """
    named = {} if name is None else {"audio": _in_utf8(name)}
    transcripts = [_transcript_json(each) for each in candidates]
    return json.dumps({**named, "transcripts": transcripts}, indent=2, allow_nan=False)


def recording_json(
    name: str, seconds: float, segments: Sequence[Transcript], separator: str = SPACE
) -> str:
    """A recording's JSON text: its name, seconds and text, and the same of each segment with words.

    Args:
        name: the file's.
        seconds: its length.
        segments: the stretches that were recognised, in order.

    Raises:
        ValueError: a confidence or time is no finite number.
    """
    words = [word for segment in segments for word in segment.words]
    return json.dumps(
        {
            "audio": _in_utf8(name),
            "seconds": round(seconds, DECIMALS),
            "text": joined(words, separator),
            "segments": [
                {"text": joined(segment.words, separator), **_transcript_json(segment)}
                for segment in segments
            ],
        },
        indent=2,
        ensure_ascii=False,
        allow_nan=False,
    )


def _in_utf8(name: str) -> str:
    """A file's name needn't be UTF-8, JSON must."""
    return name.encode("utf-8", "backslashreplace").decode()


def _transcript_json(transcript: Transcript) -> dict[str, Any]:
    return {
        "confidence": transcript.confidence,
        "words": [
            {
                "word": word.text,
                "start_time": round(word.start, DECIMALS),
                "duration": round(word.duration, DECIMALS),
            }
            for word in transcript.words
        ],
    }


def _pieces(word: TimedWord) -> list[TimedWord]:
    """A word in pieces that fit into a line, each with its share of the time; none of no text."""
    text = _printable(word.text)
    parts = [text[i : i + LINE_CHARACTERS] for i in range(0, len(text), LINE_CHARACTERS)]
    share = word.duration / max(len(parts), 1)
    return [TimedWord(part, word.start + i * share, share) for i, part in enumerate(parts)]


def _printable(text: str) -> str:
    """Without what would break a line: a network of bytes can write anything."""
    kept = "".join(c for c in text if unicodedata.category(c) not in ("Cc", "Zl", "Zp"))
    return kept.strip()


def _gap(words: Sequence[TimedWord], i: int) -> float:
    """Seconds between the word before i and word i."""
    return words[i].start - words[i - 1].start - words[i - 1].duration


def _cue_end(pieces: Sequence[TimedWord], start: int, separator: str) -> int:
    """The piece behind the cue that begins with piece `start`."""
    stop = start + 1
    while stop < len(pieces):
        if _gap(pieces, stop) >= PAUSE_SECONDS:
            return stop
        last = pieces[stop]
        too_long = last.start + last.duration - pieces[start].start > LONGEST_CUE_SECONDS
        if too_long or _lines(pieces[start : stop + 1], separator) is None:
            later_half = range(start + (stop - start + 1) // 2, stop + 1)
            return max(later_half, key=lambda i: (_gap(pieces, i), i)) if stop > start + 1 else stop
        stop += 1
    return stop


def _lines(pieces: Sequence[TimedWord], separator: str) -> tuple[str, ...] | None:
    """The pieces in a line, or in two that are as equal as can be; None if they don't fit."""
    text = joined(pieces, separator)
    if len(text) <= LINE_CHARACTERS:
        return (text,)
    if len(text) > LINES * (LINE_CHARACTERS + 1):
        return None
    broken = [
        (joined(pieces[:i], separator), joined(pieces[i:], separator))
        for i in range(1, len(pieces))
    ]
    fitting = [pair for pair in broken if max(map(len, pair)) <= LINE_CHARACTERS]
    return min(fitting, key=lambda pair: max(map(len, pair))) if fitting else None


def _cue(pieces: Sequence[TimedWord], behind: float, before: int, separator: str) -> Cue:
    """A cue of words that fit.

    Args:
        behind: seconds, when the next one starts.
        before: milliseconds, when the last one ended.
    """
    first, last = pieces[0], pieces[-1]
    start = max(_milliseconds(first.start), before)
    wanted = max(last.start + last.duration, first.start + SHORTEST_CUE_SECONDS)
    end = _milliseconds(min(wanted, behind))
    end = min(max(end, start + 1), start + _milliseconds(LONGEST_CUE_SECONDS))
    lines = _lines(pieces, separator)
    assert lines is not None
    return Cue(start, end, lines)


def _milliseconds(seconds: float) -> int:
    return max(round(seconds * 1000), 0)


def _time(milliseconds: int, point: str) -> str:
    """HH:MM:SS.mmm"""
    seconds, rest = divmod(milliseconds, 1000)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}{point}{rest:03d}"


def _escaped(line: str) -> str:
    return line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
