"""The figures agree with the libraries on plain lists, and with their definitions."""

import numpy as np
import pytest
import sklearn.metrics

from affuse.posteriors import metrics
from affuse.posteriors.labels import Labels
from affuse.posteriors.posterior import Posterior


@pytest.fixture
def labels():
    generator = np.random.default_rng(0)
    truth = generator.integers(0, 5, 400)
    chosen = np.where(generator.random(400) < 0.6, truth, generator.integers(0, 6, 400))
    return truth, chosen


def test_emotion_figures_are_scikit_learns_on_plain_lists(labels):
    truth, chosen = labels
    found = metrics.emotion_figures(metrics.confusion(truth, chosen, 6))
    assert found["waf"] == pytest.approx(sklearn.metrics.f1_score(truth, chosen, average="weighted"))
    assert found["macro_f1"] == pytest.approx(sklearn.metrics.f1_score(truth, chosen, average="macro"))
    assert found["uar"] == pytest.approx(sklearn.metrics.recall_score(truth, chosen, labels=range(5), average="macro"))
    assert found["accuracy"] == pytest.approx(sklearn.metrics.accuracy_score(truth, chosen))


def test_a_clip_without_an_answer_is_a_wrong_one_and_one_without_a_label_is_none():
    counts = metrics.confusion(np.array([0, 0, 1, -1]), np.array([0, -1, 1, 1]), 2)
    assert metrics.emotion_figures(counts)["accuracy"] == pytest.approx(2 / 3)


def test_ccc_of_itself_is_one_and_a_shift_lowers_it_but_not_pearson():
    x = np.random.default_rng(0).normal(size=50)
    assert metrics.dimension_figures(x, x)["ccc"] == pytest.approx(1)
    shifted = metrics.dimension_figures(x, x + 1)
    assert shifted["ccc"] < 0.8 and shifted["pearson"] == pytest.approx(1)
    assert shifted["mse"] == pytest.approx(1) and shifted["mae"] == pytest.approx(1)


def test_dimensions_that_nobody_annotated_do_not_count():
    x = np.array([0.0, 1.0, np.nan, 2.0])
    assert metrics.dimension_figures(x, np.array([0.0, 1.0, 5.0, 2.0]))["mse"] == 0


def test_the_mer_2023_score_is_weighted_f1_minus_a_quarter_of_the_valence_error():
    posterior = Posterior(("a", "b"), ("happy", "sad"), np.array([[0.9, 0.1], [0.6, 0.4]]), {"valence": np.ones(2)})
    truth = Labels(("a", "b"), ("x", "y"), ("happy", "sad"), np.array([0, 1]), {"valence": np.zeros(2)})
    found = metrics.figures(posterior, truth)
    assert found["mer2023"] == pytest.approx(found["waf"] - 0.25)


def test_the_two_binary_flavours_of_cmu_mosei_treat_zero_differently():
    truth, estimate = np.array([-1.0, 0.0, 2.0]), np.array([-0.5, -0.2, 1.8])
    found = metrics.sentiment_figures(truth, estimate)
    assert found["acc2_non_negative"] == pytest.approx(2 / 3)
    assert found["acc2_positive"] == 1
    assert found["acc7"] == pytest.approx(2 / 3)  # -0.5 is class -1, -0.2 too, 1.8 is class 2
