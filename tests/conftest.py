"""Fixtures that every room's tests share."""

import importlib.util
import os
import sys
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
