"""Tests of the help texts: every option is explained, nothing is cut off, and 80 columns are enough."""

import re

import click
import pytest
from click.testing import CliRunner

from affuse.cli import VERBS, main


def commands():
    for verb in VERBS:
        command = main.get_command(None, verb)
        yield verb, command
        for name, below in getattr(command, "commands", {}).items():
            yield f"{verb} {name}", below


COMMANDS = dict(commands())


def shown(*words):
    found = CliRunner().invoke(main, [*words, "--help"], env={"COLUMNS": "80"})
    assert found.exit_code == 0, found.output
    return found.output


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_explained(name):
    options = [option for option in COMMANDS[name].params if isinstance(option, click.Option)]
    assert [option.name for option in options if not option.help or not option.help[0].isupper()] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_one_sentence_two_to_four_examples_and_fits_80_columns(name):
    text = shown(*name.split())
    first = COMMANDS[name].help.partition("\n\n")[0]
    assert re.fullmatch(r"[A-Z][^.]*\.", first)
    assert 2 <= len(re.findall(r"^  affuse ", text, re.MULTILINE)) <= 4
    assert "\\b" not in text
    assert [line for line in text.splitlines() if len(line) > 80] == []


@pytest.mark.parametrize("name", ["", "cache"])
def test_overview_is_not_cut_off(name):
    assert "..." not in shown(*name.split()).partition("Commands:")[2]


def test_an_option_means_the_same_in_every_command():
    """Options of one name have one type and one former name, apart from --out, which is a file or a folder."""
    types = {}
    for command in COMMANDS.values():
        for option in command.params:
            if isinstance(option, click.Option) and option.name not in ("out", "seed"):
                kind = option.type
                types.setdefault(option.opts[0], set()).add((type(kind), getattr(kind, "dir_okay", None)))
    assert {name: found for name, found in types.items() if len(found) > 1} == {}


@pytest.mark.parametrize("name", ["train", "predict", "extract", "evaluate", "report"])
def test_device_is_chosen_automatically(name):
    assert next(option for option in COMMANDS[name].params if option.name == "device").default == "auto"


def test_former_option_names_are_understood_with_a_note(tmp_path):
    (tmp_path / "clips.csv").write_text("id,speaker,emotion\na,s,happy\nb,t,sad\n")
    (tmp_path / "first.csv").write_text("id,happy,sad\na,0.9,0.1\nb,0.2,0.8\n")
    words = ["evaluate", str(tmp_path / "first.csv"), str(tmp_path / "clips.csv"), "--json"]
    former = CliRunner().invoke(main, [*words, "--draws", "7"])
    assert former.stderr == "note: --draws is now called --resamples.\n"
    assert former.stdout == CliRunner().invoke(main, [*words, "--resamples", "7"]).stdout
    refused = CliRunner().invoke(main, [*words, "--draws", "0"])
    assert (refused.exit_code, "--resamples" in refused.stderr) == (2, True)
    assert "--draws" not in shown("evaluate") and "--dtype" not in shown("extract")
