"""`affuse predict` on a person's own recordings: real media, a real encoder, a trained run."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from affuse.cache.store import FeatureStore
from affuse.cli import main
from affuse.errors import ManifestError, MissingFeatures
from affuse.inference.recordings import recordings, wanted
from affuse.manifest import Clip, Manifest
from affuse.posteriors.posterior import Posterior
from affuse.training.run import Run


def tone(path, seconds, pitch, seed=0):
    """Write a WAV: a tone of the emotion's pitch in noise."""
    import av

    generator = np.random.default_rng(seed)
    time = np.arange(int(16000 * seconds)) / 16000
    samples = 0.3 * np.sin(2 * np.pi * pitch * time) + 0.05 * generator.normal(size=len(time))
    with av.open(str(path), "w") as file:
        stream = file.add_stream("pcm_s16le", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray((samples * 32767).astype(np.int16)[None], format="s16", layout="mono")
        frame.sample_rate = 16000
        file.mux(stream.encode(frame))
        file.mux(stream.encode())


def run(*arguments):
    found = CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)
    assert found.exit_code == 0, found.output
    return found.output


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run that tells a low tone (sad) from a high one (happy)."""
    folder = tmp_path_factory.mktemp("trained")
    clips = []
    for i in range(12):
        path = folder / f"clip{i}.wav"
        emotion, pitch = (("sad", 200), ("happy", 2000))[i % 2]
        tone(path, 1.0, pitch, seed=i)
        clips.append(Clip(f"clip{i}", audio=path, speaker=f"s{i // 2}", emotion=emotion))
    Manifest(clips).write(folder / "clips.csv")
    run("extract", folder / "clips.csv", "-e", "logmel,kind=mfcc", "-o", folder / "features", "--workers", 1)
    run(
        "train",
        "audio-only",
        "--features",
        folder / "features",
        "--manifest",
        folder / "clips.csv",
        "-o",
        folder / "run",
        "--set",
        "training.epochs=8",
        "--set",
        "training.folds=2",
        "--set",
        "training.learning_rate=0.01",
    )
    return folder


def test_a_recording_is_decoded_and_answered_without_a_manifest(trained, tmp_path):
    tone(tmp_path / "low.wav", 1.2, 210, seed=99)
    tone(tmp_path / "high.wav", 1.2, 1900, seed=98)
    out = json.loads(
        run(
            "predict",
            trained / "run",
            tmp_path / "low.wav",
            tmp_path / "high.wav",
            "--features",
            trained / "features",
            "--json",
        )
    )
    assert {row["id"]: row["emotion"] for row in out} == {"low": "sad", "high": "happy"}
    assert all(row["happy"] + row["sad"] == pytest.approx(1, abs=1e-3) for row in out)


def test_a_long_recording_becomes_a_timeline_that_follows_it(trained, tmp_path):
    tone(tmp_path / "a.wav", 3.0, 200, seed=7)
    tone(tmp_path / "b.wav", 3.0, 2000, seed=8)
    both = tmp_path / "talk.wav"
    joined(tmp_path / "a.wav", tmp_path / "b.wav", both)
    run(
        "predict",
        trained / "run",
        both,
        "--features",
        trained / "features",
        "--every",
        0.5,
        "--window",
        1.0,
        "-o",
        tmp_path / "out",
    )
    found = Posterior.read(tmp_path / "out" / "talk.csv")
    chosen = [found.emotions[e] for e in found.chosen()]
    assert len(chosen) == 12
    assert chosen[:5] == ["sad"] * 5 and chosen[-5:] == ["happy"] * 5
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        f"talk.{ending}" for ending in ("csv", "json", "TextGrid", "eaf", "html")
    }


def joined(first, second, path):
    import wave

    with wave.open(str(path), "wb") as file:
        for n, part in enumerate((first, second)):
            with wave.open(str(part)) as source:
                if n == 0:
                    file.setparams(source.getparams())
                file.writeframes(source.readframes(source.getnframes()))


def test_runs_are_combined_and_a_broken_recording_is_said(trained, tmp_path):
    tone(tmp_path / "low.wav", 1.0, 200)
    (tmp_path / "broken.wav").write_bytes(b"RIFF nothing of the kind")
    asked = [
        "predict",
        trained / "run",
        trained / "run",
        tmp_path / "low.wav",
        tmp_path / "broken.wav",
        "--features",
        trained / "features",
    ]
    found = CliRunner().invoke(main, [*map(str, asked), "--json"])
    assert found.exit_code == 3
    assert [row["id"] for row in json.loads(found.stdout)] == ["low"]
    assert found.stderr.count("broken: ") == 1
    broken = [str(a) for a in asked if a != tmp_path / "low.wav"]
    found = CliRunner().invoke(main, broken)
    assert found.exit_code == 3 and found.stdout == ""
    found = CliRunner().invoke(main, [*map(str, asked), "--every", "0.5", "-o", str(tmp_path / "out")])
    assert found.exit_code == 3 and "broken" in found.stderr
    assert {p.stem for p in (tmp_path / "out").iterdir()} == {"low"}
    assert "answers by: run, run" in (tmp_path / "out" / "low.html").read_text()


def test_features_that_nothing_can_make_again_are_refused(trained, tmp_path):
    store = FeatureStore(tmp_path)
    with pytest.raises(MissingFeatures, match="does not say how"):
        wanted(Run.open(trained / "run"), store)
    with pytest.raises(ManifestError, match="no recording"):
        recordings([trained / "clips.csv"])


def test_a_recording_that_the_run_learnt_from_is_never_scored(trained, tmp_path):
    asked = ["predict", trained / "run", trained / "clip0.wav", "--features", trained / "features"]
    found = CliRunner().invoke(main, [*map(str, asked), "-o", str(tmp_path / "a.csv")])
    assert found.exit_code == 0 and "learnt from 1 of these clips" in found.stderr
    scored = CliRunner().invoke(main, ["evaluate", str(tmp_path / "a.csv"), str(trained / "clips.csv")])
    assert scored.exit_code == 1 and "was fitted on" in scored.stderr
    (tmp_path / "new.wav").write_bytes((trained / "clip0.wav").read_bytes())
    assert not Run.open(trained / "run").learnt_from(recordings([tmp_path / "new.wav"]))
