"""The `affuse` command: finds the verbs in commands/ and turns errors into a message and an exit code."""

import importlib
import logging
import sys
from typing import Any

import click

from .errors import AffuseError

VERBS = (
    "manifest",
    "extract",
    "train",
    "predict",
    "combine",
    "evaluate",
    "report",
    "submit",
    "pseudo-label",
    "export",
    "push",
    "list",
    "cache",
    "demo",
)
"""Verbs in the order of a project. A new verb is a file in commands/ and its name here."""


class Affuse(click.Group):
    """Command group that imports the file of a verb only when that verb is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in VERBS:
            return None
        module = importlib.import_module(f".commands.{name.replace('-', '_')}", __package__)
        return module.command  # type: ignore[no-any-return]

    def invoke(self, ctx: click.Context) -> Any:
        _show_warnings()
        try:
            return super().invoke(ctx)
        except (AffuseError, OSError) as error:
            # An OSError without a path concerns a pipe or the network, not an output that was chosen.
            if ctx.params.get("debug") or (isinstance(error, OSError) and error.filename is None):
                raise
            from .commands._console import printable

            text = str(error)
            if isinstance(error, OSError):
                text = f"Cannot use {error.filename}: {error.strerror}. Choose another path."
            click.echo(f"error: {printable(text)}", err=True)
            sys.exit(1)


class _Notes(logging.Handler):
    """Handler that prints log messages as notes on standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        from .commands._console import note

        note(record.getMessage())


def _show_warnings() -> None:
    """Print warnings that the package logs, unless this has been arranged already."""
    logger = logging.getLogger(__package__)
    if not any(isinstance(handler, _Notes) for handler in logger.handlers):
        logger.addHandler(_Notes(logging.WARNING))


@click.group(cls=Affuse, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="affuse")
@click.option("--debug", is_flag=True, help="Show the Python traceback of an error.")
def main(debug: bool) -> None:
    """Recognise emotions in recordings of people, from a folder of videos to a report.

    \b
    affuse demo                          run every step on a built-in corpus
    affuse manifest VIDEOS/              list the clips in clips.csv
    affuse extract clips.csv             write features to features/
    affuse train mer2023-afg-a --out runs/afg-a
    affuse report runs/afg-a

    `affuse COMMAND --help` explains a command and shows examples.
    """
