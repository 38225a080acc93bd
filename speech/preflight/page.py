"""Writes a pre-flight's findings as one HTML file, with pictures and audio of the worst ones.

It fetches nothing and runs nothing. Everything of a corpus is escaped; `dir="auto"` gives each
transcript its own direction.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
from markupsafe import Markup

from speech.audio import flac, levels
from speech.audio.levels import FULL_SCALE
from speech.audio.media_type import data_uri
from speech.audio.reader import AudioError, read_audio
from speech.corpora.utterance import Utterance
from speech.html import charts, page
from speech.html.page import count, thousands
from speech.preflight.findings import Finding, Findings, Kind, SetNumbers, Severity
from speech.preflight.terminal import CHARACTERS, advice, verdict
from speech.preflight.utterance import SPEECH_RANGE
from speech.shards.index import ShardSettings
from speech.system import storage
from speech.text.characters import code_point, describe, in_utf8, is_mark

PAGE_FILE = "check.html"
TEMPLATES = Path(__file__).parent / "templates"

WORST = 8  # findings of a kind on the page
PLAYED_SECONDS = 20.0  # of a recording, at most
PLAYERS_BYTES = 15 * 2**20  # of all players' recordings; a third more as text in the page


def write(folder: str, found: Findings, settings_of: dict[str, ShardSettings]) -> str:
    """Writes check.html into a folder and returns the file's path.

    Raises:
        UserError: it can't be written, or a bucket can't be reached.
    """
    path = storage.join(folder, PAGE_FILE)
    storage.write_text(path, render(found, settings_of))
    return path


def render(found: Findings, settings_of: dict[str, ShardSettings]) -> str:
    """Returns the whole file; reads the recordings of the findings on it, except unreadable ones.

    Args:
        settings_of: of each set, as `preflight.examine` had them.
    """
    worst = {kind: found.of_kind(kind)[:WORST] for kind in Kind}
    # An unreadable file that ended the process that read it would end this one too.
    unreadable = {_key(each) for each in found.of_kind(Kind.UNREADABLE)}
    turns = [each for each in _take_turns(list(worst.values())) if _key(each) not in unreadable]
    recordings = _Recordings(settings_of, turns)
    html = page.render(
        TEMPLATES,
        "preflight.html.jinja",
        title="Pre-flight of a corpus",
        verdict=_capital(verdict(found)),
        sets=[_numbers_of_set(each) for each in found.sets],
        names=[each.name for each in found.sets],
        counts=_counts(found),
        charts_of_sets=_charts_of_sets(found.sets),
        kinds=[_of_kind(kind, found, worst[kind], recordings) for kind in Kind if worst[kind]],
        most_characters=CHARACTERS,
    )
    return in_utf8(html)


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _anchor(kind: str) -> str:
    return kind.replace(" ", "-").replace(",", "")


# --- Summary --------------------------------------------------------------------------------------


def _numbers_of_set(each: SetNumbers) -> tuple[str, ...]:
    """Returns the cells of a set's row; numbers that are unknown are empty."""
    return (
        each.name,
        thousands(each.utterances),
        f"{each.hours:.2f}",
        thousands(each.speakers) if each.speakers else "unknown",
        f"{np.median(each.seconds):.1f} s" if len(each.seconds) else "",
        f"{each.seconds.max():.1f} s" if len(each.seconds) else "",
        f"{np.median(each.rates):.1f}" if len(each.rates) else "",
    )


def _counts(found: Findings) -> list[tuple[str, Kind, Severity, list[int]]]:
    """Returns (anchor, kind, severity, numbers of the sets), errors first."""
    rows = []
    for severity in Severity:
        for kind in Kind:
            those = [each for each in found.of_kind(kind) if each.severity == severity]
            if those:
                numbers = [sum(each.set == one.name for each in those) for one in found.sets]
                rows.append((_anchor(kind), kind, severity, numbers))
    return rows


def _charts_of_sets(sets: Sequence[SetNumbers]) -> list[tuple[str, list[Markup]]]:
    """Returns (name, histograms) of the sets that have any."""
    drawn = []
    for each in sets:
        named = ((each.seconds, "seconds"), (each.rates, "labels a second of speech"))
        histograms = [charts.histogram(values, label) for values, label in named if len(values)]
        if histograms:
            drawn.append((each.name, histograms))
    return drawn


# --- Findings -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Recording:
    """A recording on the page."""

    picture: Markup
    numbers: str
    player: str  # URI of the sound; empty: the page has enough players
    cut: bool  # the player has only its beginning


@dataclass(frozen=True)
class _Piece:
    """A part of a transcript."""

    text: str
    # Only of unknown characters: their names, and each one with whether it is a code point.
    names: str = ""
    characters: Sequence[tuple[str, bool]] = ()


