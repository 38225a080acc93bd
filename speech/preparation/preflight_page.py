"""A pre-flight's findings as one HTML file: the worst of each kind are to be seen and heard.

Nothing in it comes from the network. Everything that a corpus holds is escaped; `dir="auto"` shows
each transcript in its own direction.
"""

import io
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby

import numpy as np
import soundfile

from speech.audio import levels
from speech.audio.levels import FULL_SCALE
from speech.audio.media_type import data_uri
from speech.audio.reader import AudioError, read_audio
from speech.corpora.utterance import Utterance
from speech.html import charts as svg_charts
from speech.html import page
from speech.html.page import count, document, heading, table
from speech.preparation.preflight_findings import Finding, Findings, Kind, SetNumbers, Severity
from speech.preparation.preflight_report import CHARACTERS, advice, verdict
from speech.preparation.preflight_utterance import SPEECH_RANGE
from speech.shards.index import ShardSettings
from speech.system import storage
from speech.text.characters import code_point, describe, in_utf8, is_mark

PAGE_FILE = "check.html"

WORST = 8  # findings of a kind that are shown
PLAYED_SECONDS = 20.0  # of a recording, at most
PLAYERS_BYTES = 15 * 2**20  # of all players' recordings; a third more as text in the page


def write(folder: str, found: Findings, settings_of: dict[str, ShardSettings]) -> str:
    """Writes check.html into a folder.

    Returns:
        the file's path.

    Raises:
        UserError: it can't be written, or a bucket can't be reached.
    """
    path = storage.join(folder, PAGE_FILE)
    storage.write_text(path, render(found, settings_of))
    return path


def render(found: Findings, settings_of: dict[str, ShardSettings]) -> str:
    """The whole file; reads the recordings of the findings that it shows, but no unreadable ones.

    Args:
        settings_of: of each set, as `preflight.examine` had them.
    """
    shown = {kind: found.of_kind(kind)[:WORST] for kind in Kind}
    # What ended the process that read it would end this one.
    unreadable = {_key(each) for each in found.of_kind(Kind.UNREADABLE)}
    turns = [each for each in _take_turns(list(shown.values())) if _key(each) not in unreadable]
    recordings = _Recordings(settings_of, turns)
    parts = [
        ("summary", "Summary", _summary(found)),
        ("numbers", "Lengths and speech rates", _numbers(found.sets)),
    ]
    for kind in Kind:
        articles = "".join(_article(each, recordings) for each in shown[kind])
        if articles:
            those = found.of_kind(kind)
            number = len(those)
            cut = f" The worst {WORST} of {number:,}." if number > WORST else ""
            note = f'<p class="note">{escape(advice(kind, those))}{cut}</p>'
            parts.append(
                (_anchor(kind), _capital(kind), note + _characters(kind, found) + articles)
            )
    return in_utf8(document("Pre-flight of a corpus", page.sections(parts)))


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _anchor(kind: str) -> str:
    return kind.replace(" ", "-").replace(",", "")


# --- Summary --------------------------------------------------------------------------------------


def _summary(found: Findings) -> str:
    told = f"<p><b>{escape(_capital(verdict(found)))}.</b></p>"
    names = ["set", "utterances", "hours", "speakers", "median", "longest", "labels a second"]
    rows = [
        [
            f"<bdi>{escape(each.name)}</bdi>",
            f"{each.utterances:,}",
            f"{each.hours:.2f}",
            f"{each.speakers:,}" if each.speakers else "unknown",
            f"{np.median(each.seconds):.1f} s" if len(each.seconds) else "",
            f"{each.seconds.max():.1f} s" if len(each.seconds) else "",
            f"{np.median(each.rates):.1f}" if len(each.rates) else "",
        ]
        for each in found.sets
    ]
    return told + table(names, rows) + _counts(found)


def _counts(found: Findings) -> str:
    """Kinds and sets, errors first."""
    if not found.findings:
        return ""
    names = ["found", "", *(f"<bdi>{escape(each.name)}</bdi>" for each in found.sets)]
    rows = []
    for severity in Severity:
        for kind in Kind:
            those = [each for each in found.of_kind(kind) if each.severity == severity]
            if those:
                counts = [sum(each.set == one.name for each in those) for one in found.sets]
                rows.append(
                    [
                        f'<a href="#{_anchor(kind)}">{kind}</a>',
                        f'<span class="{severity}">{severity}</span>',
                        *(f"{number:,}" if number else "\u2013" for number in counts),
                    ]
                )
    return table(names, rows)


def _characters(kind: Kind, found: Findings) -> str:
    """What an alphabet would have to have besides."""
    if kind != Kind.UNKNOWN_CHARACTERS:
        return ""
    counts = found.unknown_characters()
    rows = [[escape(describe(each)), f"{number:,}"] for each, number in counts[:CHARACTERS]]
    more = len(counts) - len(rows)
    told = f"<p class=note>and {count(more, 'character')} more</p>" if more else ""
    return table(["character", "utterances"], rows) + told


def _numbers(sets: Sequence[SetNumbers]) -> str:
    shown = ""
    for each in sets:
        charts = [
            svg_charts.histogram(values, label)
            for values, label in (
                (each.seconds, "seconds"),
                (each.rates, "labels a second of speech"),
            )
            if len(values)
        ]
        if charts:
            name = f"<h3><bdi>{escape(each.name)}</bdi></h3>"
            shown += f'{name}<div class="charts">{"".join(charts)}</div>'
    return shown


