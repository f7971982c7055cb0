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
