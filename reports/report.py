"""The report: one HTML file with everything that was found of some systems."""

import datetime
import json
import math
import platform
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from ..cache.store import FeatureStore
from ..manifest import Manifest
from ..posteriors.bootstrap import Interval
from ..posteriors.combine import Combination, ContributionRow, combine
from ..posteriors.evaluation import Evaluation, evaluate
from ..posteriors.metrics import headline
from ..posteriors.systems import System, evaluate_all
from . import plots, text
from .page import page

HEADLINES = ("mer2023", "waf", "macro_f1", "uar", "accuracy", "ece")
SHOWN_SPEAKERS = 60
VERSIONS = ("affuse", "numpy", "scikit-learn", "torch", "transformers")


@dataclass(frozen=True)
class Plot:
    """A picture, with the sentence that a reader who cannot see it is given."""

    svg: str
    caption: str


@dataclass(frozen=True)
class Section:
    """What is shown of one system."""

    name: str
    plots: list[Plot]
    notices: list[str]
    emotions: list[list[str]]
    recipe: str = ""
    facts: dict[str, str] = field(default_factory=dict)


def report(
    sources: Sequence[System],
    names: Sequence[str],
    manifest: Manifest,
    *,
    title: str = "affuse report",
    split: str | None = None,
    features: Path | None = None,
    n_draws: int = 1000,
) -> str:
    """Return the report's HTML.

    Parameters
    ----------
    sources : sequence of System
    names : sequence of str
        Theirs.
    manifest : Manifest
        Labels, speakers, folds.
    title : str
    split : str or None
        Score that split alone.
    features : Path or None
        Features folder: a run among the sources is then also shown under damage, with its
        attention.
    n_draws : int
        Of the bootstrap.
    """
    found = evaluate_all(sources, names, manifest, split=split, n_draws=n_draws)
    combined = _combined(sources, names, manifest, split, n_draws)
    sections = []
    for source, each in zip(sources, found, strict=True):
        extra = _insight(source, manifest, features)
        recipe, facts = _made_of(source)
        sections.append(Section(each.name, [*_plots(each), *extra], each.notices, _emotions(each), recipe, facts))
    if combined is not None:
        whole = evaluate(
            combined.posterior,
            manifest,
            name="all combined",
            split=split,
            provenance=combined.provenance,
            n_draws=n_draws,
        )
        found.append(whole)
        sections.append(Section(whole.name, _plots(whole), whole.notices, _emotions(whole)))
    return page(
        "report.html",
        data={
            "title": title,
            "made": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
            "headlines": _headlines(found),
            "overview": _overview(found),
            "combinations": [
                *([_weights("all combined", combined)] if combined else []),
                *(_weights(n, c) for n, c in _brought(sources, names).items()),
            ],
            "sections": sections,
            "clips": _clips(found),
            "manifest": manifest.name,
            "versions": _versions(),
        },
    )


def _combined(
    sources: Sequence[System], names: Sequence[str], manifest: Manifest, split: str | None, n_draws: int
) -> Combination | None:
    """Combine several systems as `affuse combine` would; not where one of them is a combination."""
    if len(sources) < 2 or any(s.provenance and s.provenance.members for s in sources):
        return None
    if split == "test" and not any(c.split != "test" and c.emotion for c in manifest):
        return None
    posteriors = [source.posterior for source in sources]
    return combine(posteriors, names=names, manifest=manifest, n_draws=n_draws)


def _brought(sources: Sequence[System], names: Sequence[str]) -> dict[str, Combination]:
    """Return the sources that `affuse combine` wrote, with what it told of them then."""
    return {
        name: Combination(source.posterior, made, made.score, [ContributionRow.of(r) for r in made.table])
        for name, source in zip(names, sources, strict=True)
        if (made := source.provenance) is not None and made.members
    }


def _clips(found: Sequence[Evaluation]) -> str:
    """Say how many clips are scored; of each system, where these differ."""
    scored = found[0].truth
    if all(each.truth.ids == scored.ids for each in found):
        return f"{len(scored)} clips, {len(set(scored.speakers))} speakers"
    told = ", ".join(f"{each.name} {len(each.truth)}" for each in found)
    return (
        f"each system scored on the clips that it lists ({told}); where systems are combined, "
        "each on all clips, those that it lacks as wrong"
    )


def _headlines(found: Sequence[Evaluation]) -> list[list[str]]:
    shown = [f for f in HEADLINES if any(f in each.figures for each in found)]
    shown += [f for f in found[0].figures if f.startswith(("ccc:", "mse:"))]
    rows = [["system", *map(text.title, shown)]]
    for each in found:
        cells = [_cell(each.figures.get(figure)) for figure in shown]
        rows.append([each.name, *cells])
    return rows


def _cell(value: Interval | None) -> str:
    if value is None:
        return ""
    if math.isnan(value.low):
        return f"{value.value:.3f}"
    return str(value).replace(", ", ",\N{NO-BREAK SPACE}")


def _overview(found: Sequence[Evaluation]) -> list[Plot]:
    result = []
    first = headline(found[0].figures)
    rows = {each.name: {text.title(first): each.figures[first]} for each in found if first in each.figures}
    result.append(
        Plot(plots.intervals(rows, label=text.title(first)), f"{text.title(first)} of every system, 95 % over speakers")
    )
    reliable = {each.name: each.reliability for each in found if each.emotions}
    if reliable:
        result.append(
            Plot(plots.reliability(reliable), "Reliability: on the dashed line, probabilities mean what they say")
        )
    return result


