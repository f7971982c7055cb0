"""The `affuse` command as a function, and files that several commands read."""

import pytest
from click.testing import CliRunner

from affuse.cli import main
from affuse.recipes.recipe import Recipe
from affuse.training.cross_validation import train

from ..predictions import labelled_clips, predictions
from ..training.conftest import corpus

__all__ = ["corpus"]

SHORT = ("training.epochs=1", "training.folds=2")


def affuse(*words, code=0):
    """Run a command and return what it prints."""
    found = CliRunner().invoke(main, [str(word) for word in words], catch_exceptions=False)
    assert found.exit_code == code, found.output
    return found.output


@pytest.fixture
def files(tmp_path):
    """Make a folder with a manifest, three posteriors and a better one."""
    manifest, emotion = labelled_clips()
    manifest.write(tmp_path / "clips.csv")
    for seed, name in enumerate("abc"):
        predictions(emotion, 1.5, seed).write(tmp_path / f"{name}.csv")
    predictions(emotion, 3.0, 9).write(tmp_path / "better.csv")
    return tmp_path


@pytest.fixture
def folder(corpus, tmp_path):
    """Make a folder with a manifest and a run of `concat`."""
    manifest, store = corpus
    manifest.write(tmp_path / "clips.csv")
    train(Recipe.read("concat", override=SHORT), manifest, store, out=tmp_path / "run")
    return tmp_path
