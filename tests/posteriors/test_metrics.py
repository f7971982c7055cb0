"""Metrics agree with scikit-learn and audmetric, and a metric that is defined once shows up everywhere."""

import audmetric
import numpy as np
import pytest
import sklearn.metrics

from affuse.manifest import Clip, Manifest
from affuse.posteriors import metrics
from affuse.posteriors.evaluation import evaluate
from affuse.posteriors.labels import Labels
from affuse.posteriors.metrics import Metric, compute_metrics
from affuse.posteriors.posterior import Posterior

EMOTIONS = ("a", "b", "c", "d", "e", "f")


def ids(n):
    return tuple(map(str, range(n)))


def emotions(labels, predictions):
    """Return the metrics of predicted emotions; -1 is a missing label or prediction."""
    rows = np.where(predictions[:, None] < 0, np.nan, np.eye(6)[predictions])
    names = ids(len(labels))
    return compute_metrics(Posterior(names, EMOTIONS, rows), Labels(names, names, EMOTIONS, labels))


def valence(labels, estimates, **options):
    """Return the metrics of valence, by their names without the dimension."""
    names = ids(len(labels))
    posterior = Posterior(names, (), np.zeros((len(names), 0)), {"valence": np.asarray(estimates, float)})
    truth = Labels(names, names, (), np.full(len(names), -1), {"valence": np.asarray(labels, float)})
    return {name.partition(":")[0]: v for name, v in compute_metrics(posterior, truth, **options).items()}


@pytest.fixture
def labels_and_predictions():
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 5, 400)
    return labels, np.where(generator.random(400) < 0.6, labels, generator.integers(0, 6, 400))


def test_emotion_metrics_are_those_of_scikit_learn(labels_and_predictions):
    labels, predictions = labels_and_predictions
    found = emotions(labels, predictions)
    assert found["waf"] == pytest.approx(sklearn.metrics.f1_score(labels, predictions, average="weighted"))
    assert found["macro_f1"] == pytest.approx(sklearn.metrics.f1_score(labels, predictions, average="macro"))
    assert found["accuracy"] == pytest.approx(sklearn.metrics.accuracy_score(labels, predictions))
    recall = sklearn.metrics.recall_score(labels, predictions, labels=range(5), average="macro")
    assert found["uar"] == pytest.approx(recall)


def test_probability_metrics_are_those_of_scikit_learn():
    generator = np.random.default_rng(0)
    rows, labels = generator.dirichlet(np.ones(6), 300), generator.integers(0, 6, 300)
    found = compute_metrics(Posterior(ids(300), EMOTIONS, rows), Labels(ids(300), ids(300), EMOTIONS, labels))
    assert found["log_loss"] == pytest.approx(sklearn.metrics.log_loss(labels, rows, labels=range(6)))
    assert found["brier"] == pytest.approx(sklearn.metrics.brier_score_loss(labels, rows, scale_by_half=False))


def test_dimension_metrics_are_those_of_audmetric():
    generator = np.random.default_rng(0)
    labels = 7 + 0.1 * generator.normal(size=200)
    estimates = labels + 0.3 + 0.1 * generator.normal(size=200)
    found = valence(labels, estimates)
    assert found["ccc"] == pytest.approx(audmetric.concordance_cc(labels, estimates), abs=1e-12)
    assert found["pearson"] == pytest.approx(audmetric.pearson_cc(labels, estimates), abs=1e-12)
    assert found["mse"] == pytest.approx(audmetric.mean_squared_error(labels, estimates), abs=1e-12)
    assert found["mae"] == pytest.approx(audmetric.mean_absolute_error(labels, estimates), abs=1e-12)


def test_a_clip_without_prediction_is_wrong_and_one_without_label_is_left_out():
    assert emotions(np.array([0, 0, 1, -1]), np.array([0, -1, 1, 1]))["accuracy"] == pytest.approx(2 / 3)


def test_correlations_of_a_constant_are_undefined():
    found = valence([0.1, 0.2, 0.4], [0.3, 0.3, 0.3])
    assert np.isnan(found["pearson"]) and found["ccc"] == 0
    same = valence([0.1, 0.1, 0.1], [0.1, 0.1, 0.1])
    assert np.isnan(same["ccc"]) and same["mse"] == 0
    assert np.isnan(valence([0.1], [0.2])["mse"])


