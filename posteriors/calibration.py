"""Probabilities that mean what they say: temperature, its measures, a shifted class prior.

References
----------
Guo et al. 2017, "On Calibration of Modern Neural Networks", ICML: temperature, and the expected
calibration error (eq. 3), here over 15 equally wide bins.
Saerens, Latinne & Decaestecker 2002, "Adjusting the Outputs of a Classifier to New a Priori
Probabilities", Neural Computation 14(1), eqs. 2.9 and 2.10: the EM of `shifted`.
"""

from typing import NamedTuple

import numpy as np

from .labels import MISSING, Labels
from .posterior import Posterior, softmax

FLOOR = 1e-12
"""A probability counts as at least this in a logarithm."""
BINS = 15
NEEDED = 1.92
"""Log likelihood that a temperature must gain: half of chi-squared's 95 % point."""


class Reliability(NamedTuple):
    """What a reliability diagram shows; nan in empty bins.

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
        """Expected calibration error."""
        gap = np.abs(self.confidence - self.accuracy)
        return float(np.nansum(gap * self.clips) / max(self.clips.sum(), 1))


def temperature(probabilities: np.ndarray, emotion: np.ndarray) -> float:
    """Fit the temperature that makes the labels likeliest, by scikit-learn.

    It is 1 where no other is called for: a system that is calibrated already is not touched for
    the noise of its labels (likelihood ratio, 5 %).

    Parameters
    ----------
    probabilities : ndarray [shape=(clips, emotions)]
    emotion : ndarray of int [shape=(clips,)]
        Clips at -1, or without an answer, are left out.

    Returns
    -------
    float
        Above 1 for a system that is too sure of itself.
    """
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.frozen import FrozenEstimator

    from .given import Given

    known = (emotion != MISSING) & ~np.isnan(probabilities).any(1)
    if not known.any():
        return 1.0
    rows, labels = probabilities[known], emotion[known]
    n_emotions = rows.shape[1]
    everyone = np.arange(len(rows) + n_emotions)
    calibrator = CalibratedClassifierCV(
        FrozenEstimator(Given(n_emotions)), method="temperature", ensemble=False, cv=[(everyone, everyone)]
    )
    # scikit-learn wants to have seen every emotion; a uniform row is as likely at any temperature
    calibrator.fit(
        np.vstack([rows, np.full((n_emotions, n_emotions), 1 / n_emotions)]),
        np.concatenate([labels, np.arange(n_emotions)]),
    )
    fitted = 1 / float(calibrator.calibrated_classifiers_[0].calibrators[0].beta_)
    gain = log_loss(rows, labels) - log_loss(heated(rows, fitted), labels)
    return fitted if gain * len(rows) > NEEDED else 1.0


def heated(probabilities: np.ndarray, value: float) -> np.ndarray:
    """Return probabilities at a temperature: the softmax of their logarithms over it."""
    return softmax(np.log(np.maximum(probabilities, FLOOR)) / value)


def log_loss(probabilities: np.ndarray, emotion: np.ndarray) -> float:
    """Return the mean of minus the logarithm of the true emotion's probability."""
    likelihood = probabilities[np.arange(len(emotion)), emotion]
    return float(-np.log(np.maximum(likelihood, FLOOR)).mean())


def reliability(posterior: Posterior, truth: Labels, *, n_bins: int = BINS) -> Reliability:
    """Sort clips by how sure the system is, and see how often it is right."""
    known = (truth.emotion != MISSING) & (posterior.chosen() != MISSING)
    rows = posterior.probabilities[known]
    sure, right = rows.max(1), rows.argmax(1) == truth.emotion[known]
    bins = np.minimum((sure * n_bins).astype(int), n_bins - 1)
    clips = np.bincount(bins, minlength=n_bins)
    counted = np.where(clips > 0, clips, np.nan)
    return Reliability(np.bincount(bins, sure, n_bins) / counted, np.bincount(bins, right, n_bins) / counted, clips)


def measures(posterior: Posterior, truth: Labels) -> dict[str, float]:
    """Return ``ece``, ``brier`` (the sum over emotions, in [0, 2]) and ``log_loss``."""
    from sklearn.metrics import brier_score_loss

    known = (truth.emotion != MISSING) & (posterior.chosen() != MISSING)
    if not known.any():
        return dict.fromkeys(("ece", "brier", "log_loss"), float("nan"))
    rows, labels = posterior.probabilities[known], truth.emotion[known]
    rows = rows / rows.sum(1, keepdims=True)
    every = np.arange(rows.shape[1])
    return {
        "ece": reliability(posterior, truth).ece,
        "brier": float(
            brier_score_loss(labels, rows if len(every) > 2 else rows[:, 1], labels=every, scale_by_half=False)
        ),
        "log_loss": log_loss(rows, labels),
    }


def shifted(
    probabilities: np.ndarray, prior: np.ndarray, *, n_rounds: int = 1000, tolerance: float = 1e-7
) -> tuple[np.ndarray, np.ndarray]:
    """Correct posteriors for clips whose emotions are distributed otherwise than in training.

    Parameters
    ----------
    probabilities : ndarray [shape=(clips, emotions)]
        Of clips without labels; calibrated, or the correction overshoots.
    prior : ndarray [shape=(emotions,)]
        Shares of the emotions that the system learnt from.
    n_rounds : int
    tolerance : float
        EM stops when no share moves by more.

    Returns
    -------
    probabilities : ndarray [shape=(clips, emotions)]
    prior : ndarray [shape=(emotions,)]
        Estimated shares among these clips.
    """
    answered = ~np.isnan(probabilities).any(1)
    rows = probabilities[answered]
    prior = np.maximum(prior / prior.sum(), FLOOR)
    new = prior
    corrected = rows
    for _ in range(n_rounds if len(rows) else 0):
        corrected = rows * (new / prior)
        corrected = corrected / corrected.sum(1, keepdims=True)
        before, new = new, corrected.mean(0)
        if np.abs(new - before).max() < tolerance:
            break
    result = np.array(probabilities)
    result[answered] = corrected
    return result, new
