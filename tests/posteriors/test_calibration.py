"""Temperature, reliability and the adjusted prior recover planted values."""

import numpy as np
import pytest

from affuse.posteriors.calibration import adjust_prior, reliability, temperature, temperature_scaled
from affuse.posteriors.labels import Labels
from affuse.posteriors.metrics import compute_metrics
from affuse.posteriors.posterior import Posterior, softmax


def calibrated(seed, n=2000, k=5):
    """Return posteriors, and labels drawn from them: calibrated by construction."""
    generator = np.random.default_rng(seed)
    rows = softmax(generator.normal(size=(n, k)) * 1.5)
    return rows, (rows.cumsum(1) > generator.random((n, 1))).argmax(1)


def scored(rows, labels):
    ids = tuple(map(str, range(len(rows))))
    emotions = tuple("abcdefgh"[: rows.shape[1]])
    return Posterior(ids, emotions, rows), Labels(ids, ids, emotions, labels)


def ece(rows, labels):
    return compute_metrics(*scored(rows, labels), only=["ece"])["ece"]


@pytest.mark.parametrize("planted", [0.4, 2.0])
def test_a_planted_temperature_is_found(planted):
    rows, labels = calibrated(0)
    assert temperature(temperature_scaled(rows, planted), labels) == pytest.approx(1 / planted, rel=0.1)


def test_the_temperature_is_that_of_scikit_learn():
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.frozen import FrozenEstimator

    class Identity(ClassifierMixin, BaseEstimator):
        classes_ = np.arange(5)

        def fit(self, rows, labels):
            return self

        def __sklearn_is_fitted__(self):
            return True

        def predict(self, rows):
            return rows.argmax(1)

        def predict_proba(self, rows):
            return rows

    rows, labels = calibrated(3)
    rows = temperature_scaled(rows, 0.5)
    every = np.arange(len(rows))
    model = CalibratedClassifierCV(
        FrozenEstimator(Identity()), method="temperature", ensemble=False, cv=[(every, every)]
    ).fit(rows, labels)
    expected = 1 / model.calibrated_classifiers_[0].calibrators[0].beta_
    assert temperature(rows, labels) == pytest.approx(expected, rel=1e-6)


def test_two_emotions_and_emotions_without_a_label():
    rows, labels = calibrated(0, k=2)
    assert temperature(temperature_scaled(rows, 0.5), labels) == pytest.approx(2, rel=0.2)
    rows, labels = calibrated(1, k=4)
    few = labels < 2
    assert np.isfinite(temperature(rows[few], labels[few]))


def test_a_calibrated_system_is_not_changed_for_the_noise_of_its_labels():
    assert np.mean([temperature(*calibrated(seed, 500)) == 1 for seed in range(20)]) >= 0.8


def test_the_calibration_error_on_held_out_clips_falls():
    worse = 0
    for seed in range(12):
        rows, labels = calibrated(seed)
        rows = temperature_scaled(rows, np.exp(np.random.default_rng(seed).uniform(-1, 1)))
        value = temperature(rows[::2], labels[::2])
        before = ece(rows[1::2], labels[1::2])
        worse += ece(temperature_scaled(rows[1::2], value), labels[1::2]) > before + 1e-12
    assert worse <= 1


def test_the_calibration_error_is_the_gap_between_confidence_and_accuracy():
    rows, labels = np.array([[0.9, 0.1]] * 10), np.array([0] * 6 + [1] * 4)
    assert ece(rows, labels) == pytest.approx(0.3)
    found = reliability(*scored(rows, labels))
    assert found.ece == pytest.approx(0.3)
    filled = np.flatnonzero(found.clips)
    assert found.clips[filled].tolist() == [10]
    assert found.confidence[filled] == pytest.approx(0.9) and found.accuracy[filled] == pytest.approx(0.6)


def test_the_class_prior_of_unlabelled_clips_is_estimated():
    generator = np.random.default_rng(0)
    trained, here = np.array([0.25] * 4), np.array([0.55, 0.3, 0.1, 0.05])
    labels = generator.choice(4, 4000, p=here)
    rows = softmax(1.5**2 * np.eye(4)[labels] + 1.5 * generator.normal(size=(4000, 4)))
    corrected, found = adjust_prior(rows, trained)
    np.testing.assert_allclose(found, here, atol=0.03)
    right = [(each.argmax(1) == labels).mean() for each in (rows, corrected)]
    assert right[1] > right[0]
    np.testing.assert_allclose(corrected.sum(1), 1)
