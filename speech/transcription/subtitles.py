"""Formats words and their times as subtitles (SRT, WebVTT), text and JSON."""

import json
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from speech.decoding.alignment import TimedWord
from speech.decoding.scorer import SPACE
from speech.text.characters import written_without_spaces

# Broadcasters' limits of what can be read in time.
LINE_CHARACTERS = 42
LINES = 2
LONGEST_CUE_SECONDS = 7.0
# Short cues stay so long, unless the next one starts earlier.
SHORTEST_CUE_SECONDS = 1.0
# A cue ends at a gap between words of this length.
CUE_PAUSE_SECONDS = 0.6

ARROW = "-->"  # stands between a cue's times, so not in its text

# Decimals of seconds in JSON, as DeepSpeech prints them.
DECIMALS = 4


@dataclass(frozen=True)
class Transcript:
    """A hypothesis of a segment's or recording's text, as words with times."""

    words: tuple[TimedWord, ...]  # in order; times in seconds from the recording's start
    confidence: float  # a log-probability: larger is more certain


@dataclass(frozen=True)
class Cue:
    """A subtitle."""

    start: int  # milliseconds
    end: int  # milliseconds, later than the start
    lines: tuple[str, ...]  # one or two


def join_words(words: Sequence[TimedWord], separator: str = SPACE) -> str:
    """Joins words to a text, without spaces between Chinese and Japanese characters.

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


def text_after(before: Sequence[TimedWord], words: Sequence[TimedWord], separator: str) -> str:
    """Returns what words add to the text of those before, with the space between the two."""
    last = before[-1:]
    return join_words([*last, *words], separator)[len(join_words(last)) :]


def cues(words: Sequence[TimedWord], separator: str = SPACE) -> list[Cue]:
    """Splits words into subtitles of at most two lines of 42 characters and 7 seconds.

    They don't overlap. They end at pauses, or else at the longest gap between the words of their
    later half. A word that is longer than a line is broken.

    Args:
        words: in order, times in seconds.
        separator: see `join_words`.
    """
    pieces = [piece for word in words for piece in _pieces(word)]
    made: list[Cue] = []
    start = 0
    while start < len(pieces):
        stop = _cue_end(pieces, start, separator)
        next_start = pieces[stop].start if stop < len(pieces) else float("inf")
        last_end = made[-1].end if made else 0
        made.append(_cue(pieces[start:stop], next_start, last_end, separator))
        start = stop
    return made


def srt(words: Sequence[TimedWord], separator: str = SPACE) -> str:
    """Formats SubRip's subtitles; "" without words. SRT has no escapes: --> becomes → in text."""
    return "".join(
        f"{number}\n{_time(cue.start, ',')} {ARROW} {_time(cue.end, ',')}\n"
        + "".join(f"{line.replace(ARROW, '→')}\n" for line in cue.lines)
        + "\n"
        for number, cue in enumerate(cues(words, separator), start=1)
    )


def webvtt(words: Sequence[TimedWord], separator: str = SPACE) -> str:
    """Formats WebVTT's subtitles (https://www.w3.org/TR/webvtt1), with its escapes."""
    return "WEBVTT\n\n" + "".join(
        f"{_time(cue.start, '.')} {ARROW} {_time(cue.end, '.')}\n"
        + "".join(f"{_escape(line)}\n" for line in cue.lines)
        + "\n"
        for cue in cues(words, separator)
    )


def plain_text(words: Sequence[TimedWord], separator: str = SPACE) -> str:
    """Formats the words in lines that end at pauses; "" without words."""
    text, start = "", 0
    for i in range(1, len(words) + 1):
        if i == len(words) or _gap(words, i) >= CUE_PAUSE_SECONDS:
            text += join_words(words[start:i], separator) + "\n"
            start = i
    return text


def deepspeech_json(candidates: Sequence[Transcript], name: str | None = None) -> str:
    """Formats the JSON that `deepspeech --json` prints.

    Args:
        candidates: the best first.
        name: of the file, which DeepSpeech doesn't print; None: left out.

    Raises:
        ValueError: a confidence or time isn't finite.
    """
    named = {} if name is None else {"audio": _in_utf8(name)}
    transcripts = [_transcript_json(each) for each in candidates]
    return json.dumps({**named, "transcripts": transcripts}, indent=2, allow_nan=False)


