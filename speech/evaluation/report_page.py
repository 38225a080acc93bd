"""An evaluation as one HTML file: nothing in it comes from the network, and nothing is a script.

Everything that a corpus or a recogniser wrote is escaped, and shown in its own direction.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from speech.audio.media_type import data_uri
from speech.corpora.recordings import Audio
from speech.corpora.utterance import COPY_MARK
from speech.evaluation import error_analysis
from speech.evaluation.comparison import Change, Comparison, format_p, points
from speech.evaluation.error_analysis import Confusion, Edit, Group
from speech.evaluation.results import Result, Setting, Summary, format_interval
from speech.html import charts
from speech.html import page as html_parts
from speech.html.page import count, document, heading, table
from speech.system import storage
from speech.text.characters import CIRCLE, is_mark

REPORT_FILE = "report.html"
INDEX_FILE = "index.html"

# How many are shown at most.
EXAMPLES = 5  # of best, median and worst utterances each
CHANGES = 8
CONFUSIONS = 12
SPEAKERS = 40

OPEN_BOX = "\u2423"  # a space that is seen


@dataclass(frozen=True)
class BeamPoint:
    """What a beam width gave."""

    beam_width: int
    wer: float


@dataclass(frozen=True)
class WeightPoint:
    """What the scorer's weights gave."""

    alpha: float
    beta: float
    wer: float


@dataclass(frozen=True)
class Page:
    """What a report shows."""

    title: str  # the test set's name
    summary: Summary
    results: Sequence[Result]
    audio: Audio | None = None  # None: no players
    beam_points: Sequence[BeamPoint] = ()
    weight_points: Sequence[WeightPoint] = ()  # of a grid, which may have holes
    chosen: tuple[float, float] | None = None  # the alpha and beta that the results were made with
    comparison: Comparison | None = None


def write(folder: str, page: Page) -> str:
    """Writes report.html into a folder.

    Returns:
        the file's path.

    Raises:
        UserError: it can't be written.
    """
    path = storage.join(folder, REPORT_FILE)
    storage.write_text(path, render(page))
    return path


def write_index(folder: str, sets: Sequence[tuple[str, str, Summary]]) -> str:
    """Writes index.html, a table of several test sets.

    Args:
        sets: (name, path of its report relative to `folder`, summary).

    Returns:
        the file's path.
    """
    rows = [
        [
            f'<a href="{escape(link)}" dir="auto">{escape(name)}</a>',
            f"{summary.wer:.2%}",
            format_interval(summary.wer_interval),
            f"{summary.cer:.2%}",
            format_interval(summary.cer_interval),
            f"{summary.utterances:,}",
            f"{summary.words:,}",
        ]
        for name, link, summary in sets
    ]
    names = ["test set", "WER", "95% interval", "CER", "95% interval", "utterances", "words"]
    path = storage.join(folder, INDEX_FILE)
    storage.write_text(path, document("Test sets", [table(names, rows)]))
    return path


def render(page: Page) -> str:
    """The whole file."""
    parts = [
        ("summary", "Summary", _summary(page)),
        ("comparison", "Against another run", _comparison(page)),
        (
            "lengths",
            "By length of utterance",
            _bars("words", error_analysis.by_length(page.results)),
        ),
        ("speakers", "By speaker", _speakers(page.results)),
        ("words", "Words", _confusions(error_analysis.confused_words(page.results))),
        ("letters", "Letters", _confusions(error_analysis.confused_letters(page.results))),
        ("sweeps", "Decoder settings", _sweeps(page)),
        ("utterances", "Utterances", _utterances(page)),
    ]
    return document(page.title, html_parts.sections(parts))


