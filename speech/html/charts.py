"""Draws charts as inline SVG.

matplotlib draws the pictures of training and tuning, but not these: an inline SVG takes its colours
from the page's style sheet, so that it follows the reader's light or dark scheme; its numbers are
text that can be selected and read aloud; and it has 0.3 to 5 kB, where matplotlib's has 12 to 24
(measured).
"""

import math
from collections.abc import Sequence

import numpy as np
from markupsafe import Markup, escape

# Pixels, if the page is wide enough. On a narrower one the line chart shrinks and the heat map
# scrolls, since its numbers must stay readable.
LINE_WIDTH, LINE_HEIGHT = 440, 250
LEFT, RIGHT, TOP, BOTTOM = 56, 20, 12, 44
LABEL_WIDTH = 30  # of a number at an axis
CELL_WIDTH, CELL_HEIGHT = 52, 28

# A histogram's largest number of bars, and its end as a multiple of the 99th percentile: otherwise
# one long utterance would squeeze all others into a corner.
MOST_BARS = 40
FAR_OUT = 2.0

# In a waveform's own units; it is as wide as the page.
WAVE_WIDTH, WAVE_HEIGHT = 300, 60
MARK_HEIGHT = 9

# Opacity of the worst and the best cell; the number is readable on both.
PALEST, STRONGEST = 0.04, 0.6


def interval_bar(value: float, interval: tuple[float, float] | None, largest: float) -> Markup:
    """Draws a bar with its interval as a whisker; its number belongs beside it, as text.

    Args:
        value: 0 or more.
        interval: (low, high); None: no whisker.
        largest: the value of the whole width.
    """
    scale = 100 / largest if largest > 0 else 0.0
    bar = f'<rect width="{scale * value:.2f}%" height="14" y="3"/>'
    if interval:
        left, right = (f"{scale * end:.2f}%" for end in interval)
        caps = "".join(f'<line x1="{x}" x2="{x}" y1="5" y2="15"/>' for x in (left, right))
        whisker = f'<line x1="{left}" x2="{right}" y1="10" y2="10"/>{caps}'
        bar += f'<g class="whisker">{whisker}</g>'
    return Markup(f'<svg class="bar" width="100%" height="20" aria-hidden="true">{bar}</svg>')


def line_chart(points: Sequence[tuple[float, float]], x_label: str, y_label: str) -> Markup:
    """Draws rates over a positive variable, on a logarithmic axis.

    Args:
        points: (x, rate), at least one.
    """
    points = sorted(points)
    exponents = [math.log10(x) for x, _ in points]
    rates = [rate for _, rate in points]
    ticks = _ticks(min(rates), max(rates))
    xs = [_place(each, exponents[0], exponents[-1], LEFT, LINE_WIDTH - RIGHT) for each in exponents]
    bottom = LINE_HEIGHT - BOTTOM

    def height(rate: float) -> float:
        return _place(rate, ticks[0], ticks[-1], bottom, TOP)

    ys = [height(rate) for rate in rates]
    drawn = [
        f'<line class="grid" x1="{LEFT}" x2="{LINE_WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        + _text(LEFT - 8, y + 4, f"{tick:.{_decimals(ticks)}%}", "end")
        for tick, y in ((tick, height(tick)) for tick in ticks)
    ]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(xs, ys, strict=True))
    drawn.append(f'<polyline class="curve" points="{path}"/>')
    labelled = -math.inf
    for (value, _), x, y in zip(points, xs, ys, strict=True):
        drawn.append(f'<circle class="point" cx="{x:.1f}" cy="{y:.1f}" r="4"/>')
        if x - labelled >= LABEL_WIDTH:
            drawn.append(_text(x, bottom + 18, f"{value:g}", "middle"))
            labelled = x
    drawn.append(_text((LEFT + LINE_WIDTH) / 2, LINE_HEIGHT - 6, x_label, "middle"))
    return _svg(LINE_WIDTH, LINE_HEIGHT, f"{y_label} over {x_label}", drawn, "shrinks")


