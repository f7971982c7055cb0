"""Tests of `affuse cache`."""

from pathlib import Path

import pytest

from affuse.cache.store import FeatureStore
from affuse.errors import MissingFeatures

from .conftest import affuse


def test_unusable_clips_are_named_and_a_key_prefix_is_enough(tmp_path: Path) -> None:
    table, store, out = tmp_path / "x.csv", tmp_path / "store", tmp_path / "out.npz"
    table.write_text("id,x,y\na,1,2\nb,nan,3\n")
    command = ("cache", "import", table, "--name", "mine", "--modality", "audio", "-o", store)
    assert "b (not_finite)" in affuse(*command, code=3)
    with pytest.raises(MissingFeatures, match="'c'.*cache import"):
        FeatureStore(store).read(FeatureStore(store).find_key("mine"), "c")
    affuse("cache", "export", store, "mi", out)
    table.write_text("id,x,y\na,1,2\n")
    affuse(*command)
    assert "Give one of them in full" in affuse("cache", "export", store, "mine", out, code=1)


@pytest.mark.parametrize("verb", ["status", "verify"])
def test_a_store_that_does_not_exist_is_an_error(tmp_path: Path, verb: str) -> None:
    assert "does not exist" in affuse("cache", verb, tmp_path / "none", code=1)
