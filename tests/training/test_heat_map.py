"""Pictures of a network's probabilities."""

import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from speech.decoding.beam_search import greedy_decode
from speech.training import heat_map as module
from speech.training.heat_map import Sample, heat_map
from utils import ENGLISH, UTF_8, Alphabet

ROOT = Path(__file__).resolve().parents[2]
BLANK = ENGLISH.blank


def sample_of(
    classes: list[int], size: int = ENGLISH.size, output_seconds: float = 0.02, sure: float = 0.9
) -> Sample:
    """Returns the sample of a network that is sure of one class at each output."""
    probabilities = np.full([len(classes), size], (1 - sure) / (size - 1), np.float32)
    probabilities[np.arange(len(classes)), classes] = sure
    return Sample("id-1", "", "", "", np.log(probabilities), output_seconds)


def texts(sample: Sample, alphabet: Alphabet = ENGLISH) -> list[str]:
    """Returns the texts over the map: the id, then characters."""
    return [text.get_text() for text in module.figure(sample, alphabet).texts]


def test_an_utterance_is_a_picture_of_1000_by_400() -> None:
    picture = heat_map(sample_of([0, BLANK, 1]), ENGLISH)
    assert picture.shape == (400, 1000, 3)
    assert picture.dtype == np.uint8


def test_a_longer_one_is_wider_up_to_a_limit() -> None:
    assert heat_map(sample_of([BLANK] * 600), ENGLISH).shape == (400, 60 + 1560 + 75, 3)
    assert heat_map(sample_of([BLANK] * 2500), ENGLISH).shape == (400, 4000, 3)


def test_a_probable_class_is_bright_where_it_is_and_dark_where_it_is_not() -> None:
    picture = heat_map(sample_of([0] * 5 + [BLANK] * 5), ENGLISH).astype(int).sum(axis=2)
    row = picture[50 + 5]  # of the first class
    assert row[60 + 200] > 500  # the first half
    assert row[60 + 600] < 200
    blank = picture[400 - 40 - 5]
    assert blank[60 + 200] < 200 and blank[60 + 600] > 500


def test_time_is_in_seconds_and_classes_are_named() -> None:
    axes = module.figure(sample_of([0] * 50, output_seconds=0.04), ENGLISH).axes[0]
    assert axes.get_xlim() == (0, 2)
    assert axes.get_xlabel() == "seconds"
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert "".join(names) == "abcdefghijklmnopqrstuvwxyz␣'∅"


def test_the_greedy_text_is_along_the_top_at_its_time() -> None:
    sample = sample_of([BLANK, 7, 7, BLANK, 26, BLANK, 8, BLANK, 8, BLANK])
    assert greedy_decode(sample.log_probs, ENGLISH) == "h ii"
    figure = module.figure(sample, ENGLISH)
    assert [text.get_text() for text in figure.texts] == ["id-1", "h", "␣", "i", "i"]
    middles = [text.get_position()[0] * 1000 for text in figure.texts[1:]]
    assert middles == pytest.approx([60 + 86.5 * output for output in (2, 4.5, 6.5, 8.5)])


def test_of_a_text_without_room_the_beginning_is_shown() -> None:
    written = texts(sample_of([0, 1] * 500))  # 20 seconds, 50 characters in each
    assert written == ["id-1", *"ab" * 172, "a", "…"]  # 2600 / 7.5


