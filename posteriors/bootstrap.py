"""Bootstrap intervals over speakers, of every figure, for one system and for the difference of two.

People are drawn, not clips: clips of one person resemble one another, and an interval over clips is
too narrow. Each speaker's clips are first summed into a tally from which every figure follows, so
that a draw costs one sum over speakers. Draws and percentiles are those of the library
`confidence-intervals` (Ferrer); tests show the tallies' figures equal to `metrics`' own.
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from .calibration import BINS, FLOOR
from .labels import MISSING, Labels
from .metrics import MER2023_WEIGHT, sentiment_classes
from .posterior import Posterior

N_DRAWS = 1000
ALPHA = 5.0
Figures = dict[str, np.ndarray]


class Interval(NamedTuple):
    """A figure, and where its bootstrap's central 95 % lie."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        """Return such as ``0.712 [0.690, 0.731]``."""
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"

    @property
    def excludes_zero(self) -> bool:
        """Whether a difference is one."""
        return self.low > 0 or self.high < 0


class SpeakerSums(NamedTuple):
    """Sums over each speaker's clips, and how figures follow from sums.

    Attributes
    ----------
    sums : ndarray [shape=(speakers, ...)]
    read : callable
        Sums [shape=(draws, ...)] to figures [shape=(draws,)] by name.
    """

    sums: np.ndarray
    read: Callable[[np.ndarray], Figures]


@functools.lru_cache(maxsize=4)
def draw(n_speakers: int, *, n_draws: int = N_DRAWS) -> np.ndarray:
    """Return how often each draw holds each speaker [shape=(draws, speakers)].

    A draw is seeded by its number, so that two systems meet the same draws.
    """
    from confidence_intervals import get_bootstrap_indices

    drawn = (get_bootstrap_indices(n_speakers, random_state=d) for d in range(n_draws))
    counts = np.stack([np.bincount(indices, minlength=n_speakers) for indices in drawn])
    counts.flags.writeable = False
    return counts


def drawn(posterior: Posterior, truth: Labels, *, n_draws: int = N_DRAWS, sentiment: bool = False) -> Figures:
    """Return every figure in every draw of speakers.

    Parameters
    ----------
    posterior : Posterior
        Of the clips of `truth`, in that order.
    truth : Labels
    n_draws : int
    sentiment : bool
        Valence is CMU-MOSEI's sentiment.

    Returns
    -------
    dict of str to ndarray [shape=(draws,)]
        Figures as `metrics.figures` and `calibration.measures` name them; ``f1:`` and ``recall:``
        of each emotion.
    """
    speakers, code = np.unique(np.array(truth.speakers), return_inverse=True)
    draws = draw(len(speakers), n_draws=n_draws).astype(float)
    result: Figures = {}
    for tally in tallies(posterior, truth, code, len(speakers), sentiment=sentiment):
        flat = draws @ tally.sums.reshape(len(speakers), -1)
        result |= tally.read(flat.reshape(n_draws, *tally.sums.shape[1:]))
    if "waf" in result and "mse:valence" in result:
        result["mer2023"] = result["waf"] - MER2023_WEIGHT * result["mse:valence"]
    return result


def interval(value: float, draws: np.ndarray) -> Interval:
    """Return a figure with the central 95 % of its draws."""
    from confidence_intervals import get_conf_int

    known = draws[~np.isnan(draws)]
    if not len(known) or math.isnan(value):
        return Interval(value, math.nan, math.nan)
    low, high = get_conf_int(known, ALPHA)
    return Interval(value, float(low), float(high))


def tallies(
    posterior: Posterior, truth: Labels, code: np.ndarray, n_speakers: int, *, sentiment: bool = False
) -> list[SpeakerSums]:
    """Return the tallies that posterior and labels allow; `code` numbers each clip's speaker."""
    result = []
    if posterior.emotions and (truth.emotion != MISSING).any():
        result.append(_emotions(posterior, truth, code, n_speakers))
        result.append(_calibration(posterior, truth, code, n_speakers))
    for name, estimate in posterior.dimensions.items():
        if name in truth.dimensions:
            result.append(_dimension(name, truth.dimensions[name], estimate, code, n_speakers))
    if sentiment and "valence" in posterior.dimensions and "valence" in truth.dimensions:
        both = truth.dimensions["valence"], posterior.dimensions["valence"]
        result += _sentiment(*both, code, n_speakers)
    return result


def _per_speaker(code: np.ndarray, n_speakers: int, columns: np.ndarray) -> np.ndarray:
    return np.stack([np.bincount(code, column, n_speakers) for column in columns], 1)


