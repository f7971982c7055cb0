"""What `--help` shows: paragraphs and examples as they were written."""

import pytest
from click.testing import CliRunner

from affuse.cli import VERBS, main


@pytest.mark.parametrize("verb", VERBS)
def test_help_shows_no_mark_of_its_own_making(verb):
    command = main.get_command(None, verb)
    for path in ([verb], *([verb, below] for below in getattr(command, "commands", {}))):
        found = CliRunner().invoke(main, [*path, "--help"])
        assert found.exit_code == 0
        assert "\\b" not in found.output


def test_one_of_a_kind_is_shown_with_its_options():
    def told(*arguments, code=0):
        found = CliRunner().invoke(main, ["list", *arguments])
        assert found.exit_code == code, found.output
        return found.output

    shown = told("fusions", "jca")
    assert "To which every stream is resampled" in shown and "steps = 16" in shown
    assert 'name = "separate"' in told("recipes", "concat")
    assert "did you mean 'concat'?" in told("recipes", "Concta", code=1)
    assert "did you mean 'logistic'?" in told("heads", "logistics", code=1)
