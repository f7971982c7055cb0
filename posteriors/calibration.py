"""Calibration: temperature scaling, reliability, and adjustment to a different class prior.

References
----------
Guo et al. 2017, "On Calibration of Modern Neural Networks", ICML: temperature scaling, and the expected calibration
error (eq. 3), here over 15 bins of equal width.
Saerens, Latinne & Decaestecker 2002, "Adjusting the Outputs of a Classifier to New a Priori Probabilities", Neural
Computation 14(1), eqs. 2.9 and 2.10: the EM algorithm of `adjust_prior`.
"""

from typing import NamedTuple

import numpy as np

from .labels import MISSING, Labels
from .posterior import MIN_PROBABILITY, Posterior, softmax

N_BINS = 15
MIN_GAIN = 1.92
"""Gain in log likelihood below which a temperature is not used: half of the 95 % point of chi-squared."""
LOG_INVERSE_TEMPERATURES = (-10.0, 10.0)
MAX_ITERATIONS = 1000
TOLERANCE = 1e-7
"""Change of a frequency below which the EM algorithm of `adjust_prior` stops."""


class Reliability(NamedTuple):
    """Data of a reliability diagram; nan in empty bins.

    Attributes
    ----------
    confidence, accuracy : ndarray [shape=(bins,)]
    clips : ndarray of int [shape=(bins,)]
    """

    confidence: np.ndarray
    accuracy: np.ndarray
    clips: np.ndarray

    @property
    def ece(self) -> float:
        """Expected calibration error, the metric ``ece``."""
        gap = np.abs(self.confidence - self.accuracy)
        return float(np.nansum(gap * self.clips) / max(self.clips.sum(), 1))


def temperature(probabilities: np.ndarray, emotion: np.ndarray) -> float:
    """Fit the temperature that maximises the likelihood of the labels; above 1 for an overconfident system.

    The result is 1 unless another temperature is significantly better (likelihood-ratio test at 5 %), so that noise in
    the labels does not change a system that is calibrated already.

    Parameters
    ----------
    probabilities : ndarray [shape=(clips, emotions)]
    emotion : ndarray of int [shape=(clips,)]
        Labels; clips with -1 or without a prediction are left out.
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import logsumexp

    known = (emotion != MISSING) & ~np.isnan(probabilities).any(1)
    if not known.any():
        return 1.0
    rows, labels = probabilities[known], emotion[known]
    logits = np.log(np.maximum(rows, MIN_PROBABILITY))
    logits = logits - logits[np.arange(len(rows)), labels, None]

    def loss(log_inverse: float) -> float:
        return float(logsumexp(np.exp(log_inverse) * logits, axis=1).mean())

    fitted = minimize_scalar(loss, bounds=LOG_INVERSE_TEMPERATURES, options={"xatol": 1e-9})
    return float(np.exp(-fitted.x)) if (loss(0) - fitted.fun) * len(rows) > MIN_GAIN else 1.0


def temperature_scaled(probabilities: np.ndarray, value: float) -> np.ndarray:
    """Return probabilities at a temperature: the softmax of their logarithms divided by it."""
    return softmax(np.log(np.maximum(probabilities, MIN_PROBABILITY)) / value)


def confidence_bins(probabilities: np.ndarray, emotion: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the probability of each predicted emotion, whether it is correct, and its bin [shape=(clips,)].

    `probabilities` [shape=(clips, emotions)] has no missing values. The `N_BINS` bins have equal width.
    """
    confidence = probabilities.max(1, initial=0)
    correct = probabilities.argmax(1) == emotion
    return confidence, correct, np.minimum((confidence * N_BINS).astype(int), N_BINS - 1)


def reliability(posterior: Posterior, labels: Labels) -> Reliability:
    """Return mean confidence and accuracy of the predictions in bins of their confidence."""
    known = (labels.emotion != MISSING) & (posterior.predicted() != MISSING)
    confidence, correct, bins = confidence_bins(posterior.probabilities[known], labels.emotion[known])
    clips = np.bincount(bins, minlength=N_BINS)
    counted = np.where(clips > 0, clips, np.nan)
    return Reliability(
        np.bincount(bins, confidence, N_BINS) / counted, np.bincount(bins, correct, N_BINS) / counted, clips
    )


def adjust_prior(probabilities: np.ndarray, prior: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Adjust posteriors to clips whose emotions are distributed differently than in training.

    Parameters
    ----------
    probabilities : ndarray [shape=(clips, emotions)]
        Posteriors of clips without labels. They should be calibrated, or the correction overshoots.
    prior : ndarray [shape=(emotions,)]
        Relative frequencies of the emotions in the training data. Those among these clips are returned too.
    """
    known = ~np.isnan(probabilities).any(1)
    rows = probabilities[known]
    prior = np.maximum(prior / prior.sum(), MIN_PROBABILITY)
    new = prior
    corrected = rows
    for _ in range(MAX_ITERATIONS if len(rows) else 0):
        corrected = rows * (new / prior)
        corrected = corrected / corrected.sum(1, keepdims=True)
        before, new = new, corrected.mean(0)
        if np.abs(new - before).max() < TOLERANCE:
            break
    result = np.array(probabilities)
    result[known] = corrected
    return result, new