@given(st.lists(st.floats(0, 100), max_size=40).map(sorted), st.floats(1, 10), st.floats(100, 150))
def test_characters_keep_their_order_their_distance_and_inside(
    centres: list[float], gap: float, width: float
) -> None:
    spread = module.spread(np.array(centres), gap, width)
    assert len(spread) == min(len(centres), int(width // gap))
    if len(spread):
        assert np.diff(spread, prepend=-gap / 2, append=width + gap / 2).min() > gap - 1e-6


def test_characters_with_room_stay_where_they_are() -> None:
    centres = np.array([10.0, 20, 50, 90])
    assert module.spread(centres, 10, 100).tolist() == centres.tolist()


def test_characters_that_crowd_move_to_both_sides() -> None:
    assert module.spread(np.array([50.0, 50, 50]), 10, 100).tolist() == [40, 50, 60]


def test_no_peak_is_lost_when_outputs_are_more_than_columns() -> None:
    log_probs = np.full([1000, 2], -9, np.float32)
    log_probs[501, 1] = 0
    pooled = module.pool(log_probs, 300)
    assert pooled.shape == (300, 2)
    assert pooled.max() == 0
    assert (module.pool(log_probs, 1000) == log_probs).all()
    assert (module.pool(log_probs, 3000) == log_probs).all()


def test_of_a_large_alphabet_the_most_probable_classes_are_shown() -> None:
    size = 3001
    sample = sample_of([2000, size - 1, 7, 2999], size, sure=0.5)
    rows = module.shown_classes(sample.log_probs)
    assert len(rows) == module.MOST_ROWS and rows == sorted(set(rows))
    assert {7, 2000, 2999, size - 1} <= set(rows)
    sample.log_probs[:, 7] = np.nan
    assert 7 not in module.shown_classes(sample.log_probs)


def test_what_is_no_number_is_grey_and_no_character() -> None:
    sample = sample_of([3] * 10)
    sample.log_probs[:5] = np.nan
    assert texts(sample) == ["id-1", "d"]
    assert (heat_map(sample, ENGLISH)[200, 60 + 10 : 60 + 400] == 128).all()


def test_an_utterance_without_outputs_is_an_empty_map() -> None:
    sample = sample_of([])
    assert texts(sample) == ["id-1"]
    assert heat_map(sample, ENGLISH).shape == (400, 1000, 3)


def test_an_impossible_class_is_drawn_as_the_least_probable() -> None:
    sample = sample_of([0] * 10)
    sample.log_probs[:, 1:] = -np.inf
    picture = heat_map(sample, ENGLISH)
    assert picture[50 + 5 + 11, 500].max() < 30


@pytest.mark.parametrize(
    ("characters", "name_over", "name_beside"),
    [
        ("ש", "ש", "ש"),
        ("ع", "ع", "ع"),
        ("字", "□", "U+5B57"),
        ("ह", "□", "U+0939"),
        ("\u0301", "◌\u0301", "◌\u0301"),
        ("$", "$", "$"),
        ("\\", "\\", "\\"),
        ("\t", "□", "U+0009"),
        ("\U0001f600", "😀", "😀"),
        ("\ue123", "□", "U+E123"),
    ],
)
def test_any_script_is_drawn_without_a_warning(
    characters: str, name_over: str, name_beside: str, caplog: pytest.LogCaptureFixture
) -> None:
    alphabet = Alphabet(("a", characters, " "))
    sample = sample_of([0, 1, 2, 1], alphabet.size)
    sample = Sample(f"id {characters} $x", "", "", "", sample.log_probs, 0.02)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert heat_map(sample, alphabet).shape == (400, 1000, 3)
    assert not caplog.records
    assert texts(sample, alphabet)[1:] == ["a", name_over, "␣", name_over]
    axes = module.figure(sample, alphabet).axes[0]
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == ["a", name_beside, "␣", "∅"]


def test_of_bytes_characters_stand_above_and_bytes_beside() -> None:
    labels = [*"aع".encode(), 0xE4, 0x20, UTF_8.blank]
    sample = sample_of(labels, UTF_8.size)
    assert texts(sample, UTF_8)[1:] == ["a", "ع", "\ufffd", "␣"]
    path = [(each + 0.5, label) for each, label in enumerate(labels[:-1])]
    assert module.characters_over(path, UTF_8) == [
        (0.5, "a"), (2.5, "ع"), (4.5, "\ufffd"), (4.5, "␣")
    ]  # fmt: skip
    assert module.characters_over(path[:2], UTF_8) == [(0.5, "a"), (1.5, "\ufffd")]
    assert [module.row_name(each, UTF_8) for each in (0x61, 0x20, 0xE4, 10, 256)] == [
        "a", "␣", "E4", "U+000A", "∅"
    ]  # fmt: skip


def test_matplotlib_is_imported_only_to_draw_and_neither_pyplot_nor_tensorflow() -> None:
    code = """
import sys
import numpy as np
from speech.training.heat_map import Sample, heat_map
from utils import ENGLISH
assert "matplotlib" not in sys.modules
heat_map(Sample("", "", "", "", np.zeros([3, 29], np.float32), 0.02), ENGLISH)
assert "matplotlib" in sys.modules
assert "matplotlib.pyplot" not in sys.modules and "tensorflow" not in sys.modules
"""
    outcome = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=False, capture_output=True, text=True
    )
    assert outcome.returncode == 0, outcome.stderr