def heat_map(
    points: Sequence[tuple[float, float, float]],
    x_label: str,
    y_label: str,
    chosen: tuple[float, float] | None,
) -> Markup:
    """Draws rates over two settings as cells; the stronger the colour, the lower the rate.

    Colours follow ranks, since a few settings are often far worse than all others.

    Args:
        points: (x, y, rate), at least one, of a grid that may have holes.
        chosen: (x, y); the nearest point is framed. None: none is.
    """
    columns = sorted({x for x, _, _ in points})
    rows = sorted({y for _, y, _ in points}, reverse=True)
    ranks = sorted({rate for _, _, rate in points}, reverse=True)
    bottom = len(rows) * CELL_HEIGHT
    drawn = []
    for x, y, rate in points:
        left, top = LEFT + columns.index(x) * CELL_WIDTH, rows.index(y) * CELL_HEIGHT
        share = (ranks.index(rate) + 1) / len(ranks)
        drawn.append(
            f'<rect class="cell" x="{left}" y="{top}" width="{CELL_WIDTH}" height="{CELL_HEIGHT}" '
            f'fill-opacity="{PALEST + (STRONGEST - PALEST) * share:.2f}"/>'
        )
        drawn.append(_text(left + CELL_WIDTH / 2, top + 19, f"{100 * rate:.2f}", "middle"))
    for i, x in enumerate(columns):
        drawn.append(_text(LEFT + (i + 0.5) * CELL_WIDTH, bottom + 16, f"{x:g}", "middle"))
    for i, y in enumerate(rows):
        drawn.append(_text(LEFT - 8, i * CELL_HEIGHT + 19, f"{y:g}", "end"))
    middle = LEFT + len(columns) * CELL_WIDTH / 2
    drawn.append(_text(middle, bottom + 36, x_label, "middle"))
    drawn.append(_text(2, bottom + 36, f"{y_label} \u2191", "start"))
    if chosen:
        column = columns.index(min(columns, key=lambda x: abs(x - chosen[0])))
        row = rows.index(min(rows, key=lambda y: abs(y - chosen[1])))
        drawn.append(
            f'<rect class="chosen" x="{LEFT + column * CELL_WIDTH + 1}" '
            f'y="{row * CELL_HEIGHT + 1}" width="{CELL_WIDTH - 2}" '
            f'height="{CELL_HEIGHT - 2}" rx="5"/>'
        )
    width = LEFT + len(columns) * CELL_WIDTH + 2
    return _svg(width, bottom + BOTTOM, f"WER over {x_label} and {y_label}", drawn, "scrolls")


def histogram(values: np.ndarray, x_label: str) -> Markup:
    """Draws a histogram of utterances' values; the last bar also counts values far above the rest.

    Args:
        values: [utterances], positive, at least one.
    """
    end = min(float(values.max()), FAR_OUT * float(np.percentile(values, 99)))
    width = _bar_width(end)
    bars = int(end / width) + 1
    held = np.bincount(np.minimum((values / width).astype(int), bars - 1), minlength=bars)
    bottom = LINE_HEIGHT - BOTTOM
    step = (LINE_WIDTH - LEFT - RIGHT) / bars
    drawn = [
        f'<line class="grid" x1="{LEFT}" x2="{LINE_WIDTH - RIGHT}" y1="{y}" y2="{y}"/>'
        + _text(LEFT - 8, y + 4, f"{number:,}", "end")
        for number, y in ((0, bottom), (int(held.max()), TOP))
    ]
    tick = next(each for each in (1, 2, 5, 10, 20) if each * step >= 1.5 * LABEL_WIDTH)
    for bar, number in enumerate(held.tolist()):
        left, height = LEFT + bar * step, (bottom - TOP) * number / held.max()
        if number:  # a single utterance is visible
            height = max(height, 1.5)
            drawn.append(
                f'<rect class="column" x="{left:.1f}" y="{bottom - height:.1f}" '
                f'width="{max(step - 1, 0.5):.1f}" height="{height:.1f}"/>'
            )
        if bar % tick == 0:
            drawn.append(_text(left, bottom + 18, f"{bar * width:g}", "middle"))
    beyond = int((values >= bars * width).sum())
    more = f" (in the last bar also {beyond:,} beyond)" if beyond else ""
    drawn.append(_text((LEFT + LINE_WIDTH) / 2, LINE_HEIGHT - 6, f"{x_label}{more}", "middle"))
    return _svg(LINE_WIDTH, LINE_HEIGHT, f"utterances over {x_label}", drawn, "shrinks")


