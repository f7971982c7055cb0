"""Mistakes and surprises of first-time users of training, and the messages that they get."""

import dataclasses
import os
import re
import subprocess
import sys

import numpy as np
import pytest

from affuse.cache.importing import import_features
from affuse.cache.store import FeatureStore
from affuse.errors import AffuseError, MissingFeatures, RecipeError
from affuse.manifest import Manifest
from affuse.recipes.recipe import FOLDER, Recipe
from affuse.training.cross_validation import train

SHORT = ("training.epochs=1", "training.folds=2")


def test_imported_features_may_lack_some_clips_but_not_all(corpus, tmp_path):
    manifest, _ = corpus
    rows = [f"{clip.id},{i},{i % 7}" for i, clip in enumerate(manifest) if i % 3]
    (tmp_path / "elsewhere.csv").write_text("\n".join(["id,a,b", *rows]) + "\n")
    store = FeatureStore(tmp_path / "features")
    import_features(tmp_path / "elsewhere.csv", store, name="mine", modality="audio")
    recipe = Recipe.read("concat", override=SHORT)
    run = train(recipe, manifest, store, out=tmp_path / "run")
    assert f"Of 54 clips, {54 - len(rows)} have no audio." in run.notices
    assert np.isnan(run.predict(Manifest([manifest[0]]), store).probabilities).all()
    missing = np.isnan(run.out_of_fold.at(manifest.ids).probabilities).all(1)
    assert missing.tolist() == [i % 3 == 0 for i in range(54)]
    others = Manifest(dataclasses.replace(c, id=f"x-{c.id}") for c in manifest)
    with pytest.raises(MissingFeatures, match="none of the 54 clips .* such as x-s0-angry-0"):
        train(recipe, others, store, out=tmp_path / "other")


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("fusion.dropout=yes", 'dropout = "yes", expected a number'),
        ("fusion.hidden=7.5", "hidden = 7.5, expected a whole number"),
        ("fusion.dropout=1.5", "a dropout of 1.5, expected a share"),
        ("head.loss.focal=abc", 'loss.focal = "abc", expected a number'),
        ("head.loss.focl=2", "loss has no option 'focl'; did you mean 'focal'?"),
        ("head.loss=focal", 'loss = "focal", expected a table'),
        ("head.loss.smoothing=1.5", "smoothing below 1"),
        ("head.loss.focal=-2", "Expected no negative value"),
        ("head.loss.class_weights=balance", "did you mean 'balanced'?"),
    ],
)
def test_invalid_values_are_reported_before_anything_is_written(corpus, tmp_path, option, message):
    manifest, store = corpus
    with pytest.raises(AffuseError) as error:
        recipe = Recipe.read("concat", override=[*SHORT, option])
        train(recipe, manifest, store, out=tmp_path / "run")
    assert message in str(error.value)
    assert not (tmp_path / "run").exists()


def test_difference_from_the_existing_run_is_named(corpus, tmp_path):
    manifest, store = corpus

    def again(*override):
        recipe = Recipe.read("concat", override=[*SHORT, *override])
        return train(recipe, manifest, store, out=tmp_path / "run")

    again("fusion.width=16", "fusion.dropout=0")
    again("fusion.dropout=0.0", "fusion.width=16")
    with pytest.raises(RecipeError, match=r"in: fusion.width \(16, now not set\)"):
        again("fusion.dropout=0")


