"""Evaluation of posteriors."""

import numpy as np
import pytest

from affuse.errors import PosteriorMismatch
from affuse.manifest import Clip, Manifest
from affuse.posteriors.evaluation import evaluate
from affuse.posteriors.posterior import Posterior
from affuse.posteriors.systems import System

from ..predictions import EMOTIONS, labelled_clips, predictions


def test_spread_over_seeds_differs_from_spread_over_folds():
    manifest, emotion = labelled_clips()
    seeds = [predictions(emotion, 1.5, seed) for seed in range(3)]
    found = evaluate(System("a", seeds[0], tuple(seeds)), manifest, n_resamples=50)
    accuracies = [(s.predicted() == emotion).mean() for s in seeds]
    assert found.spread("accuracy", "seeds") == pytest.approx(np.std(accuracies, ddof=1))
    assert found.spread("accuracy", "folds") != found.spread("accuracy", "seeds")


def test_clips_of_a_split_without_a_posterior_count_as_wrong():
    manifest, emotion = labelled_clips(12)
    clips = [Clip(c.id, speaker=c.speaker, emotion=c.emotion, split="test") for c in manifest]
    perfect = Posterior(tuple(manifest.ids), EMOTIONS, np.eye(3)[emotion])
    half = perfect.at(manifest.ids[:6])
    found = evaluate(half, Manifest(clips), split="test", n_resamples=20)
    assert found.metrics["accuracy"].value == 0.5
    assert any("6 clips have no prediction" in notice for notice in found.notices)
    assert evaluate(half, Manifest(clips), n_resamples=20).metrics["accuracy"].value == 1


def test_posteriors_that_cannot_be_scored_raise_an_error():
    manifest, emotion = labelled_clips(12)
    stranger = Posterior(("zz",), EMOTIONS, np.eye(3)[:1])
    with pytest.raises(PosteriorMismatch, match="zz"):
        evaluate(stranger, manifest)
    unlabelled = Manifest(Clip(i) for i in manifest.ids)
    with pytest.raises(PosteriorMismatch, match="annotated"):
        evaluate(predictions(emotion, 1.0, 0), unlabelled)


def test_an_evaluation_is_a_pandas_table():
    manifest, emotion = labelled_clips()
    table = evaluate(predictions(emotion, 1.5, 0), manifest, n_resamples=50).to_pandas()
    assert list(table.columns) == ["value", "low", "high"] and table.index.name == "metric"
    assert table.loc["waf", "low"] < table.loc["waf", "value"] < table.loc["waf", "high"]
