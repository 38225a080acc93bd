"""Charts, read back from their SVG."""

from itertools import pairwise
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speech.html.charts import heat_map, histogram, interval_bar, line_chart, waveform

RATES = st.floats(0, 3)


def elements(svg: str, tag: str, kind: str | None = None) -> list[ElementTree.Element]:
    found = ElementTree.fromstring(svg).iter(tag)
    return [each for each in found if kind is None or each.get("class") == kind]


def number(element: ElementTree.Element, name: str) -> float:
    return float((element.get(name) or "").removesuffix("%"))


def texts(svg: str) -> list[str]:
    return [each.text or "" for each in elements(svg, "text")]


def test_bar_and_whisker_are_in_proportion() -> None:
    svg = interval_bar(0.2, (0.1, 0.4), 0.5)
    (bar,) = elements(svg, "rect")
    assert number(bar, "width") == pytest.approx(40)
    whisker, left, right = elements(svg, "line")
    assert (number(whisker, "x1"), number(whisker, "x2")) == (20, 80)
    assert (number(left, "x1"), number(right, "x1")) == (20, 80)


def test_bar_without_interval_or_without_any_error() -> None:
    assert elements(interval_bar(0.2, None, 0.5), "line") == []
    (bar,) = elements(interval_bar(0.0, (0.0, 0.0), 0.0), "rect")
    assert number(bar, "width") == 0


def test_line_goes_through_its_points_over_a_logarithmic_axis() -> None:
    points = [(100, 0.10), (1, 0.14), (10, 0.12)]
    circles = elements(line_chart(points, "beam width", "WER"), "circle")
    xs, ys = ([number(each, name) for each in circles] for name in ("cx", "cy"))
    assert xs[1] - xs[0] == pytest.approx(xs[2] - xs[1], abs=0.1)
    assert ys[1] - ys[0] == pytest.approx(ys[2] - ys[1], abs=0.1)
    assert ys[0] < ys[1] < ys[2]  # a lower rate is drawn lower
    assert {"1", "10", "100", "beam width"} <= set(texts(line_chart(points, "beam width", "WER")))


def test_ticks_are_round_and_around_the_points() -> None:
    shown = texts(line_chart([(1, 0.1412), (500, 0.1177)], "beam width", "WER"))
    assert [text for text in shown if "%" in text] == ["11%", "12%", "13%", "14%", "15%"]
    shown = texts(line_chart([(1, 0.1190), (500, 0.1177)], "beam width", "WER"))
    assert [text for text in shown if "%" in text] == ["11.75%", "11.80%", "11.85%", "11.90%"]


@given(st.dictionaries(st.integers(1, 5000), RATES, min_size=1, max_size=8))
@settings(deadline=None)
def test_line_stays_inside_and_its_ticks_differ(rates: dict[int, float]) -> None:
    svg = line_chart([(float(x), rate) for x, rate in rates.items()], "beam width", "WER")
    chart = ElementTree.fromstring(svg)
    grid = [number(line, "y1") for line in elements(svg, "line", "grid")]
    for circle in elements(svg, "circle"):
        assert 0 <= number(circle, "cx") <= number(chart, "width")
        assert min(grid) - 0.1 <= number(circle, "cy") <= max(grid) + 0.1
    ticks = [text for text in texts(svg) if "%" in text]
    assert 2 <= len(ticks) == len(set(ticks)) <= 8


def test_numbers_below_the_axis_do_not_overlap() -> None:
    svg = line_chart([(x, 0.1) for x in range(70, 101)], "beam width", "WER")
    labels = [each for each in elements(svg, "text") if (each.text or "").isdecimal()]
    places = [number(each, "x") for each in labels]
    assert labels[0].text == "70" and 5 < len(labels) < 31
    assert min(right - left for left, right in pairwise(places)) >= 30


