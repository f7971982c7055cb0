"""Tests of `affuse manifest`."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from affuse.cli import main
from affuse.manifest import Manifest

from ..corpora import layouts
from ..corpora.layouts import NAMES
from .conftest import affuse


def test_dividing_clips_without_speakers_gives_a_warning(tmp_path: Path) -> None:
    for name in ["eva_1.wav", "ian_1.wav", "lou_1.wav"]:
        (tmp_path / name).touch()
    command = ["manifest", str(tmp_path), "-o", str(tmp_path / "clips.csv"), "--folds", "2"]
    assert "3 clips without a speaker" in CliRunner().invoke(main, command).stderr
    known = CliRunner().invoke(main, [*command, "--pattern", "(?P<speaker>[a-z]+)_"])
    assert (known.exit_code, known.stderr) == (0, "")
    assert CliRunner().invoke(main, [*command, "--folds", "1"]).exit_code == 2


def test_a_path_that_cannot_be_written_is_reported_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "a.wav").touch()
    (tmp_path / "taken").touch()
    command = ["manifest", str(tmp_path), "-o", str(tmp_path / "taken" / "clips.csv")]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 1
    assert done.stderr.startswith(f"error: Cannot use {tmp_path / 'taken'}: ")
    assert isinstance(CliRunner().invoke(main, ["--debug", *command]).exception, OSError)


@pytest.mark.parametrize("name", NAMES)
def test_a_corpus_is_written_with_counts_licence_and_citation(name: str, tmp_path: Path) -> None:
    getattr(layouts, name)(tmp_path / "root")
    out = tmp_path / "clips.csv"
    printed = affuse("manifest", tmp_path / "root", "--corpus", name, "-o", out)
    assert "published" in printed and "licence: " in printed and "citation: " in printed
    assert len(Manifest.read(out)) > 0
    for clip in Manifest.read(out):
        assert all(p is None or p.is_file() for p in (clip.video, clip.audio, clip.labels))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--corpus", "ravdes"], "did you mean 'ravdess'"),
        (["--corpus", "ravdess", "--set", "chanel=song"], "did you mean 'channel'"),
        (["--corpus", "ravdess", "--set", "channel=songs"], "did you mean 'song'"),
        (["--corpus", "ravdess", "--protocol", "fold"], "did you mean 'folds'"),
        (["--corpus", "ravdess", "--set", "channel"], "NAME=VALUE"),
        (["--protocol", "folds"], "apply to a corpus"),
        (["--corpus", "ravdess", "--pattern", "x"], "cannot be used with --corpus"),
    ],
)
def test_misspelt_options_of_the_command_are_explained(tmp_path: Path, words: list[str], expected: str) -> None:
    layouts.ravdess(tmp_path)
    out = str(tmp_path / "clips.csv")
    result = CliRunner().invoke(main, ["manifest", str(tmp_path), "-o", out, *words])
    assert result.exit_code in (1, 2) and expected in result.output
