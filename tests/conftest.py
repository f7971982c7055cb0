"""Fixtures that the tests of every package share."""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

if importlib.util.find_spec("affuse") is None:
    spec = importlib.util.spec_from_file_location(
        "affuse", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
    )
    assert spec and spec.loader
    sys.modules["affuse"] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"


@pytest.fixture(scope="session")
def data() -> Path:
    """Real recordings and features; the test skips where they are absent."""
    folder = Path(os.environ.get("AFFUSE_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "ravdess").is_dir():
        pytest.skip(f"no real recordings at {folder}; set AFFUSE_DATA to their folder")
    return folder


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 400 kB; the test skips where none may be mounted."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=400k", "none", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no right to mount a small disk")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)
