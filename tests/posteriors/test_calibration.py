"""Temperature, its measures and the shifted prior, against what was planted."""

import numpy as np
import pytest
import sklearn.metrics

from affuse.posteriors.calibration import heated, measures, reliability, shifted, temperature
from affuse.posteriors.labels import Labels
from affuse.posteriors.posterior import Posterior, softmax


def drawn(seed, n=2000, k=5):
    """Posteriors, and labels drawn from them: calibrated by construction."""
    generator = np.random.default_rng(seed)
    rows = softmax(generator.normal(size=(n, k)) * 1.5)
    return rows, (rows.cumsum(1) > generator.random((n, 1))).argmax(1)


def scored(rows, labels):
    ids = tuple(map(str, range(len(rows))))
    emotions = tuple("abcdefgh"[: rows.shape[1]])
    return Posterior(ids, emotions, rows), Labels(ids, ids, emotions, labels)


@pytest.mark.parametrize("planted", [0.4, 2.0])
def test_a_planted_temperature_is_found(planted):
    rows, labels = drawn(0)
    assert temperature(heated(rows, planted), labels) == pytest.approx(1 / planted, rel=0.1)


def test_two_emotions_and_emotions_that_nobody_showed():
    rows, labels = drawn(0, k=2)
    assert temperature(heated(rows, 0.5), labels) == pytest.approx(2, rel=0.2)
    rows, labels = drawn(1, k=4)
    few = labels < 2
    assert np.isfinite(temperature(rows[few], labels[few]))


def test_what_is_calibrated_is_not_touched_for_the_noise_of_its_labels():
    assert np.mean([temperature(*drawn(seed, 500)) == 1 for seed in range(20)]) >= 0.8


def test_calibration_error_on_held_out_clips_falls():
    worse = 0
    for seed in range(12):
        rows, labels = drawn(seed)
        rows = heated(rows, np.exp(np.random.default_rng(seed).uniform(-1, 1)))
        value = temperature(rows[::2], labels[::2])
        before = reliability(*scored(rows[1::2], labels[1::2])).ece
        after = reliability(*scored(heated(rows[1::2], value), labels[1::2])).ece
        worse += after > before + 1e-12
    assert worse <= 1


def test_measures_are_those_of_their_definitions():
    rows, labels = drawn(0, 300)
    found = measures(*scored(rows, labels))
    assert found["log_loss"] == pytest.approx(sklearn.metrics.log_loss(labels, rows))
    assert found["brier"] == pytest.approx(((rows - np.eye(5)[labels]) ** 2).sum(1).mean())
    sure = np.array([[0.9, 0.1]] * 10)
    right = np.array([0] * 6 + [1] * 4)
    assert measures(*scored(sure, right))["ece"] == pytest.approx(0.3)


def test_em_finds_the_class_shares_of_unlabelled_clips():
    generator = np.random.default_rng(0)
    learnt, here = np.array([0.25] * 4), np.array([0.55, 0.3, 0.1, 0.05])
    labels = generator.choice(4, 4000, p=here)
    rows = softmax(1.5**2 * np.eye(4)[labels] + 1.5 * generator.normal(size=(4000, 4)))
    corrected, found = shifted(rows, learnt)
    np.testing.assert_allclose(found, here, atol=0.03)
    right = [(each.argmax(1) == labels).mean() for each in (rows, corrected)]
    assert right[1] > right[0]
    np.testing.assert_allclose(corrected.sum(1), 1)
