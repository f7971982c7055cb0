"""Metrics of emotion recognition, each defined once.

A metric is computed from sums over clips: `Metric.accumulate` returns these sums for each speaker, and
`Metric.compute` turns sums over any set of speakers into the value. The value of a corpus follows from the sums over
all speakers, and a bootstrap resample (see `bootstrap`) from the sums over the speakers that were drawn, so that a
thousand resamples of a large corpus cost one matrix product.

To add a metric, append a `Metric` to `METRICS`. Evaluation, intervals, tables, report, model card and the recipe key
``training.select`` take it from there.

References
----------
Lian et al. 2023, "MER 2023: Multi-label Learning, Modality Robustness, and Semi-Supervised Learning",
arXiv:2304.08981: the combined score.
Zadeh et al. 2018, "Multimodal Language Analysis in the Wild: CMU-MOSEI Dataset", ACL: sentiment in [-3, 3], two binary
classifications and one of seven classes.
Guo et al. 2017, "On Calibration of Modern Neural Networks", ICML, eq. 3: expected calibration error.
"""

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from ..errors import check_known
from .calibration import N_BINS, confidence_bins
from .labels import MISSING, Labels
from .posterior import MIN_PROBABILITY, Posterior

MER2023_WEIGHT = 0.25


@dataclass(frozen=True)
class ScoredClips:
    """Predictions and labels of the same clips in the same order, grouped by speaker.

    Attributes
    ----------
    speaker : ndarray of int [shape=(clips,)]
        Index of each clip's speaker.
    dimension : str
        Dimension that a metric with `Metric.per_dimension` is computed for.
    """

    posterior: Posterior
    labels: Labels
    speaker: np.ndarray
    n_speakers: int
    dimension: str = ""

    @classmethod
    def by_speaker(cls, posterior: Posterior, labels: Labels) -> "ScoredClips":
        """Group clips by the speakers of `labels`."""
        return cls(posterior, labels, *labels.speaker_index)

    def label_and_estimate(self) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
        """Return labels and estimates of the dimension, and where both are known [shape=(clips,)]."""
        labels, estimates = self.labels.dimensions.get(self.dimension), self.posterior.dimensions.get(self.dimension)
        if labels is None or estimates is None:
            return None
        return labels, estimates, ~(np.isnan(labels) | np.isnan(estimates))

    def sums(self, values: np.ndarray, clips: np.ndarray) -> np.ndarray:
        """Return the sums of `values` [shape=(n, clips)] over the clips of each speaker [shape=(speakers, n)]."""
        return np.stack([np.bincount(self.speaker[clips], column, self.n_speakers) for column in values], 1)

    def confusions(self, labels: np.ndarray, predictions: np.ndarray, n_classes: int) -> np.ndarray:
        """Return the confusion matrix of each speaker [shape=(speakers, classes, classes + 1)].

        Labels are in rows, predictions in columns. Clips with the label -1 are left out; the last column counts those
        with the prediction -1, a missing one.
        """
        known = labels != MISSING
        column = np.where(predictions[known] == MISSING, n_classes, predictions[known])
        cell = (self.speaker[known] * n_classes + labels[known]) * (n_classes + 1) + column
        shape = (self.n_speakers, n_classes, n_classes + 1)
        return np.bincount(cell, minlength=int(np.prod(shape))).reshape(shape)


Statistic = Callable[[ScoredClips], np.ndarray | None]
"""Sums per speaker, with the speakers along the first axis; None where predictions or labels are not there."""


@dataclass(frozen=True)
class Metric:
    """Definition of a metric.

    Attributes
    ----------
    name : str
        Name in files and options, such as ``waf``. A metric of a dimension is reported as ``ccc:valence``.
    title : str
        Name in tables and plots.
    higher_is_better : bool
        False for an error.
    accumulate : callable, or tuple of callables
        Statistics that the metric needs. They are additive: those of two speakers together are the sum of each one's.
    compute : callable
        The summed statistics, one argument each, to the value. Arrays may have leading axes, such as one for the
        bootstrap resamples, which the result keeps.
    per_dimension : bool
        Computed for each dimension (valence, arousal) instead of once.
    sentiment : bool
        Computed for valence only, and only where it is CMU-MOSEI's sentiment in [-3, 3].
    summary : bool
        Shown where there is room for a few metrics only: overview of a report, model card, end of training.
    """

    name: str
    title: str
    higher_is_better: bool
    accumulate: Statistic | tuple[Statistic, ...]
    compute: Callable[..., np.ndarray]
    per_dimension: bool = False
    sentiment: bool = False
    summary: bool = False


