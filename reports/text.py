"""Results as text for a terminal, in aligned tables."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ..posteriors.bootstrap import Interval
from ..posteriors.combine import Combination
from ..posteriors.evaluation import Evaluation
from ..posteriors.metrics import title

if TYPE_CHECKING:
    from .insight import Robustness


def table(rows: Sequence[Sequence[str]]) -> str:
    """Return rows as aligned columns, without the columns that are empty below their heading."""
    columns = [column for c, column in enumerate(zip(*rows, strict=True)) if c == 0 or any(column[1:])]
    widths = [max(map(len, column)) for column in columns]
    lines = zip(*columns, strict=True)
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def evaluation(found: Evaluation) -> str:
    """Return every metric with its confidence interval and spread, then each emotion, then the notices."""
    n_speakers = len(set(found.labels.speakers))
    rows = [["metric", "value", "95 % interval", "SD over folds", "SD over seeds"]]
    for name, value in found.metrics.items():
        spreads = [number(found.spread(name, over)) for over in ("folds", "seeds")]
        rows.append([title(name), number(value.value), bounds(value), *spreads])
    parts = [f"{found.name}: {len(found.labels)} clips of {n_speakers} speakers", table(rows)]
    if found.emotions:
        rows = [["emotion", "clips", "F1", "95 % interval", "recall", "precision"]]
        for emotion, each in found.emotions.items():
            f1, recall, precision = (number(each[name].value) for name in ("f1", "recall", "precision"))
            rows.append([emotion, f"{each['clips'].value:.0f}", f1, bounds(each["f1"]), recall, precision])
        parts.append(table(rows))
    return "\n\n".join([*parts, *_notices(found.notices)])


def difference(found: Mapping[str, Interval], name: str, other: str) -> str:
    """Return the paired differences between two systems."""
    rows = [[f"{name} minus {other}", "difference", "95 % interval, paired", ""]]
    for metric, value in found.items():
        verdict = "significant" if value.excludes_zero else "not significant"
        rows.append([title(metric), f"{value.value:+.4f}", bounds(value, sign="+"), verdict])
    return table(rows)


def combination(found: Combination) -> str:
    """Return the weights of a combination and the contribution of each member."""
    rows = [["member", "weight", "SD over folds", "temperature"]]
    for name, fitted in found.provenance.members.items():
        rows.append([name, *(number(fitted[key]) for key in ("weight", "spread", "temperature"))])
    parts = [found.provenance.made_by, table(rows)]
    if found.table:
        rows = [[title(found.score), "alone", "95 % interval", "all others", "contribution", "95 %, paired"]]
        for row in found.table:
            cells = [row.name, number(row.score.value), bounds(row.score), "", "", ""]
            if row.without and row.contribution:
                gain = row.contribution
                cells[3:] = [number(row.without.value), f"{gain.value:+.4f}", bounds(gain, sign="+")]
            rows.append(cells)
        parts.append(table(rows))
    return "\n\n".join([*parts, *_notices(found.provenance.notices)])


def robustness(found: "Robustness", name: str) -> str:
    """Return the main metric of a run under each degradation, and the change against intact streams."""
    rows = [[f"{name}, degraded stream", "degradation", "level", title(found.metric), "change"]]
    for each in found.scores:
        change = "" if each.damage == "none" else f"{each.score - found.intact:+.4f}"
        rows.append([each.stream or "(none)", each.damage, f"{each.level:g}", number(each.score), change])
    return table(rows)


def number(value: float) -> str:
    """Return a value with four decimals; empty for nan."""
    return "" if math.isnan(value) else f"{value:.4f}"


def bounds(value: Interval, *, sign: str = "") -> str:
    """Return the two ends of an interval; empty where there is none."""
    return "" if math.isnan(value.low) else f"[{value.low:{sign}.4f}, {value.high:{sign}.4f}]"


def _notices(notices: Sequence[str]) -> list[str]:
    return ["\n".join(f"note: {notice}" for notice in notices)] if notices else []
