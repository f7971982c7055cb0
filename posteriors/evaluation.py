"""A posterior scored against its labels: every figure with its interval, spreads kept apart."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import PosteriorMismatch, UnknownName, listing
from ..manifest import Manifest
from . import leaks
from .bootstrap import N_DRAWS, Figures, Interval, drawn, interval
from .calibration import Reliability, measures, reliability
from .labels import MISSING, Labels
from .metrics import confusion, figures, per_emotion
from .over_time import moments
from .posterior import Posterior
from .provenance import Provenance

FEW_SPEAKERS = 10


@dataclass(frozen=True)
class Evaluation:
    """Figures of one posterior.

    Attributes
    ----------
    name : str
    posterior : Posterior
    truth : Labels
        Of the same clips, in the same order.
    figures : dict of str to Interval
        As `metrics.figures` and `calibration.measures` name them.
    emotions : dict of str to dict of str to Interval
        ``f1`` and ``recall`` of each emotion, with its ``precision`` and ``clips``.
    confusion : ndarray of int [shape=(emotions, emotions + 1)]
        Labels down, answers across, no answer last.
    folds : dict of str to dict of str to float
        The figures of each fold.
    seeds : list of dict of str to float
        The figures of each seed's posterior.
    notices : list of str
    draws : dict of str to ndarray [shape=(draws,)]
    """

    name: str
    posterior: Posterior
    truth: Labels
    figures: dict[str, Interval]
    emotions: dict[str, dict[str, Interval]] = field(default_factory=dict)
    confusion: np.ndarray = field(default_factory=lambda: np.zeros((0, 1), int))
    folds: dict[str, dict[str, float]] = field(default_factory=dict)
    seeds: list[dict[str, float]] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    draws: Figures = field(default_factory=dict)

    @property
    def reliability(self) -> Reliability:
        """How often it is right where it is how sure."""
        return reliability(self.posterior, self.truth)

    def spread(self, figure: str, over: str) -> float:
        """Return the standard deviation of a figure over ``folds`` or ``seeds``; nan of one."""
        found = list(self.folds.values()) if over == "folds" else self.seeds
        values = [each[figure] for each in found if figure in each]
        return float(np.std(values, ddof=1)) if len(values) > 1 else math.nan

    def minus(self, other: "Evaluation") -> dict[str, Interval]:
        """Return this posterior's figures minus another's, paired by speaker.

        Raises
        ------
        PosteriorMismatch
            Other clips were scored.
        """
        if self.truth.ids != other.truth.ids:
            raise PosteriorMismatch(
                f"{self.name} scores {len(self.truth)} clips, {other.name} {len(other.truth)}, and "
                "they differ; a paired difference needs the same ones"
            )
        return {
            name: interval(own.value - other.figures[name].value, self.draws[name] - other.draws[name])
            for name, own in self.figures.items()
            if name in other.figures
        }

    def as_json(self) -> dict[str, Any]:
        """Return plain numbers, nan as None."""
        shown = {name: _plain(value) for name, value in self.figures.items()}
        for name, entry in shown.items():
            entry["over_folds"] = _number(self.spread(name, "folds"))
            entry["over_seeds"] = _number(self.spread(name, "seeds"))
        return {
            "name": self.name,
            "clips": len(self.truth),
            "speakers": len(set(self.truth.speakers)),
            "figures": shown,
            "emotions": {
                emotion: {name: _plain(value) for name, value in found.items()}
                for emotion, found in self.emotions.items()
            },
            "confusion": self.confusion.tolist(),
            "folds": self.folds,
            "seeds": self.seeds,
            "notices": self.notices,
        }


def evaluate(
    posterior: Posterior,
    manifest: Manifest,
    *,
    name: str = "posterior",
    split: str | None = None,
    seeds: Sequence[Posterior] = (),
    provenance: Provenance | None = None,
    sentiment: bool = False,
    n_draws: int = N_DRAWS,
) -> Evaluation:
    """Score a posterior.

    Parameters
    ----------
    posterior : Posterior
        Scored on its clips that the manifest annotates.
    manifest : Manifest
    name : str
    split : str or None
        Score that split's clips alone; those of them without a posterior count as unanswered.
    seeds : sequence of Posterior
        The same system from other seeds, for their spread.
    provenance : Provenance or None
        How the posterior came about.
    sentiment : bool
        Valence is CMU-MOSEI's sentiment.
    n_draws : int
        Of the bootstrap over speakers.

    Raises
    ------
    LeakError
        Something was fitted on what is scored, or pseudo-labels are.
    PosteriorMismatch
        Clips that the manifest does not list, or no labels.
    """
    whole, manifest = manifest, moments(manifest, posterior.ids)
    truth = _truth(posterior, manifest, name=name, split=split)
    scored = Manifest((manifest.by_id[clip] for clip in truth.ids), name=manifest.name)
    flagged = [leak.text for leak in leaks.check(manifest)]
    if provenance is not None:
        flagged = [*provenance.notices, *flagged]
    leaks.check_scored(scored, provenance=provenance, manifests=(whole, manifest))
    answers = _answers(posterior, truth)
    values = figures(answers, truth, sentiment=sentiment)
    counts = np.zeros((0, 1), int)
    if posterior.emotions and (truth.emotion != MISSING).any():
        values |= measures(answers, truth)
        counts = confusion(truth.emotion, answers.chosen(), len(posterior.emotions))
    draws = drawn(answers, truth, n_draws=n_draws, sentiment=sentiment)
    return Evaluation(
        name,
        answers,
        truth,
        {figure: interval(value, draws[figure]) for figure, value in values.items()},
        _by_emotion(counts, posterior.emotions, draws),
        counts,
        _by_fold(answers, truth),
        [figures(_answers(seed, truth), truth, sentiment=sentiment) for seed in seeds],
        [*_unscored(posterior, truth, manifest), *_notices(answers, truth, manifest), *flagged],
        draws,
    )


def _truth(posterior: Posterior, manifest: Manifest, *, name: str, split: str | None) -> Labels:
    foreign = [clip for clip in posterior.ids if clip not in manifest.by_id]
    if foreign:
        raise PosteriorMismatch(
            f"{name}: {len(foreign)} of {len(posterior)} clips are not in {manifest.name}: {listing(foreign)}"
        )
    splits = {c.split for c in manifest} - {None}
    if split is not None and split not in splits:
        raise UnknownName(f"split in {manifest.name}", split, [str(s) for s in splits])
    here = manifest.where(posterior.ids) if split is None else manifest.select(split)
    truth = Labels.of(here, posterior.emotions)
    truth = truth.rows(truth.annotated)
    if not len(truth):
        raise PosteriorMismatch(
            f"none of the {len(here)} clips to score is annotated in {manifest.name}; wanted the "
            "column 'emotion', or a dimension such as 'valence'"
        )
    return truth


def _answers(posterior: Posterior, truth: Labels) -> Posterior:
    """Return a row for each clip of `truth`: nan for one without a posterior."""
    row = {clip: r for r, clip in enumerate(posterior.ids)}
    rows = np.array([row.get(clip, len(row)) for clip in truth.ids], int)
    blank = np.full((1, len(posterior.emotions)), np.nan)
    return Posterior(
        truth.ids,
        posterior.emotions,
        np.concatenate([posterior.probabilities, blank])[rows],
        {name: np.append(v, np.nan)[rows] for name, v in posterior.dimensions.items()},
    )


def _by_emotion(counts: np.ndarray, emotions: Sequence[str], draws: Figures) -> dict[str, dict[str, Interval]]:
    if not len(counts):
        return {}
    precision, recall, f1, support = per_emotion(counts)
    return {
        emotion: {
            "f1": interval(f1[e], draws[f"f1:{emotion}"]),
            "recall": interval(recall[e], draws[f"recall:{emotion}"]),
            "precision": Interval(float(precision[e]), math.nan, math.nan),
            "clips": Interval(float(support[e]), math.nan, math.nan),
        }
        for e, emotion in enumerate(emotions)
    }


def _by_fold(posterior: Posterior, truth: Labels) -> dict[str, dict[str, float]]:
    named = np.array([f if f is not None else "" for f in truth.folds])
    folds = [str(f) for f in np.unique(named) if f]
    result = {}
    for fold in folds if len(folds) > 1 else []:
        rows = np.flatnonzero(named == fold)
        labels = truth.rows(rows)
        result[fold] = figures(posterior.at(labels.ids), labels)
    return result


def _unscored(posterior: Posterior, truth: Labels, manifest: Manifest) -> list[str]:
    """Say which labelled clips of the same splits the posterior does not list."""
    splits = {manifest.by_id[clip].split for clip in truth.ids}
    listed = {*posterior.ids, *truth.ids}
    absent = [c.id for c in manifest if c.split in splits and c.emotion is not None and c.id not in listed]
    if not absent:
        return []
    return [f"{len(absent)} labelled clips are not listed and not scored: {listing(absent)}"]


def _notices(posterior: Posterior, truth: Labels, manifest: Manifest) -> list[str]:
    result = []
    silent = posterior.chosen() == MISSING if posterior.emotions else np.zeros(len(truth), bool)
    if silent.any():
        ids = [truth.ids[r] for r in np.flatnonzero(silent)]
        result.append(f"{len(ids)} clips have no answer and count as wrong: {listing(ids)}")
    tested = sum(manifest.by_id[clip].split == "test" for clip in truth.ids)
    if 0 < tested < len(truth):
        result.append(
            f"{tested} of {len(truth)} clips are under test and the others are not: --split test scores these alone"
        )
    unknown = sum(manifest.by_id[clip].speaker is None for clip in truth.ids)
    speakers = len(set(truth.speakers))
    if unknown:
        result.append(
            f"{unknown} of {len(truth)} clips have no speaker and are drawn as if each were a "
            "person of its own; intervals are too narrow if people recur"
        )
    elif speakers < FEW_SPEAKERS:
        result.append(f"{speakers} speakers only: an interval over so few people is a rough one")
    return result


def _plain(value: Interval) -> dict[str, float | None]:
    return {key: _number(number) for key, number in value._asdict().items()}


def _number(value: float) -> float | None:
    return None if math.isnan(value) else round(float(value), 6)