def test_ccc_of_identical_values_is_one_and_a_shift_lowers_it_but_not_pearson():
    x = np.random.default_rng(0).normal(size=50)
    assert valence(x, x)["ccc"] == pytest.approx(1)
    shifted = valence(x, x + 1)
    assert shifted["ccc"] < 0.8 and shifted["pearson"] == pytest.approx(1)
    assert shifted["mse"] == pytest.approx(1) and shifted["mae"] == pytest.approx(1)


def test_clips_without_a_label_of_the_dimension_do_not_count():
    assert valence([0.0, 1.0, np.nan, 2.0], [0.0, 1.0, 5.0, 2.0])["mse"] == 0


def test_the_mer_2023_score_is_weighted_f1_minus_a_quarter_of_the_valence_error():
    posterior = Posterior(("a", "b"), ("happy", "sad"), np.array([[0.9, 0.1], [0.6, 0.4]]), {"valence": np.ones(2)})
    labels = Labels(("a", "b"), ("x", "y"), ("happy", "sad"), np.array([0, 1]), {"valence": np.zeros(2)})
    found = compute_metrics(posterior, labels)
    assert found["mer2023"] == pytest.approx(found["waf"] - 0.25)


def test_the_two_binary_classifications_of_cmu_mosei_treat_zero_differently():
    found = valence([-1.0, 0.0, 2.0], [-0.5, -0.2, 1.8], sentiment=True)
    assert found["acc2_non_negative"] == pytest.approx(2 / 3)
    assert found["acc2_positive"] == 1
    assert found["acc7"] == pytest.approx(2 / 3)  # -0.5 and -0.2 are in class -1, 1.8 in class 2
    assert "acc7" not in valence([-1.0, 0.0, 2.0], [-0.5, -0.2, 1.8])


def test_only_the_metrics_asked_for_are_computed():
    posterior = Posterior(("a", "b"), ("happy", "sad"), np.eye(2))
    labels = Labels(("a", "b"), ("x", "y"), ("happy", "sad"), np.array([0, 1]))
    assert compute_metrics(posterior, labels, only=["waf"]) == {"waf": 1.0}


@pytest.fixture
def hits(monkeypatch):
    """Add a metric in the way a contributor would: as one more entry of `METRICS`."""
    added = Metric(
        "n_correct",
        "correct clips",
        True,
        metrics.emotion_confusions,
        lambda counts: np.trace(counts[..., :-1], axis1=-2, axis2=-1).astype(float),
        summary=True,
    )
    monkeypatch.setattr(metrics, "METRICS", (*metrics.METRICS, added))


def test_a_metric_that_is_defined_once_shows_up_everywhere(hits, tmp_path):
    from affuse.recipes.recipe import Recipe
    from affuse.reports import text
    from affuse.reports.report import write_report
    from affuse.training.loop import validation_score

    clips = Manifest(Clip(f"c{i}", speaker=f"s{i % 6}", emotion="ab"[i % 2], fold=str(i % 3)) for i in range(24))
    rows = np.where(np.arange(24)[:, None] % 4 == 3, [[0.8, 0.2]], np.eye(2)[np.arange(24) % 2])
    posterior = Posterior(tuple(clips.ids), ("a", "b"), rows)
    found = evaluate(posterior, clips, n_resamples=50)
    value, low, high = found.metrics["n_correct"]
    assert value == 18 and low < 18 < high
    assert found.as_json()["figures"]["n_correct"]["over_folds"] == 0
    assert "correct clips" in text.evaluation(found)
    page = write_report([posterior], clips, tmp_path / "report.html", n_resamples=20)
    assert "correct clips" in page.read_text(encoding="utf-8")
    recipe = Recipe.read("mer2023-afg-a", override=["training.select=n_correct"])
    values = metrics.compute_metrics(posterior, Labels.from_manifest(clips, ("a", "b")))
    assert validation_score(values, recipe.training.select) == 18