def test_heat_map_has_a_cell_with_its_number_for_every_point() -> None:
    points = [(0.5, 1.0, 0.2), (1.0, 1.0, 0.1), (0.5, 2.0, 0.3)]  # one is missing
    svg = heat_map(points, "alpha", "beta", None)
    cells = elements(svg, "rect", "cell")
    assert len(cells) == 3
    assert texts(svg)[:3] == ["20.00", "10.00", "30.00"]
    low, right, high = cells
    assert number(right, "x") > number(low, "x") and number(right, "y") == number(low, "y")
    assert number(high, "y") < number(low, "y")  # betas rise upwards
    strengths = [number(cell, "fill-opacity") for cell in cells]
    assert strengths[2] < strengths[0] < strengths[1]  # the best is the strongest
    assert elements(svg, "rect", "chosen") == []


@pytest.mark.parametrize("chosen", [(1.0, 2.0), (0.8, 1.7), (7.0, 9.0)])
def test_cell_nearest_to_the_choice_is_framed(chosen: tuple[float, float]) -> None:
    points = [(alpha, beta, alpha) for alpha in (0.5, 1.0) for beta in (1.0, 2.0)]
    svg = heat_map(points, "alpha", "beta", chosen)
    (frame,) = elements(svg, "rect", "chosen")
    cell = elements(svg, "rect", "cell")[3]  # alpha 1, beta 2
    assert number(frame, "x") == number(cell, "x") + 1
    assert number(frame, "y") == number(cell, "y") + 1


# --- Histogram and waveform -----------------------------------------------------------------------


def test_columns_are_as_high_as_their_counts() -> None:
    svg = histogram(np.array([1.0] * 4 + [2.0] * 2 + [3.0]), "seconds")
    heights = [number(each, "height") for each in elements(svg, "rect", "column")]
    assert heights[0] == pytest.approx(2 * heights[1], abs=0.2)
    assert heights[0] == pytest.approx(4 * heights[2], abs=0.2)
    assert {"0", "4", "1", "seconds"} <= set(texts(svg))


def test_a_far_outlier_is_reported_and_squeezes_no_other_bar() -> None:
    values = np.append(np.linspace(1, 10, 999), 5000)
    svg = histogram(values, "seconds")
    assert len(elements(svg, "rect", "column")) > 15
    assert "seconds (in the last bar also 1 beyond)" in texts(svg)


@given(st.lists(st.floats(1e-3, 1e5), min_size=1, max_size=30))
def test_columns_stay_inside_whatever_the_values(values: list[float]) -> None:
    svg = histogram(np.array(values), "seconds")
    columns = elements(svg, "rect", "column")
    assert 1 <= len(columns) <= 41
    for each in columns:
        assert number(each, "x") >= 56 and number(each, "x") + number(each, "width") <= 420.1
        assert number(each, "y") + 0.1 >= 12 and number(each, "height") <= 194.1


def test_a_waveform_reaches_from_its_lowest_to_its_highest_sample() -> None:
    samples = np.zeros(3000, np.float32)
    samples[1500:1510] = 0.5
    samples[2000:2010] = -1
    svg = waveform(samples, np.zeros(3000, bool), (0.0, 1.0), "w")
    (wave,) = elements(svg, "path", "wave")
    points = [point.split(",") for point in (wave.get("d") or "").strip("MZ").split()]
    heights = [float(y) for _, y in points]
    assert len(points) == 600
    assert min(heights) == 15 and max(heights) == 60.5
    assert float(points[150][0]) == 150 and float(points[150][1]) == 15


def test_marks_stand_where_samples_are_marked_and_shades_where_nobody_speaks() -> None:
    marked = np.zeros(3000, bool)
    marked[1500:1520] = True
    svg = waveform(np.zeros(3000), marked, (0.25, 0.9), "w")
    (cut,) = elements(svg, "path", "cut")
    assert (cut.get("d") or "").startswith("M150,0v") and "M151,0v" in (cut.get("d") or "")
    shades = [(number(e, "x"), number(e, "width")) for e in elements(svg, "rect", "silent")]
    assert shades == [(0, 75), (270, 30)]


@pytest.mark.parametrize("length", [1, 7, 299, 301])
def test_waveforms_of_few_samples_are_as_wide(length: int) -> None:
    svg = waveform(np.ones(length), np.zeros(length, bool), (0.0, 1.0), "w")
    (wave,) = elements(svg, "path", "wave")
    assert (wave.get("d") or "").count(",") == 2 * min(length, 300)
