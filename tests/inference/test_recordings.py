"""Prediction for new recordings: real media, a real encoder, a trained run."""

import dataclasses
import json
import wave

import numpy as np
import pytest
from click.testing import CliRunner

from affuse.cache.store import FeatureStore
from affuse.cli import main
from affuse.engines import _extraction
from affuse.errors import ManifestError, MissingFeatures, StoreError
from affuse.inference.recordings import list_recordings, predict, predict_clips, predict_timelines, required_encoders
from affuse.manifest import Clip, Manifest
from affuse.posteriors.posterior import Posterior
from affuse.posteriors.provenance import Provenance
from affuse.recipes.recipe import Recipe
from affuse.training.cross_validation import train
from affuse.training.run import Run


def write_tone(path, seconds, pitch, seed=0):
    """Write a WAV file with a noisy tone."""
    time = np.arange(int(16000 * seconds)) / 16000
    samples = 0.3 * np.sin(2 * np.pi * pitch * time) + 0.05 * np.random.default_rng(seed).normal(size=len(time))
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes((samples * 32767).astype("<i2").tobytes())
    return path


def concatenate(first, second, path):
    with wave.open(str(path), "wb") as file:
        for n, part in enumerate((first, second)):
            with wave.open(str(part)) as source:
                if n == 0:
                    file.setparams(source.getparams())
                file.writeframes(source.readframes(source.getnframes()))
    return path