def _bar_width(end: float) -> float:
    """Returns the smallest of ..., 0.1, 0.2, 0.5, 1, 2, 5, ... of which MOST_BARS reach the end."""
    power = 10.0 ** math.floor(math.log10(end / MOST_BARS))
    return next(factor * power for factor in (1, 2, 5, 10) if end / (factor * power) < MOST_BARS)


def waveform(
    samples: np.ndarray, marked: np.ndarray, spoken: tuple[float, float], label: str
) -> Markup:
    """Draws a recording from its first to its last sample; its height is full scale.

    Args:
        samples: [samples] in [-1, 1], at least one.
        marked: bool [samples], such as clipped ones; they have marks at top and bottom.
        spoken: begin and end of speech, as shares of the length; the rest is shaded.
        label: description of the picture in words.
    """
    columns = min(WAVE_WIDTH, len(samples))
    edges = np.arange(columns) * len(samples) // columns  # [columns]
    scale = WAVE_WIDTH / columns
    middle = WAVE_HEIGHT / 2
    highs = middle - middle * np.clip(np.maximum.reduceat(samples, edges), -1, 1)
    lows = middle - middle * np.clip(np.minimum.reduceat(samples, edges), -1, 1)
    there = [f"{x * scale:g},{y:.1f}" for x, y in enumerate(highs.tolist())]
    back = [f"{x * scale:g},{y + 0.5:.1f}" for x, y in enumerate(lows.tolist())][::-1]
    begin, end = (WAVE_WIDTH * share for share in spoken)
    lines = "".join(
        f"M{x * scale:g},0v{MARK_HEIGHT}M{x * scale:g},{WAVE_HEIGHT}v-{MARK_HEIGHT}"
        for x in np.flatnonzero(np.logical_or.reduceat(marked, edges)).tolist()
    )
    shades = "".join(
        f'<rect class="silent" x="{x:.1f}" width="{width:.1f}" height="{WAVE_HEIGHT}"/>'
        for x, width in ((0.0, begin), (end, WAVE_WIDTH - end))
        if width > 0
    )
    return Markup(
        f'<svg class="waveform" viewBox="0 0 {WAVE_WIDTH} {WAVE_HEIGHT}" width="100%" '
        f'height="{WAVE_HEIGHT}" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(label)}">{shades}'
        f'<path class="wave" d="M{" ".join(there + back)}Z"/>'
        + (f'<path class="cut" d="{lines}"/>' if lines else "")
        + "</svg>"
    )


def _svg(width: int, height: int, label: str, drawn: Sequence[str], how: str) -> Markup:
    return Markup(
        f'<svg class="chart {how}" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" role="img" aria-label="{escape(label)}">{"".join(drawn)}</svg>'
    )


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _place(value: float, first: float, last: float, start: float, end: float) -> float:
    """Maps a value from [first, last] to [start, end]; to the middle if first is last."""
    share = (value - first) / (last - first) if last > first else 0.5
    return start + share * (end - start)


def _ticks(lowest: float, highest: float) -> list[float]:
    """Returns four to seven round numbers that span the range."""
    span = max(highest - lowest, 0.001)
    power = 10 ** math.floor(math.log10(span / 3))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= span / 4)
    first, last = math.floor(lowest / step), math.ceil(highest / step)
    return [step * i for i in range(first, max(last, first + 1) + 1)]


def _decimals(ticks: Sequence[float]) -> int:
    """Returns the decimals with which no two ticks look the same in percent."""
    return max(0, -math.floor(math.log10(100 * (ticks[1] - ticks[0])) + 1e-9))
