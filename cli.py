"""The command line: verbs from commands/, and affuse's errors as one message and an exit code."""

import importlib
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
"""In the order of work: a new verb is a file in commands/ and its name here."""


class Affuse(click.Group):
    """Imports a verb's file when it is called for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in VERBS:
            return None
        module = importlib.import_module(f".commands.{name.replace('-', '_')}", __package__)
        return module.command  # type: ignore[no-any-return]

    def invoke(self, ctx: click.Context) -> Any:
        from .commands._console import printable

        try:
            return super().invoke(ctx)
        except AffuseError as error:
            if ctx.params.get("debug"):
                raise
            click.echo(f"error: {printable(str(error))}", err=True)
            sys.exit(1)
        except OSError as error:
            # Without a path it is a pipe's or the network's, not an output that was chosen.
            if ctx.params.get("debug") or error.filename is None:
                raise
            about = f"cannot use {error.filename}: {error.strerror}; choose another place"
            click.echo(f"error: {printable(about)}", err=True)
            sys.exit(1)


@click.group(cls=Affuse, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="affuse")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def main(debug: bool) -> None:
    """Emotion in recordings: from a folder of videos to a defensible result.

    \b
    affuse demo                                   all of it on a built-in corpus
    affuse manifest VIDEOS/ -o clips.csv
    affuse extract clips.csv --out features/
    affuse train mer2023-afg-a --features features/ --manifest clips.csv --out runs/afg-a
    """