def recording_json(
    name: str, seconds: float, segments: Sequence[Transcript], separator: str = SPACE
) -> str:
    """Formats a recording's JSON: name, seconds and text, and each segment's text and words.

    Args:
        name: of the file.
        seconds: its length.
        segments: the segments' transcripts, in order.

    Raises:
        ValueError: a confidence or time isn't finite.
    """
    words = [word for segment in segments for word in segment.words]
    return json.dumps(
        {
            "audio": _in_utf8(name),
            "seconds": round(seconds, DECIMALS),
            "text": join_words(words, separator),
            "segments": [
                {"text": join_words(segment.words, separator), **_transcript_json(segment)}
                for segment in segments
            ],
        },
        indent=2,
        ensure_ascii=False,
        allow_nan=False,
    )


def _in_utf8(name: str) -> str:
    """Escapes the bytes of a file's name that aren't UTF-8: JSON must be."""
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
    """Splits a word into pieces that fit into a line, each with its share of the time.

    A word without printable characters has no pieces.
    """
    text = _printable(word.text)
    parts = [text[i : i + LINE_CHARACTERS] for i in range(0, len(text), LINE_CHARACTERS)]
    share = word.duration / max(len(parts), 1)
    return [TimedWord(part, word.start + i * share, share) for i, part in enumerate(parts)]


def _printable(text: str) -> str:
    """Removes what would break a line: a network whose classes are bytes can write anything."""
    kept = "".join(c for c in text if unicodedata.category(c) not in ("Cc", "Zl", "Zp"))
    return kept.strip()


def _gap(words: Sequence[TimedWord], i: int) -> float:
    """Returns the seconds between word i - 1 and word i."""
    return words[i].start - words[i - 1].start - words[i - 1].duration


def _cue_end(pieces: Sequence[TimedWord], start: int, separator: str) -> int:
    """Returns the number of the piece after the cue that begins with piece `start`."""
    stop = start + 1
    while stop < len(pieces):
        if _gap(pieces, stop) >= CUE_PAUSE_SECONDS:
            return stop
        last = pieces[stop]
        too_long = last.start + last.duration - pieces[start].start > LONGEST_CUE_SECONDS
        if too_long or _lines(pieces[start : stop + 1], separator) is None:
            later_half = range(start + (stop - start + 1) // 2, stop + 1)
            return max(later_half, key=lambda i: (_gap(pieces, i), i)) if stop > start + 1 else stop
        stop += 1
    return stop


def _lines(pieces: Sequence[TimedWord], separator: str) -> tuple[str, ...] | None:
    """Returns the pieces in one line, or in two of similar length; None if they don't fit."""
    text = join_words(pieces, separator)
    if len(text) <= LINE_CHARACTERS:
        return (text,)
    if len(text) > LINES * (LINE_CHARACTERS + 1):
        return None
    broken = [
        (join_words(pieces[:i], separator), join_words(pieces[i:], separator))
        for i in range(1, len(pieces))
    ]
    fitting = [pair for pair in broken if max(map(len, pair)) <= LINE_CHARACTERS]
    return min(fitting, key=lambda pair: max(map(len, pair))) if fitting else None


def _cue(pieces: Sequence[TimedWord], next_start: float, last_end: int, separator: str) -> Cue:
    """Returns the cue of pieces that fit.

    Args:
        next_start: start of the next cue, in seconds.
        last_end: end of the previous cue, in milliseconds.
    """
    first, last = pieces[0], pieces[-1]
    start = max(_milliseconds(first.start), last_end)
    wanted = max(last.start + last.duration, first.start + SHORTEST_CUE_SECONDS)
    end = _milliseconds(min(wanted, next_start))
    end = min(max(end, start + 1), start + _milliseconds(LONGEST_CUE_SECONDS))
    lines = _lines(pieces, separator)
    assert lines is not None
    return Cue(start, end, lines)


def _milliseconds(seconds: float) -> int:
    return max(round(seconds * 1000), 0)


def _time(milliseconds: int, point: str) -> str:
    """Formats a time as HH:MM:SS.mmm; point: before the milliseconds."""
    seconds, rest = divmod(milliseconds, 1000)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}{point}{rest:03d}"


def _escape(line: str) -> str:
    return line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
