"""The report: one HTML file that compares systems, with metrics, intervals and plots."""

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
from ..cache._commit import write_text
from ..cache.store import FeatureStore
from ..manifest import Manifest
from ..posteriors import metrics
from ..posteriors.bootstrap import N_RESAMPLES, Interval
from ..posteriors.combine import Combination, combine
from ..posteriors.evaluation import Evaluation, evaluate
from ..posteriors.run_folder import RunFolder
from ..posteriors.systems import System, SystemLike, open_systems
from . import plots, text
from .page import page

MAX_SPEAKERS = 60
PACKAGES = ("numpy", "scikit-learn", "torch", "transformers")
ALL = "all combined"


@dataclass(frozen=True)
class Plot:
    """A plot as SVG text, with its caption, which is also its text alternative."""

    svg: str
    caption: str


@dataclass(frozen=True)
class Section:
    """The part of the report about one system."""

    name: str
    plots: list[Plot]
    notices: list[str]
    emotions: list[list[str]]
    recipe: str = ""
    details: dict[str, str] = field(default_factory=dict)


def write_report(
    systems: SystemLike | Sequence[SystemLike],
    manifest: Manifest | str | Path,
    out: str | Path,
    *,
    features: FeatureStore | str | Path | None = None,
    split: str | None = None,
    title: str = "affuse report",
    n_resamples: int = N_RESAMPLES,
    device: str = "auto",
) -> Path:
    """Write one HTML file that compares systems side by side.

    Several systems are also combined, as `affuse.combine` does by default, unless one of them is a combination.

    Parameters
    ----------
    systems : System, Run, Combination, Predictions, Posterior or path, or a sequence of them
        Systems to compare. A path is a posterior file or the folder of a run.
    manifest : Manifest
        Labels, speakers and folds of the clips.
    out : str or Path
        HTML file to write.
    features : FeatureStore, path or None
        Feature store of the runs. With it, the report shows how robust each run is and its attention.
    split : str or None
        Score only the clips of this split.
    title : str
        Title of the page.
    n_resamples : int
        Number of bootstrap resamples for the confidence intervals.
    device : str
        Device for the runs' predictions with degraded streams.

    Returns
    -------
    Path
        The file that was written.

    Raises
    ------
    PosteriorMismatch
        A posterior and the manifest do not fit, or no clip has a label.
    LeakError
        A system was trained or fitted on clips that would be scored.
    """
    named, manifest = open_systems(systems), Manifest.of(manifest)
    found = [evaluate(each, manifest, split=split, n_resamples=n_resamples) for each in named]
    store = None if features is None else FeatureStore.of(features)
    sections = []
    for system, each in zip(named, found, strict=True):
        extra = _insight(system, manifest, store, device)
        recipe, details = _details(system)
        sections.append(Section(each.name, [*_plots(each), *extra], each.notices, _emotions(each), recipe, details))
    combinations = [_members(s.name, c) for s in named if (c := _combination(s)) is not None]
    combined = _combined(named, manifest, split, n_resamples)
    if combined is not None:
        system = System(ALL, combined.posterior, provenance=combined.provenance)
        whole = evaluate(system, manifest, split=split, n_resamples=n_resamples)
        found.append(whole)
        sections.append(Section(ALL, _plots(whole), whole.notices, _emotions(whole)))
        combinations.insert(0, _members(ALL, combined))
    html = page(
        "report.html",
        data={
            "title": title,
            "made": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
            "summary": _summary(found),
            "overview": _overview(found),
            "combinations": combinations,
            "sections": sections,
            "clips": _clips(found),
            "manifest": manifest.name,
            "versions": _versions(),
        },
    )
    out = Path(out)
    write_text(out, html)
    return out


def _combined(systems: Sequence[System], manifest: Manifest, split: str | None, n_resamples: int) -> Combination | None:
    """Combine several systems, unless one of them is a combination or only test clips have labels."""
    if len(systems) < 2 or any(_combination(system) for system in systems):
        return None
    if split == "test" and not any(c.split != "test" and c.emotion for c in manifest):
        return None
    return combine(systems, manifest=manifest, n_resamples=n_resamples)


def _combination(system: System) -> Combination | None:
    """Return the combination that a system is; None for any other system."""
    made = system.provenance
    return Combination(system.posterior, made) if made and made.members else None


def _clips(found: Sequence[Evaluation]) -> str:
    """Return the number of scored clips, of each system where they differ."""
    scored = found[0].labels
    if all(each.labels.ids == scored.ids for each in found):
        return f"{len(scored):,} clips of {len(set(scored.speakers)):,} speakers"
    counts = ", ".join(f"{each.name} {len(each.labels)}" for each in found)
    return (
        f"Each system is scored on the clips that it lists ({counts}). In a combination of systems, a clip that "
        "a system lacks counts as wrong for that system"
    )


def _summary(found: Sequence[Evaluation]) -> list[list[str]]:
    shown = metrics.summary(dict.fromkeys(name for each in found for name in each.metrics))
    rows = [[each.name, *(_cell(each.metrics.get(name)) for name in shown)] for each in found]
    titles = [metrics.title(name) + ("\N{NO-BREAK SPACE}↓" if metrics.sign(name) < 0 else "") for name in shown]
    return [["system", *titles], *rows]


def _cell(value: Interval | None) -> str:
    if value is None:
        return ""
    if math.isnan(value.low):
        return f"{value.value:.3f}"
    return str(value).replace(", ", ",\N{NO-BREAK SPACE}")


