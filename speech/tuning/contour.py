"""Draws a search for alpha and beta: the error rate over the plane of both."""

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from speech.tuning.trials import Trial, best_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CONTOUR_FILE = "contour.png"

Values = npt.NDArray[np.float64]

# Bands of the error rate. The worst trials are many times further from the best than those worth
# choosing among, so all rates above this quantile have one colour.
BANDS = 12
WORST_SHOWN = 0.75


def draw(trials: Sequence[Trial], metric: str) -> bytes:
    """Returns the picture as a PNG of 1000 x 800 pixels.

    Args:
        trials: at least one; the first has the weights before the search.
        metric: wer or cer.
    """
    file = io.BytesIO()
    figure(trials, metric).savefig(file, format="png")
    return file.getvalue()


def figure(trials: Sequence[Trial], metric: str) -> "Figure":
    """Returns the figure that `draw` draws."""
    # Not pyplot, which keeps figures and a backend for the whole process.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(10, 8), dpi=100, layout="constrained")
    FigureCanvasAgg(drawn)
    axes = drawn.subplots()
    best = best_of(trials)
    _fill(axes, trials, metric)
    for trial, name, marker, size in ((trials[0], "before", "s", 9), (best, "best", "*", 20)):
        axes.plot(
            trial.weights.alpha,
            trial.weights.beta,
            marker,
            markersize=size,
            markerfacecolor="white",
            markeredgecolor="black",
            linestyle="",
            label=f"{name}: {trial.rate:.2%} at alpha {trial.weights.alpha:.3f}, "
            f"beta {trial.weights.beta:.3f}",
            zorder=4,
        )
    axes.set_title(f"{metric.upper()} on the development data, {len(trials):,} trials")
    axes.set_xlabel("alpha (weight of the language model)")
    axes.set_ylabel("beta (nats a word)")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.09), ncols=2, frameon=False)
    return drawn


def _fill(axes: "Axes", trials: Sequence[Trial], metric: str) -> None:
    """Draws the trials as dots, and the rate between them as bands of colour."""
    alphas = np.array([trial.weights.alpha for trial in trials])  # [trials]
    betas = np.array([trial.weights.beta for trial in trials])  # [trials]
    rates = 100 * np.array([trial.rate for trial in trials])  # [trials]
    lowest = rates.min()
    highest = max(float(np.quantile(rates, WORST_SHOWN)), lowest + 0.1)
    levels = np.linspace(lowest, highest, BANDS + 1)
    shared: dict[str, Any] = {"cmap": "YlGnBu_r", "vmin": lowest, "vmax": highest}
    filled: Any  # a ContourSet, or dots
    if _spans_an_area(alphas, betas):
        filled = axes.tricontourf(alphas, betas, rates, levels=levels, extend="max", **shared)
    else:
        filled = axes.scatter(alphas, betas, c=rates, **shared)
    # White with a dark rim is visible on every colour.
    axes.plot(
        *(alphas, betas, "o"),
        markersize=3.5,
        markerfacecolor="white",
        markeredgecolor="black",
        markeredgewidth=0.6,
        label="trials",
        zorder=3,
    )
    bar = axes.figure.colorbar(filled, ax=axes, label=f"{metric.upper()} (%)")
    bar.ax.yaxis.set_major_formatter(lambda rate, _: f"{rate:.1f}")


def _spans_an_area(alphas: Values, betas: Values) -> bool:
    """Says whether the trials span an area, not just a line."""
    points = np.stack([alphas, betas], axis=1)  # [trials, 2]
    return bool(np.linalg.matrix_rank(points - points.mean(axis=0), tol=1e-6) == 2)
