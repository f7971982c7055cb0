"""Tests of `affuse cache`."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from affuse.cache.store import FeatureStore
from affuse.cli import main
from affuse.errors import MissingFeatures


def test_unusable_clips_are_named_and_a_key_prefix_is_enough(tmp_path: Path) -> None:
    table, store = tmp_path / "x.csv", str(tmp_path / "store")
    table.write_text("id,x,y\na,1,2\nb,nan,3\n")
    command = ["cache", "import", str(table), "--name", "mine", "--modality", "audio", "-o", store]
    done = CliRunner().invoke(main, command)
    assert (done.exit_code, "b (not_finite)" in done.stderr) == (3, True)
    with pytest.raises(MissingFeatures, match="'c'.*cache import"):
        FeatureStore(store).read(FeatureStore(store).find_key("mine"), "c")
    out = str(tmp_path / "out.npz")
    assert CliRunner().invoke(main, ["cache", "export", store, "mi", out]).exit_code == 0
    table.write_text("id,x,y\na,1,2\n")
    assert CliRunner().invoke(main, command).exit_code == 0
    done = CliRunner().invoke(main, ["cache", "export", store, "mine", out])
    assert (done.exit_code, "Give one of them in full" in done.stderr) == (1, True)


@pytest.mark.parametrize("verb", ["status", "verify"])
def test_a_store_that_does_not_exist_is_an_error(tmp_path: Path, verb: str) -> None:
    done = CliRunner().invoke(main, ["cache", verb, str(tmp_path / "none")])
    assert (done.exit_code, "does not exist" in done.stderr) == (1, True)
