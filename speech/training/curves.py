"""Draws a training run: losses, error rates and learning rate over the steps."""

import io
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from speech.training.history import DevResult, TrainingPoint, best_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CURVES_FILE = "curves.png"

Values = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

# Points of a curve that are drawn, at most, in a panel some 900 pixels wide. Of more batches the
# range is drawn, over so many intervals.
MOST_POINTS = 4000
MOST_RANGES = 1000

# A running mean takes this share of a run's steps, but no fewer than so many: long enough to be
# quiet, short enough to turn where the run turns.
RUNNING_SHARE = 0.02
FEWEST_RUNNING = 10

# Learning rates smaller than the largest by more aren't shown: a cosine's end may have 1e-13.
LARGEST_TO_SMALLEST = 1e4

# Development results that are marked one by one; more would be a thick line.
MOST_MARKS = 50


def draw(
    training: Sequence[TrainingPoint], dev_results: Sequence[DevResult], steps_per_epoch: int
) -> bytes:
    """Draws the picture as a PNG of 1000 x 1000 pixels.

    Args:
        training: rising by step; a loss that is None or not finite is a gap.
        dev_results: rising by step; likewise.
        steps_per_epoch: at least 1.
    """
    file = io.BytesIO()
    figure(training, dev_results, steps_per_epoch).savefig(file, format="png")
    return file.getvalue()


def figure(
    training: Sequence[TrainingPoint], dev_results: Sequence[DevResult], steps_per_epoch: int
) -> "Figure":
    """Draws what `draw` saves: a panel each of losses, error rates and learning rate."""
    # Without pyplot, which keeps figures and a backend for the whole process.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(10, 10), dpi=100, layout="constrained")
    FigureCanvasAgg(drawn)
    best = best_of(dev_results)
    drawn.suptitle(_title(best, steps_per_epoch))
    of_losses, of_errors, of_rates = drawn.subplots(3, 1, sharex=True, height_ratios=(4, 4, 2))
    _draw_losses(of_losses, training, dev_results)
    _draw_errors(of_errors, dev_results, best)
    _draw_rates(of_rates, training)
    last = max([1, *(point.step for point in training[-1:]), *_steps(dev_results)])
    for axes in (of_losses, of_errors, of_rates):
        axes.grid(alpha=0.3)
        axes.set_xlim(0, 1.02 * last)
        if best:
            axes.axvline(best.step, color="tab:green", linestyle="--", linewidth=1)
    drawn.align_ylabels()
    of_rates.set_xlabel("step")
    of_rates.xaxis.set_major_formatter(lambda step, _: f"{step:,.0f}")
    of_rates.locator_params(axis="x", integer=True)  # steps come whole
    of_losses.secondary_xaxis(
        "top",
        functions=(lambda step: step / steps_per_epoch, lambda epoch: epoch * steps_per_epoch),
    ).set_xlabel("epoch")
    return drawn


def _title(best: DevResult | None, steps_per_epoch: int) -> str:
    if best is None:
        return "No evaluation on the development set yet"
    epoch = best.step / steps_per_epoch
    what = f"loss {best.loss:.2f}" if best.wer is None else f"WER {best.wer:.2%}"
    return f"Best {what}, at step {best.step:,} (epoch {epoch:.3g})"


# --- Panels ---------------------------------------------------------------------------------------


def _draw_losses(
    axes: "Axes", training: Sequence[TrainingPoint], dev_results: Sequence[DevResult]
) -> None:
    steps = np.array([point.step for point in training], np.float64)  # [points]
    losses = _values(point.loss for point in training)  # [points]
    some = evenly_spaced(len(losses))
    mean = running_mean(losses)[some]
    dev_losses = _values(each.loss for each in dev_results)
    color, label = "tab:blue", "training, batches"
    if len(losses) <= MOST_POINTS:
        dots: dict[str, Any] = {"linestyle": "", "marker": ".", "markeredgewidth": 0}
        axes.plot(steps, losses, color=color, label=label, alpha=0.35, **dots)
    else:
        first, smallest, largest = ranges(losses)
        axes.fill_between(
            *(steps[first], smallest, largest), color=color, label=label, alpha=0.25, linewidth=0
        )
    # Above the batches, which would hide both.
    axes.plot(steps[some], mean, color=color, label="training, running mean", zorder=3)
    axes.plot(
        *(_steps(dev_results), dev_losses),
        color="tab:orange",
        label="dev",
        zorder=4,
        **_marks(dev_results),
    )
    axes.set_ylabel("CTC loss (nats)")
    _scale(axes, np.concatenate([mean, dev_losses]))
    _add_legend(axes)