class Rates(NamedTuple):
    """Precision, recall and F1 of each class, nan where undefined, and its number of clips [shape=(..., classes)]."""

    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray
    support: np.ndarray


def per_emotion(counts: np.ndarray) -> Rates:
    """Return precision, recall, F1 and number of clips per class of confusion matrices."""
    hits = np.diagonal(counts, axis1=-2, axis2=-1)
    support, predicted = counts.sum(-1), counts[..., :-1].sum(-2)
    with np.errstate(invalid="ignore", divide="ignore"):
        return Rates(hits / predicted, hits / support, 2 * hits / (support + predicted), support)


def emotion_confusions(clips: ScoredClips) -> np.ndarray | None:
    """Return the confusion matrix of each speaker's emotions."""
    labels, posterior = clips.labels.emotion, clips.posterior
    if not posterior.emotions or (labels == MISSING).all():
        return None
    return clips.confusions(labels, posterior.predicted(), len(posterior.emotions))


def calibration_sums(clips: ScoredClips) -> np.ndarray | None:
    """Return number of clips, sums of Brier score and log loss, and confidence minus accuracy in each bin."""
    if not clips.posterior.emotions or (clips.labels.emotion == MISSING).all():
        return None
    known = (clips.labels.emotion != MISSING) & (clips.posterior.predicted() != MISSING)
    rows, labels = clips.posterior.probabilities[known], clips.labels.emotion[known]
    confidence, correct, bins = confidence_bins(rows, labels)
    cells = clips.speaker[known] * N_BINS + bins
    gaps = np.bincount(cells, confidence - correct, clips.n_speakers * N_BINS).reshape(clips.n_speakers, N_BINS)
    rows = rows / rows.sum(1, keepdims=True)
    likelihood = rows[np.arange(len(rows)), labels]
    brier = (rows**2).sum(1) - 2 * likelihood + 1
    columns = np.stack([np.ones(len(rows)), brier, -np.log(np.maximum(likelihood, MIN_PROBABILITY))])
    return np.hstack([clips.sums(columns, known), gaps])


def dimension_sums(clips: ScoredClips) -> np.ndarray | None:
    """Return number of clips and the moments of labels and estimates of a dimension, where both are known."""
    found = clips.label_and_estimate()
    if found is None:
        return None
    labels, estimates, known = found
    difference = labels[known] - estimates[known]
    x, y = _centred(labels[known]), _centred(estimates[known])
    columns = [np.ones(len(x)), x, y, x * x, y * y, x * y, difference, np.abs(difference), difference**2]
    return clips.sums(np.stack(columns), known)


def valence_sums(clips: ScoredClips) -> np.ndarray | None:
    return dimension_sums(replace(clips, dimension="valence"))


def _centred(values: np.ndarray) -> np.ndarray:
    """Return values minus their mean, which keeps their sums of squares accurate; exactly zero for a constant."""
    return values - values.mean() if len(values) and np.ptp(values) else np.zeros_like(values)


def _sentiment_confusions(classes: Callable[[np.ndarray], np.ndarray], n_classes: int) -> Statistic:
    def confusions(clips: ScoredClips) -> np.ndarray | None:
        found = clips.label_and_estimate()
        if found is None:
            return None
        labels, estimates, known = found
        predictions = np.maximum(classes(estimates), 0)
        return clips.confusions(np.where(known, classes(labels), MISSING), predictions, n_classes)

    return confusions


def _seven_classes(sentiment: np.ndarray) -> np.ndarray:
    """Round away from zero, as the CMU SDK does: only zero itself is neutral."""
    away = np.sign(sentiment) * np.ceil(np.abs(sentiment))
    return np.asarray(np.clip(np.nan_to_num(away), -3, 3).astype(int) + 3)