def _summary(page: Page) -> str:
    summary = page.summary
    rates = [
        [name, f"<b>{rate:.2%}</b>", format_interval(interval), f"{greedy:.2%}"]
        for name, rate, interval, greedy in (
            ("WER", summary.wer, summary.wer_interval, summary.greedy_wer),
            ("CER", summary.cer, summary.cer_interval, summary.greedy_cer),
        )
    ]
    words = max(summary.words, 1)
    edits = {
        "words substituted": summary.substitutions,
        "words left out": summary.deletions,
        "words put in": summary.insertions,
    }
    facts: list[tuple[str, Setting]] = [
        ("utterances", f"{summary.utterances:,}"),
        ("words", f"{summary.words:,}"),
        *((name, f"{count:,} ({count / words:.2%})") for name, count in edits.items()),
        ("loss, mean", f"{summary.loss:.2f} nats"),
        ("seconds of work per second of audio", f"{summary.real_time_factor:.3f}"),
        ("checkpoint's step", f"{summary.checkpoint_step:,}"),
        ("cosine of word counts, mean of utterances", f"{summary.word_count_cosine:.4f}"),
        ("the same, whole set", f"{error_analysis.cosine_of_set(page.results):.4f}"),
        *((f"decoder: {name}", value) for name, value in summary.decoder.items()),
    ]
    return (
        table(["", "rate", "95% interval", "greedily"], rates)
        + table([], [[escape(name), _setting(value)] for name, value in facts])
        + "<p class=note>Intervals: bootstrap over utterances. The cosine of word counts looks at "
        "which words there are and how often; it ignores their order and is no accuracy.</p>"
    )


def _setting(value: Setting) -> str:
    return f'<bdi class="wraps">{escape("none" if value is None else str(value))}</bdi>'


def _comparison(page: Page) -> str:
    found = page.comparison
    if found is None:
        return ""
    rows = [
        [
            name,
            f"{before:.2%}",
            f"{now:.2%}",
            f"<b>{points(change.rate)}</b>",
            f"{points(change.low)} to {points(change.high)}",
            escape(format_p(change.p_value).removeprefix("p ").removeprefix("= ")),
        ]
        for name, before, now, change in (
            ("WER", found.wer_before, page.summary.wer, found.wer),
            ("CER", found.cer_before, page.summary.cer, found.cer),
        )
    ]
    names = ["", "there", "here", "points", "95% interval", "p"]
    changes = "".join(_change(change, page.audio) for change in found.changes[:CHANGES])
    return (
        f"<p>There: <bdi class=wraps>{escape(found.other)}</bdi>. Of {len(page.results):,} "
        f"utterances {len(found.changes):,} were recognised differently.</p>"
        + table(names, rows)
        + "<p class=note>Points below 0: better here. Paired bootstrap over utterances; p, "
        "one-sided, is the share of samples without a difference in this direction.</p>"
        + (f"<h3>What changed most</h3>{LEGEND}{changes}" if changes else "")
    )


def _change(change: Change, audio: Audio | None) -> str:
    more = "more" if change.words > 0 else "fewer"
    told = f"{count(abs(change.words), 'error')} {more}" if change.words else "as many errors"
    return (
        f"<article>{heading(change.after.utterance_id, told)}"
        f"<h4>there: {_errors(change.before)}</h4>{_alignment(change.before)}"
        f"<h4>here: {_errors(change.after)}</h4>{_alignment(change.after)}"
        f"{_player(change.after.utterance_id, audio)}</article>"
    )


def _speakers(results: Sequence[Result]) -> str:
    groups = error_analysis.by_speaker(results)
    if not groups:
        return ""
    left_out = len(groups) - SPEAKERS
    told = f"<p class=note>The other {left_out:,} have lower rates.</p>" if left_out > 0 else ""
    return _bars("speaker", groups[:SPEAKERS]) + told


def _bars(name: str, groups: Sequence[Group]) -> str:
    """A bar of word error rate for each group, with its interval."""
    ends = [end for group in groups for end in (group.words.rate, *(group.interval or ()))]
    rows = [
        [
            f"<bdi>{escape(group.name)}</bdi>",
            charts.interval_bar(group.words.rate, group.interval, max(ends)),
            f"{group.words.rate:.2%} <span class=interval>"
            f"{format_interval(group.interval) if group.interval else ''}</span>",
            f"{group.utterances:,}",
        ]
        for group in groups
    ]
    return table([name, "", "WER, 95% interval", "utterances"], rows, "bars")


def _confusions(found: error_analysis.Confusions) -> str:
    lists = (
        _confusion_list("Substituted", found.substitutions),
        _confusion_list("Left out", found.deletions),
        _confusion_list("Put in", found.insertions),
    )
    return f'<div class="columns">{"".join(lists)}</div>'