@dataclass(frozen=True)
class _Shown:
    """A finding on the page."""

    finding: Finding
    transcript: Sequence[_Piece]
    recording: _Recording | None
    played: bool  # further up
    place: str


@dataclass(frozen=True)
class _Kind:
    """The findings of a kind."""

    anchor: str
    title: str
    advice: str
    number: int
    characters: Sequence[tuple[str, int]]  # unknown ones, with their numbers of utterances
    shown: Sequence[_Shown]


def _of_kind(
    kind: Kind, found: Findings, worst: Sequence[Finding], recordings: "_Recordings"
) -> _Kind:
    those = found.of_kind(kind)
    counts = found.unknown_characters() if kind == Kind.UNKNOWN_CHARACTERS else []
    return _Kind(
        _anchor(kind),
        _capital(kind),
        advice(kind, those),
        len(those),
        [(describe(character), number) for character, number in counts],
        [
            _Shown(each, _transcript(each), *recordings.of(each), each.utterance.where)
            for each in worst
        ],
    )


class _Recordings:
    """The recordings of the findings on the page; each is played once, the worst first."""

    def __init__(self, settings_of: dict[str, ShardSettings], findings: Sequence[Finding]) -> None:
        self._left = PLAYERS_BYTES
        self._found: dict[tuple[str, str], _Recording | None] = {}
        self._played: set[tuple[str, str]] = set()
        for each in findings:
            key = _key(each)
            if key not in self._found:
                rate = settings_of[each.set].front_end.sample_rate
                self._found[key] = self._read(each.utterance, rate)

    def of(self, finding: Finding) -> tuple[_Recording | None, bool]:
        """Returns a finding's recording, and whether an earlier finding had it."""
        key = _key(finding)
        played = key in self._played
        self._played.add(key)
        return self._found.get(key), played

    def _read(self, utterance: Utterance, rate: int) -> _Recording | None:
        path = utterance.audio_path
        if path is None:
            return None
        try:
            samples = read_audio(path, rate, utterance.start_seconds, utterance.seconds)
        except AudioError:
            return None  # its finding says so
        if not len(samples):
            return None
        sound = levels.measure(samples, rate)
        most = int(PLAYED_SECONDS * rate)
        recording = flac.encode(samples[:most], rate)
        player = ""
        if len(recording) <= self._left:
            self._left -= len(recording)
            player = data_uri(recording)
        numbers = (
            f"{sound.seconds:.2f} s \u00b7 loud parts {sound.loud:.0f} dBFS \u00b7 floor "
            f"{sound.floor:.0f} dBFS \u00b7 {count(sound.clipped, 'cut-off sample')}"
        )
        # If the level hardly changes, speech can't be distinguished from silence.
        known = sound.range >= SPEECH_RANGE
        spoken = (sound.silent_start / sound.seconds, 1 - sound.silent_end / sound.seconds)
        picture = charts.waveform(
            samples / np.float32(FULL_SCALE),
            levels.clipped_samples(samples),
            spoken if known else (0.0, 1.0),
            f"waveform, {sound.seconds:.1f} s",
        )
        return _Recording(picture, numbers, player, len(samples) > most)


def _key(finding: Finding) -> tuple[str, str]:
    return finding.set, finding.utterance.utterance_id


def _take_turns(lists: Sequence[Sequence[Finding]]) -> list[Finding]:
    """Returns the first of each list, then the second of each, and so on."""
    return [each[turn] for turn in range(WORST) for each in lists if turn < len(each)]


def _transcript(finding: Finding) -> list[_Piece]:
    """Returns the transcript in pieces; those with unknown characters have their names."""
    text = unicodedata.normalize("NFC", finding.utterance.transcript or "")
    if not text.strip():
        return []
    # A letter and its marks are one piece: apart, browsers would draw them as other letters.
    pieces = []
    for unknown, group in groupby(
        _letters(text), lambda piece: bool(set(piece) & set(finding.characters))
    ):
        together = "".join(group)
        pieces.append(_marked(together, finding.characters) if unknown else _Piece(together))
    return pieces


def _letters(text: str) -> list[str]:
    """Splits a text into characters, each with the marks after it."""
    letters: list[str] = []
    for character in text:
        if letters and is_mark(character):
            letters[-1] += character
        else:
            letters.append(character)
    return letters


def _marked(text: str, unknown: str) -> _Piece:
    names = "; ".join(describe(each) for each in dict.fromkeys(text) if each in unknown)
    return _Piece(text, names, [_visible(character) for character in text])


def _visible(character: str) -> tuple[str, bool]:
    """Returns the character, or the code point of spaces, control characters and the like."""
    hidden = unicodedata.category(character)[0] in "CZ"
    return (code_point(character), True) if hidden else (character, False)
