"""Draws a network's output for an utterance: each class's probability over time."""

import codecs
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from speech.decoding.types import LogProbs
from speech.text.characters import CIRCLE, code_point, is_mark
from utils import UTF_8, Alphabet

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.ft2font import FT2Font

Pixels = npt.NDArray[np.uint8]  # [height, width, 3]: red, green, blue

# The only font that comes with matplotlib: pictures are the same on all machines.
FONT = "DejaVu Sans"
SPACE, BLANK, MISSING, MORE = "␣", "∅", "□", "…"

# Sizes in pixels. A long utterance's picture is wider, so that there is room for 17 characters a
# second, which is fast speech.
DPI = 100
SMALLEST_WIDTH, LARGEST_WIDTH = 1000, 4000
SMALLEST_HEIGHT = 400
LEFT, RIGHT, TOP, BOTTOM = 60, 75, 50, 40  # around the map
ROW = 10.5  # of a class
CHARACTER = 7.5  # of the text
PIXELS_A_SECOND = 130

# Rows of the map, at most; of a larger alphabet the classes that are the most probable somewhere.
MOST_ROWS = 48

# The colours' range. They follow the logarithm, so that a network's second best class is visible.
SMALLEST_PROBABILITY = 1e-3


@dataclass(frozen=True, eq=False)
class Sample:
    """An utterance of the development set as it was recognised."""

    utterance_id: str
    reference: str
    greedy: str
    beam: str
    log_probs: LogProbs  # float32 [outputs, classes], natural logarithms; the blank is last
    output_seconds: float  # between two outputs


