"""Tests of `affuse export`."""

import pytest

from .conftest import affuse


def test_the_folder_has_a_model_card(folder):
    affuse("export", folder / "run", "-o", folder / "out")
    assert (folder / "out" / "README.md").is_file()


def test_every_model_of_a_run_is_exported(folder):
    pytest.importorskip("onnxruntime")
    affuse("export", folder / "run", "-o", folder / "out", "--onnx")
    assert {p.name for p in (folder / "out").iterdir()} == {"seed0-fold0.onnx", "seed0-fold1.onnx"}
