"""Runs: what they leave, going on after a kill, refusing another's folder, predicting, honesty."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from click.testing import CliRunner

from affuse.cache.store import FeatureStore
from affuse.cli import main
from affuse.errors import EncoderError, LeakError, MissingFeatures, RecipeError, StoreError
from affuse.inference.robustness import degraded
from affuse.manifest import Clip, Manifest
from affuse.posteriors.posterior import Posterior
from affuse.recipes.recipe import Recipe
from affuse.training.cross_validation import train
from affuse.training.run import Run
from affuse.training.summary import results


def recipe(quick, *more, name="mer2023-afg-a"):
    return Recipe.read(name, override=[*quick, "training.folds=3", *more])


@pytest.fixture(scope="session")
def trained(corpus, tmp_path_factory):
    """A run of two seeds over three folds."""
    manifest, store = corpus
    quick = (
        "training.epochs=12",
        "training.batch=8",
        "training.learning_rate=3e-3",
        "fusion.gather_dropout=0.1",
        "fusion.dropout=0.3",
        "training.seeds=2",
    )
    path = tmp_path_factory.mktemp("runs") / "a"
    return train(recipe(quick), manifest, store, path)


def test_it_learns_and_every_clip_is_held_out_once(trained, corpus):
    manifest, _ = corpus
    posterior = trained.out_of_fold
    assert sorted(posterior.ids) == sorted(manifest.ids)
    rows = results(trained, manifest)
    assert [row["on"] for row in rows] == ["fold 0", "fold 1", "fold 2", "mean of seeds", "seeds combined"]
    assert rows[-1]["accuracy"] > 0.9 and rows[-1]["ccc:valence"] > 0.7
    seeds = [p.at(posterior.ids).probabilities for p in trained.seeds()]
    np.testing.assert_allclose(np.mean(seeds, axis=0), posterior.probabilities, atol=1e-6)


def test_the_folder_says_what_it_was_made_of(trained):
    facts = json.loads((trained.path / "run.json").read_text())
    assert facts["streams"]["audio"]["key"] == "made-audio-0"
    assert facts["emotions"] == ["angry", "happy", "sad"]
    assert facts["versions"]["affuse"] and facts["folds"]["0"]["held_out"] == 18
    assert len(trained.models) == 6
    assert len((trained.path / "logs" / "seed1-fold2.jsonl").read_text().splitlines()) == 12


def test_opened_again_it_predicts_the_mean_of_its_models(trained, corpus):
    manifest, store = corpus
    new = Manifest(Clip(c.id, speaker=c.speaker) for c in manifest[:10])
    found = Run.open(trained.path).predict(new, store)
    samples, _ = trained.samples(new, store)
    each = [trained.load(model).posterior(samples).probabilities for model in trained.models]
    np.testing.assert_allclose(found.probabilities, np.mean(each, axis=0))
    assert trained.learnt_from(manifest) == manifest.ids
    assert trained.learnt_from(Manifest([Clip("other")])) == []


def test_trained_again_nothing_is_trained_and_another_run_is_refused(trained, corpus, quick):
    manifest, store = corpus
    before = {p: p.stat().st_mtime_ns for p in trained.models}
    train(trained.recipe, manifest, store, trained.path)
    assert before == {p: p.stat().st_mtime_ns for p in trained.models}
    with pytest.raises(RecipeError, match=r"training.seeds \(2, now 1\)"):
        train(recipe(quick), manifest, store, trained.path)
    relabelled = [Clip("s0-angry-0", speaker="s0", emotion="sad"), *manifest[1:]]
    with pytest.raises(RecipeError, match="difference in: manifest"):
        train(trained.recipe, Manifest(relabelled), store, trained.path)


def test_workers_change_no_number(trained, corpus, tmp_path):
    manifest, store = corpus
    two = train(trained.recipe, manifest, store, tmp_path / "two", workers=2)
    for one, other in zip(trained.models, two.models, strict=True):
        assert one.read_bytes() == other.read_bytes()


def test_killed_it_goes_on_and_ends_the_same(trained, corpus, tmp_path):
    manifest, store = corpus
    manifest.write(tmp_path / "clips.csv")
    trained.recipe.write(tmp_path / "mer2023-afg-a.toml")
    command = [
        sys.executable,
        "-c",
        "from affuse.cli import main; main()",
        "train",
        str(tmp_path / "mer2023-afg-a.toml"),
        "--features",
        str(store.path),
        "--manifest",
        str(tmp_path / "clips.csv"),
        "--out",
        str(tmp_path / "run"),
    ]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"})
    models = tmp_path / "run" / "models"
    deadline = time.monotonic() + 60
    while not list(models.glob("seed*.safetensors")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = {p.name: p.stat().st_mtime_ns for p in models.glob("seed*.safetensors")}
    assert 0 < len(done) < 6
    again = train(trained.recipe, Manifest.read(tmp_path / "clips.csv"), store, tmp_path / "run")
    assert all((models / name).stat().st_mtime_ns == when for name, when in done.items())
    for one, other in zip(trained.models, again.models, strict=True):
        assert one.read_bytes() == other.read_bytes()


def test_no_number_of_a_fold_depends_on_what_it_holds_out(corpus, quick, tmp_path):
    """Labels of held-out clips are turned around: the models that held them out are the same."""
    manifest, store = corpus
    dealt = manifest.dealt(3)
    turn = {"angry": "sad", "happy": "angry", "sad": "happy"}
    turned = Manifest(
        Clip(
            c.id,
            speaker=c.speaker,
            fold=c.fold,
            emotion=turn[c.emotion] if c.fold == "0" else c.emotion,
            valence=3.0 if c.fold == "0" else c.valence,
        )
        for c in dealt
    )
    short = recipe(quick, "training.epochs=3", "training.patience=2", "training.validation=0.4")
    a = train(short, dealt, store, tmp_path / "a")
    b = train(short, turned, store, tmp_path / "b")
    same = [x.read_bytes() == y.read_bytes() for x, y in zip(a.models, b.models, strict=True)]
    assert same == [True, False, False]


def test_members_are_trained_and_combined(corpus, quick, tmp_path):
    manifest, store = corpus
    (tmp_path / "two.toml").write_text('members = ["mer2023-afg-a", "log.toml"]')
    (tmp_path / "log.toml").write_text('[head]\nname = "logistic"\n')
    both = Recipe.read(tmp_path / "two.toml", override=["training.epochs=3", "training.folds=3"])
    run = train(both, manifest, store, tmp_path / "run")
    parts = [member.out_of_fold for member in run.members]
    mean = np.mean([p.at(manifest.ids).probabilities for p in parts], axis=0)
    np.testing.assert_allclose(run.out_of_fold.at(manifest.ids).probabilities, mean, atol=1e-6)
    again = Run.open(tmp_path / "run")
    assert [row["on"] for row in results(again, manifest)] == ["mer2023-afg-a", "log", "combined"]
    assert len(again.predict(manifest[:3], store)) == 3
    assert again.notices == []


@pytest.mark.parametrize("head", ["logistic", "svm", "lightgbm"])
def test_heads_on_pooled_features_are_trained_like_any(corpus, head, tmp_path):
    manifest, store = corpus
    (tmp_path / "pooled.toml").write_text(
        f'[head]\nname = "{head}"\n[streams]\npool = ["mean", "std"]\n[training]\nfolds = 3\n'
    )
    run = train(Recipe.read(tmp_path / "pooled.toml"), manifest, store, tmp_path / "run")
    assert results(run, manifest)[-1]["accuracy"] > 0.7
    assert len(Run.open(tmp_path / "run").predict(manifest[:4], store)) == 4


def test_test_clips_are_answered_but_never_learnt_from(corpus, quick, tmp_path):
    manifest, store = corpus
    split = Manifest(
        Clip(
            c.id,
            speaker=c.speaker,
            valence=c.valence,
            emotion=None if c.speaker == "s5" else c.emotion,
            split="test" if c.speaker == "s5" else None,
        )
        for c in manifest
    )
    run = train(recipe(quick, "training.epochs=2"), split, store, tmp_path / "run")
    test = Posterior.read(tmp_path / "run" / "posteriors" / "test.csv")
    assert set(test.ids) == set(split.select("test").ids)
    assert set(run.out_of_fold.ids).isdisjoint(test.ids)
    assert run.learnt_from(split.select("test")) == []


def test_standardised_per_speaker_says_when_there_are_too_few(corpus, quick, tmp_path):
    manifest, store = corpus
    few = Manifest(c for c in manifest if c.speaker != "s4" or c.id.endswith("-0"))
    run = train(recipe(quick, "streams.standardise=speaker", "training.epochs=8"), few, store, tmp_path / "run")
    assert run.notices == ["fewer than 8 clips to standardise by, of speaker s4"]
    assert results(run, few)[-1]["accuracy"] > 0.8
    with pytest.raises(RecipeError, match="no speaker"):
        run.predict(Manifest(Clip(c.id) for c in manifest), store)


def test_a_dimension_that_nobody_annotated_is_left_out_and_said(making, quick, tmp_path):
    manifest, store = making(tmp_path / "f", valence=False, n_speakers=3)
    run = train(recipe(quick, "training.epochs=1"), manifest, store, tmp_path / "run")
    assert run.notices == ["nobody annotated valence; it is not learnt"]
    assert run.out_of_fold.dimensions == {}
    bare = Manifest(Clip(c.id, speaker=c.speaker) for c in manifest)
    with pytest.raises(RecipeError, match="annotates neither an emotion nor valence"):
        train(recipe(quick), bare, store, tmp_path / "other")


def test_what_is_not_there_is_said(trained, corpus, quick, tmp_path):
    manifest, store = corpus
    with pytest.raises(StoreError, match="is not a run"):
        Run.open(tmp_path)
    with pytest.raises(MissingFeatures, match="holds no made-audio-0"):
        trained.predict(manifest, FeatureStore(tmp_path))
    with pytest.raises(RecipeError, match="knows no stream audio:x"):
        trained.predict(manifest, store, streams=["audio:x=made-audio-0"])
    torn = Manifest(Clip(c.id, speaker="s", fold=str(i % 2)) for i, c in enumerate(manifest))
    with pytest.raises(LeakError):
        train(recipe(quick), torn, store, tmp_path / "x")


def test_degraded_streams_hurt_and_levels_are_stated(trained, corpus):
    manifest, store = corpus
    found = list(degraded(trained, manifest, store, frames=(0.5,), noise=(0.0, 8.0)))
    said = [(d.stream, d.damage, d.level) for d in found]
    assert said[0] == ("", "none", 0.0)
    assert said[1:5] == [
        ("audio", "removed", 1.0),
        ("audio", "frames removed", 0.5),
        ("audio", "noise", 0.0),
        ("audio", "noise", 8.0),
    ]
    clean = found[0].posterior.at(manifest.ids)
    honest = trained.out_of_fold.at(manifest.ids).probabilities
    np.testing.assert_allclose(clean.probabilities, honest, atol=1e-5)
    truth = np.array([clean.emotions.index(c.emotion) for c in manifest])
    hit = {s: (d.posterior.chosen() == truth).mean() for s, d in zip(said, found, strict=True)}
    assert hit["audio", "noise", 0.0] == hit["", "none", 0.0] > 0.9
    for stream in ("audio", "visual"):
        assert hit[stream, "removed", 1.0] < 0.8 and hit[stream, "noise", 8.0] < 0.8


def test_the_command_line_trains_and_predicts(corpus, tmp_path):
    manifest, store = corpus
    manifest.write(tmp_path / "clips.csv")
    runner = CliRunner()
    place = ["--features", str(store.path), "--manifest", str(tmp_path / "clips.csv")]
    done = runner.invoke(
        main,
        [
            "train",
            "concat",
            *place,
            "--out",
            str(tmp_path / "run"),
            "--set",
            "training.epochs=2",
            "--set",
            "training.folds=3",
        ],
    )
    assert done.exit_code == 0, done.output
    assert "all folds" in done.output and "accuracy" in done.output
    out = tmp_path / "p.csv"
    done = runner.invoke(main, ["predict", str(tmp_path / "run"), *place, "-o", str(out)])
    assert done.exit_code == 0, done.output
    assert "learnt from 54 of these clips" in done.output
    assert len(Posterior.read(out)) == 54
    wrong = runner.invoke(main, ["train", "concta", *place, "--out", str(tmp_path / "y")])
    assert wrong.exit_code == 1 and "did you mean 'concat'?" in wrong.output


@pytest.mark.parametrize("name", ["mer2023-afg-a", "logistic", "mer2023"])
@pytest.mark.parametrize("device", ["gpu", "cuda:99"])
def test_a_device_that_is_not_there_is_refused_before_anything_is_written(corpus, tmp_path, name, device):
    manifest, store = corpus
    with pytest.raises(EncoderError, match=f"device '{device}'"):
        train(Recipe.read(name), manifest, store, tmp_path / "run", device=device)
    assert not (tmp_path / "run").exists()


def test_a_single_system_does_not_train_into_a_folder_of_members(corpus, quick, tmp_path):
    manifest, store = corpus
    folder = tmp_path / "run"
    folder.mkdir()
    Recipe.read("mer2023").write(folder / "recipe.toml")
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    with pytest.raises(RecipeError, match="holds a run of mer2023, whose members are others"):
        train(recipe(quick), manifest, store, folder)
    assert before == {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
