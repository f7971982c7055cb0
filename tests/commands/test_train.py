"""Tests of `affuse train`."""

from affuse.posteriors.posterior import Posterior

from .conftest import affuse


def test_command_line_trains_and_predicts(corpus, tmp_path):
    manifest, store = corpus
    manifest.write(tmp_path / "clips.csv")
    place = ("--features", store.path, "--manifest", tmp_path / "clips.csv")
    settings = ("--set", "training.epochs=2", "--set", "training.folds=3")
    printed = affuse("train", "concat", *place, "--out", tmp_path / "run", *settings)
    assert "all folds" in printed and "accuracy" in printed
    out = tmp_path / "p.csv"
    assert "54 of these clips" in affuse("predict", tmp_path / "run", *place, "-o", out)
    assert len(Posterior.read(out)) == 54
    assert "did you mean 'concat'?" in affuse("train", "concta", *place, "--out", tmp_path / "y", code=1)