def _draw_errors(axes: "Axes", dev_results: Sequence[DevResult], best: DevResult | None) -> None:
    steps = _steps(dev_results)
    curves = [
        ("WER, greedy", "tab:red", "-", _values(each.wer for each in dev_results)),
        ("WER, beam (sample)", "tab:red", ":", _values(each.beam_wer for each in dev_results)),
        ("CER, greedy", "tab:purple", "-", _values(each.cer for each in dev_results)),
        ("CER, beam (sample)", "tab:purple", ":", _values(each.beam_cer for each in dev_results)),
    ]
    for label, color, line, rates in curves:
        axes.plot(steps, 100 * rates, line, color=color, label=label, **_marks(dev_results))
    if best and best.wer is not None:
        _mark_best(axes, best, best.wer, left=2 * best.step > dev_results[-1].step)
    _from_0(axes, 100 * np.concatenate([rates for *_, rates in curves]))
    axes.set_ylabel("error rate on dev (%)")
    _add_legend(axes)


def _mark_best(axes: "Axes", best: DevResult, wer: float, left: bool) -> None:
    """Draws a star on the best WER, with its value left or right of it."""
    wer = 100 * wer
    axes.plot(best.step, wer, "*", color="tab:green", markersize=15, label="best", zorder=4)
    axes.annotate(
        f"{wer:.2f}%",
        (best.step, wer),
        xytext=(-6 if left else 6, 12),
        textcoords="offset points",
        ha="right" if left else "left",
        color="tab:green",
        weight="bold",
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1},
        zorder=5,
    )


def _draw_rates(axes: "Axes", training: Sequence[TrainingPoint]) -> None:
    some = evenly_spaced(len(training))
    steps = [training[i].step for i in some]
    rates = _values(training[i].learning_rate for i in some)
    axes.plot(steps, rates, color="tab:gray")
    axes.set_ylabel("learning rate")
    if not _scale(axes, rates):
        _from_0(axes, rates)
    else:
        smallest = float(np.nanmax(rates)) / LARGEST_TO_SMALLEST
        axes.set_ylim(bottom=max(axes.get_ylim()[0], smallest))


def _scale(axes: "Axes", values: Values) -> bool:
    """Makes the y axis logarithmic if the values span more than a decade; returns whether."""
    from matplotlib.ticker import LogLocator, NullFormatter

    above_0 = values[np.isfinite(values) & (values > 0)]
    if not above_0.size or above_0.max() <= 10 * above_0.min():
        return False
    axes.set_yscale("log", nonpositive="mask")
    few_decades = above_0.max() < 10**4 * above_0.min()
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if few_decades else (1,)))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())
    return True


def _from_0(axes: "Axes", values: Values) -> None:
    """Makes the y axis start at 0, with room above the largest value."""
    axes.set_ylim(0, 1.2 * np.nan_to_num(values).max(initial=0) or 1)


def _add_legend(axes: "Axes") -> None:
    """Adds a legend below the axes, where it covers no curve."""
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.02), ncols=5, frameon=False)


def _steps(dev_results: Sequence[DevResult]) -> list[int]:
    return [each.step for each in dev_results]


def _marks(dev_results: Sequence[DevResult]) -> dict[str, Any]:
    return {"marker": "o", "markersize": 4} if len(dev_results) <= MOST_MARKS else {}


# --- Values ---------------------------------------------------------------------------------------


def _values(values: Iterable[float | None]) -> Values:
    """Returns float64 [values], NaN for what is no finite number."""
    array = np.array(list(values), np.float64)
    return np.where(np.isfinite(array), array, np.nan)


def running_mean(values: Values) -> Values:
    """Returns the mean of the numbers around each, NaN where there is none.

    values, result: [points]
    """
    points = len(values)
    at = np.arange(points)
    # As many before as after, also near the start, where the loss falls fastest.
    around = np.minimum(max(FEWEST_RUNNING, round(RUNNING_SHARE * points)) // 2, at)
    first, end = at - around, np.minimum(at + around + 1, points)

    def sums(of: Values) -> Values:
        cumulative = np.concatenate([[0.0], np.cumsum(of)])
        return cumulative[end] - cumulative[first]

    known = np.isfinite(values)
    counts = sums(known.astype(np.float64))
    return np.where(counts > 0, sums(np.where(known, values, 0.0)) / np.maximum(counts, 1), np.nan)


def evenly_spaced(points: int) -> Indices:
    """Returns at most MOST_POINTS indices of `points`, the first and the last among them."""
    return np.unique(np.linspace(0, points - 1, min(points, MOST_POINTS)).astype(np.int64))


def ranges(values: Values) -> tuple[Indices, Values, Values]:
    """Divides values into at most MOST_RANGES intervals.

    So a spike remains visible however short it is.

    Args:
        values: [points]; at least one.

    Returns:
        int64, float64, float64 [intervals]: the first index, the smallest and the largest value of
        each, NaN without a number.
    """
    length = -(-len(values) // MOST_RANGES)
    padded = np.pad(values, (0, -len(values) % length), constant_values=np.nan)
    intervals = padded.reshape(-1, length)  # [intervals, points]
    first = np.arange(len(intervals)) * length
    # Unlike min and max these leave NaN out.
    return first, np.fmin.reduce(intervals, axis=1), np.fmax.reduce(intervals, axis=1)