# --- What was found -------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Recording:
    """A recording as it is shown."""

    picture: str
    numbers: str
    player: str  # empty: there are enough players


class _Recordings:
    """The recordings of the findings that are shown; each is played once, the worst first."""

    def __init__(self, settings_of: dict[str, ShardSettings], findings: Sequence[Finding]) -> None:
        self._left = PLAYERS_BYTES
        self._found: dict[tuple[str, str], _Recording | None] = {}
        self._played: set[tuple[str, str]] = set()
        for each in findings:
            key = _key(each)
            if key not in self._found:
                rate = settings_of[each.set].front_end.sample_rate
                self._found[key] = self._read(each.utterance, rate)

    def of(self, finding: Finding) -> str:
        """Picture, numbers and player; what was shown further up has no second player."""
        key = _key(finding)
        recording = self._found.get(key)
        if recording is None:
            return ""
        player = recording.player or '<p class="note">No player: the page holds enough.</p>'
        if key in self._played:
            player = '<p class="note">To be heard further up.</p>' if recording.player else player
        self._played.add(key)
        return f"{recording.picture}{player}<p class=note>{recording.numbers}</p>"

    def _read(self, utterance: Utterance, rate: int) -> _Recording | None:
        path = utterance.audio_path
        if path is None:
            return None
        try:
            samples = read_audio(path, rate, utterance.start_seconds, utterance.seconds)
        except AudioError:
            return None  # as its finding says
        if not len(samples):
            return None
        sound = levels.measure(samples, rate)
        most = int(PLAYED_SECONDS * rate)
        recording = _encoded(samples[:most], rate)
        player = ""
        if len(recording) <= self._left:
            self._left -= len(recording)
            cut = " The first 20 s." if len(samples) > most else ""
            player = f'<audio controls src="{data_uri(recording)}"></audio>'
            player += f'<p class="note">{cut}</p>' if cut else ""
        numbers = (
            f"{sound.seconds:.2f} s \u00b7 loud parts {sound.loud:.0f} dBFS \u00b7 floor "
            f"{sound.floor:.0f} dBFS \u00b7 {count(sound.clipped, 'cut-off sample')}"
        )
        # Where the level hardly changes, nothing tells speech from silence.
        known = sound.range >= SPEECH_RANGE
        spoken = (sound.silent_start / sound.seconds, 1 - sound.silent_end / sound.seconds)
        picture = svg_charts.waveform(
            samples / np.float32(FULL_SCALE),
            levels.clipped_samples(samples),
            spoken if known else (0.0, 1.0),
            f"waveform, {sound.seconds:.1f} s",
        )
        return _Recording(picture, numbers, player)


def _key(finding: Finding) -> tuple[str, str]:
    return finding.set, finding.utterance.utterance_id


def _take_turns(lists: Sequence[Sequence[Finding]]) -> list[Finding]:
    """The worst of each list, then the second of each, and so on."""
    return [each[turn] for turn in range(WORST) for each in lists if turn < len(each)]


def _encoded(samples: np.ndarray, rate: int) -> bytes:
    """A flac, which every browser plays."""
    file = io.BytesIO()
    rounded = np.clip(np.rint(samples), -32768, 32767).astype(np.int16)
    soundfile.write(file, rounded, rate, format="FLAC")
    return file.getvalue()


def _article(finding: Finding, recordings: _Recordings) -> str:
    utterance = finding.utterance
    told = f'<span class="{finding.severity}">{finding.severity}</span> in '
    told += f"<bdi>{escape(finding.set)}</bdi>"
    where = escape(utterance.where)
    return (
        f"<article>{heading(utterance.utterance_id, told)}<p>{escape(finding.detail)}</p>"
        f"{_transcript(finding)}{recordings.of(finding)}"
        f'<p class="note"><bdi class="wraps">{where}</bdi></p></article>'
    )


def _transcript(finding: Finding) -> str:
    """What was said, with the characters marked that the alphabet lacks."""
    text = unicodedata.normalize("NFC", finding.utterance.transcript or "")
    if not text.strip():
        return ""
    # A letter with its marks is one piece: cut in two it would be shown as another.
    shown = ""
    for unknown, group in groupby(
        _letters(text), lambda piece: bool(set(piece) & set(finding.characters))
    ):
        together = "".join(group)
        shown += _marked(together, finding.characters) if unknown else escape(together)
    return f'<p class="transcript" dir="auto">{shown}</p>'


def _letters(text: str) -> list[str]:
    """Characters with the marks behind them."""
    letters: list[str] = []
    for character in text:
        if letters and is_mark(character):
            letters[-1] += character
        else:
            letters.append(character)
    return letters


def _marked(text: str, unknown: str) -> str:
    names = "; ".join(describe(each) for each in dict.fromkeys(text) if each in unknown)
    shown = "".join(_seen(character) for character in text)
    return f'<mark title="{escape(names)}">{shown}</mark>'


def _seen(character: str) -> str:
    """Spaces, signs of control and the like by their number."""
    hidden = unicodedata.category(character)[0] in "CZ"
    return f"<bdi>{code_point(character)}</bdi>" if hidden else escape(character)
