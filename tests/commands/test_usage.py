"""Tests of wrong usage: each mistake has an exit code and a message that says what to do."""

import pytest
from click.testing import CliRunner

from affuse.cli import main


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "a.csv").write_text("id,happy,sad\na,0.9,0.1\nb,0.2,0.8\n")
    (tmp_path / "clips.csv").write_text("id,audio\na,a.wav\n")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "recipe.toml").write_text('fusion = {name = "concat"}\n')
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ("train mer2023-afg-a", 2, "Missing option"),
        ("export runs/a", 2, "Missing option"),
        ("pseudo-label a.csv", 2, "Missing option"),
        ("evaluate a.csv", 2, "Scores need labels"),
        ("evaluate a.csv --degrade", 2, "--degrade predicts again, which needs a run"),
        ("report a.csv", 2, "A report needs labels"),
        ("combine a.csv --average logits --rule median", 2, "cannot be used with --rule median"),
        ("submit abaw a.csv", 2, "needs --sample"),
        ("predict a.csv", 2, "a.csv is not a run"),
        ("predict run --smooth 2", 2, "Pass --every as well"),
        ("predict run --every 1", 2, "--every applies to recordings"),
        ("list recipes concat --json", 2, "Leave NAME out"),
        ("manifest . --protocol folds", 2, "Pass --corpus as well"),
        ("manifest . --corpus demo --pattern x", 2, "reads the file names itself"),
        ("manifest . --corpus demo --set x", 2, "Write --set NAME=VALUE"),
        ("extract clips.csv --slice 3/2", 2, "Write I/N with 1 <= I <= N"),
        ("extract clips.csv -e hog --engine locla", 1, "did you mean 'local'?"),
        ("extract clips.csv -e hgo", 1, "did you mean 'hog'?"),
        ("extract clips.csv a.csv -e hog", 1, "clips.csv is not a media file"),
        ("extract none.csv -e hog", 1, "none.csv"),
        ("cache status none", 1, "none does not exist"),
        ("cache import a.csv --name x --modality", 2, "requires an argument"),
        ("train concat --manifest none.csv --out new", 1, "none.csv"),
        ("lists", 2, "No such command"),
    ],
)
def test_wrong_usage_is_explained(folder, words, code, message):
    found = CliRunner().invoke(main, words.split())
    assert (found.exit_code, message in " ".join(found.stderr.split())) == (code, True), found.output


def test_former_precision_option_is_understood(folder):
    found = CliRunner().invoke(main, "extract clips.csv -e hog --dtype float8".split())
    assert found.exit_code == 2
    assert "note: --dtype is now called --precision." in found.stderr and "'--precision'" in found.stderr
