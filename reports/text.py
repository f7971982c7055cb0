"""Results as text for a terminal: tables that line up, nothing else."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ..posteriors.bootstrap import Interval
from ..posteriors.combine import Combination
from ..posteriors.evaluation import Evaluation

if TYPE_CHECKING:
    from .insight import Insight

TITLES = {
    "waf": "WAF",
    "macro_f1": "macro F1",
    "uar": "UAR",
    "accuracy": "accuracy",
    "mer2023": "MER 2023",
    "mse": "MSE",
    "mae": "MAE",
    "ccc": "CCC",
    "pearson": "Pearson",
    "ece": "ECE",
    "brier": "Brier",
    "log_loss": "log loss",
    "acc2_non_negative": "Acc-2 (neg./non-neg.)",
    "f1_non_negative": "F1 (neg./non-neg.)",
    "acc2_positive": "Acc-2 (neg./pos.)",
    "f1_positive": "F1 (neg./pos.)",
    "acc7": "Acc-7",
}


def title(figure: str) -> str:
    """Return a figure's name for people.

    >>> title("ccc:valence")
    'CCC valence'
    """
    name, _, dimension = figure.partition(":")
    return f"{TITLES.get(name, name)} {dimension}".strip()


def table(rows: Sequence[Sequence[str]]) -> str:
    """Return rows with their columns lined up."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def evaluation(found: Evaluation) -> str:
    """Return every figure with its interval and spreads, then each emotion, then notices."""
    people = len(set(found.truth.speakers))
    parts = [f"{found.name}: {len(found.truth)} clips, {people} speakers"]
    rows = [["", "value", "95 % over speakers", "over folds", "over seeds"]]
    for figure, value in found.figures.items():
        rows.append(
            [
                title(figure),
                number(value.value),
                bounds(value),
                spread(found.spread(figure, "folds")),
                spread(found.spread(figure, "seeds")),
            ]
        )
    parts.append(table(_used(rows)))
    if found.emotions:
        rows = [["emotion", "clips", "F1", "95 % over speakers", "recall", "precision"]]
        for emotion, each in found.emotions.items():
            cells = [number(each[name].value) for name in ("recall", "precision")]
            clips = f"{each['clips'].value:.0f}"
            rows.append([emotion, clips, number(each["f1"].value), bounds(each["f1"]), *cells])
        parts.append(table(rows))
    return "\n\n".join([*parts, *_notices(found.notices)])


def difference(found: Mapping[str, Interval], name: str, other: str) -> str:
    """Return the paired differences of two systems."""
    rows = [[f"{name} minus {other}", "difference", "95 % over speakers, paired", ""]]
    for figure, value in found.items():
        says = "differs" if value.excludes_zero else "could be chance"
        rows.append([title(figure), f"{value.value:+.4f}", bounds(value, sign="+"), says])
    return table(rows)


def combination(found: Combination) -> str:
    """Return the weights and what each member is worth."""
    rows = [["member", "weight", "± folds", "temperature"]]
    for name, facts in found.provenance.members.items():
        rows.append([name, *(number(facts[k]) for k in ("weight", "spread", "temperature"))])
    parts = [found.provenance.made_by, table(_used(rows))]
    if found.table:
        score = title(found.score)
        rows = [[score, "alone", "95 % over speakers", "without it", "its worth", "95 %, paired"]]
        for row in found.table:
            cells = [row.name, number(row.score.value), bounds(row.score), "", "", ""]
            if row.without and row.worth:
                worth = f"{row.worth.value:+.4f}"
                cells[3:] = [number(row.without.value), worth, bounds(row.worth, sign="+")]
            rows.append(cells)
        parts.append(table(_used(rows)))
    return "\n\n".join([*parts, *_notices(found.provenance.notices)])


def robustness(found: "Insight", name: str) -> str:
    """Return a run's score under each damage, and what the damage cost."""
    rows = [[f"{name} damaged", "damage", "level", title(found.score), "change"]]
    for each in found.robustness:
        change = "" if each.damage == "none" else f"{each.score - found.whole:+.4f}"
        cells = [each.stream or "no stream", each.damage, f"{each.level:g}", number(each.score)]
        rows.append([*cells, change])
    return table(rows)


def number(value: float) -> str:
    """Return four decimals, nothing for nan."""
    return "" if math.isnan(value) else f"{value:.4f}"


def spread(value: float) -> str:
    """Return a standard deviation."""
    return "" if math.isnan(value) else f"± {value:.4f}"


def bounds(value: Interval, *, sign: str = "") -> str:
    """Return the interval's two ends."""
    if math.isnan(value.low):
        return ""
    return f"[{value.low:{sign}.4f}, {value.high:{sign}.4f}]"


def _used(rows: list[list[str]]) -> list[list[str]]:
    """Leave out columns that say nothing below their head."""
    keep = [c for c in range(len(rows[0])) if c == 0 or any(row[c] for row in rows[1:])]
    return [[row[c] for c in keep] for row in rows]


def _notices(notices: Sequence[str]) -> list[str]:
    return ["\n".join(f"note: {notice}" for notice in notices)] if notices else []
