"""Stores and runs that affuse 0.1.0 wrote are read by this version.

``version_0_1_0/`` was written by affuse 0.1.0: ten small clips (one of them broken), two keys of
features, a network and a classical head trained on three folds, what they predicted, and the keys
that 0.1.0 gave to the features of every encoder family.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from affuse.cache.store import FeatureStore
from affuse.engines._extraction import Extraction, ExtractionSettings
from affuse.manifest import Manifest
from affuse.posteriors.posterior import Posterior
from affuse.training.cross_validation import train
from affuse.training.run import Run

OLD = Path(__file__).parent / "version_0_1_0"
KEYS = json.loads((OLD / "keys.json").read_text())


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """Return a copy of the folder, which tests may change."""
    return Path(shutil.copytree(OLD, tmp_path / "old"))


def test_a_store_of_0_1_0_has_nothing_left_to_extract(old: Path) -> None:
    clips, store = Manifest.read(old / "clips.csv"), FeatureStore(old / "features")
    requests = ["logmel,pool=mean", "hog,fps=5,pool=mean"]
    extraction = Extraction(clips, requests, store, settings=ExtractionSettings(workers=1))
    assert {spec.key for spec in extraction.specifications} == set(store.keys())
    assert extraction.n_clips == 0


@pytest.mark.parametrize("request_", KEYS)
def test_features_have_the_same_key_as_in_0_1_0(request_: str, tmp_path: Path) -> None:
    clips = Manifest.read(OLD / "clips.csv")
    extraction = Extraction(clips, [request_], FeatureStore(tmp_path), settings=ExtractionSettings())
    assert extraction.specifications[0].key == KEYS[request_]


@pytest.mark.parametrize("name", ["afg-a", "logistic"])
def test_models_of_0_1_0_predict_the_same(name: str, old: Path) -> None:
    """Version 0.1.0 predicted all clips with all models, as a run without its manifest still does."""
    clips, store = Manifest.read(old / "clips.csv"), FeatureStore(old / "features")
    expected = Posterior.read(old / f"{name}-predicted.csv")
    run = Run.open(old / "runs" / name)
    run.folder.manifest.unlink()
    found = run.predict(clips, store, device="cpu")
    assert found.ids == expected.ids
    assert found.emotions == expected.emotions
    # Posteriors are written with six significant digits.
    np.testing.assert_allclose(found.probabilities, expected.probabilities, atol=2e-6)
    np.testing.assert_allclose(found.dimensions["valence"], expected.dimensions["valence"], atol=1e-4)


@pytest.mark.parametrize("name", ["afg-a", "logistic"])
def test_a_run_of_0_1_0_predicts_its_out_of_fold_posterior(name: str, old: Path) -> None:
    clips, store = Manifest.read(old / "clips.csv"), FeatureStore(old / "features")
    run = Run.open(old / "runs" / name)
    expected = run.out_of_fold.at(clips.ids)
    found = run.predict(clips, store, device="cpu")
    np.testing.assert_allclose(found.probabilities, expected.probabilities, atol=1e-5)
    np.testing.assert_allclose(found.dimensions["valence"], expected.dimensions["valence"], atol=1e-4)
    assert run.held_out(clips) == clips.ids and run.trained_on(clips) == []


def test_the_training_of_a_run_of_0_1_0_is_resumed(old: Path) -> None:
    """Nothing is trained again: the run is recognised as the same."""
    run = Run.open(old / "runs" / "logistic")
    lines: list[str] = []
    clips, store = Manifest.read(old / "clips.csv"), FeatureStore(old / "features")
    train(run.recipe, clips, store, out=run.path, workers=1, progress=lines.append)
    assert lines == []
    run.folder.model(0, "1").unlink()
    train(run.recipe, clips, store, out=run.path, workers=1, progress=lines.append)
    assert len(lines) == 1


@pytest.mark.parametrize("name", ["afg-a", "logistic"])
def test_the_out_of_fold_posterior_of_0_1_0_is_read(name: str) -> None:
    run = Run.open(OLD / "runs" / name)
    assert len(run.out_of_fold) == len(Manifest.read(OLD / "clips.csv"))