non_negative_confusions = _sentiment_confusions(lambda x: (x >= 0).astype(int), 2)
positive_confusions = _sentiment_confusions(lambda x: np.where(x == 0, MISSING, x > 0).astype(int), 2)
seven_class_confusions = _sentiment_confusions(_seven_classes, 7)


def weighted_f1(counts: np.ndarray) -> np.ndarray:
    """Return the mean F1 of the classes, weighted by their number of clips."""
    return _mean(per_emotion(counts).f1, counts.sum(-1))


def accuracy(counts: np.ndarray) -> np.ndarray:
    """Return the fraction of correct predictions."""
    return _mean(per_emotion(counts).recall, counts.sum(-1))


def macro_f1(counts: np.ndarray) -> np.ndarray:
    """Return the mean F1 of the classes that occur among labels or predictions, as scikit-learn does."""
    return _mean(per_emotion(counts).f1)


def uar(counts: np.ndarray) -> np.ndarray:
    """Return the unweighted average recall of the classes that occur among the labels (balanced accuracy)."""
    return _mean(per_emotion(counts).recall)


def mse(sums: np.ndarray) -> np.ndarray:
    """Return the mean squared error."""
    return np.asarray(_means(sums)[7])


def _mean(values: np.ndarray, weights: np.ndarray | float = 1.0) -> np.ndarray:
    """Return the weighted mean of the known values over the last axis; nan where none is known."""
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((np.where(known, values, 0) * weights).sum(-1) / (known * weights).sum(-1))


def _means(sums: np.ndarray) -> np.ndarray:
    """Return the means of the columns of `dimension_sums` [shape=(columns, ...)]; nan for fewer than two clips."""
    n = np.where(sums[..., :1] > 1, sums[..., :1], np.nan)
    return np.asarray(np.moveaxis(sums[..., 1:] / n, -1, 0))


def _ccc(sums: np.ndarray) -> np.ndarray:
    x, y, xx, yy, xy, difference, *_ = _means(sums)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(2 * (xy - x * y) / (xx - x * x + yy - y * y + difference**2))


def _pearson(sums: np.ndarray) -> np.ndarray:
    x, y, xx, yy, xy, *_ = _means(sums)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((xy - x * y) / np.sqrt((xx - x * x) * (yy - y * y)))


def _per_clip(values: np.ndarray, sums: np.ndarray) -> np.ndarray:
    return np.asarray(values / np.where(sums[..., 0] > 0, sums[..., 0], np.nan))


METRICS = (
    Metric(
        "mer2023",
        "MER 2023",
        True,
        (emotion_confusions, valence_sums),
        lambda counts, sums: weighted_f1(counts) - MER2023_WEIGHT * mse(sums),
        summary=True,
    ),
    Metric("waf", "WAF", True, emotion_confusions, weighted_f1, summary=True),
    Metric("macro_f1", "macro F1", True, emotion_confusions, macro_f1, summary=True),
    Metric("uar", "UAR", True, emotion_confusions, uar, summary=True),
    Metric("accuracy", "accuracy", True, emotion_confusions, accuracy, summary=True),
    Metric("ece", "ECE", False, calibration_sums, lambda s: _per_clip(np.abs(s[..., 3:]).sum(-1), s), summary=True),
    Metric("brier", "Brier", False, calibration_sums, lambda s: _per_clip(s[..., 1], s)),
    Metric("log_loss", "log loss", False, calibration_sums, lambda s: _per_clip(s[..., 2], s)),
    Metric("ccc", "CCC", True, dimension_sums, _ccc, per_dimension=True, summary=True),
    Metric("mse", "MSE", False, dimension_sums, mse, per_dimension=True, summary=True),
    Metric("mae", "MAE", False, dimension_sums, lambda sums: _means(sums)[6], per_dimension=True),
    Metric("pearson", "Pearson", True, dimension_sums, _pearson, per_dimension=True),
    Metric("acc2_non_negative", "Acc-2 (neg./non-neg.)", True, non_negative_confusions, accuracy, sentiment=True),
    Metric("f1_non_negative", "F1 (neg./non-neg.)", True, non_negative_confusions, weighted_f1, sentiment=True),
    Metric("acc2_positive", "Acc-2 (neg./pos.)", True, positive_confusions, accuracy, sentiment=True),
    Metric("f1_positive", "F1 (neg./pos.)", True, positive_confusions, weighted_f1, sentiment=True),
    Metric("acc7", "Acc-7", True, seven_class_confusions, accuracy, sentiment=True),
)
"""Every metric. The first one that predictions and labels allow is the main one: it heads reports and tables."""


