"""What leaves the house: ONNX that answers as the model does, a folder and a card for the hub."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from affuse.cache.store import FeatureStore
from affuse.cli import main
from affuse.errors import EnvironmentFailure, RecipeError, StoreError
from affuse.inference.hub import bundle, fetched, push
from affuse.inference.onnx import to_onnx
from affuse.manifest import Manifest
from affuse.recipes.encoder_settings import EncoderSettings
from affuse.recipes.recipe import Recipe
from affuse.training.cross_validation import train
from affuse.training.model import EmotionModel
from affuse.training.run import Run

SHAPES = {"audio": (8,), "visual": (6,)}
MEDIA = {
    "audio": EncoderSettings("wavestem", train="all", options={"dim": 16, "depth": 1}),
    "visual": EncoderSettings("facestem", train="all", options={"width": 4, "size": 32}),
}


def model_of(name, *, encoders=None, shapes=SHAPES):
    recipe = Recipe.read(name)
    torch.manual_seed(0)
    return EmotionModel.build(
        shapes,
        (recipe.fusion.name, recipe.fusion.options),
        (recipe.head.name, recipe.head.options),
        emotions=("a", "b", "c"),
        dimensions=("valence",),
        encoders=encoders,
    )


@pytest.mark.parametrize("name", ["mer2023-afg-a", "jca", "avtca", "averformer", "lmf"])
def test_onnx_answers_as_the_model_does(name, tmp_path):
    pytest.importorskip("onnxruntime")
    model = model_of(name)
    assert to_onnx(model, tmp_path / "x.onnx") < 1e-4
    import onnxruntime

    session = onnxruntime.InferenceSession(tmp_path / "x.onnx")
    assert [o.name for o in session.get_outputs()] == ["probabilities", "dimensions"]
    assert {i.name for i in session.get_inputs()} >= {"audio.values", "audio.mask"}


def test_the_whole_model_begins_at_the_media(tmp_path):
    pytest.importorskip("onnxruntime")
    model = model_of("attention", encoders=MEDIA, shapes={"audio": (16,), "visual": (64,)})
    assert to_onnx(model, tmp_path / "x.onnx", whole=True) < 1e-4


def test_what_onnx_would_get_wrong_is_not_written(tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    model = model_of("concat")
    real, calls = torch.Tensor.softmax, []

    def drifting(self, *arguments, **options):  # the trace keeps what the first call did
        calls.append(1)
        return real(self * len(calls), *arguments, **options)

    monkeypatch.setattr(torch.Tensor, "softmax", drifting)
    with pytest.raises(RecipeError, match="answers differ by"):
        to_onnx(model, tmp_path / "x.onnx")
    assert not (tmp_path / "x.onnx").exists()


@pytest.fixture(scope="module")
def run(corpus, tmp_path_factory):
    manifest, store = corpus
    recipe = Recipe.read("concat", override=["training.epochs=4", "training.folds=2"])
    return train(recipe, manifest, store, tmp_path_factory.mktemp("runs") / "concat")


def test_a_bundle_decodes_as_the_run_and_tells_no_clip(run, corpus, tmp_path):
    manifest, store = corpus
    folder = bundle(run, tmp_path / "out", place="lab/concat", licence="cc-by-nc-4.0")
    again = Run.open(folder).predict(manifest, store)
    np.testing.assert_array_equal(again.probabilities, run.predict(manifest, store).probabilities)
    assert Run.open(folder).learnt_from(manifest) == []
    text = "".join(p.read_text() for p in folder.iterdir() if p.is_file())
    assert not any(clip.id in text for clip in manifest)
    page = (folder / "README.md").read_text()
    for word in (
        "license: cc-by-nc-4.0",
        "| waf | 0.",
        " to ",
        "Intended use",
        "Prohibited",
        "54 clips of 6 speakers",
        "affuse predict lab/concat",
    ):
        assert word in page
    with pytest.raises(StoreError, match="not empty"):
        bundle(run, folder)


def test_what_stands_on_this_machine_alone_is_not_given_away(run, tmp_path):
    own = {"audio": EncoderSettings("wav2vec2", str(tmp_path), train="last 1 layer")}
    recipe = dataclasses.replace(run.recipe, encoders=own)
    with pytest.raises(RecipeError, match="encoders.audio stands on a folder of this machine"):
        bundle(Run(run.path, recipe, run.facts), tmp_path / "out")


def test_the_command_writes_both_forms(run, tmp_path):
    pytest.importorskip("onnxruntime")
    for options, wanted in (([], "README.md"), (["--onnx"], "seed0-fold0.onnx")):
        out = tmp_path / wanted
        done = CliRunner().invoke(main, ["export", str(run.path), "-o", str(out), *options])
        assert done.exit_code == 0, done.output
        assert (out / wanted).is_file()


def test_the_hub_out_of_reach_is_told(run, tmp_path):
    with pytest.raises(EnvironmentFailure, match="could not be pushed"):
        push(run, "lab/concat")
    with pytest.raises(RecipeError, match="wanted a name on the hub"):
        push(run, "concat")
    with pytest.raises(EnvironmentFailure, match="cannot be reached"):
        fetched("lab/nothing-here")


def test_what_was_pushed_opens_by_its_id(run, corpus, tmp_path, monkeypatch):
    """The hub's own folder on this machine, filled as a download fills it."""
    from huggingface_hub import constants

    manifest, _ = corpus
    commit = "a" * 40
    place = tmp_path / "models--lab--concat"
    bundle(run, place / "snapshots" / commit)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(commit)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    assert Run.open(fetched("lab/concat")).recipe.name == "concat"
    assert Run.open(fetched(f"lab/concat@{commit}")).models


def test_a_strangers_model_runs_no_stranger(run, corpus, tmp_path):
    manifest, store = corpus
    folder = bundle(run, tmp_path / "out")
    file = next((folder / "models").iterdir())
    for about, said in (
        ({"name": "subprocess.Popen"}, "is not an encoder"),
        ({"name": "image", "checkpoint": "x/y", "options": {"allow_pickle": True}}, "allow_pickle"),
    ):
        model = EmotionModel.load(file)
        model.config["encoders"] = {"audio": about}
        model.save(tmp_path / "evil.safetensors")
        with pytest.raises(RecipeError, match=said):
            EmotionModel.load(tmp_path / "evil.safetensors")
    shutil.rmtree(folder / "models")
    assert json.loads((folder / "run.json").read_text())["manifest"] == ""
    with pytest.raises(StoreError, match="no trained model"):
        Run.open(folder).predict(Manifest(manifest[:2]), FeatureStore(store.path))