def test_options_of_pooled_heads_are_checked(corpus, tmp_path):
    manifest, store = corpus
    for head, option in (("logistic", "C=-1"), ("svm", "gamma=0.0"), ("lightgbm", "leaves=1")):
        with pytest.raises(RecipeError, match=f"{head}: "):
            recipe = Recipe.read(head, override=["training.folds=2", f"head.{option}"])
            train(recipe, manifest, store, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


ODD = """
from __future__ import annotations
from typing import TYPE_CHECKING
from affuse.fusion._fusion import Fusion
if TYPE_CHECKING:
    from nowhere import Hints

class Hinted(Fusion):
    def __init__(self, dims: Hints, *, width: int = 3): ...
"""
LISTS = """
from affuse.fusion._fusion import Fusion

class Lists(Fusion):
    def __init__(self, dims, *, sizes: list[int] = (), pair: tuple[str, int] = (),
                 by: dict[str, int] | None = None, any: "float | list[float]" = 0.0): ...
"""


def test_unusual_type_annotations_of_plugins_are_understood_or_ignored(tmp_path, monkeypatch):
    (tmp_path / "oddly.py").write_text(ODD)
    (tmp_path / "listed.py").write_text(LISTS)
    monkeypatch.syspath_prepend(tmp_path)

    def faults(name, options):
        (tmp_path / "r.toml").write_text(f'[fusion]\nname = "{name}"\n{options}\n[head]\nname = "joint"\n')
        try:
            return Recipe.read(tmp_path / "r.toml") and ""
        except RecipeError as error:
            return str(error)

    assert not faults("oddly.Hinted", 'width = "any"')
    fine = 'sizes = [1, 2]\npair = ["a", 1]\nby = { a = 1 }\nany = [0.5]'
    assert not faults("listed.Lists", fine)
    assert "expected a whole number" in faults("listed.Lists", 'sizes = ["a"]')


def test_emotions_that_cannot_be_trained_or_look_alike_are_named(corpus, tmp_path):
    manifest, store = corpus
    odd = {"s0-angry-0": "contempt", "s1-happy-0": "Happy "}
    clips = Manifest(
        dataclasses.replace(c, emotion=odd.get(c.id, c.emotion), fold=str(int(c.speaker[1]) % 2)) for c in manifest
    )
    override = ("training.epochs=1", "training.folds=3")
    run = train(Recipe.read("concat", override=override), clips, store, out=tmp_path / "run")
    said = " ".join(run.notices)
    assert "Fold 0 holds out every clip of contempt" in said
    assert "'Happy ', 'happy' are treated as different emotions" in said
    assert "The manifest defines 2 folds; training.folds = 3 is ignored" in said


MINE = """
import torch
from affuse.tensors import Fused, Width
from affuse.fusion._fusion import Fusion
from affuse.fusion._layers import masked_mean

class Mine(Fusion):
    def __init__(self, dims, *, width: int = 0, tensor: bool = False):
        super().__init__(dims)
        self.width, self.tensor = Width(sum(dims.values()) + width, dict(dims)), tensor

    def forward(self, streams):
        streams = self.complete(streams)
        means = {name: masked_mean(s.values, s.mask) for name, s in streams.items()}
        vector = torch.cat(list(means.values()), -1)
        return vector if self.tensor else Fused(vector, None, {}, means)
"""


def train_in_folder(corpus, folder, code, recipe):
    manifest, store = corpus
    manifest.write(folder / "clips.csv")
    (folder / "mine.py").write_text(code)
    (folder / "mine.toml").write_text(recipe)
    command = [
        sys.executable,
        "-m",
        "affuse",
        "train",
        "mine.toml",
        "--features",
        store.path,
        "--manifest",
        "clips.csv",
        "-o",
        "run",
        "--workers",
        "1",
        "--set",
        "training.epochs=1",
    ]
    path = {**os.environ, "PYTHONPATH": "."}
    return subprocess.run(command, cwd=folder, env=path, capture_output=True, text=True)


def test_fusion_of_the_documentation_is_trained(corpus, tmp_path):
    docs = (FOLDER.parent / "docs" / "systems.md").read_text(encoding="utf-8")
    (code,) = (b for b in re.findall(r"```python\n(.*?)```", docs, re.DOTALL) if "class" in b)
    (recipe,) = (b for b in re.findall(r"```toml\n(.*?)```", docs, re.DOTALL) if "mine" in b)
    done = train_in_folder(corpus, tmp_path, code, recipe)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("option", "message"), [("width = 3", "its width is 17"), ("tensor = true", "returned a Tensor")]
)
def test_fusion_that_breaks_its_contract_is_reported(corpus, tmp_path, option, message):
    recipe = f'[fusion]\nname = "mine.Mine"\n{option}\n[head]\nname = "joint"\n'
    done = train_in_folder(corpus, tmp_path, MINE, recipe)
    assert done.returncode == 1 and message in done.stderr and "Traceback" not in done.stderr


def test_missing_module_of_a_plugin_is_named(tmp_path):
    (tmp_path / "mine.toml").write_text('[fusion]\nname = "mine.Mine"\n[head]\nname = "joint"\n')
    with pytest.raises(RecipeError, match=r"No module named 'mine' on PYTHONPATH; try PYTHONPATH"):
        Recipe.read(tmp_path / "mine.toml")