def find_metric(name: str) -> Metric:
    """Return the definition of a metric by its name, with or without a dimension (``ccc:valence``)."""
    found = {metric.name: metric for metric in METRICS}
    plain = name.partition(":")[0]
    check_known("metric", plain, found)
    return found[plain]


def title(name: str) -> str:
    """Return the name of a metric for tables and plots.

    >>> title("ccc:valence")
    'CCC valence'
    """
    return f"{find_metric(name).title} {name.partition(':')[2]}".strip()


def sign(name: str) -> int:
    """Return 1 for a metric of which more is better, else -1."""
    return 1 if find_metric(name).higher_is_better else -1


def summary(names: Iterable[str]) -> list[str]:
    """Return those of the names that are shown where there is room for a few metrics only."""
    return [name for name in names if find_metric(name).summary]


def main_metric(names: Iterable[str]) -> str:
    """Return the metric to show first: ``mer2023``, else ``waf``, else the concordance of a dimension.

    >>> main_metric(["mse:valence", "ccc:valence"])
    'ccc:valence'
    """
    return min(names, key=lambda name: METRICS.index(find_metric(name)), default="")


def _available(posterior: Posterior, sentiment: bool) -> Iterator[tuple[str, Metric, str]]:
    """Yield name, definition and dimension of the metrics that predictions may have."""
    for metric in METRICS:
        if not (metric.per_dimension or metric.sentiment):
            yield metric.name, metric, ""
    for dimension in posterior.dimensions:
        for metric in METRICS:
            if metric.per_dimension or (metric.sentiment and sentiment and dimension == "valence"):
                yield f"{metric.name}:{dimension}", metric, dimension


def accumulate(
    clips: ScoredClips, *, sentiment: bool = False, only: Collection[str] = ()
) -> dict[str, tuple[Metric, tuple[np.ndarray, ...]]]:
    """Return each metric of `compute_metrics`, with its statistics per speaker."""
    result = {}
    known: dict[tuple[Statistic, str], np.ndarray | None] = {}
    for name, metric, dimension in _available(clips.posterior, sentiment):
        if only and name not in only:
            continue
        statistics = metric.accumulate if isinstance(metric.accumulate, tuple) else (metric.accumulate,)
        for statistic in statistics:
            if (statistic, dimension) not in known:
                known[statistic, dimension] = statistic(replace(clips, dimension=dimension))
        sums = [known[statistic, dimension] for statistic in statistics]
        if not any(each is None for each in sums):
            result[name] = metric, tuple(each for each in sums if each is not None)
    return result


def compute_metrics(
    posterior: Posterior, labels: Labels, *, sentiment: bool = False, only: Collection[str] = ()
) -> dict[str, float]:
    """Return every metric that predictions and labels allow.

    Parameters
    ----------
    posterior : Posterior
        Predictions for the clips of `labels`, in that order, with the emotions in that order.
    labels : Labels
    sentiment : bool
        Valence is CMU-MOSEI's sentiment: its metrics are added.
    only : collection of str
        Names of the metrics to compute; empty: all.

    Returns
    -------
    dict of str to float
        Values by name: ``waf``, ``uar``, …; of each dimension ``mse:valence`` and so on. A clip without a predicted
        emotion counts as wrong; a dimension is scored where both label and estimate are known.
    """
    clips = ScoredClips(posterior, labels, np.zeros(len(labels), int), 1)
    found = accumulate(clips, sentiment=sentiment, only=only)
    return {name: float(metric.compute(*(s.sum(0) for s in sums))) for name, (metric, sums) in found.items()}
