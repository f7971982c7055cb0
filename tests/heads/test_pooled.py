"""Heads on pooled features predict the same as the libraries that fitted them."""

import numpy as np
import pytest
import torch

from affuse import plugins
from affuse.errors import RecipeError
from affuse.heads._pooled import inner_folds
from affuse.tensors import IGNORE, Targets

EMOTIONS = ("neutral", "angry", "happy", "sad")
KINDS = ("logistic", "svm", "lightgbm")


def clips(n=120, dim=6, emotions=4, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, emotions, n)
    x = rng.normal(size=(n, dim)) * 3 + 5
    x[np.arange(n), labels] += 6
    valence = labels - 1.0 + 0.1 * rng.normal(size=n)
    return x.astype(np.float32), Targets(torch.tensor(labels), torch.tensor(valence[:, None], dtype=torch.float32))


def build(kind, emotions=EMOTIONS, dimensions=("valence",), **settings):
    if kind == "lightgbm":
        settings = {"features": 1.0, "min_clips": 5, **settings}  # six columns are few
    return plugins.build("head", kind, emotions, dimensions, settings=settings)


@pytest.mark.parametrize("kind", KINDS)
def test_a_head_predicts_the_same_after_saving_and_loading(kind, tmp_path):
    x, targets = clips()
    head = build(kind).fit(x, targets, speakers=np.arange(len(x)) % 7)
    unseen, truth = clips(seed=1)
    probabilities, dimensions = head.predict(unseen)
    assert np.allclose(probabilities.sum(1), 1) and (probabilities >= 0).all()
    assert (probabilities.argmax(1) == truth.emotion.numpy()).mean() > 0.7
    assert np.corrcoef(dimensions[:, 0], truth.dimensions[:, 0])[0, 1] > 0.6
    head.save(tmp_path / "head.safetensors")
    again = build(kind).load(tmp_path / "head.safetensors").predict(unseen)
    assert np.array_equal(again[0], probabilities) and np.array_equal(again[1], dimensions)


@pytest.mark.parametrize("kind", KINDS)
def test_missing_labels_and_features_are_handled(kind):
    x, targets = clips()
    targets.emotion[:10] = IGNORE
    targets.emotion[targets.emotion == 3] = 2
    targets.dimensions[20:30] = torch.nan
    x[30:40, :3] = np.nan
    probabilities, dimensions = build(kind).fit(x, targets).predict(x)
    assert (probabilities[:, 3] < 1e-9).all(), "an emotion absent from training has no probability"
    assert np.isfinite(probabilities).all() and np.isfinite(dimensions).all()
    assert build(kind, dimensions=()).fit(x, targets).predict(x)[1].shape == (120, 0)
    assert build(kind, emotions=()).fit(x, targets).predict(x)[0].shape == (120, 0)


@pytest.mark.parametrize("n", [2, 4])
def test_logistic_regression_matches_scikit_learn(n):
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    x, targets = clips(emotions=n)
    z = StandardScaler().fit_transform(x.astype(np.float64))
    expected = LogisticRegression(C=0.1, max_iter=2000).fit(z, targets.emotion.numpy())
    found = build("logistic", EMOTIONS[:n], (), C=0.1).fit(x, targets).predict(x)[0]
    np.testing.assert_allclose(found, expected.predict_proba(z), atol=1e-6)


@pytest.mark.parametrize("kernel", ["rbf", "linear"])
@pytest.mark.parametrize("n", [2, 4])
def test_svm_decisions_match_scikit_learn(n, kernel):
    from sklearn.svm import SVC

    x, targets = clips(emotions=n)
    head = build("svm", EMOTIONS[:n], (), kernel=kernel).fit(x, targets)
    z, labels = head._standardised(x), targets.emotion.numpy()
    expected = SVC(kernel=kernel, gamma=1 / 6, decision_function_shape="ovo").fit(z, labels)
    found = head._decisions(z, *(head.arrays[k] for k in ("vectors", "pairs", "offsets")))
    if n == 2:  # scikit-learn: positive is the second of two, ours always the first of a pair
        found = -found[:, 0]
    np.testing.assert_allclose(found, expected.decision_function(z), atol=1e-9)


def test_trees_predict_as_lightgbm_does():
    import lightgbm

    x, targets = clips()
    head = build("lightgbm", rounds=20).fit(x, targets)
    z = head._standardised(x)
    settings = {**head.settings, "objective": "multiclass", "num_class": 4}
    booster = lightgbm.train(settings, lightgbm.Dataset(z, targets.emotion.numpy()), 20)
    np.testing.assert_allclose(head.probabilities(z), booster.predict(z), atol=1e-9)


def test_the_penalty_is_chosen_within_the_training_clips():
    rng = np.random.default_rng(0)
    labels = np.tile([0, 1], 30)
    x = rng.normal(size=(60, 200))  # two hundred columns of noise: the strongest penalty is right
    targets = Targets(torch.tensor(labels), torch.zeros(60, 0))
    head = build("logistic", EMOTIONS[:2], (), C=[1e-5, 100.0])
    probabilities, _ = head.fit(x, targets, speakers=np.arange(60) // 6).predict(x)
    assert abs(probabilities - 0.5).max() < 0.1


@pytest.mark.parametrize(
    ("array", "change"),
    [
        ("emotion.left", lambda a: np.where(a > 0, 0, a)),
        ("emotion.right", lambda a: a + 10**6),
        ("emotion.feature", lambda a: np.where(a >= 0, 10**6, a)),
        ("emotion.roots", lambda a: a - 10**6),
        ("emotion.columns", lambda a: a * 0),
        ("emotion.value", lambda a: a * np.nan),
        ("scale", lambda a: a[1:]),
    ],
)
def test_trees_with_invalid_indices_are_rejected(array, change, tmp_path):
    x, targets = clips()
    head = build("lightgbm", rounds=3).fit(x, targets)
    head.arrays[array] = change(head.arrays[array])
    head.save(tmp_path / "hostile.safetensors")
    with pytest.raises(RecipeError, match="not a fitted LightGBM"):
        build("lightgbm").load(tmp_path / "hostile.safetensors")


def test_errors_say_what_to_do(tmp_path):
    x, targets = clips()
    with pytest.raises(RecipeError, match="Call fit or load before predict"):
        build("logistic").predict(x)
    with pytest.raises(RecipeError, match="at least two emotions"):
        build("logistic").fit(x, targets._replace(emotion=torch.zeros_like(targets.emotion)))
    head = build("logistic").fit(x, targets)
    with pytest.raises(RecipeError, match="fitted on 6 columns"):
        head.predict(x[:, :3])
    (tmp_path / "text").write_text("no tensors")
    with pytest.raises(RecipeError, match="Train it again"):
        build("svm").load(tmp_path / "text")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("counts", [(1, 1, 1), (2, 1, 1), (6, 2, 1)])
def test_inner_folds_of_few_clips(counts):
    labels = np.repeat(np.arange(3), counts)
    folds = list(inner_folds(labels, np.arange(len(labels))))
    assert folds and all(len(seen) and len(held) for seen, held in folds)
