"""Plots as SVG, drawn by matplotlib without a window; text in them is text, never markup."""

import io
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..posteriors.bootstrap import Interval
from ..posteriors.calibration import Reliability

STYLE = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.hashsalt": "affuse",
    "svg.fonttype": "path",
    "text.parse_math": False,
    "figure.constrained_layout.use": True,
}
COLOURS = ("#2a5d8f", "#c8553d", "#5b8c5a", "#8a6bb1", "#c9a227", "#4f9da6", "#a34f7c", "#6b705c")
MUTED = "#9aa4ae"
FEW = 5
"""Clips below which a reliability bin is not drawn: it would say nothing."""


def svg(figure: Figure) -> str:
    """Return a figure as the text of an SVG file, the same for the same figure."""
    text = io.StringIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    return text.getvalue()


def axes(width: float, height: float) -> tuple[Figure, Axes]:
    """Return a figure of that size in inches, and its axes."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height))
        return figure, figure.add_subplot()


def confusion(counts: np.ndarray, emotions: Sequence[str]) -> str:
    """Draw truth down and answers across, each row as shares of its clips.

    Parameters
    ----------
    counts : ndarray of int [shape=(emotions, emotions + 1)]
        As `metrics.confusion` counts; the last column is drawn only if it is not empty.
    emotions : sequence of str
    """
    silent = bool(counts[:, -1].any())
    shown = counts if silent else counts[:, :-1]
    answers = [*emotions, "no answer"] if silent else list(emotions)
    shares = shown / np.maximum(shown.sum(1, keepdims=True), 1)
    side = 1.3 + 0.5 * len(emotions)
    figure, ax = axes(side + 0.6, side)
    with matplotlib.rc_context(STYLE):
        ax.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        ax.set_xticks(range(len(answers)), answers, rotation=45, ha="right")
        ax.set_yticks(range(len(emotions)), emotions)
        ax.set_xlabel("answer")
        ax.set_ylabel("truth")
        ax.spines[:].set_visible(False)
        for (row, column), count in np.ndenumerate(shown):
            colour = "white" if shares[row, column] > 0.5 else "#223"
            ax.text(column, row, str(count), ha="center", va="center", color=colour, fontsize=8)
    return svg(figure)


def reliability(found: Mapping[str, Reliability]) -> str:
    """Draw how often systems are right against how sure they are."""
    figure, ax = axes(3.6, 3.4)
    with matplotlib.rc_context(STYLE):
        ax.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle="--")
        for colour, (name, each) in zip(_colours(len(found)), found.items(), strict=True):
            known = each.clips >= FEW
            label = f"{name}, ECE {each.ece:.3f}"
            ax.plot(each.confidence[known], each.accuracy[known], marker="o", markersize=3, color=colour, label=label)
        ax.set(xlabel="probability of the answer", ylabel="share that is right", xlim=(0, 1), ylim=(0, 1))
        _legend(ax)
    return svg(figure)


def intervals(rows: Mapping[str, Mapping[str, Interval]], *, label: str) -> str:
    """Draw a figure with its interval, a row each, a colour for each system.

    Parameters
    ----------
    rows : dict of str to dict of str to Interval
        By row, then by system.
    label : str
        Of the axis.
    """
    systems = list(dict.fromkeys(system for found in rows.values() for system in found))
    height = 0.6 + len(rows) * (0.12 + 0.16 * len(systems))
    figure, ax = axes(5.2, height)
    step = 0.8 / max(len(systems), 1)
    with matplotlib.rc_context(STYLE):
        for s, (system, colour) in enumerate(zip(systems, _colours(len(systems)), strict=True)):
            places, values = [], []
            for r, found in enumerate(rows.values()):
                if system in found:
                    places.append(r + (s - (len(systems) - 1) / 2) * step)
                    values.append(found[system])
            middle = np.array([v.value for v in values])
            low = np.nan_to_num(middle - [v.low for v in values])
            high = np.nan_to_num([v.high for v in values] - middle)
            error = np.maximum(np.stack([low, high]), 0)
            ax.errorbar(middle, places, xerr=error, fmt="o", markersize=3.5, color=colour, elinewidth=1.4, label=system)
        ax.set_yticks(range(len(rows)), list(rows))
        ax.set_ylim(len(rows) - 0.5, -0.5)
        ax.grid(axis="x", color="#e3e7eb")
        ax.set_xlabel(label)
        if len(systems) > 1:
            _legend(ax)
    return svg(figure)


def bars(values: Mapping[str, float], *, label: str) -> str:
    """Draw one bar a row, such as a score of each speaker, the lowest first."""
    ranked = sorted(values.items(), key=lambda item: item[1])
    figure, ax = axes(4.2, 0.7 + 0.2 * len(ranked))
    with matplotlib.rc_context(STYLE):
        ax.barh(range(len(ranked)), [v for _, v in ranked], color=COLOURS[0], height=0.7)
        ax.set_yticks(range(len(ranked)), [n for n, _ in ranked])
        ax.set_ylim(-0.6, len(ranked) - 0.4)
        ax.set_xlabel(label)
    return svg(figure)


def scatter(truth: np.ndarray, estimate: np.ndarray, *, label: str, most: int = 3000) -> str:
    """Draw estimates of a dimension against the labels; at most so many clips, evenly spread."""
    rows = np.flatnonzero(~(np.isnan(truth) | np.isnan(estimate)))
    rows = rows[:: max(1, -(-len(rows) // most))]
    figure, ax = axes(3.6, 3.4)
    with matplotlib.rc_context(STYLE):
        both = np.concatenate([truth[rows], estimate[rows]])
        ends = [both.min(initial=0), both.max(initial=1)]
        ax.plot(ends, ends, color=MUTED, linewidth=1, linestyle="--")
        ax.scatter(truth[rows], estimate[rows], s=6, alpha=0.4, color=COLOURS[0], linewidths=0)
        ax.set_xlabel(f"{label}, label")
        ax.set_ylabel(f"{label}, estimate")
    return svg(figure)


def lines(curves: Mapping[str, tuple[Sequence[float], Sequence[float]]], *, across: str, label: str) -> str:
    """Draw scores against a level, a line a name."""
    figure, ax = axes(4.6, 3.0)
    with matplotlib.rc_context(STYLE):
        for colour, (name, (x, y)) in zip(_colours(len(curves)), curves.items(), strict=True):
            ax.plot(x, y, marker="o", markersize=3, color=colour, label=name)
        ax.grid(color="#e3e7eb")
        ax.set_xlabel(across)
        ax.set_ylabel(label)
        _legend(ax)
    return svg(figure)


def attention(weights: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> str:
    """Draw one clip's attention over time, a row for each map.

    Parameters
    ----------
    weights : dict of str to (ndarray [shape=(time,)], ndarray [shape=(time,)])
        Seconds and weights.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5.2, 0.5 + 0.8 * len(weights)))
        rows = figure.subplots(len(weights), 1, squeeze=False, sharex=True)[:, 0]
        for ax, colour, (name, (times, values)) in zip(rows, _colours(len(weights)), weights.items(), strict=True):
            ax.fill_between(times, values, step="mid", color=colour, alpha=0.6, linewidth=0)
            ax.set_title(name, fontsize=8, loc="left")
            ax.set_ylim(bottom=0)
            ax.set_yticks([])
        rows[-1].set_xlabel("seconds")
    return svg(figure)


def _colours(n: int) -> list[str]:
    return [COLOURS[i % len(COLOURS)] for i in range(n)]


def _legend(ax: Axes) -> None:
    if ax.get_legend_handles_labels()[0]:
        ax.legend(frameon=False, fontsize=7)