def _emotions(posterior: Posterior, truth: Labels, code: np.ndarray, n_speakers: int) -> SpeakerSums:
    counts = _confusions(truth.emotion, posterior.chosen(), len(posterior.emotions), code, n_speakers)

    def read(counts: np.ndarray) -> Figures:
        recall, f1, share = _rates(counts)
        figures = {
            "waf": np.nansum(f1 * share, 1),
            "macro_f1": _mean(f1),
            "uar": _mean(recall),
            "accuracy": np.nansum(recall * share, 1),
        }
        for e, emotion in enumerate(posterior.emotions):
            figures[f"f1:{emotion}"], figures[f"recall:{emotion}"] = f1[:, e], recall[:, e]
        return figures

    return SpeakerSums(counts, read)


def _sentiment(truth: np.ndarray, estimate: np.ndarray, code: np.ndarray, n_speakers: int) -> list[SpeakerSums]:
    result = []
    for flavour, (labels, answers, n) in sentiment_classes(truth, estimate).items():

        def read(counts: np.ndarray, flavour: str = flavour) -> Figures:
            recall, f1, share = _rates(counts)
            figures = {flavour: np.nansum(recall * share, 1)}
            if flavour.startswith("acc2"):
                figures[flavour.replace("acc2", "f1")] = np.nansum(f1 * share, 1)
            return {f"{figure}:valence": values for figure, values in figures.items()}

        result.append(SpeakerSums(_confusions(labels, answers, n, code, n_speakers), read))
    return result


def _confusions(truth: np.ndarray, chosen: np.ndarray, n: int, code: np.ndarray, n_speakers: int) -> np.ndarray:
    """Return each speaker's confusion matrix, laid out as `metrics.confusion` does."""
    known = truth != MISSING
    answer = np.where(chosen[known] == MISSING, n, chosen[known])
    cell = (code[known] * n + truth[known]) * (n + 1) + answer
    shape = (n_speakers, n, n + 1)
    return np.bincount(cell, minlength=math.prod(shape)).reshape(shape)


def _rates(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return recall, F1 and share of clips [shape=(draws, emotions)]; nan where undefined."""
    hits = np.diagonal(counts, axis1=1, axis2=2)
    support, answers = counts.sum(2), counts[:, :, :-1].sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        recall = hits / support
        f1 = np.where(support + answers > 0, 2 * hits / (support + answers), np.nan)
        return recall, f1, support / support.sum(1, keepdims=True)


def _mean(values: np.ndarray) -> np.ndarray:
    known = ~np.isnan(values)
    return np.asarray(np.nansum(values, 1) / np.maximum(known.sum(1), 1))


def _calibration(posterior: Posterior, truth: Labels, code: np.ndarray, n_speakers: int) -> SpeakerSums:
    known = (truth.emotion != MISSING) & (posterior.chosen() != MISSING)
    rows, labels, code = posterior.probabilities[known], truth.emotion[known], code[known]
    likelihood = rows[np.arange(len(rows)), labels]
    brier = (rows**2).sum(1) - 2 * likelihood + 1
    surprise = -np.log(np.maximum(likelihood, FLOOR))
    sure, right = rows.max(1, initial=0), rows.argmax(1) == labels
    bins = np.minimum((sure * BINS).astype(int), BINS - 1)
    gap = np.bincount(code * BINS + bins, sure - right, n_speakers * BINS)
    sums = _per_speaker(code, n_speakers, np.stack([np.ones(len(rows)), brier, surprise]))

    def read(sums: np.ndarray) -> Figures:
        n = np.where(sums[:, 0] > 0, sums[:, 0], np.nan)
        ece = np.abs(sums[:, 3:]).sum(1) / n
        return {"ece": ece, "brier": sums[:, 1] / n, "log_loss": sums[:, 2] / n}

    return SpeakerSums(np.hstack([sums, gap.reshape(n_speakers, BINS)]), read)


def _dimension(name: str, truth: np.ndarray, estimate: np.ndarray, code: np.ndarray, n_speakers: int) -> SpeakerSums:
    known = ~(np.isnan(truth) | np.isnan(estimate))
    centre = truth[known].mean() if known.any() else 0.0
    x, y = truth[known] - centre, estimate[known] - centre
    columns = np.stack([np.ones(len(x)), x, y, x * x, y * y, x * y, np.abs(x - y)])

    def read(sums: np.ndarray) -> Figures:
        n = np.where(sums[:, 0] > 1, sums[:, 0], np.nan)
        x, y, xx, yy, xy, off = (sums[:, 1:] / n[:, None]).T
        mse, shift = xx - 2 * xy + yy, x - y
        x_var, y_var, both = xx - x * x, yy - y * y, xy - x * y
        with np.errstate(invalid="ignore", divide="ignore"):
            pearson = both / np.sqrt(x_var * y_var)
            ccc = 2 * both / (x_var + y_var + shift**2)
        figures = {"mse": mse, "mae": off, "ccc": ccc, "pearson": pearson}
        return {f"{figure}:{name}": values for figure, values in figures.items()}

    return SpeakerSums(_per_speaker(code[known], n_speakers, columns), read)
