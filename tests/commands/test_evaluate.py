"""Tests of `affuse evaluate`."""

import dataclasses
import json

from affuse.manifest import Manifest
from affuse.recipes.recipe import Recipe
from affuse.training.cross_validation import train

from .conftest import SHORT, affuse


def test_every_metric_lies_within_its_interval(files):
    out = json.loads(affuse("evaluate", files / "a.csv", files / "clips.csv", "--json", "--resamples", 200))[0]
    assert {"waf", "uar", "accuracy", "mer2023", "ccc:valence", "ece"} <= set(out["figures"])
    for name in ("waf", "macro_f1", "uar", "accuracy", "mse:valence", "ccc:valence", "mer2023"):
        metric = out["figures"][name]
        assert metric["low"] < metric["value"] < metric["high"], name
        assert metric["over_folds"] > 0 and metric["over_seeds"] is None
    assert out["clips"] == 240 and out["speakers"] == 12


def test_a_paired_difference_is_sharper_than_two_intervals(files):
    words = ("--against", files / "a.csv", "--json", "--resamples", 200)
    out = json.loads(affuse("evaluate", files / "better.csv", files / "clips.csv", *words))[0]
    assert out["against"]["accuracy"]["low"] > 0
    same = affuse("evaluate", files / "a.csv", files / "clips.csv", "--against", files / "a.csv")
    assert "not significant" in same and "+0.0000" in same


def test_only_runs_can_be_degraded(folder):
    file = folder / "run" / "posteriors" / "out-of-fold.csv"
    said = affuse("evaluate", file, folder / "clips.csv", "--degrade", code=2)
    assert "--degrade predicts again, which needs a run" in said


def test_test_clips_in_an_evaluation_are_mentioned(corpus, tmp_path):
    manifest, store = corpus
    clips = Manifest(dataclasses.replace(c, split="test" if c.speaker == "s5" else None) for c in manifest)
    clips.write(tmp_path / "clips.csv")
    train(Recipe.read("concat", override=SHORT), clips, store, out=tmp_path / "run")
    note = "9 of 54 clips belong to the test split"
    assert note in affuse("evaluate", tmp_path / "run")
    assert note not in affuse("evaluate", tmp_path / "run", "--split", "test")


def test_fold_names_may_contain_any_character(corpus, tmp_path):
    """A fold called "Session 1" is stored under another file name; commands used to look for the name itself."""
    manifest, store = corpus
    clips = Manifest(dataclasses.replace(c, fold=f"Session {int(c.speaker[1]) % 2}") for c in manifest)
    clips.write(tmp_path / "clips.csv")
    train(Recipe.read("mer2023-afg-a", override=["training.epochs=1"]), clips, store, out=tmp_path / "run")
    place = (tmp_path / "run", "--features", store.path)
    affuse("evaluate", *place, "--degrade")
    page = tmp_path / "report.html"
    affuse("report", *place, "-o", page)
    assert "Attention" in page.read_text()
