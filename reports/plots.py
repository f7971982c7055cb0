"""Plots of the report, drawn by matplotlib without a display and returned as SVG text.

The same data give the same SVG. Text is drawn as outlines, so no label can act as markup.
"""

import functools
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import ParamSpec

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.rcsetup import cycler

from ..posteriors.bootstrap import Interval
from ..posteriors.calibration import Reliability

COLOURS = ("#2a5d8f", "#c8553d", "#5b8c5a", "#8a6bb1", "#c9a227", "#4f9da6", "#a34f7c", "#6b705c")
MUTED = "#9aa4ae"
STYLE = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": cycler("color", COLOURS),
    "grid.color": "#e3e7eb",
    "legend.frameon": False,
    "legend.fontsize": 7,
    "lines.markersize": 3,
    "svg.hashsalt": "affuse",
    "svg.fonttype": "path",
    "text.parse_math": False,
    "figure.constrained_layout.use": True,
}
MAX_LABEL = 32
"""Longer names are cut in plots, so that they leave room for the data."""
MIN_BIN_CLIPS = 5
"""Reliability bins with fewer clips are not drawn, because their accuracy is not reliable."""

P = ParamSpec("P")


def _as_svg(draw: Callable[P, Figure]) -> Callable[P, str]:
    """Let a function draw in the report's style and return the figure as the text of an SVG file."""

    @functools.wraps(draw)
    def styled(*args: P.args, **options: P.kwargs) -> str:
        text = io.StringIO()
        with matplotlib.rc_context(STYLE):
            draw(*args, **options).savefig(text, format="svg", metadata={"Date": None, "Creator": None})
        return text.getvalue()

    return styled


def _axes(width: float, height: float) -> tuple[Figure, Axes]:
    """Return a figure of a size in inches, and its axes."""
    figure = Figure(figsize=(width, height))
    return figure, figure.add_subplot()


def _short(names: Iterable[str]) -> list[str]:
    """Return names that fit beside an axis: of a long name, such as a path, its end."""
    return [name if len(name) <= MAX_LABEL else f"…{name[1 - MAX_LABEL :]}" for name in names]


@_as_svg
def confusion(counts: np.ndarray, emotions: Sequence[str]) -> Figure:
    """Draw `Evaluation.confusion`: labels down, predictions across, coloured by the share of each row.

    The last column, of clips without a prediction, is left out where it is empty.
    """
    names = _short(emotions)
    if counts[:, -1].any():
        names.append("no prediction")
    counts = counts[:, : len(names)]
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    side = 1.3 + 0.5 * len(emotions)
    figure, ax = _axes(side + 0.6, side)
    ax.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    ax.set_xticks(range(len(names)), names, rotation=45, ha="right")
    ax.set_yticks(range(len(emotions)), _short(emotions))
    ax.set(xlabel="prediction", ylabel="label")
    ax.spines[:].set_visible(False)
    for (row, column), count in np.ndenumerate(counts):
        colour = "white" if shares[row, column] > 0.5 else "#223"
        ax.text(column, row, str(count), ha="center", va="center", color=colour, fontsize=8)
    return figure


@_as_svg
def reliability(systems: Mapping[str, Reliability]) -> Figure:
    """Draw the accuracy of each system against its predicted probability."""
    figure, ax = _axes(3.6, 3.4)
    ax.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle="--")
    for name, each in zip(_short(systems), systems.values(), strict=True):
        known = each.clips >= MIN_BIN_CLIPS
        ax.plot(each.confidence[known], each.accuracy[known], marker="o", label=f"{name}, ECE {each.ece:.3f}")
    ax.set(xlabel="predicted probability", ylabel="share of correct predictions", xlim=(0, 1), ylim=(0, 1))
    ax.legend()
    return figure


@_as_svg
def intervals(
    rows: Mapping[str, Mapping[str, Interval]], *, label: str, limits: tuple[float, float] | None = None
) -> Figure:
    """Draw values with their confidence intervals, given by row and then by system, in one colour per system."""
    systems = list(dict.fromkeys(system for found in rows.values() for system in found))
    figure, ax = _axes(5.2, 0.6 + len(rows) * (0.12 + 0.16 * len(systems)))
    step = 0.8 / max(len(systems), 1)
    for s, (system, name) in enumerate(zip(systems, _short(systems), strict=True)):
        places = np.array([r for r, found in enumerate(rows.values()) if system in found])
        found = np.array([found[system] for found in rows.values() if system in found])  # value, low, high
        value, low, high = found.T
        error = np.nan_to_num(np.stack([value - low, high - value])).clip(0)
        offset = (s - (len(systems) - 1) / 2) * step
        ax.errorbar(value, places + offset, xerr=error, fmt="o", markersize=3.5, elinewidth=1.4, label=name)
    ax.set_yticks(range(len(rows)), _short(rows))
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.grid(axis="x")
    ax.set(xlabel=label, xlim=limits)
    if len(systems) > 1:
        ax.legend()
    return figure


@_as_svg
def bars(values: Mapping[str, float], *, label: str, limits: tuple[float, float] | None = None) -> Figure:
    """Draw one bar per row, the lowest value at the bottom."""
    ranked = sorted(values.items(), key=lambda item: item[1])
    figure, ax = _axes(4.2, 0.7 + 0.2 * len(ranked))
    ax.barh(range(len(ranked)), [value for _, value in ranked], height=0.7)
    ax.set_yticks(range(len(ranked)), _short(name for name, _ in ranked))
    ax.set(xlabel=label, xlim=limits, ylim=(-0.6, len(ranked) - 0.4))
    return figure


@_as_svg
def scatter(labels: np.ndarray, predictions: np.ndarray, *, name: str, n_points: int = 3000) -> Figure:
    """Draw the predictions of a dimension against its labels, for at most `n_points` evenly spread clips."""
    rows = np.flatnonzero(~(np.isnan(labels) | np.isnan(predictions)))
    rows = rows[:: max(1, -(-len(rows) // n_points))]
    figure, ax = _axes(3.6, 3.4)
    both = np.concatenate([labels[rows], predictions[rows]])
    ends = [both.min(initial=0), both.max(initial=1)]
    ax.plot(ends, ends, color=MUTED, linewidth=1, linestyle="--")
    ax.scatter(labels[rows], predictions[rows], s=6, alpha=0.4, linewidths=0)
    ax.set(xlabel=f"{name}, label", ylabel=f"{name}, prediction")
    return figure


@_as_svg
def lines(curves: Mapping[str, tuple[Sequence[float], Sequence[float]]], *, x_label: str, y_label: str) -> Figure:
    """Draw one line per name through the points with these x and y."""
    figure, ax = _axes(4.6, 3.0)
    for name, (x, y) in curves.items():
        ax.plot(x, y, marker="o", label=name)
    ax.grid()
    ax.set(xlabel=x_label, ylabel=y_label)
    ax.legend()
    return figure


@_as_svg
def attention(weights: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Figure:
    """Draw `AttentionExample.weights` over time, in one row per map."""
    figure = Figure(figsize=(5.2, 0.5 + 0.8 * len(weights)))
    rows = figure.subplots(len(weights), 1, squeeze=False, sharex=True)[:, 0]
    for i, (ax, (name, (times, values))) in enumerate(zip(rows, weights.items(), strict=True)):
        ax.fill_between(times, values, step="mid", color=COLOURS[i % len(COLOURS)], alpha=0.6, linewidth=0)
        ax.set_title(name, fontsize=8, loc="left")
        ax.set_ylim(bottom=0)
        ax.set_yticks([])
    rows[-1].set_xlabel("time (s)")
    return figure
