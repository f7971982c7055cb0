"""Runs: files, resumption, refusal of other runs, prediction by held-out models, leaks."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from affuse.cache.store import FeatureStore
from affuse.errors import DeviceError, LeakError, MissingFeatures, RecipeError, StoreError
from affuse.manifest import Clip, Manifest
from affuse.posteriors.posterior import Posterior
from affuse.recipes.recipe import Recipe
from affuse.training import run as run_module
from affuse.training.cross_validation import train
from affuse.training.run import Run


def recipe(quick, *more, name="mer2023-afg-a"):
    return Recipe.read(name, override=[*quick, "training.folds=3", *more])


@pytest.fixture(scope="session")
def trained(corpus, quick, tmp_path_factory):
    """A run of two seeds over three folds."""
    path = tmp_path_factory.mktemp("runs") / "a"
    return train(recipe(quick, "training.seeds=2"), *corpus, out=path)


def test_every_clip_is_held_out_once_and_predicted_well(trained, corpus):
    manifest, _ = corpus
    posterior = trained.out_of_fold
    assert sorted(posterior.ids) == sorted(manifest.ids)
    rows = trained.results(manifest)
    assert [row["on"] for row in rows] == ["fold 0", "fold 1", "fold 2", "mean of seeds", "seeds combined"]
    assert rows[-1]["accuracy"] > 0.9 and rows[-1]["ccc:valence"] > 0.7
    seeds = [p.at(posterior.ids).probabilities for p in trained.seed_posteriors]
    np.testing.assert_allclose(np.mean(seeds, axis=0), posterior.probabilities, atol=1e-6)


def test_folder_contains_models_logs_and_metadata(trained):
    metadata = json.loads((trained.path / "run.json").read_text())
    assert metadata["streams"]["audio"]["key"] == "made-audio-0"
    assert metadata["emotions"] == ["angry", "happy", "sad"]
    assert metadata["versions"]["affuse"] and metadata["folds"]["0"]["held_out"] == 18
    assert len(trained.folder.models) == 6
    assert len((trained.path / "logs" / "seed1-fold2.jsonl").read_text().splitlines()) == 12


def test_the_folds_are_written_into_the_manifest_of_the_run(trained, corpus):
    own = Manifest.read(trained.folder.manifest)
    folds = {clip.id: fold.name for fold in trained.folds(corpus[0]) for clip in fold.held_out}
    assert {clip.id: clip.fold for clip in own} == folds


def test_new_clips_are_predicted_by_all_models(trained, making, tmp_path):
    manifest, store = making(tmp_path, n_speakers=8, seed=1)
    new = Manifest(Clip(c.id, speaker=c.speaker) for c in manifest if c.speaker in ("s6", "s7"))
    found = Run.open(trained.path).predict(new, store)
    dataset, _ = trained.dataset(new, store)
    each = [trained.load(model).posterior(dataset).probabilities for model in trained.folder.models]
    np.testing.assert_allclose(found.probabilities, np.mean(each, axis=0))
    assert trained.held_out(new) == trained.trained_on(new) == []


def test_clips_of_the_training_manifest_are_predicted_by_the_models_that_held_them_out(trained, corpus):
    manifest, store = corpus
    expected = trained.out_of_fold.at(manifest.ids)
    found = Run.open(trained.path).predict(manifest, store)
    assert found.ids == expected.ids
    np.testing.assert_allclose(found.probabilities, expected.probabilities, atol=1e-5)
    np.testing.assert_allclose(found.dimensions["valence"], expected.dimensions["valence"], atol=1e-4)
    assert trained.held_out(manifest) == manifest.ids and trained.trained_on(manifest) == []


def test_clips_are_recognised_by_their_media_file_and_marked_where_every_model_saw_them(corpus, quick, tmp_path):
    manifest, store = corpus
    known = Manifest(
        dataclasses.replace(c, video=tmp_path / f"{c.id}.mp4", fold={"s0": "0", "s1": "1"}.get(c.speaker))
        for c in manifest
        if c.speaker != "s5"
    )
    run = train(recipe(quick, "training.epochs=1"), known, store, out=tmp_path / "run")
    renamed = Manifest([Clip("s5-sad-0", video=tmp_path / "s0-sad-0.mp4"), Clip("s5-sad-1")])
    assert run.folds_not_trained_on(renamed) == {"s5-sad-0": ("0",)}
    dataset, _ = run.dataset(renamed, store)
    first, second = (run.load(run.folder.model(0, fold)).posterior(dataset).probabilities for fold in "01")
    found = run.predict(renamed, store).probabilities
    np.testing.assert_allclose(found, [first[0], (first[1] + second[1]) / 2], atol=1e-6)
    # Clips without a fold are in the training clips of every model.
    assert run.trained_on(known) == [c.id for c in known if c.fold is None]
    assert run.held_out(known) == [c.id for c in known if c.fold is not None]


@pytest.mark.parametrize("name", ["mer2023-afg-a", "mer2023"])
def test_features_are_gathered_once_per_process(corpus, quick, tmp_path, monkeypatch, name):
    calls = []

    def counting(*arguments, **options):
        calls.append(1)
        return gather(*arguments, **options)

    gather = run_module.gather
    monkeypatch.setattr(run_module, "gather", counting)
    manifest, store = corpus
    settings = ["training.epochs=1", "training.folds=5", "training.batch=8"]
    run = train(Recipe.read(name, override=settings), manifest, store, out=tmp_path / "run", workers=1)
    assert len(run.out_of_fold) == len(manifest)
    assert len(calls) == 1


def test_repeated_training_keeps_the_models_and_refuses_another_run(trained, corpus, quick):
    manifest, store = corpus
    before = {p: p.stat().st_mtime_ns for p in trained.folder.models}
    train(trained.recipe, manifest, store, out=trained.path)
    assert before == {p: p.stat().st_mtime_ns for p in trained.folder.models}
    with pytest.raises(RecipeError, match=r"training.seeds \(2, now 1\)"):
        train(recipe(quick), manifest, store, out=trained.path)
    relabelled = [Clip("s0-angry-0", speaker="s0", emotion="sad"), *manifest[1:]]
    with pytest.raises(RecipeError, match="difference in: manifest"):
        train(trained.recipe, Manifest(relabelled), store, out=trained.path)


def test_number_of_workers_does_not_change_results(trained, corpus, tmp_path):
    manifest, store = corpus
    two = train(trained.recipe, manifest, store, out=tmp_path / "two", workers=2)
    for one, other in zip(trained.folder.models, two.folder.models, strict=True):
        assert one.read_bytes() == other.read_bytes()


def test_a_script_without_a_main_guard_trains_in_several_processes(corpus, tmp_path):
    manifest, store = corpus
    manifest.write(tmp_path / "clips.csv")
    (tmp_path / "script.py").write_text(
        "import affuse\n"
        "print('the script runs')\n"
        f"clips, store = affuse.Manifest.read('clips.csv'), affuse.FeatureStore({str(store.path)!r})\n"
        "affuse.train('logistic', clips, store, out='run', device='cpu', workers=2)\n"
    )
    command = [sys.executable, "script.py"]
    child = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert child.returncode == 0, child.stderr
    assert child.stdout.count("the script runs") == 1
    assert (tmp_path / "run" / "posteriors" / "out-of-fold.csv").is_file()


def test_killed_training_resumes_and_ends_with_the_same_models(trained, corpus, tmp_path):
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
    again = train(trained.recipe, Manifest.read(tmp_path / "clips.csv"), store, out=tmp_path / "run")
    assert all((models / name).stat().st_mtime_ns == when for name, when in done.items())
    for one, other in zip(trained.folder.models, again.folder.models, strict=True):
        assert one.read_bytes() == other.read_bytes()


def test_models_of_a_fold_do_not_depend_on_its_held_out_clips(corpus, quick, tmp_path):
    """The labels of the held-out clips of one fold are exchanged: the model of that fold stays the same."""
    manifest, store = corpus
    divided = manifest.with_folds(3)
    other = {"angry": "sad", "happy": "angry", "sad": "happy"}
    exchanged = Manifest(
        Clip(
            c.id,
            speaker=c.speaker,
            fold=c.fold,
            emotion=other[c.emotion] if c.fold == "0" else c.emotion,
            valence=3.0 if c.fold == "0" else c.valence,
        )
        for c in divided
    )
    short = recipe(quick, "training.epochs=3", "training.patience=2", "training.validation=0.4")
    a = train(short, divided, store, out=tmp_path / "a")
    b = train(short, exchanged, store, out=tmp_path / "b")
    same = [x.read_bytes() == y.read_bytes() for x, y in zip(a.folder.models, b.folder.models, strict=True)]
    assert same == [True, False, False]


def test_members_are_trained_and_combined(corpus, quick, tmp_path):
    manifest, store = corpus
    (tmp_path / "two.toml").write_text('members = ["mer2023-afg-a", "log.toml"]')
    (tmp_path / "log.toml").write_text('[head]\nname = "logistic"\n')
    both = Recipe.read(tmp_path / "two.toml", override=["training.epochs=3", "training.folds=3"])
    run = train(both, manifest, store, out=tmp_path / "run")
    parts = [member.out_of_fold for member in run.members]
    mean = np.mean([p.at(manifest.ids).probabilities for p in parts], axis=0)
    np.testing.assert_allclose(run.out_of_fold.at(manifest.ids).probabilities, mean, atol=1e-6)
    again = Run.open(tmp_path / "run")
    assert [row["on"] for row in again.results(manifest)] == ["mer2023-afg-a", "log", "combined"]
    assert len(again.predict(manifest[:3], store)) == 3
    assert again.notices == []
    assert again.held_out(manifest) == manifest.ids and again.trained_on(manifest) == []


@pytest.mark.parametrize("head", ["logistic", "svm", "lightgbm"])
def test_heads_on_pooled_features_are_trained(corpus, head, tmp_path):
    manifest, store = corpus
    (tmp_path / "pooled.toml").write_text(
        f'[head]\nname = "{head}"\n[streams]\npool = ["mean", "std"]\n[training]\nfolds = 3\n'
    )
    run = train(tmp_path / "pooled.toml", manifest, store, out=tmp_path / "run")
    assert run.results(manifest)[-1]["accuracy"] > 0.7
    assert len(Run.open(tmp_path / "run").predict(manifest[:4], store)) == 4


def test_test_clips_are_predicted_but_not_trained_on(corpus, quick, tmp_path):
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
    run = train(recipe(quick, "training.epochs=2"), split, store, out=tmp_path / "run")
    test = Posterior.read(tmp_path / "run" / "posteriors" / "test.csv")
    assert set(test.ids) == set(split.select("test").ids)
    assert set(run.out_of_fold.ids).isdisjoint(test.ids)
    assert run.trained_on(split.select("test")) == run.held_out(split.select("test")) == []


def test_standardisation_per_speaker_names_speakers_with_few_clips(corpus, quick, tmp_path):
    manifest, store = corpus
    few = Manifest(c for c in manifest if c.speaker != "s4" or c.id.endswith("-0"))
    run = train(recipe(quick, "streams.standardise=speaker", "training.epochs=8"), few, store, out=tmp_path / "run")
    assert run.notices == ["Speakers with fewer than 8 clips to standardise over: s4."]
    assert run.results(few)[-1]["accuracy"] > 0.8
    with pytest.raises(RecipeError, match="clips without a speaker"):
        run.predict(Manifest(Clip(c.id) for c in manifest), store)


def test_dimension_without_labels_is_left_out_with_a_notice(making, quick, tmp_path):
    manifest, store = making(tmp_path / "f", valence=False, n_speakers=3)
    run = train(recipe(quick, "training.epochs=1"), manifest, store, out=tmp_path / "run")
    assert run.notices == ["Valence is not trained, because no clip is annotated with it."]
    assert run.out_of_fold.dimensions == {}
    bare = Manifest(Clip(c.id, speaker=c.speaker) for c in manifest)
    with pytest.raises(RecipeError, match="labels neither for emotions nor for valence"):
        train(recipe(quick), bare, store, out=tmp_path / "other")


def test_missing_runs_features_and_streams_are_named(trained, corpus, quick, tmp_path):
    manifest, store = corpus
    with pytest.raises(StoreError, match="is not a run"):
        Run.open(tmp_path)
    with pytest.raises(MissingFeatures, match="does not contain made-audio-0"):
        trained.predict(manifest, FeatureStore(tmp_path))
    with pytest.raises(RecipeError, match="has no stream audio:x"):
        trained.predict(manifest, store, streams=["audio:x=made-audio-0"])
    torn = Manifest(Clip(c.id, speaker="s", fold=str(i % 2)) for i, c in enumerate(manifest))
    with pytest.raises(LeakError):
        train(recipe(quick), torn, store, out=tmp_path / "x")


@pytest.mark.parametrize("name", ["mer2023-afg-a", "logistic", "mer2023"])
@pytest.mark.parametrize("device", ["gpu", "cuda:99"])
def test_missing_device_is_refused_before_anything_is_written(corpus, tmp_path, name, device):
    manifest, store = corpus
    with pytest.raises(DeviceError, match=f"'{device}'"):
        train(Recipe.read(name), manifest, store, out=tmp_path / "run", device=device)
    assert not (tmp_path / "run").exists()


def test_single_system_is_not_trained_in_the_folder_of_members(corpus, quick, tmp_path):
    manifest, store = corpus
    folder = tmp_path / "run"
    folder.mkdir()
    Recipe.read("mer2023").write(folder / "recipe.toml")
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    with pytest.raises(RecipeError, match="contains a run of mer2023, whose members are not those"):
        train(recipe(quick), manifest, store, out=folder)
    assert before == {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
