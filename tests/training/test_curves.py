"""The picture of a training run."""

import io
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.image import imread

from speech.training import curves
from speech.training.history import DevResult, TrainingPoint

ROOT = Path(__file__).resolve().parents[2]


def training_of(losses: list[float | None], rate: float = 3e-4) -> list[TrainingPoint]:
    return [TrainingPoint(step, loss, rate) for step, loss in enumerate(losses, start=1)]


def dev_result(step: int, wer: float, best: bool = False, beam: float | None = None) -> DevResult:
    return DevResult(step, 30.0, wer, wer / 2, beam, beam, best)


DEV_RESULTS = [
    dev_result(10, 0.9, best=True, beam=0.8),
    dev_result(20, 0.25, best=True),
    dev_result(30, 0.5, beam=0.4),
]


def panels(
    training: list[TrainingPoint], dev_results: list[DevResult], steps_per_epoch: int = 10
) -> tuple[Axes, Axes, Axes]:
    losses, errors, rates = curves.figure(training, dev_results, steps_per_epoch).axes
    return losses, errors, rates


def values(axes: Axes, label: str) -> tuple[list[float], list[float]]:
    """Steps and values of the one curve of this label."""
    (line,) = (line for line in axes.lines if line.get_label() == label)
    steps, drawn = line.get_data()
    return np.asarray(steps).tolist(), np.asarray(drawn).tolist()


@pytest.mark.parametrize("training", [[], training_of([400.0, None, 20.0])])
@pytest.mark.parametrize("dev_results", [[], DEV_RESULTS])
def test_whatever_there_is_becomes_a_png(
    training: list[TrainingPoint], dev_results: list[DevResult]
) -> None:
    png = curves.draw(training, dev_results, 7)
    pixels = imread(io.BytesIO(png), format="png")  # [height, width, channels]
    assert pixels.shape[:2] == (1000, 1000)
    assert len(np.unique(pixels)) > 10


def test_a_long_run_is_drawn_in_seconds_with_its_shortest_spike() -> None:
    losses: list[float | None] = [20.0] * 500_000
    losses[123_456] = 5000.0
    training = training_of(losses)
    start = time.process_time()
    curves.draw(training, DEV_RESULTS, 10_000)
    assert time.process_time() - start < 5
    axes, _, _ = panels(training, DEV_RESULTS)
    (band,) = axes.collections
    vertices = np.concatenate([path.vertices for path in band.get_paths()])  # [points, 2]
    assert vertices[:, 1].max() == 5000
    assert len(vertices) < 3000
    mean = values(axes, "training, running mean")[1]
    assert len(mean) == curves.MOST_POINTS
    assert max(mean) == pytest.approx(20 + 4980 / 10001)


def test_losses_of_every_batch_and_of_dev_are_drawn_and_what_is_no_number_is_a_gap() -> None:
    losses = [8.0, None, float("inf"), float("nan"), 4.0]
    axes, _, _ = panels(training_of(losses), DEV_RESULTS)
    assert values(axes, "training, batches") == (
        [1, 2, 3, 4, 5],
        pytest.approx([8, np.nan, np.nan, np.nan, 4], nan_ok=True),
    )
    assert values(axes, "dev") == ([10, 20, 30], [30.0] * 3)


def test_the_running_mean_leaves_out_what_is_no_number() -> None:
    known = curves.running_mean(np.array([1, np.nan, 3, np.nan, 5, 6, 7, 8, 9, 10, 11.0]))
    # At the start as many before as after; at the end what there is.
    assert known[:3].tolist() == [1, 2, 3]
    assert known[-1] == np.mean([6, 7, 8, 9, 10, 11])
    gap = curves.running_mean(np.array([1.0] * 10 + [np.nan] * 11 + [2.0] * 10))
    assert np.flatnonzero(np.isnan(gap)).tolist() == [15]
    assert curves.running_mean(np.array([])).size == 0


def test_the_running_mean_is_over_a_share_of_a_long_run() -> None:
    losses = np.arange(1000.0) ** 2
    mean = curves.running_mean(losses)
    assert mean[500] == pytest.approx(losses[490:511].mean())


