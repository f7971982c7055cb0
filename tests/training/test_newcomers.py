"""What people do when they train for the first time, and what they are told."""

import dataclasses
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from click.testing import CliRunner

from affuse.cache.importing import import_features
from affuse.cache.store import FeatureStore
from affuse.cli import main
from affuse.errors import AffuseError, MissingFeatures, RecipeError
from affuse.manifest import Manifest
from affuse.recipes.recipe import FOLDER, Recipe
from affuse.training.cross_validation import train

SHORT = ("training.epochs=1", "training.folds=2")


def told(*arguments, code=1):
    found = CliRunner().invoke(main, [str(a) for a in arguments])
    assert found.exit_code == code, found.output
    return found.output


@pytest.fixture
def desk(corpus, tmp_path):
    """Where somebody works: a manifest, its features, and a run of `concat`."""
    manifest, store = corpus
    manifest.write(tmp_path / "clips.csv")
    train(Recipe.read("concat", override=SHORT), manifest, store, tmp_path / "run")
    return tmp_path


def test_answers_for_clips_learnt_from_are_never_scored(corpus, desk):
    labels = desk / "clips.csv"
    told("predict", desk / "run", "--features", corpus[1].path, "--manifest", labels, "-o", desk / "all.csv", code=0)
    assert "is what" not in told("evaluate", desk / "run", labels, code=0)
    for asked in (
        ["evaluate", desk / "all.csv", labels],
        ["report", desk / "all.csv", "--manifest", labels, "-o", desk / "x.html"],
        ["combine", desk / "all.csv", desk / "run", "--manifest", labels],
    ):
        assert "are what this posterior was fitted on" in told(*asked)
    told("combine", desk / "all.csv", desk / "all.csv", "-o", desk / "both.csv", code=0)
    assert "are what this posterior was fitted on" in told("evaluate", desk / "both.csv", labels)


def test_what_members_learnt_from_is_remembered_by_what_is_fitted_on_other_clips(corpus, tmp_path):
    manifest, store = corpus
    known = Manifest(c for c in manifest if c.speaker in ("s0", "s1"))
    train(Recipe.read("concat", override=SHORT), known, store, tmp_path / "run")
    manifest.write(tmp_path / "all.csv")
    told(
        "predict",
        tmp_path / "run",
        "--features",
        store.path,
        "--manifest",
        tmp_path / "all.csv",
        "-o",
        tmp_path / "a.csv",
        code=0,
    )
    fresh = Manifest(dataclasses.replace(c, emotion=None, valence=None) if c.id in known.by_id else c for c in manifest)
    fresh.write(tmp_path / "fresh.csv")
    told(
        "combine",
        tmp_path / "a.csv",
        tmp_path / "a.csv",
        "--manifest",
        tmp_path / "fresh.csv",
        "-o",
        tmp_path / "both.csv",
        code=0,
    )
    told("evaluate", tmp_path / "both.csv", tmp_path / "fresh.csv", code=0)
    said = told("evaluate", tmp_path / "both.csv", tmp_path / "all.csv")
    assert "are what this posterior was fitted on" in said


def test_only_runs_can_answer_damaged_clips(desk):
    file = desk / "run" / "posteriors" / "out-of-fold.csv"
    said = told("evaluate", file, desk / "clips.csv", "--degrade", code=2)
    assert "--degrade answers anew, which only runs can" in said


def test_features_of_others_may_lack_clips_but_not_all_of_them(corpus, tmp_path):
    manifest, _ = corpus
    rows = [f"{clip.id},{i},{i % 7}" for i, clip in enumerate(manifest) if i % 3]
    (tmp_path / "elsewhere.csv").write_text("\n".join(["id,a,b", *rows]) + "\n")
    store = FeatureStore(tmp_path / "features")
    import_features(tmp_path / "elsewhere.csv", store, name="mine", modality="audio")
    recipe = Recipe.read("concat", override=SHORT)
    run = train(recipe, manifest, store, tmp_path / "run")
    assert f"of 54 clips, {54 - len(rows)} have no audio" in run.notices
    assert np.isnan(run.predict(Manifest([manifest[0]]), store).probabilities).all()
    silent = np.isnan(run.out_of_fold.at(manifest.ids).probabilities).all(1)
    assert silent.tolist() == [i % 3 == 0 for i in range(54)]
    others = Manifest(dataclasses.replace(c, id=f"x-{c.id}") for c in manifest)
    with pytest.raises(MissingFeatures, match="none of the 54 clips .* such as x-s0-angry-0"):
        train(recipe, others, store, tmp_path / "other")


