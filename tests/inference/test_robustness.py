"""Degraded streams lower the scores of a run, by a stated amount of degradation."""

import dataclasses

import numpy as np
import pytest

from affuse.errors import RecipeError
from affuse.inference.robustness import degrade
from affuse.recipes.encoder_settings import EncoderSettings
from affuse.recipes.recipe import Recipe
from affuse.training.cross_validation import train
from affuse.training.run import Run


@pytest.fixture(scope="module", params=["concat", "mer2023-afg-a"])
def run(request, corpus, quick, tmp_path_factory):
    overrides = [item for item in quick if "gather" not in item or request.param != "concat"]
    recipe = Recipe.read(request.param, override=[*overrides, "training.folds=3"])
    return train(recipe, *corpus, out=tmp_path_factory.mktemp("r") / "run")


def test_degraded_streams_lower_the_scores(run, corpus):
    manifest, store = corpus
    found = list(degrade(run, manifest, store, frames=(0.5,), noise=(0.0, 8.0)))
    rows = [(each.stream, each.degradation, each.level) for each in found]
    assert rows[0] == ("", "none", 0.0)
    assert rows[1:5] == [
        ("audio", "removed", 1.0),
        ("audio", "frames removed", 0.5),
        ("audio", "noise", 0.0),
        ("audio", "noise", 8.0),
    ]
    original = found[0].posterior.at(manifest.ids)
    held_out = run.out_of_fold.at(manifest.ids).probabilities
    np.testing.assert_allclose(original.probabilities, held_out, atol=1e-5)
    labels = np.array([original.emotions.index(clip.emotion) for clip in manifest])
    accuracy = {row: (each.posterior.predicted() == labels).mean() for row, each in zip(rows, found, strict=True)}
    assert accuracy["audio", "noise", 0.0] == accuracy["", "none", 0.0] > 0.9
    for stream in ("audio", "visual"):
        assert accuracy[stream, "removed", 1.0] < 0.8 and accuracy[stream, "noise", 8.0] < 0.8


def test_the_selection_of_clips_does_not_change_the_draws(run, corpus):
    manifest, store = corpus
    few = type(manifest)(manifest[3:9])
    some = {(d.stream, d.degradation): d.posterior for d in degrade(run, few, store, frames=(0.5,), noise=())}
    every = {(d.stream, d.degradation): d.posterior for d in degrade(run, manifest, store, frames=(0.5,), noise=())}
    for row, posterior in some.items():
        np.testing.assert_allclose(posterior.probabilities, every[row].at(few.ids).probabilities, atol=1e-6)


def test_a_run_that_reads_media_is_refused(run, corpus):
    recipe = dataclasses.replace(run.recipe, encoders={"audio": EncoderSettings("wavestem")})
    with pytest.raises(RecipeError, match="reads media directly"):
        next(degrade(Run(run.path, recipe, run.metadata), *corpus))