def invoke(*arguments):
    found = CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)
    assert found.exit_code == 0, found.output
    return found.output


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a run that distinguishes a low tone (sad) from a high one (happy)."""
    folder = tmp_path_factory.mktemp("trained")
    clips = []
    for i in range(12):
        emotion, pitch = (("sad", 200), ("happy", 2000))[i % 2]
        path = write_tone(folder / f"clip{i}.wav", 1.0, pitch, seed=i)
        clips.append(Clip(f"clip{i}", audio=path, speaker=f"s{i // 2}", emotion=emotion))
    Manifest(clips).write(folder / "clips.csv")
    features, manifest = folder / "features", folder / "clips.csv"
    invoke("extract", manifest, "-e", "logmel,kind=mfcc", "-o", features, "--workers", 1)
    overrides = ("training.epochs=8", "training.folds=2", "training.learning_rate=0.01")
    options = [part for override in overrides for part in ("--set", override)]
    invoke("train", "audio-only", "--features", features, "--manifest", manifest, "-o", folder / "run", *options)
    return folder


@pytest.fixture
def tones(tmp_path):
    """A low and a high tone that are no clips of the corpus."""
    return [write_tone(tmp_path / "low.wav", 1.2, 210, seed=99), write_tone(tmp_path / "high.wav", 1.2, 1900, seed=98)]


def test_recordings_are_predicted_without_a_manifest(trained, tones):
    found = predict([trained / "run"], tones, features=trained / "features", device="cpu")
    assert not found.failures and not found.notices
    assert [row["emotion"] for row in found.records()] == ["sad", "happy"]
    assert list(found.to_pandas().index) == ["low", "high"] or list(found.to_pandas()["id"]) == ["low", "high"]
    np.testing.assert_allclose(found.posterior.probabilities.sum(axis=1), 1, atol=1e-6)


def test_one_run_and_one_file_need_no_list(trained, tones):
    run = Run.open(trained / "run")
    one = predict(run, tones[0], features=FeatureStore(trained / "features"))
    many = predict([str(trained / "run")], [str(tones[0])], features=str(trained / "features"))
    np.testing.assert_array_equal(one.posterior.probabilities, many.posterior.probabilities)


def test_the_command_prints_one_record_per_recording(trained, tones):
    out = json.loads(invoke("predict", trained / "run", *tones, "--features", trained / "features", "--json"))
    assert {row["id"]: row["emotion"] for row in out} == {"low": "sad", "high": "happy"}
    assert all(row["happy"] + row["sad"] == pytest.approx(1, abs=1e-3) for row in out)


def test_a_timeline_follows_a_long_recording(trained, tmp_path):
    low, high = write_tone(tmp_path / "a.wav", 3.0, 200, seed=7), write_tone(tmp_path / "b.wav", 3.0, 2000, seed=8)
    talk = concatenate(low, high, tmp_path / "talk.wav")
    options = {"every": 0.5, "window": 1.0, "features": trained / "features"}
    (timeline,), failures = predict_timelines([trained / "run"], talk, **options)
    assert not failures and timeline.name == "talk" and len(timeline) == 12
    emotions = [timeline.emotions[e] for e in timeline.posterior.predicted()]
    assert emotions[:5] == ["sad"] * 5 and emotions[-5:] == ["happy"] * 5
    (smooth,), _ = predict_timelines([trained / "run"], talk, smooth=2.0, **options)
    assert np.abs(np.diff(smooth.probabilities, axis=0)).max() < np.abs(np.diff(timeline.probabilities, axis=0)).max()
    arguments = ["predict", trained / "run", talk, "--features", trained / "features", "--every", 0.5, "--window", 1.0]
    invoke(*arguments, "-o", tmp_path / "out")
    assert len(Posterior.read(tmp_path / "out" / "talk.csv")) == 12
    endings = ("csv", "json", "TextGrid", "eaf", "html")
    assert {p.name for p in (tmp_path / "out").iterdir()} == {f"talk.{ending}" for ending in endings}


def test_runs_are_combined_and_a_broken_recording_is_reported(trained, tones, tmp_path):
    (tmp_path / "broken.wav").write_bytes(b"RIFF nothing of the kind")
    arguments = ["predict", trained / "run", trained / "run", tmp_path / "broken.wav"]
    arguments = [str(a) for a in [*arguments, "--features", trained / "features"]]
    found = CliRunner().invoke(main, [*arguments, str(tones[0]), "--json"])
    assert found.exit_code == 3
    assert [row["id"] for row in json.loads(found.stdout)] == ["low"]
    assert found.stderr.count("broken: ") == 1
    found = CliRunner().invoke(main, arguments)
    assert found.exit_code == 3 and found.stdout == ""
    found = CliRunner().invoke(main, [*arguments, str(tones[0]), "--every", "0.5", "-o", str(tmp_path / "out")])
    assert found.exit_code == 3 and "broken" in found.stderr
    assert {p.stem for p in (tmp_path / "out").iterdir()} == {"low"}
    assert "run, run" in (tmp_path / "out" / "low.html").read_text()


def test_a_run_that_reads_media_reports_recordings_that_it_cannot_decode(trained, tones, tmp_path):
    (tmp_path / "recipe.toml").write_text(
        '[encoders.audio]\nname = "wavestem"\ndim = 8\ndepth = 1\n'
        '[fusion]\nname = "concat"\n[head]\nname = "separate"\n[training]\nepochs = 1\nfolds = 2\n'
    )
    run = train(
        Recipe.read(tmp_path / "recipe.toml"),
        Manifest.read(trained / "clips.csv"),
        FeatureStore(tmp_path),
        out=tmp_path / "run",
    )
    (tmp_path / "broken.wav").write_bytes(b"RIFF nothing of the kind")
    found = predict(run, [tones[0], tmp_path / "broken.wav"])
    assert found.failures == ["broken: no stream of the runs can be read from it"]
    assert [row["id"] for row in found.records()] == ["low"]


def test_features_without_a_record_of_their_encoder_are_refused(trained, tmp_path):
    with pytest.raises(MissingFeatures, match="does not record how they were made"):
        required_encoders(Run.open(trained / "run"), FeatureStore(tmp_path))


def test_a_path_that_is_no_recording_is_refused(trained, tmp_path):
    with pytest.raises(ManifestError, match="is not a media file"):
        list_recordings([trained / "clips.csv"])
    with pytest.raises(ManifestError, match=r"absent\.mp4 does not exist"):
        list_recordings(tmp_path / "absent.mp4")
    with pytest.raises(StoreError, match="is not a run"):
        predict(tmp_path, trained / "clip0.wav", features=trained / "features")


def test_a_run_on_central_faces_predicts_with_central_faces(trained, tones, monkeypatch, tmp_path):
    """Version 0.1.0 lost the choice of the face, and then blamed the checkpoint."""
    (key,) = [each.key for each in required_encoders(Run.open(trained / "run"), FeatureStore(trained / "features"))]
    recorded = json.loads((trained / "features" / key / "encoder.json").read_text())
    recorded["asked"]["faces"] = {"detector": "yunet.onnx", "pick": "central", "no_face": "fail"}
    (tmp_path / "features" / key).mkdir(parents=True)
    (tmp_path / "features" / key / "encoder.json").write_text(json.dumps(recorded))
    settings = []

    class Recorder(_extraction.Extraction):
        def __init__(self, *arguments, **options):
            settings.append(options["settings"])
            raise StopIteration

    monkeypatch.setattr(_extraction, "Extraction", Recorder)
    with pytest.raises((StopIteration, RuntimeError)):
        predict(trained / "run", tones[0], features=tmp_path / "features")
    assert "central" in repr(settings[0]) and "fail" in repr(settings[0])


def test_clips_with_features_are_predicted_with_their_provenance(trained, tmp_path):
    manifest = Manifest.read(trained / "clips.csv")
    found = predict_clips(trained / "run", manifest, trained / "features")
    assert list(found.posterior.ids) == list(manifest.ids)
    found.write(tmp_path / "posterior.csv")
    assert Provenance.read(tmp_path / "posterior.csv") == found.provenance


def test_a_recording_of_the_training_data_is_predicted_by_models_that_held_it_out(trained, tmp_path):
    found = predict(trained / "run", trained / "clip0.wav", features=trained / "features")
    held_out = Run.open(trained / "run").out_of_fold.at(["clip0"])
    np.testing.assert_allclose(found.posterior.probabilities, held_out.probabilities, atol=1e-6)
    assert found.provenance.learnt_from == []
    assert "1 of these clips belong to the training data" in found.notices[0]
    copy = tmp_path / "copy.wav"
    copy.symlink_to(trained / "clip0.wav")
    other = predict(trained / "run", copy, features=trained / "features")
    np.testing.assert_allclose(other.posterior.probabilities, held_out.probabilities, atol=1e-6)


def test_recordings_that_every_model_was_trained_on_are_never_scored(trained, tmp_path):
    clips = Manifest.read(trained / "clips.csv")
    split = Manifest(dataclasses.replace(c, split="validation" if i < 4 else "train") for i, c in enumerate(clips))
    recipe = Recipe.read("audio-only", override=["training.epochs=1"])
    run = train(recipe, split, FeatureStore(trained / "features"), out=tmp_path / "run")
    found = predict(run, trained / "clip9.wav", features=trained / "features")
    assert found.provenance.learnt_from == ["clip9"]
    assert "Do not score" in found.notices[0]
    found.write(tmp_path / "a.csv")
    scored = CliRunner().invoke(main, ["evaluate", str(tmp_path / "a.csv"), str(trained / "clips.csv")])
    assert scored.exit_code == 1 and "fitted on" in scored.stderr
