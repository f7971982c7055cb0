"""A run is shared as a folder with a model card, without any data of the corpus."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from affuse.cache.store import FeatureStore
from affuse.errors import EnvironmentFailure, RecipeError, StoreError
from affuse.inference.hub import export_run, fetch_run, open_run, push_to_hub
from affuse.manifest import Manifest
from affuse.posteriors.rules import combine_by_rule
from affuse.recipes.encoder_settings import EncoderSettings
from affuse.recipes.recipe import Recipe
from affuse.training.cross_validation import train
from affuse.training.model import EmotionModel
from affuse.training.run import Run


@pytest.fixture(scope="module")
def run(corpus, tmp_path_factory):
    manifest, store = corpus
    recipe = Recipe.read("concat", override=["training.epochs=4", "training.folds=2"])
    return train(recipe, manifest, store, out=tmp_path_factory.mktemp("runs") / "concat")


def test_an_exported_run_predicts_like_the_run_and_names_no_clip(run, corpus, tmp_path):
    manifest, store = corpus
    folder = export_run(run, tmp_path / "out", name="lab/concat", licence="cc-by-nc-4.0")
    dataset, _ = run.dataset(manifest, store)
    expected = combine_by_rule([run.load(model).posterior(dataset) for model in run.folder.models])
    found = Run.open(folder).predict(manifest, store, device="cpu")
    np.testing.assert_array_equal(found.probabilities, expected.probabilities)
    text = "".join(p.read_text() for p in folder.iterdir() if p.is_file())
    assert not any(clip.id in text for clip in manifest)
    with pytest.raises(StoreError, match="not empty"):
        export_run(run, folder)


def test_the_model_card_states_data_scores_and_uses(run, tmp_path):
    card = (export_run(run, tmp_path / "out", name="lab/concat", licence="cc-by-nc-4.0") / "README.md").read_text()
    for text in (
        "license: cc-by-nc-4.0",
        "54 clips of 6 speakers",
        "affuse predict lab/concat",
        "| WAF | 0.",
        " to ",
        "## Intended use",
        "Regulation (EU) 2024/1689, Article 5",
        "Article 50",
    ):
        assert text in card
    assert "{" not in card


def test_an_encoder_from_a_local_folder_is_not_exported(run, tmp_path):
    own = {"audio": EncoderSettings("wav2vec2", str(tmp_path), train="last 1 layer")}
    recipe = dataclasses.replace(run.recipe, encoders=own)
    with pytest.raises(RecipeError, match=r"encoders\.audio uses a checkpoint in a folder of this machine"):
        export_run(Run(run.path, recipe, run.metadata), tmp_path / "out")


def test_an_unreachable_hub_is_reported(run):
    with pytest.raises(EnvironmentFailure, match="could not be pushed"):
        push_to_hub(run, "lab/concat")
    with pytest.raises(RecipeError, match="expected a name on the hub"):
        push_to_hub(run, "concat")
    with pytest.raises(EnvironmentFailure, match="cannot be reached"):
        fetch_run("lab/nothing-here")


def test_a_pushed_run_opens_by_its_name(run, tmp_path, monkeypatch):
    """The cache folder of the hub is filled as a download would fill it."""
    from huggingface_hub import constants

    commit = "a" * 40
    repository = tmp_path / "models--lab--concat"
    export_run(run, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    assert open_run("lab/concat").recipe.name == "concat"
    assert open_run(f"lab/concat@{commit}").folder.models


def test_a_downloaded_model_runs_no_foreign_code(run, corpus, tmp_path):
    manifest, store = corpus
    folder = export_run(run, tmp_path / "out")
    file = next((folder / "models").iterdir())
    for encoder, message in (
        ({"name": "subprocess.Popen"}, "is not an encoder"),
        ({"name": "image", "checkpoint": "x/y", "options": {"allow_pickle": True}}, "allow_pickle"),
    ):
        model = EmotionModel.load(file)
        model.config["encoders"] = {"audio": encoder}
        model.save(tmp_path / "evil.safetensors")
        with pytest.raises(RecipeError, match=message):
            EmotionModel.load(tmp_path / "evil.safetensors")
    shutil.rmtree(folder / "models")
    assert json.loads((folder / "run.json").read_text())["manifest"] == ""
    with pytest.raises(StoreError, match="no trained model"):
        Run.open(folder).predict(Manifest(manifest[:2]), FeatureStore(store.path))
