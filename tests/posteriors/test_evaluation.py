"""Evaluation on the command line and from Python."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from affuse.cli import main
from affuse.errors import PosteriorMismatch
from affuse.manifest import Clip, Manifest
from affuse.posteriors.evaluation import evaluate
from affuse.posteriors.posterior import Posterior, softmax
from affuse.posteriors.provenance import Provenance
from affuse.posteriors.systems import System

EMOTIONS = ("happy", "neutral", "sad")


def corpus(n=240, seed=0):
    generator = np.random.default_rng(seed)
    emotion = generator.integers(0, 3, n)
    manifest = Manifest(
        Clip(
            f"c{i}",
            speaker=f"s{i % 12}",
            emotion=EMOTIONS[emotion[i]],
            fold=str(i % 12 % 4),
            valence=float(emotion[i] - 1),
        )
        for i in range(n)
    )
    return manifest, emotion


def system(emotion, strength, seed):
    generator = np.random.default_rng(seed)
    rows = softmax(strength * np.eye(3)[emotion] + generator.normal(size=(len(emotion), 3)))
    ids = tuple(f"c{i}" for i in range(len(emotion)))
    valence = emotion - 1 + generator.normal(size=len(emotion)) / strength
    return Posterior(ids, EMOTIONS, rows, {"valence": valence})


@pytest.fixture
def files(tmp_path):
    manifest, emotion = corpus()
    manifest.write(tmp_path / "clips.csv")
    for seed, name in enumerate("abc"):
        system(emotion, 1.5, seed).write(tmp_path / f"{name}.csv")
    system(emotion, 3.0, 9).write(tmp_path / "better.csv")
    return tmp_path


def run(*arguments):
    found = CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)
    assert found.exit_code == 0, found.output
    return found.output


def test_every_metric_lies_within_its_interval(files):
    out = json.loads(run("evaluate", files / "a.csv", files / "clips.csv", "--json", "--resamples", 200))[0]
    assert {"waf", "uar", "accuracy", "mer2023", "ccc:valence", "ece"} <= set(out["figures"])
    for name in ("waf", "macro_f1", "uar", "accuracy", "mse:valence", "ccc:valence", "mer2023"):
        metric = out["figures"][name]
        assert metric["low"] < metric["value"] < metric["high"], name
        assert metric["over_folds"] > 0 and metric["over_seeds"] is None
    assert out["clips"] == 240 and out["speakers"] == 12


def test_a_paired_difference_is_sharper_than_two_intervals(files):
    out = json.loads(
        run(
            "evaluate",
            files / "better.csv",
            files / "clips.csv",
            "--against",
            files / "a.csv",
            "--json",
            "--resamples",
            200,
        )
    )[0]
    assert out["against"]["accuracy"]["low"] > 0
    same = run("evaluate", files / "a.csv", files / "clips.csv", "--against", files / "a.csv")
    assert "not significant" in same and "+0.0000" in same


def test_spread_over_seeds_differs_from_spread_over_folds():
    manifest, emotion = corpus()
    seeds = [system(emotion, 1.5, seed) for seed in range(3)]
    found = evaluate(System("a", seeds[0], tuple(seeds)), manifest, n_resamples=50)
    accuracies = [(s.predicted() == emotion).mean() for s in seeds]
    assert found.spread("accuracy", "seeds") == pytest.approx(np.std(accuracies, ddof=1))
    assert found.spread("accuracy", "folds") != found.spread("accuracy", "seeds")


def test_combine_writes_what_evaluate_reads_and_beats_the_best_member(files):
    members = [files / f"{name}.csv" for name in "abc"]
    out = files / "combined.csv"
    text = run("combine", *members, "--manifest", files / "clips.csv", "-o", out)
    assert "contribution" in text
    assert Provenance.read(out).cross_fitted
    scores = {
        name: json.loads(run("evaluate", files / name, files / "clips.csv", "--json"))[0]
        for name in ("combined.csv", "a.csv", "b.csv", "c.csv")
    }
    waf = {name: each["figures"]["waf"]["value"] for name, each in scores.items()}
    assert waf["combined.csv"] > max(waf["a.csv"], waf["b.csv"], waf["c.csv"])


def test_average_logits_on_files_of_logits(tmp_path):
    logits = np.random.default_rng(0).normal(size=(2, 6, 3)) * 4
    ids = tuple(map(str, range(6)))
    for fold in range(2):
        Posterior(ids, EMOTIONS, logits[fold]).write(tmp_path / f"{fold}.csv")
    out = tmp_path / "out.csv"
    run("combine", tmp_path / "0.csv", tmp_path / "1.csv", "--logits", "--average", "logits", "-o", out)
    np.testing.assert_allclose(Posterior.read(out).probabilities, softmax(logits.mean(0)), atol=1e-7)


def test_clips_of_a_split_without_a_posterior_count_as_wrong():
    manifest, emotion = corpus(12)
    clips = [Clip(c.id, speaker=c.speaker, emotion=c.emotion, split="test") for c in manifest]
    perfect = Posterior(tuple(manifest.ids), EMOTIONS, np.eye(3)[emotion])
    half = perfect.at(manifest.ids[:6])
    found = evaluate(half, Manifest(clips), split="test", n_resamples=20)
    assert found.metrics["accuracy"].value == 0.5
    assert any("6 clips have no prediction" in notice for notice in found.notices)
    assert evaluate(half, Manifest(clips), n_resamples=20).metrics["accuracy"].value == 1


def test_posteriors_that_cannot_be_scored_raise_an_error():
    manifest, emotion = corpus(12)
    stranger = Posterior(("zz",), EMOTIONS, np.eye(3)[:1])
    with pytest.raises(PosteriorMismatch, match="zz"):
        evaluate(stranger, manifest)
    unlabelled = Manifest(Clip(i) for i in manifest.ids)
    with pytest.raises(PosteriorMismatch, match="annotated"):
        evaluate(system(emotion, 1.0, 0), unlabelled)


def test_pseudo_labels_are_balanced_and_name_their_source(files):
    manifest, _ = corpus()
    Manifest(Clip(c.id, speaker=c.speaker) for c in manifest).write(files / "unlabelled.csv")
    pair = [files / "a.csv", files / "b.csv"]
    text = run(
        "pseudo-label", *pair, "--manifest", files / "unlabelled.csv", "--per-emotion", 10, "-o", files / "pseudo.csv"
    )
    found = Manifest.read(files / "pseudo.csv")
    assert [sum(c.emotion == e for c in found) for e in EMOTIONS] == [10, 10, 10]
    assert all("a & b agree" in c.source for c in found)
    assert "systems differ" in text
    labels = {c.id: c.emotion for c in manifest}
    assert np.mean([labels[c.id] == c.emotion for c in found]) > 0.8


def test_an_evaluation_is_a_pandas_table():
    manifest, emotion = corpus()
    table = evaluate(system(emotion, 1.5, 0), manifest, n_resamples=50).to_pandas()
    assert list(table.columns) == ["value", "low", "high"] and table.index.name == "metric"
    assert table.loc["waf", "low"] < table.loc["waf", "value"] < table.loc["waf", "high"]