def _confusion_list(title: str, confusions: Sequence[Confusion]) -> str:
    rows = [
        [" \u2192 ".join(_word(text) for text in (each.reference, each.hypothesis) if text)]
        + [f"{each.count:,}"]
        for each in confusions[:CONFUSIONS]
    ]
    left_out = len(confusions) - len(rows)
    more = f"<p class=note>and {left_out:,} more</p>" if left_out else ""
    return f"<div><h3>{title}</h3>{table([], rows) if rows else '<p>none</p>'}{more}</div>"


def _word(text: str) -> str:
    # A mark alone would stand on what is before it.
    base = CIRCLE if is_mark(text[0]) else ""
    return f"<bdi>{base}{escape(text.replace(' ', OPEN_BOX))}</bdi>"


def _sweeps(page: Page) -> str:
    shown = ""
    if page.beam_points:
        pairs = [(float(each.beam_width), each.wer) for each in page.beam_points]
        shown += "<h3>WER by beam width</h3>" + charts.line_chart(pairs, "beam width", "WER")
        numbers = [[f"{width:g}", f"{rate:.2%}"] for width, rate in sorted(pairs)]
        shown += table(["beam width", "WER"], numbers)
    if page.weight_points:
        triples = [(each.alpha, each.beta, each.wer) for each in page.weight_points]
        chosen = page.chosen
        framed = f"; framed: nearest to alpha {chosen[0]:g}, beta {chosen[1]:g}" if chosen else ""
        shown += (
            "<h3>WER by the scorer's weights, in percent</h3>"
            f"<div class=scrolled>{charts.heat_map(triples, 'alpha', 'beta', chosen)}</div>"
            f"<p class=note>The stronger the colour, the lower the rate{framed}. Weights are to be "
            "chosen on development data (tune_lm.py), not here.</p>"
        )
    return shown


def _utterances(page: Page) -> str:
    found = error_analysis.examples(page.results, EXAMPLES)
    lists = (("Worst", found.worst), ("Median", found.median), ("Best", found.best))
    return LEGEND + "".join(
        f"<h3>{title}</h3>" + "".join(_example(result, page.audio) for result in results)
        for title, results in lists
        if results
    )


def _example(result: Result, audio: Audio | None) -> str:
    return (
        f"<article>{heading(result.utterance_id, _errors(result))}"
        f"{_alignment(result)}{_player(result.utterance_id, audio)}</article>"
    )


def _errors(result: Result) -> str:
    errors, words = result.words.total, result.words.length
    return f"WER {result.words.rate:.1%}: {count(errors, 'error')} in {count(words, 'word')}"


def _alignment(result: Result) -> str:
    edits = error_analysis.align_words(result.reference, result.hypothesis)
    direction = text_direction(result.reference) or text_direction(result.hypothesis) or "ltr"
    return f'<p class="alignment" dir="{direction}">{" ".join(map(_edit, edits))}</p>'


def text_direction(text: str) -> str:
    """ "rtl" or "ltr", as most words run, or the first if both are as many; empty if none tells.

    Browsers' dir="auto" asks the first letter alone, and so would turn a sentence that begins with
    another script's name, or with a word that was put in.
    """
    strong = [each for each in map(_first_direction, text.split()) if each]
    if not strong:
        return ""
    return max("ltr", "rtl", key=lambda each: (strong.count(each), each == strong[0]))


def _first_direction(word: str) -> str:
    """The direction of the first character that has one."""
    directions = {"L": "ltr", "R": "rtl", "AL": "rtl"}
    found = (directions.get(unicodedata.bidirectional(each), "") for each in word)
    return next(filter(None, found), "")


def _edit(edit: Edit) -> str:
    reference, hypothesis = (escape(text) or "\u2013" for text in (edit.reference, edit.hypothesis))
    return f'<span class="{edit.kind}"><span>{reference}</span><span>{hypothesis}</span></span>'


def _player(utterance_id: str, audio: Audio | None) -> str:
    recording = audio(utterance_id) if audio else None
    if recording is None:
        return ""
    told = (
        "<p class=note>As recorded, before augmentation.</p>" if COPY_MARK in utterance_id else ""
    )
    return f'<audio controls src="{data_uri(recording)}"></audio>{told}'


LEGEND = (
    '<p class="note legend">Above what was said, below what was recognised: '
    '<span class="substitute"><span>substituted</span></span> '
    '<span class="delete"><span>left out</span></span> '
    '<span class="insert"><span>put in</span></span></p>'
)
