"""Tests of `affuse predict`: what may be scored afterwards."""

import dataclasses
import json

import pytest

from affuse.manifest import Manifest
from affuse.recipes.recipe import Recipe
from affuse.training.cross_validation import train

from .conftest import SHORT, affuse


def split_by_speaker(manifest, *train):
    """Return a manifest with a fixed split, so that every model is trained on the same speakers."""
    return Manifest(
        dataclasses.replace(clip, split="train" if clip.speaker in train else "validation") for clip in manifest
    )


def predict(folder, store, clips, out):
    return affuse("predict", folder / "run", "--features", store.path, "--manifest", folder / clips, "-o", folder / out)


REFUSED = "This posterior was fitted on"


def test_clips_of_the_training_manifest_are_predicted_by_held_out_models_and_may_be_scored(corpus, folder):
    said = predict(folder, corpus[1], "clips.csv", "all.csv")
    assert "54 of these clips" in said and "the models that were not trained on them" in said
    of_run = affuse("evaluate", folder / "run", folder / "clips.csv", "--json")
    predicted = affuse("evaluate", folder / "all.csv", folder / "clips.csv", "--json")
    first, second = (json.loads(text)[0]["figures"]["waf"]["value"] for text in (of_run, predicted))
    assert first == pytest.approx(second)


def test_predictions_for_clips_that_every_model_was_trained_on_are_not_scored(corpus, tmp_path):
    manifest, store = corpus
    labels = tmp_path / "clips.csv"
    split_by_speaker(manifest, "s0", "s1", "s2", "s3").write(labels)
    train(Recipe.read("concat", override=SHORT), Manifest.read(labels), store, out=tmp_path / "run")
    assert "were trained on 36 of these clips" in predict(tmp_path, store, "clips.csv", "all.csv")
    assert REFUSED not in affuse("evaluate", tmp_path / "run", labels)
    for command in (
        ["evaluate", tmp_path / "all.csv", labels],
        ["report", tmp_path / "all.csv", "--manifest", labels, "-o", tmp_path / "x.html"],
        ["combine", tmp_path / "all.csv", tmp_path / "run", "--manifest", labels],
    ):
        assert REFUSED in affuse(*command, code=1)
    predict(tmp_path, store, "clips.csv", "again.csv")
    affuse("combine", tmp_path / "all.csv", tmp_path / "again.csv", "-o", tmp_path / "both.csv")
    assert REFUSED in affuse("evaluate", tmp_path / "both.csv", labels, code=1)


def test_combination_fitted_on_other_clips_remembers_the_training_clips_of_its_members(corpus, tmp_path):
    manifest, store = corpus
    known = split_by_speaker([c for c in manifest if c.speaker in ("s0", "s1")], "s0")
    train(Recipe.read("concat", override=SHORT), known, store, out=tmp_path / "run")
    manifest.write(tmp_path / "all.csv")
    predict(tmp_path, store, "all.csv", "a.csv")
    predict(tmp_path, store, "all.csv", "b.csv")
    fresh = Manifest(dataclasses.replace(c, emotion=None, valence=None) if c.id in known.by_id else c for c in manifest)
    fresh.write(tmp_path / "fresh.csv")
    members = [tmp_path / "a.csv", tmp_path / "b.csv"]
    affuse("combine", *members, "--manifest", tmp_path / "fresh.csv", "-o", tmp_path / "both.csv")
    affuse("evaluate", tmp_path / "both.csv", tmp_path / "fresh.csv")
    assert REFUSED in affuse("evaluate", tmp_path / "both.csv", tmp_path / "all.csv", code=1)