def _overview(found: Sequence[Evaluation]) -> list[Plot]:
    metric = metrics.main_metric(found[0].metrics)
    name = metrics.title(metric)
    rows = {each.name: {name: each.metrics[metric]} for each in found if metric in each.metrics}
    drawn = plots.intervals(rows, label=name)
    result = [Plot(drawn, f"{name} of every system with its 95 % confidence interval.")]
    reliable = {each.name: each.reliability for each in found if each.emotions}
    if reliable:
        caption = "Reliability. On the dashed line, the predicted probability equals the share of correct predictions."
        result.append(Plot(plots.reliability(reliable), caption))
    return result


def _plots(each: Evaluation) -> list[Plot]:
    result = []
    if each.emotions:
        caption = "Confusion matrix in clips, coloured by the share of each row."
        result.append(Plot(plots.confusion(each.confusion, each.posterior.emotions), caption))
        f1 = {emotion: {each.name: found["f1"]} for emotion, found in each.emotions.items()}
        result.append(
            Plot(plots.intervals(f1, label="F1", limits=(0, 1)), "F1 per emotion with its 95 % confidence interval.")
        )
        speakers = _per_speaker(each)
        if speakers:
            result.append(Plot(plots.bars(speakers, label="accuracy", limits=(0, 1)), "Accuracy per speaker."))
    for name, predictions in each.posterior.dimensions.items():
        if name in each.labels.dimensions:
            drawn = plots.scatter(each.labels.dimensions[name], predictions, name=name)
            result.append(Plot(drawn, f"Predicted {name} against its label."))
    return result


def _per_speaker(each: Evaluation) -> dict[str, float]:
    """Return the accuracy of each speaker, at most the `MAX_SPEAKERS` lowest."""
    labelled = each.labels.emotion >= 0
    correct = each.posterior.predicted() == each.labels.emotion
    speakers = np.array(each.labels.speakers)[labelled]
    names, code = np.unique(speakers, return_inverse=True)
    if not 1 < len(names) < len(speakers):
        return {}
    accuracy = np.bincount(code, correct[labelled]) / np.bincount(code)
    order = np.argsort(accuracy, kind="stable")[:MAX_SPEAKERS]
    return {str(names[i]): float(accuracy[i]) for i in order}


def _emotions(each: Evaluation) -> list[list[str]]:
    rows = [
        [emotion, f"{found['clips'].value:.0f}", *(_cell(found[name]) for name in ("f1", "recall", "precision"))]
        for emotion, found in each.emotions.items()
    ]
    return [["emotion", "clips", "F1", "recall", "precision"], *rows] if rows else []


def _members(name: str, combined: Combination) -> dict[str, Any]:
    """Return the table of a combination's members: weights, scores and contributions."""
    head = ["member", "weight", "SD over folds"]
    rows = [
        [member, text.number(fitted["weight"]), text.number(fitted["spread"])]
        for member, fitted in combined.provenance.members.items()
    ]
    if combined.table:
        metric = metrics.title(combined.score)
        head += [f"{metric} alone", f"{metric} of all others", "contribution (paired)"]
        by_name = {row.name: row for row in combined.table}
        for cells in rows:
            row = by_name[cells[0]]
            cells += [_cell(row.score), _cell(row.without), _cell(row.contribution)]
    return {
        "name": name,
        "made_by": combined.provenance.made_by,
        "rows": [head, *rows],
        "contributions": bool(combined.table),
    }


def _insight(system: System, manifest: Manifest, store: FeatureStore | None, device: str) -> list[Plot]:
    """Return the plots of a run's robustness and attention."""
    if system.folder is None or store is None:
        return []
    from ..training.run import Run
    from . import insight

    run = Run.open(system.folder)
    found = insight.measure_robustness(run, manifest, store, device=device)
    metric = metrics.title(found.metric)
    result = []
    removed = {f"without {d.stream}": d.score for d in found.scores if d.damage == "removed"}
    if removed:
        balance = plots.bars({"all streams": found.intact, **removed}, label=metric)
        result.append(Plot(balance, f"Modality balance: {metric} when one stream is left out."))
    streams = list(dict.fromkeys(d.stream for d in found.scores if d.stream))
    for damage, x_label, change in (
        ("frames removed", "share of frames removed", "frames of one stream are removed"),
        ("noise", "noise, in standard deviations of the stream", "noise is added to one stream"),
    ):
        curves = {}
        for stream in streams:
            levels = [d for d in found.scores if (d.stream, d.damage) == (stream, damage)]
            curves[stream] = [0.0, *(d.level for d in levels)], [found.intact, *(d.score for d in levels)]
        if curves:
            drawn = plots.lines(curves, x_label=x_label, y_label=metric)
            result.append(Plot(drawn, f"Robustness: {metric} when {change}."))
    for example in insight.attention_examples(run, manifest, store):
        caption = f"Attention over the held-out clip {example.clip}, labelled {example.emotion}."
        result.append(Plot(plots.attention(example.weights), caption))
    return result


def _details(system: System) -> tuple[str, dict[str, str]]:
    """Return the recipe of a run as TOML, and its streams, seeds and software versions."""
    if system.folder is None:
        made_by = system.provenance.made_by if system.provenance else "unknown (a posterior without provenance)"
        return "", {"made by": made_by}
    folder = RunFolder(system.folder)
    recipe = folder.recipe.read_text(encoding="utf-8") if folder.recipe.is_file() else ""
    details = {"recipe": str(tomllib.loads(recipe).get("name", system.name))}
    if folder.metadata.is_file():
        found = json.loads(folder.metadata.read_text(encoding="utf-8"))
        details |= {f"stream {name}": str(about.get("key")) for name, about in found.get("streams", {}).items()}
        details |= {f"{name} (training)": str(version) for name, version in found.get("versions", {}).items()}
        details["seeds"] = ", ".join(map(str, found.get("seeds", [])))
    return recipe, details


def _versions() -> dict[str, str]:
    result = {"affuse": __version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            result[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return result
