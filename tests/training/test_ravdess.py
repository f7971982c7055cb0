"""Training on the 1,440 recordings of RAVDESS: imported features, the folds of the corpus, known results."""

import pytest

from affuse.cache.importing import import_features
from affuse.cache.store import FeatureStore
from affuse.manifest import Manifest
from affuse.recipes.recipe import Recipe
from affuse.training.cross_validation import train


@pytest.fixture(scope="module")
def ravdess(data, tmp_path_factory):
    store = FeatureStore(tmp_path_factory.mktemp("ravdess") / "features")
    for file, modality in (("audio_mn04.npz", "audio"), ("visual_action_units.csv", "visual")):
        path = data / "ravdess" / "features" / file
        import_features(path, store, name=path.stem, modality=modality)
    return Manifest.read(data / "ravdess" / "manifest.csv"), store


def accuracy(ravdess, folder, name, *override):
    manifest, store = ravdess
    run = train(Recipe.read(name, override=override), manifest, store, out=folder, workers=1)
    return run.results(manifest)[-1]["accuracy"]


def test_logistic_regression_reaches_the_accuracy_of_scikit_learn(ravdess, tmp_path):
    """The table of the data set states 73.3, and 80.6 with standardisation per speaker."""
    plain = accuracy(ravdess, tmp_path / "a", "logistic", "head.C=0.03")
    speakers = accuracy(ravdess, tmp_path / "b", "logistic", "head.C=0.03", "streams.standardise=speaker")
    assert plain == pytest.approx(0.733, abs=0.003)
    assert speakers == pytest.approx(0.806, abs=0.01)


def test_attention_guided_fusion_trains_in_a_few_epochs(ravdess, tmp_path):
    found = accuracy(
        ravdess, tmp_path / "a", "mer2023-afg-a", "training.epochs=4", "fusion.hidden=128", "fusion.dropout=0.3"
    )
    assert found > 0.63
