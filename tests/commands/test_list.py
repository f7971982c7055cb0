"""Tests of `affuse list`."""

import pytest
from click.testing import CliRunner

from affuse import plugins
from affuse.cli import main

from ..corpora.layouts import NAMES
from .conftest import affuse


def test_the_list_shows_source_and_licence_of_every_corpus() -> None:
    output = " ".join(affuse("list", "corpora").split())  # Long entries are wrapped.
    for name in [*NAMES, "demo", "demo_long"]:
        info = plugins.find("corpus", name).info
        assert f"source: {info.source}; licence: {info.licence}" in output


@pytest.mark.parametrize("kind", ["encoders", "engines", "fusions", "heads", "corpora", "recipes"])
def test_lists_fit_80_columns(kind):
    found = CliRunner().invoke(main, ["list", kind], env={"COLUMNS": "80"})
    assert found.exit_code == 0, found.output
    assert [line for line in found.output.splitlines() if len(line) > 80] == []


def test_one_entry_of_a_list_is_shown_with_its_options():
    assert "steps = 16" in affuse("list", "fusions", "jca")
    assert 'name = "separate"' in affuse("list", "recipes", "concat")
    assert "did you mean 'concat'?" in affuse("list", "recipes", "Concta", code=1)
    assert "did you mean 'logistic'?" in affuse("list", "heads", "logistics", code=1)
