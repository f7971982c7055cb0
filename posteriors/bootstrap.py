"""Bootstrap confidence intervals over speakers, for the metrics of one system and for the difference of two.

Speakers are resampled, not clips: clips of one person resemble one another, and an interval over clips is too narrow.
Each metric follows from sums per speaker (see `metrics`), so that a resample costs one sum over speakers.
"""

import functools
import math
from typing import NamedTuple

import numpy as np

from .labels import Labels
from .metrics import ScoredClips, accumulate
from .posterior import Posterior

N_RESAMPLES = 1000
ALPHA = 5.0
"""Percent of the resamples outside an interval."""


class Interval(NamedTuple):
    """Value of a metric with the central 95 % of its bootstrap resamples."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        """Return the interval as text, such as ``0.712 [0.690, 0.731]``."""
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"

    @property
    def excludes_zero(self) -> bool:
        """Whether a difference is significant: zero lies outside the interval."""
        return self.low > 0 or self.high < 0


class Bootstrap(NamedTuple):
    """Metrics of a system by name, and those of each of its bootstrap resamples [shape=(resamples,)]."""

    values: dict[str, float]
    resampled: dict[str, np.ndarray]

    def interval(self, name: str) -> Interval:
        """Return a metric with its interval; nan where it could not be computed."""
        return interval(self.values.get(name, math.nan), self.resampled.get(name, np.array([])))


@functools.lru_cache(maxsize=4)
def resample_counts(n_speakers: int, *, n_resamples: int = N_RESAMPLES) -> np.ndarray:
    """Return how often each bootstrap resample holds each speaker [shape=(resamples, speakers)].

    Each resample is seeded by its number, so that two systems are compared on the same resamples.
    """
    drawn = (np.random.RandomState(seed).randint(0, n_speakers, n_speakers) for seed in range(n_resamples))
    counts = np.stack([np.bincount(speakers, minlength=n_speakers) for speakers in drawn])
    counts.flags.writeable = False
    return counts


def resample_sums(sums: np.ndarray, *, n_resamples: int = N_RESAMPLES) -> np.ndarray:
    """Return the sums over the speakers of each resample [shape=(resamples, ...)] from those per speaker."""
    counts = resample_counts(len(sums), n_resamples=n_resamples).astype(float)
    return np.asarray(counts @ sums.reshape(len(sums), -1)).reshape(n_resamples, *sums.shape[1:])


def bootstrap(
    posterior: Posterior, labels: Labels, *, n_resamples: int = N_RESAMPLES, sentiment: bool = False
) -> Bootstrap:
    """Compute every metric of `metrics.compute_metrics` on all clips and on bootstrap resamples of the speakers."""
    result = Bootstrap({}, {})
    resampled: dict[int, np.ndarray] = {}
    for name, (metric, sums) in accumulate(ScoredClips.by_speaker(posterior, labels), sentiment=sentiment).items():
        for each in sums:
            if id(each) not in resampled:
                resampled[id(each)] = resample_sums(each, n_resamples=n_resamples)
        result.values[name] = float(metric.compute(*(each.sum(0) for each in sums)))
        result.resampled[name] = metric.compute(*(resampled[id(each)] for each in sums))
    return result


def interval(value: float, resampled: np.ndarray) -> Interval:
    """Return a metric with the central 95 % of its resamples."""
    known = resampled[~np.isnan(resampled)]
    if not len(known) or math.isnan(value):
        return Interval(value, math.nan, math.nan)
    low, high = np.percentile(known, [ALPHA / 2, 100 - ALPHA / 2])
    return Interval(value, float(low), float(high))
