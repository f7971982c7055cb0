"""Tests of what the command line prints: tables, notes and errors."""

import logging

import pytest
from click.testing import CliRunner

from affuse.cli import main
from affuse.commands._console import counted, printable, table
from affuse.errors import StoreError


def test_table_is_aligned_and_wraps_its_last_column():
    rows = [{"name": "a", "about": "one two three four"}, {"name": "bcd", "about": "five"}]
    assert table(rows, width=80) == "name  about\na     one two three four\nbcd   five"
    rows[0]["about"] += " five six"
    assert table(rows, width=26) == "name  about\na     one two three four\n      five six\nbcd   five"


def test_table_that_is_too_wide_becomes_paragraphs():
    rows = [{"name": "x" * 20, "rate": "50 Hz", "licence": "MIT", "about": "A speech encoder."}]
    assert table(rows, width=40) == f"{'x' * 20}\n    A speech encoder.\n    rate: 50 Hz; licence: MIT"


def test_numbers_stay_aligned_in_a_table_that_is_too_wide():
    rows = [{"on": "all folds", "clips": "180", "accuracy": "0.911"}]
    assert table(rows, width=20) == "on         clips  accuracy\nall folds  180    0.911"


def test_plurals_and_control_characters():
    assert [counted(n, "clip") for n in (0, 1, 2000)] == ["0 clips", "1 clip", "2,000 clips"]
    assert printable("a\x1b[31mb\nc") == "a\\x1b[31mb\nc"


def test_errors_are_one_message_and_warnings_are_notes(monkeypatch):
    def fail(kind):
        logging.getLogger("affuse.cache").warning("%s was renamed.", "dtype")
        logging.getLogger("affuse").info("not shown")
        raise StoreError("The store is damaged.\x07")

    monkeypatch.setattr("affuse.plugins.catalogue", fail)
    for _ in range(2):  # The handler is added once.
        found = CliRunner().invoke(main, ["list", "heads"])
        assert found.exit_code == 1
        assert found.stderr == "note: dtype was renamed.\nerror: The store is damaged.\\x07\n"
    with pytest.raises(StoreError):
        CliRunner().invoke(main, ["--debug", "list", "heads"], catch_exceptions=False)


def test_a_path_that_cannot_be_used_is_named(tmp_path):
    (tmp_path / "p.csv").write_text("id,happy,sad\na,0.9,0.1\n")
    (tmp_path / "taken").touch()
    words = ["submit", "mer2023", str(tmp_path / "p.csv"), "-o", str(tmp_path / "taken" / "out.txt")]
    found = CliRunner().invoke(main, words)
    assert found.exit_code == 1 and "Choose another path." in found.stderr and "taken" in found.stderr
