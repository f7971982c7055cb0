"""The classifier in scikit-learn: cloning, cross-validation over speakers, grid search."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_score

from affuse.errors import RecipeError
from affuse.training.estimator import EmotionClassifier

OVERRIDE = ("training.batch=8", "fusion.gather_dropout=0.1", "fusion.dropout=0.3")


def classifier(**options):
    return EmotionClassifier("mer2023-afg-a", override=OVERRIDE, epochs=8, learning_rate=3e-3, **options)


@pytest.fixture
def clips(corpus):
    manifest, store = corpus
    return manifest, [c.emotion for c in manifest], [c.speaker for c in manifest], store.path


def test_cross_validation_over_speakers_on_clips_of_a_manifest(clips):
    manifest, labels, speakers, store = clips
    model = classifier(store=store)
    scores = cross_val_score(model, manifest, labels, groups=speakers, cv=GroupKFold(2))
    assert scores.mean() > 0.8
    assert not hasattr(model, "model_")


def test_plain_arrays_with_a_missing_stream(clips):
    generator = np.random.default_rng(0)
    labels = np.array(["up", "down"] * 20)
    signs = np.where(labels == "up", 1, -1)
    sound = [generator.normal(size=(int(generator.integers(2, 6)), 4)) + 2 * s for s in signs]
    X = [{"audio": a, "visual": None if i % 3 else np.ones(3)} for i, a in enumerate(sound)]
    model = classifier().fit(X, labels)
    assert list(model.classes_) == ["down", "up"]
    assert (model.predict(X) == labels).mean() > 0.9
    np.testing.assert_allclose(model.predict_proba(X).sum(1), 1)
    alone = classifier().fit(sound, labels)
    assert (alone.predict(sound) == labels).mean() > 0.9


def test_clone_and_grid_search(clips):
    manifest, labels, speakers, store = clips
    model = classifier(store=store)
    copy = clone(model)
    assert copy is not model and copy.get_params() == model.get_params()
    search = GridSearchCV(model, {"epochs": [1, 8]}, cv=GroupKFold(2))
    search.fit(manifest, labels, groups=speakers)
    assert search.best_params_ == {"epochs": 8}
    assert set(search.predict(manifest[:5])) <= set(labels)


def test_same_random_state_gives_the_same_prediction(clips):
    manifest, labels, _, store = clips
    first, second, other = (
        classifier(store=store, random_state=seed).fit(manifest, labels).predict_proba(manifest) for seed in (0, 0, 1)
    )
    assert np.array_equal(first, second) and not np.array_equal(first, other)


def test_invalid_arguments_are_refused(clips):
    manifest, labels, _, store = clips
    with pytest.raises(NotFittedError):
        classifier(store=store).predict(manifest)
    with pytest.raises(RecipeError, match="store="):
        classifier().fit(manifest, labels)
    with pytest.raises(RecipeError, match="labels"):
        classifier(store=store).fit(manifest, labels[:-1])
    with pytest.raises(RecipeError, match="clips 0 have no label"):
        classifier(store=store).fit(manifest, [None, *labels[1:]])
    with pytest.raises(RecipeError, match=r"Pass a list: \['training.epochs=1'\]"):
        EmotionClassifier("concat", override="training.epochs=1").fit([np.ones(2)], ["a"])
    with pytest.raises(RecipeError, match="has members"):
        EmotionClassifier("mer2023", store=store).fit(manifest, labels)
    with pytest.raises(RecipeError, match="per step"):
        classifier().fit([np.ones((2, 3)), np.ones((2, 4))], ["a", "b"])


def test_streams_are_identified_by_name_and_clips_without_a_stream_have_no_prediction():
    generator = np.random.default_rng(0)
    X = [{"audio": generator.normal(size=(4, 3)) + i % 2, "visual": np.ones(2)} for i in range(12)]
    y = ["low", "high"] * 6
    model = classifier().fit(X, y)
    with pytest.raises(RecipeError, match="stream visual:face, which the model was not trained on"):
        model.predict([X[0] | {"visual:face": np.ones(2)}])
    with pytest.raises(RecipeError, match="modality 'Video'; expected one lower-case word"):
        classifier().fit([{"Video": np.ones(2)}, {"Video": np.ones(2)}], ["a", "b"])
    with pytest.raises(RecipeError, match="Clip 1: audio contains values that are not finite"):
        model.predict([X[0], {"audio": np.full((2, 3), np.nan)}])
    assert np.isnan(model.predict_proba([X[0], {}])).all(1).tolist() == [False, True]
    with pytest.warns(UserWarning, match="clips 1 have no stream; their label 'high' is a placeholder"):
        model.predict([X[0], {}])
