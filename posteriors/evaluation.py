"""Evaluation of a posterior: every metric with its confidence interval, and its spread over folds and seeds."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import PosteriorMismatch, check_known, listing
from ..manifest import Manifest
from . import leaks
from .bootstrap import N_RESAMPLES, Interval, bootstrap, interval, resample_sums
from .calibration import Reliability, reliability
from .labels import MISSING, Labels
from .metrics import ScoredClips, compute_metrics, emotion_confusions, per_emotion
from .over_time import manifest_over_time
from .posterior import Posterior
from .systems import System, SystemLike, as_system

if TYPE_CHECKING:
    import pandas

FEW_SPEAKERS = 10


@dataclass(frozen=True)
class Evaluation:
    """Metrics of one posterior.

    Attributes
    ----------
    name : str
    posterior : Posterior
    labels : Labels
        Labels of the same clips, in the same order.
    metrics : dict of str to Interval
        Values and confidence intervals by name; see `metrics.METRICS`.
    emotions : dict of str to dict of str to Interval
        ``f1``, ``recall``, ``precision`` and number of ``clips`` of each emotion.
    confusion : ndarray of int [shape=(emotions, emotions + 1)]
        Labels in rows, predictions in columns; the last column counts clips without a prediction.
    folds : dict of str to dict of str to float
        Metrics of each fold.
    seeds : list of dict of str to float
        Metrics of the posterior of each seed.
    notices : list of str
    resampled : dict of str to ndarray [shape=(resamples,)]
        Metrics of each bootstrap resample.
    """

    name: str
    posterior: Posterior
    labels: Labels
    metrics: dict[str, Interval]
    emotions: dict[str, dict[str, Interval]] = field(default_factory=dict)
    confusion: np.ndarray = field(default_factory=lambda: np.zeros((0, 1), int))
    folds: dict[str, dict[str, float]] = field(default_factory=dict)
    seeds: list[dict[str, float]] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    resampled: dict[str, np.ndarray] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"<Evaluation of {self.name}: {len(self.labels)} clips of {len(set(self.labels.speakers))} speakers>"

    @property
    def reliability(self) -> Reliability:
        """Accuracy of the predictions by their confidence."""
        return reliability(self.posterior, self.labels)

    def spread(self, metric: str, over: str) -> float:
        """Return the standard deviation of a metric over ``folds`` or ``seeds``; nan if there is only one."""
        found = list(self.folds.values()) if over == "folds" else self.seeds
        values = [each[metric] for each in found if metric in each]
        return float(np.std(values, ddof=1)) if len(values) > 1 else math.nan

    def minus(self, other: "Evaluation") -> dict[str, Interval]:
        """Return the metrics of this posterior minus those of another, paired by speaker.

        Raises
        ------
        PosteriorMismatch
            The other evaluation scored other clips.
        """
        if self.labels.ids != other.labels.ids:
            raise PosteriorMismatch(
                f"{self.name} was scored on {len(self.labels)} clips, {other.name} on {len(other.labels)} other ones. "
                "A paired difference needs the same clips. Score both on one split."
            )
        return {
            name: interval(own.value - other.metrics[name].value, self.resampled[name] - other.resampled[name])
            for name, own in self.metrics.items()
            if name in other.metrics
        }

    def to_pandas(self) -> "pandas.DataFrame":
        """Return a table with one row per metric, and the columns ``value``, ``low`` and ``high``."""
        import pandas

        index = pandas.Index(self.metrics, name="metric")
        return pandas.DataFrame(list(self.metrics.values()), index=index, columns=list(Interval._fields))

    def as_json(self) -> dict[str, Any]:
        """Return the evaluation as plain numbers, with None for nan."""
        shown = {name: _plain(value) for name, value in self.metrics.items()}
        for name, entry in shown.items():
            entry["over_folds"] = _number(self.spread(name, "folds"))
            entry["over_seeds"] = _number(self.spread(name, "seeds"))
        return {
            "name": self.name,
            "clips": len(self.labels),
            "speakers": len(set(self.labels.speakers)),
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
    system: SystemLike,
    manifest: Manifest | str | Path,
    *,
    split: str | None = None,
    sentiment: bool = False,
    n_resamples: int = N_RESAMPLES,
) -> Evaluation:
    """Score the predictions of a system.

    Parameters
    ----------
    system : Posterior, System, Run, Combination, Predictions or path
        Predictions; those for clips that the manifest annotates are scored. The provenance of a `System` prevents
        scoring clips that it was fitted on, and the posteriors of its seeds give the spread over seeds.
    manifest : Manifest
    split : str or None
        Score the clips of this split only. Those without a prediction count as wrong.
    sentiment : bool
        Valence is CMU-MOSEI's sentiment: its metrics are added.
    n_resamples : int
        Number of bootstrap resamples.

    Raises
    ------
    LeakError
        The posterior was fitted on clips that would be scored, or their labels are pseudo-labels.
    PosteriorMismatch
        The manifest does not list a clip, or no clip has a label.
    UnknownName
        The manifest has no such split.
    """
    system, manifest = as_system(system), Manifest.of(manifest)
    posterior, provenance = system.posterior, system.provenance
    whole, manifest = manifest, manifest_over_time(manifest, posterior.ids)
    labels = _scored_labels(system, manifest, split)
    scored = Manifest((manifest.by_id[clip] for clip in labels.ids), name=manifest.name)
    flagged = [*(provenance.notices if provenance else ()), *(leak.text for leak in leaks.check(manifest))]
    leaks.check_scored(scored, provenance=provenance, manifests=(whole, manifest))
    predictions = posterior.reindexed(labels.ids)
    found = bootstrap(predictions, labels, n_resamples=n_resamples, sentiment=sentiment)
    emotions, counts = _emotions(predictions, labels, n_resamples)
    return Evaluation(
        name=system.name,
        posterior=predictions,
        labels=labels,
        metrics={metric: found.interval(metric) for metric in found.values},
        emotions=emotions,
        confusion=counts,
        folds=_folds(predictions, labels, sentiment),
        seeds=[compute_metrics(seed.reindexed(labels.ids), labels, sentiment=sentiment) for seed in system.seeds],
        notices=[*_notices(posterior, predictions, labels, manifest), *flagged],
        resampled=found.resampled,
    )


def _scored_labels(system: System, manifest: Manifest, split: str | None) -> Labels:
    posterior = system.posterior
    unknown = [clip for clip in posterior.ids if clip not in manifest.by_id]
    if unknown:
        raise PosteriorMismatch(
            f"{system.name} has {len(unknown)} of {len(posterior)} clips that manifest {manifest.name} does not list "
            f"({listing(unknown)}). Pass the manifest that belongs to this posterior."
        )
    if split is not None:
        check_known(f"split in {manifest.name}", split, {c.split for c in manifest if c.split is not None})
    clips = manifest.subset(posterior.ids) if split is None else manifest.select(split)
    labels = Labels.from_manifest(clips, posterior.emotions)
    labels = labels.take(labels.annotated)
    if not len(labels):
        raise PosteriorMismatch(
            f"None of the {len(clips)} clips to score is annotated in {manifest.name}. Fill in the column 'emotion', "
            "or a dimension such as 'valence'."
        )
    return labels


def _emotions(
    posterior: Posterior, labels: Labels, n_resamples: int
) -> tuple[dict[str, dict[str, Interval]], np.ndarray]:
    """Return the scores of each emotion, and the confusion matrix."""
    sums = emotion_confusions(ScoredClips.by_speaker(posterior, labels))
    if sums is None:
        return {}, np.zeros((0, 1), int)
    counts = sums.sum(0)
    values, resampled = per_emotion(counts), per_emotion(resample_sums(sums, n_resamples=n_resamples))
    precision, recall, f1, support = (np.nan_to_num(each).tolist() for each in values)
    found = {
        emotion: {
            "f1": interval(f1[e], resampled.f1[:, e]),
            "recall": interval(recall[e], resampled.recall[:, e]),
            "precision": Interval(precision[e], math.nan, math.nan),
            "clips": Interval(support[e], math.nan, math.nan),
        }
        for e, emotion in enumerate(posterior.emotions)
    }
    return found, counts


def _folds(posterior: Posterior, labels: Labels, sentiment: bool) -> dict[str, dict[str, float]]:
    """Return the metrics of each fold; none unless there are two or more."""
    folds = np.array([f if f is not None else "" for f in labels.folds])
    names = [str(f) for f in np.unique(folds) if f]
    result = {}
    for name in names if len(names) > 1 else []:
        held_out = labels.take(folds == name)
        result[name] = compute_metrics(posterior.at(held_out.ids), held_out, sentiment=sentiment)
    return result


def _notices(posterior: Posterior, predictions: Posterior, labels: Labels, manifest: Manifest) -> list[str]:
    result = []
    splits = {manifest.by_id[clip].split for clip in labels.ids}
    listed = {*posterior.ids, *labels.ids}
    unlisted = [c.id for c in manifest if c.split in splits and c.emotion is not None and c.id not in listed]
    if unlisted:
        result.append(
            f"{len(unlisted)} labelled clips are not in the posterior and are not scored: {listing(unlisted)}."
        )
    missing = [labels.ids[r] for r in np.flatnonzero(predictions.predicted() == MISSING)]
    if missing and posterior.emotions:
        result.append(f"{len(missing)} clips have no prediction and count as wrong: {listing(missing)}.")
    tested = sum(manifest.by_id[clip].split == "test" for clip in labels.ids)
    if 0 < tested < len(labels):
        result.append(
            f"{tested} of {len(labels)} clips belong to the test split, the others do not. To score only the test "
            "split, pass --split test."
        )
    unknown = sum(manifest.by_id[clip].speaker is None for clip in labels.ids)
    speakers = len(set(labels.speakers))
    if unknown:
        result.append(
            f"{unknown} of {len(labels)} clips have no speaker, and each of them counts as a speaker of its own. The "
            "intervals are too narrow if speakers recur."
        )
    elif speakers < FEW_SPEAKERS:
        result.append(f"There are only {speakers} speakers, so the intervals are rough.")
    return result


def _plain(value: Interval) -> dict[str, float | None]:
    return {key: _number(number) for key, number in value._asdict().items()}


def _number(value: float) -> float | None:
    return None if math.isnan(value) else round(float(value), 6)
