"""Writes an evaluation as one HTML file: it fetches nothing and runs nothing.

Everything that a corpus or a recogniser wrote is escaped, and has its own direction.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from speech.audio.media_type import data_uri
from speech.corpora.recordings import Audio
from speech.corpora.utterance import COPY_MARK
from speech.evaluation import error_analysis
from speech.evaluation.bootstrap import Difference
from speech.evaluation.comparison import Comparison, format_p, points
from speech.evaluation.error_analysis import Group
from speech.evaluation.results import Result, Setting, Summary, format_interval
from speech.evaluation.sweeps import BeamPoint, WeightPoint
from speech.html import charts
from speech.html import page as html_page
from speech.html.page import thousands
from speech.system import storage
from speech.text.characters import CIRCLE, is_mark

REPORT_FILE = "report.html"
INDEX_FILE = "index.html"

TEMPLATES = Path(__file__).parent / "templates"

# Largest numbers of what the report shows.
EXAMPLES = 5  # of best, median and worst utterances each
CHANGES = 8
CONFUSIONS = 12
SPEAKERS = 40

OPEN_BOX = "\u2423"  # a visible space


@dataclass(frozen=True)
class Page:
    """The contents of a report."""

    title: str  # the test set's name
    summary: Summary
    results: Sequence[Result]
    audio: Audio | None = None  # None: no players
    beam_points: Sequence[BeamPoint] = ()
    weight_points: Sequence[WeightPoint] = ()  # of a grid, which may have holes
    chosen: tuple[float, float] | None = None  # the results' alpha and beta
    comparison: Comparison | None = None


def write(folder: str, page: Page) -> str:
    """Writes report.html into a folder and returns the file's path.

    Raises:
        UserError: it can't be written.
    """
    path = storage.join(folder, REPORT_FILE)
    storage.write_text(path, render(page))
    return path


def write_index(folder: str, sets: Sequence[tuple[str, str, Summary]]) -> str:
    """Writes index.html, a table of several test sets, and returns the file's path.

    Args:
        sets: (name, path of its report relative to `folder`, summary).

    Raises:
        UserError: it can't be written.
    """
    path = storage.join(folder, INDEX_FILE)
    html = html_page.render(
        TEMPLATES,
        "sets.html.jinja",
        title="Test sets",
        sets=sets,
        format_interval=format_interval,
    )
    storage.write_text(path, html)
    return path


def render(page: Page) -> str:
    """Returns the whole file."""
    results = page.results
    examples = error_analysis.examples(results, EXAMPLES)
    return html_page.render(
        TEMPLATES,
        "report.html.jinja",
        title=page.title,
        results=results,
        # Tables.
        rates=_rates(page.summary),
        facts=_facts(page.summary),
        comparison=page.comparison,
        differences=_differences(page.summary, page.comparison) if page.comparison else [],
        lengths=error_analysis.by_length(results),
        speakers=error_analysis.by_speaker(results),
        words=error_analysis.confused_words(results),
        letters=error_analysis.confused_letters(results),
        beam_points=[(float(each.beam_width), each.wer) for each in page.beam_points],
        weight_points=[(each.alpha, each.beta, each.wer) for each in page.weight_points],
        chosen=page.chosen,
        examples=(
            ("Worst", examples.worst),
            ("Median", examples.median),
            ("Best", examples.best),
        ),
        most_changes=CHANGES,
        most_confusions=CONFUSIONS,
        most_speakers=SPEAKERS,
        copy_mark=COPY_MARK,
        # Functions.
        align_words=error_analysis.align_words,
        charts=charts,
        direction=_direction,
        format_interval=format_interval,
        largest_rate=_largest_rate,
        points=points,
        recording_of=lambda utterance_id: _recording(utterance_id, page.audio),
        visible=_visible,
    )


def _rates(summary: Summary) -> list[tuple[str, float, tuple[float, float], float]]:
    """Returns (name, rate, interval, greedy rate) of words and of characters."""
    return [
        ("WER", summary.wer, summary.wer_interval, summary.greedy_wer),
        ("CER", summary.cer, summary.cer_interval, summary.greedy_cer),
    ]


def _facts(summary: Summary) -> list[tuple[str, Setting]]:
    words = max(summary.words, 1)
    edits = {
        "words substituted": summary.substitutions,
        "words left out": summary.deletions,
        "words put in": summary.insertions,
    }
    return [
        ("utterances", thousands(summary.utterances)),
        ("words", thousands(summary.words)),
        *((name, f"{count:,} ({count / words:.2%})") for name, count in edits.items()),
        ("loss, mean", f"{summary.loss:.2f} nats"),
        ("seconds of work per second of audio", f"{summary.real_time_factor:.3f}"),
        ("checkpoint's step", thousands(summary.checkpoint_step)),
        *(
            (f"decoder: {name}", "none" if value is None else str(value))
            for name, value in summary.decoder.items()
        ),
    ]


def _differences(
    summary: Summary, found: Comparison
) -> list[tuple[str, float, float, Difference, str]]:
    """Returns (name, rate there, rate here, difference, its p) of words and of characters."""
    return [
        (name, before, now, difference, _p_value(difference))
        for name, before, now, difference in (
            ("WER", found.wer_before, summary.wer, found.wer),
            ("CER", found.cer_before, summary.cer, found.cer),
        )
    ]


def _p_value(difference: Difference) -> str:
    return format_p(difference.p_value).removeprefix("p ").removeprefix("= ")


def _largest_rate(groups: Sequence[Group]) -> float:
    """Returns the largest rate or interval's end of some groups."""
    return max(
        (end for group in groups for end in (group.words.rate, *(group.interval or ()))), default=0
    )


def _visible(text: str) -> str:
    """Returns a word or letter in a visible form: a mark on a circle, a space as a box."""
    # A mark alone would stand on the character before it.
    return (CIRCLE if is_mark(text[0]) else "") + text.replace(" ", OPEN_BOX)


def _recording(utterance_id: str, audio: Audio | None) -> str:
    """Returns the URI of an utterance's recording; empty if there is none."""
    recording = audio(utterance_id) if audio else None
    return data_uri(recording) if recording is not None else ""


def _direction(result: Result) -> str:
    return text_direction(result.reference) or text_direction(result.hypothesis) or "ltr"


def text_direction(text: str) -> str:
    """Returns the direction of most words, "rtl" or "ltr", or the first word's if both are equal.

    Empty if no word has a direction. Browsers' dir="auto" takes the first letter's direction, which
    is wrong for a sentence that begins with a name in another script, or with an inserted word.
    """
    strong = [each for each in map(_first_direction, text.split()) if each]
    if not strong:
        return ""
    return max("ltr", "rtl", key=lambda each: (strong.count(each), each == strong[0]))


def _first_direction(word: str) -> str:
    """Returns the direction of the first character that has one; empty if none has."""
    directions = {"L": "ltr", "R": "rtl", "AL": "rtl"}
    found = (directions.get(unicodedata.bidirectional(each), "") for each in word)
    return next(filter(None, found), "")