def _plots(each: Evaluation) -> list[Plot]:
    result = []
    if each.emotions:
        emotions = each.posterior.emotions
        result.append(Plot(plots.confusion(each.confusion, emotions), "Confusion, clips"))
        f1 = {emotion: {each.name: found["f1"]} for emotion, found in each.emotions.items()}
        result.append(Plot(plots.intervals(f1, label="F1"), "F1 of each emotion, 95 % over speakers"))
        people = _per_speaker(each)
        if people:
            result.append(Plot(plots.bars(people, label="accuracy"), "Accuracy of each speaker"))
    for name, estimate in each.posterior.dimensions.items():
        if name in each.truth.dimensions:
            drawn = plots.scatter(each.truth.dimensions[name], estimate, label=name)
            result.append(Plot(drawn, f"{name}, estimates against labels"))
    return result


def _per_speaker(each: Evaluation) -> dict[str, float]:
    """Return each speaker's accuracy, the lowest `SHOWN_SPEAKERS` of them."""
    labelled = each.truth.emotion >= 0
    right = each.posterior.chosen() == each.truth.emotion
    speakers = np.array(each.truth.speakers)[labelled]
    names, code = np.unique(speakers, return_inverse=True)
    if not 1 < len(names) < len(speakers):
        return {}
    shares = np.bincount(code, right[labelled]) / np.bincount(code)
    order = np.argsort(shares, kind="stable")[:SHOWN_SPEAKERS]
    return {str(names[i]): float(shares[i]) for i in order}


def _emotions(each: Evaluation) -> list[list[str]]:
    if not each.emotions:
        return []
    rows = [["emotion", "clips", "F1", "recall", "precision"]]
    for emotion, found in each.emotions.items():
        rows.append(
            [
                emotion,
                f"{found['clips'].value:.0f}",
                _cell(found["f1"]),
                _cell(found["recall"]),
                text.number(found["precision"].value),
            ]
        )
    return rows


def _weights(name: str, combined: Combination) -> dict[str, Any]:
    head = ["member", "weight", "± folds"]
    rows = [
        [member, text.number(facts["weight"]), text.number(facts["spread"])]
        for member, facts in combined.provenance.members.items()
    ]
    if combined.table:
        score = text.title(combined.score)
        head += [f"{score} alone", "all without it", "its worth (paired)"]
        by_name = {row.name: row for row in combined.table}
        for cells in rows:
            row = by_name[cells[0]]
            cells += [_cell(row.score), _cell(row.without), _cell(row.worth)]
    return {"name": name, "made_by": combined.provenance.made_by, "rows": [head, *rows], "worth": bool(combined.table)}


def _insight(source: System, manifest: Manifest, features: Path | None) -> list[Plot]:
    if source.folder is None or features is None:
        return []
    from ..training.run import Run
    from .insight import insight

    found = insight(Run.open(source.folder), manifest, FeatureStore(features))
    score = text.title(found.score)
    result = []
    removed = {f"without {d.stream}": d.score for d in found.robustness if d.damage == "removed"}
    if removed:
        balance = plots.bars({"all streams": found.whole, **removed}, label=score)
        result.append(Plot(balance, "Modality balance: the score when a stream is taken away"))
    for damage in ("frames removed", "noise"):
        curves = {}
        for stream in dict.fromkeys(d.stream for d in found.robustness if d.stream):
            of = [d for d in found.robustness if d.stream == stream and d.damage == damage]
            levels = [0.0, *(d.level for d in of)]
            curves[stream] = (levels, [found.whole, *(d.score for d in of)])
        if curves:
            across = "share of frames removed" if damage != "noise" else "noise, deviations"
            drawn = plots.lines(curves, across=across, label=score)
            result.append(Plot(drawn, f"Robustness: {across} of one stream"))
    for example in found.examples:
        caption = f"Attention over the held-out clip {example.clip} ({example.emotion})"
        result.append(Plot(plots.attention(example.weights), caption))
    return result


def _made_of(source: System) -> tuple[str, dict[str, str]]:
    """Return the recipe of a run, and what `run.json` says of versions and streams."""
    if source.folder is None:
        made_by = source.provenance.made_by if source.provenance else "a posterior's file"
        return "", {"made by": made_by}
    recipe = source.folder / "recipe.toml"
    content = recipe.read_text(encoding="utf-8") if recipe.is_file() else ""
    name = str(tomllib.loads(content).get("name", source.name)) if content else source.name
    facts = {"recipe": name}
    described = source.folder / "run.json"
    if described.is_file():
        found = json.loads(described.read_text(encoding="utf-8"))
        facts |= {f"stream {n}": str(s.get("key")) for n, s in found.get("streams", {}).items()}
        facts |= {f"{n} (training)": str(v) for n, v in found.get("versions", {}).items()}
        facts["seeds"] = ", ".join(map(str, found.get("seeds", [])))
    return content, facts


def _versions() -> dict[str, str]:
    result = {"affuse": __version__, "python": platform.python_version()}
    for name in VERSIONS[1:]:
        try:
            result[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return result