@pytest.mark.parametrize(
    ("option", "wanted"),
    [
        ("fusion.dropout=yes", 'dropout = "yes"; wanted a number'),
        ("fusion.hidden=7.5", "hidden = 7.5; wanted a whole number"),
        ("fusion.dropout=1.5", "a dropout of 1.5; wanted a share"),
        ("head.loss.focal=abc", 'loss.focal = "abc"; wanted a number'),
        ("head.loss.focl=2", "loss takes no 'focl'; did you mean 'focal'?"),
        ("head.loss=focal", 'loss = "focal"; wanted a table'),
        ("head.loss.smoothing=1.5", "smoothing below 1"),
        ("head.loss.focal=-2", "wanted none below 0"),
        ("head.loss.class_weights=balance", "did you mean 'balanced'?"),
    ],
)
def test_values_that_cannot_be_are_told_before_anything_is_written(corpus, tmp_path, option, wanted):
    manifest, store = corpus
    with pytest.raises(AffuseError) as error:
        recipe = Recipe.read("concat", override=[*SHORT, option])
        train(recipe, manifest, store, tmp_path / "run")
    assert wanted in str(error.value)
    assert not (tmp_path / "run").exists()


def test_what_differs_from_the_run_that_is_there_is_named(corpus, tmp_path):
    manifest, store = corpus

    def again(*override):
        recipe = Recipe.read("concat", override=[*SHORT, *override])
        return train(recipe, manifest, store, tmp_path / "run")

    again("fusion.width=16", "fusion.dropout=0")
    again("fusion.dropout=0.0", "fusion.width=16")
    with pytest.raises(RecipeError, match=r"in: fusion.width \(16, now unsaid\); choose"):
        again("fusion.dropout=0")


def test_pooled_heads_are_held_to_their_ranges(corpus, tmp_path):
    manifest, store = corpus
    for head, option in (("logistic", "C=-1"), ("svm", "gamma=0.0"), ("lightgbm", "leaves=1")):
        with pytest.raises(RecipeError, match=f"{head}: "):
            recipe = Recipe.read(head, override=["training.folds=2", f"head.{option}"])
            train(recipe, manifest, store, tmp_path / "run")
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


def test_annotations_of_any_kind_are_understood_or_let_pass(tmp_path, monkeypatch):
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
    assert "wanted a whole number" in faults("listed.Lists", 'sizes = ["a"]')


def test_emotions_that_cannot_be_learnt_or_look_alike_are_named(corpus, tmp_path):
    manifest, store = corpus
    odd = {"s0-angry-0": "contempt", "s1-happy-0": "Happy "}
    clips = Manifest(
        dataclasses.replace(c, emotion=odd.get(c.id, c.emotion), fold=str(int(c.speaker[1]) % 2)) for c in manifest
    )
    override = ("training.epochs=1", "training.folds=3")
    run = train(Recipe.read("concat", override=override), clips, store, tmp_path / "run")
    said = " ".join(run.notices)
    assert "fold 0 holds every clip of contempt" in said
    assert "'Happy ', 'happy' are taken for different emotions" in said
    assert "the manifest has 2 folds; training.folds = 3 is for manifests without" in said


def test_clips_under_test_are_not_mixed_in_unsaid(corpus, tmp_path):
    manifest, store = corpus
    clips = Manifest(dataclasses.replace(c, split="test" if c.speaker == "s5" else None) for c in manifest)
    clips.write(tmp_path / "clips.csv")
    train(Recipe.read("concat", override=SHORT), clips, store, tmp_path / "run")
    note = "9 of 54 clips are under test"
    assert note in told("evaluate", tmp_path / "run", code=0)
    assert note not in told("evaluate", tmp_path / "run", "--split", "test", code=0)


MINE = """
import torch
from affuse.cache.batch import Fused, Width
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


def trained_by_path(corpus, folder, code, recipe):
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


def test_the_fusion_in_the_docs_trains(corpus, tmp_path):
    docs = (FOLDER.parent / "docs" / "systems.md").read_text(encoding="utf-8")
    (code,) = (b for b in re.findall(r"```python\n(.*?)```", docs, re.DOTALL) if "class" in b)
    (recipe,) = (b for b in re.findall(r"```toml\n(.*?)```", docs, re.DOTALL) if "mine" in b)
    done = trained_by_path(corpus, tmp_path, code, recipe)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("option", "said"), [("width = 3", "its width says 17"), ("tensor = true", "returned a Tensor")]
)
def test_a_fusion_of_ones_own_that_breaks_its_word_is_told(corpus, tmp_path, option, said):
    recipe = f'[fusion]\nname = "mine.Mine"\n{option}\n[head]\nname = "joint"\n'
    done = trained_by_path(corpus, tmp_path, MINE, recipe)
    assert done.returncode == 1 and said in done.stderr and "Traceback" not in done.stderr


def test_a_module_that_is_not_found_is_looked_for_where(tmp_path):
    (tmp_path / "mine.toml").write_text('[fusion]\nname = "mine.Mine"\n[head]\nname = "joint"\n')
    with pytest.raises(RecipeError, match=r"No module named 'mine' on PYTHONPATH; try PYTHONPATH"):
        Recipe.read(tmp_path / "mine.toml")