def heat_map(sample: Sample, alphabet: Alphabet) -> Pixels:
    """Draws a sample as uint8 [height, width, 3], at least 400 x 1000 pixels.

    Time goes from left to right in any script. Above the map are the characters of the best path at
    their times, or the first ones if there are too many. Outputs that aren't numbers are grey.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure(sample, alphabet))
    canvas.draw()
    return np.array(canvas.buffer_rgba())[:, :, :3]


def figure(sample: Sample, alphabet: Alphabet) -> "Figure":
    """Returns the figure of `heat_map`."""
    # Without pyplot, which keeps figures and a backend for the whole process.
    from matplotlib.figure import Figure

    outputs = max(len(sample.log_probs), 1)
    path = best_path(sample.log_probs, alphabet)
    rows = shown_classes(sample.log_probs)
    wanted = PIXELS_A_SECOND * outputs * sample.output_seconds
    map_width = int(np.clip(wanted, SMALLEST_WIDTH - LEFT - RIGHT, LARGEST_WIDTH - LEFT - RIGHT))
    map_height = int(max(ROW * len(rows), SMALLEST_HEIGHT - TOP - BOTTOM))
    width, height = LEFT + map_width + RIGHT, TOP + map_height + BOTTOM
    drawn = Figure(figsize=(width / DPI, height / DPI), dpi=DPI)
    _draw_map(drawn, sample, alphabet, rows, (map_width, map_height))

    def write(text: str, left: float, above: float, **how: Any) -> None:
        """Writes over the map, `left` pixels from its left and `above` from its upper edge."""
        where = (LEFT + left) / width, 1 - (TOP - above) / height
        drawn.text(*where, text, fontfamily=FONT, parse_math=False, **how)

    write(drawable(sample.utterance_id), 0, 28, fontsize=9, color="dimgray")
    over = characters_over(path, alphabet)
    centres = np.array([at for at, _ in over]) * map_width / outputs
    places = spread(centres, CHARACTER, map_width)
    text = [character for _, character in over[: len(places)]]
    if len(text) < len(over):
        text[-1] = MORE
    for character, place in zip(text, places, strict=True):
        # One by one: a script that is written from right to left keeps the order of time.
        write(character, float(place), 6, fontsize=8, ha="center")
    return drawn


def _draw_map(
    drawn: "Figure",
    sample: Sample,
    alphabet: Alphabet,
    rows: list[int],  # their classes
    size: tuple[int, int],  # width and height in pixels
) -> None:
    from matplotlib.colors import LogNorm

    width, height = (float(inches) * DPI for inches in drawn.get_size_inches())
    bottom, share_of_height = BOTTOM / height, size[1] / height
    axes = drawn.add_axes((LEFT / width, bottom, size[0] / width, share_of_height))
    axes.set_facecolor("gray")  # visible where there is NaN
    probabilities = np.exp(pool(sample.log_probs[:, rows], size[0]))  # [columns, rows]
    colours = axes.imshow(
        np.clip(probabilities.T, SMALLEST_PROBABILITY, 1),
        norm=LogNorm(SMALLEST_PROBABILITY, 1),
        cmap="magma",
        aspect="auto",
        interpolation="nearest",
        extent=(0, max(len(sample.log_probs), 1) * sample.output_seconds, len(rows), 0),
    )
    names = [row_name(each, alphabet) for each in rows]
    # On a baseline a little below the rows' middles, where an apostrophe differs from a comma. The
    # space's sign itself is below the baseline, in the next row.
    below = np.array([0.5 if name == SPACE else 3.5 for name in names])  # pixels
    axes.set_yticks(np.arange(len(rows)) + 0.5 + below * len(rows) / size[1])
    axes.set_yticklabels(names, fontfamily=FONT, fontsize=7, va="baseline", parse_math=False)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("seconds", fontfamily=FONT, fontsize=8, labelpad=1)
    axes.tick_params(axis="x", labelsize=8)
    beside = drawn.add_axes((1 - (RIGHT - 12) / width, bottom, 12 / width, share_of_height))
    drawn.colorbar(colours, cax=beside).set_label("probability", fontfamily=FONT, fontsize=8)
    beside.tick_params(labelsize=7)


# --- Outputs --------------------------------------------------------------------------------------


def best_path(log_probs: LogProbs, alphabet: Alphabet) -> list[tuple[float, int]]:
    """Finds the best path: (middle of its run, in outputs; class) of each character.

    Outputs that aren't numbers count as blanks. log_probs: [outputs, classes]
    """
    numbers = ~np.isnan(log_probs).any(axis=1)
    classes = np.where(numbers, log_probs.argmax(axis=1), alphabet.blank)  # [outputs]
    path, start = [], 0
    for each, run in groupby(classes.tolist()):
        end = start + len(list(run))
        if each != alphabet.blank:
            path.append(((start + end) / 2, each))
        start = end
    return path


def characters_over(path: list[tuple[float, int]], alphabet: Alphabet) -> list[tuple[float, str]]:
    """Returns the characters to write over the map for a `best_path`.

    A character of several bytes is at its last one.
    """
    if alphabet != UTF_8:
        return [(at, class_name(each, alphabet)) for at, each in path]
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    over = [(at, each) for at, byte in path for each in decoder.decode(bytes([byte]))]
    over += [(path[-1][0], each) for each in decoder.decode(b"", final=True)]
    return [(at, visible(character)) for at, character in over]


def shown_classes(log_probs: LogProbs) -> list[int]:
    """Returns the classes of the map's rows, rising; the blank, which is the last, is always one.

    log_probs: [outputs, classes]
    """
    classes = log_probs.shape[1]
    if classes <= MOST_ROWS:
        return list(range(classes))
    characters = np.nan_to_num(log_probs[:, :-1], nan=-np.inf, neginf=-np.inf)
    highest = characters.max(axis=0, initial=-np.inf)  # [classes - 1]
    most_probable = np.argsort(-highest, kind="stable")[: MOST_ROWS - 1]
    return [*sorted(most_probable.tolist()), classes - 1]


def pool(log_probs: LogProbs, columns: int) -> LogProbs:
    """Takes the largest of neighbouring outputs where there are more than columns.

    CTC's peaks are often one output long: a picture that left outputs out would lose some.

    Args:
        log_probs: [outputs, rows].
        columns: at least 1.

    Returns:
        [columns or fewer, rows]; a column of NaN without outputs.
    """
    outputs, rows = log_probs.shape
    if not outputs:
        return np.full([1, rows], np.nan, np.float32)
    starts = np.arange(min(outputs, columns)) * outputs // min(outputs, columns)
    return np.maximum.reduceat(log_probs, starts, axis=0)


# --- Text -----------------------------------------------------------------------------------------


def spread(centres: npt.NDArray[np.float64], gap: float, width: float) -> npt.NDArray[np.float64]:
    """Moves characters that are closer than `gap` apart, within `width`.

    Args:
        centres: rising, between 0 and `width`. [characters]
        gap, width: in the same unit.

    Returns:
        Centres of the first characters, as many as there is room for.
    """
    centres = centres[: int(width // gap)]
    steps = np.arange(len(centres)) * gap
    # Pushed right by those before, and left by those after: the middle of both is fair.
    right = np.maximum.accumulate(centres - steps)
    left = np.minimum.accumulate((centres - steps)[::-1])[::-1]
    last = width - gap / 2 - steps.max(initial=0)
    return np.clip((right + left) / 2, gap / 2, last) + steps


@cache
def _font() -> "FT2Font":
    from matplotlib.font_manager import findfont, get_font

    return get_font(findfont(FONT))


def drawable(text: str) -> str:
    """Replaces each character that the font doesn't have by a box.

    matplotlib would draw one, too, but warn of each.
    """
    return "".join(character if _is_drawable(character) else MISSING for character in text)


def _is_drawable(character: str) -> bool:
    return character.isprintable() and _font().get_char_index(ord(character)) != 0


def class_name(number: int, alphabet: Alphabet) -> str:
    """Returns a visible name for a class; a box without a glyph."""
    if number == alphabet.blank:
        return BLANK
    character = alphabet.characters[number]
    return character if len(character) > 1 else visible(character)  # the number of a byte is long


def visible(character: str) -> str:
    """Returns a character as visible text; a box without a glyph."""
    if character == " ":
        return SPACE
    if is_mark(character) and _is_drawable(character):
        return f"{CIRCLE}{character}"  # a mark that needs a base character
    return drawable(character)


def row_name(number: int, alphabet: Alphabet) -> str:
    """Returns the `class_name`, or the code point where there is only a box."""
    name = class_name(number, alphabet)
    return code_point(alphabet.characters[number]) if name == MISSING else name