def test_ranges_leave_out_what_is_no_number() -> None:
    losses = np.arange(2.0 * curves.MOST_RANGES + 1)
    losses[[0, 3, 4, 5]] = np.nan
    first, smallest, largest = curves.ranges(losses)
    assert first[:3].tolist() == [0, 3, 6] and first[-1] == 1998
    assert smallest[[0, 2, -1]].tolist() == [1, 6, 1998]
    assert largest[[0, 2, -1]].tolist() == [2, 8, 2000]
    assert np.isnan([smallest[1], largest[1]]).all()


def test_error_rates_are_in_per_cent_and_the_beam_s_are_dotted() -> None:
    _, axes, _ = panels([], DEV_RESULTS)
    assert values(axes, "WER, greedy") == ([10, 20, 30], [90, 25, 50])
    assert values(axes, "CER, greedy") == ([10, 20, 30], [45, 12.5, 25])
    beam = pytest.approx([80, np.nan, 40], nan_ok=True)
    assert values(axes, "WER, beam (sample)") == ([10, 20, 30], beam)
    assert values(axes, "CER, beam (sample)") == ([10, 20, 30], beam)
    styles = {str(line.get_label()): line.get_linestyle() for line in axes.lines}
    assert {styles["WER, beam (sample)"], styles["CER, beam (sample)"]} == {":"}
    assert {styles["WER, greedy"], styles["CER, greedy"]} == {"-"}


def test_the_best_result_is_marked_and_in_the_title() -> None:
    figure = curves.figure(training_of([9.0] * 30), DEV_RESULTS, 8)
    assert figure.get_suptitle() == "Best WER 25.00%, at step 20 (epoch 2.5)"
    _, errors, _ = figure.axes
    assert values(errors, "best") == ([20], [25])
    assert [text.get_text() for text in errors.texts] == ["25.00%"]


def test_without_a_best_result_none_is_marked() -> None:
    figure = curves.figure([], [dev_result(10, 0.5)], 8)
    assert figure.get_suptitle() == "No evaluation on the development set yet"
    assert "best" not in [line.get_label() for line in figure.axes[1].lines]


def test_the_panels_share_their_steps_and_epochs_stand_on_top() -> None:
    figure = curves.figure(training_of([9.0] * 45), DEV_RESULTS, 10)
    figure.canvas.draw()
    for axes in figure.axes:
        assert axes.get_xlim() == pytest.approx((0, 45.9))
    (epochs,) = figure.axes[0].child_axes
    assert epochs.get_xlabel() == "epoch"
    assert epochs.get_xlim() == pytest.approx((0, 4.59))


@pytest.mark.parametrize(("last", "scale"), [(3e-5, "linear"), (2.9e-5, "log")])
def test_a_learning_rate_over_more_than_a_decade_is_drawn_by_its_logarithm(
    last: float, scale: str
) -> None:
    training = [TrainingPoint(1, 9.0, 3e-4), TrainingPoint(2, 9.0, last)]
    _, _, rates = panels(training, [])
    assert rates.get_yscale() == scale
    low, high = rates.get_ylim()
    assert low < last and high > 3e-4


def test_a_learning_rate_that_ends_in_nothing_leaves_room_for_the_others() -> None:
    training = [TrainingPoint(step, 9.0, rate) for step, rate in [(1, 0.0), (2, 1e-3), (3, 1e-15)]]
    _, _, rates = panels(training, [])
    assert rates.get_yscale() == "log"
    assert rates.get_ylim()[0] == pytest.approx(1e-7)


def test_matplotlib_is_imported_only_to_draw_and_neither_pyplot_nor_tensorflow() -> None:
    code = """
import sys
from speech.training import curves
assert "matplotlib" not in sys.modules
curves.draw([], [], 1)
assert "matplotlib" in sys.modules
assert "matplotlib.pyplot" not in sys.modules and "tensorflow" not in sys.modules
"""
    outcome = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=False, capture_output=True, text=True
    )
    assert outcome.returncode == 0, outcome.stderr
