"""The command line: a command parses, imports what it needs, makes one call, prints a result."""

import json
import sys
from pathlib import Path
from typing import Any

import click

from .errors import AffuseError

PATH = click.Path(path_type=Path)
FILE = click.Path(path_type=Path, dir_okay=False)


class Affuse(click.Group):
    """Turns affuse's own errors into one message and an exit code; keeps the verbs' order."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except AffuseError as error:
            if ctx.params.get("debug"):
                raise
            click.echo(f"error: {printable(str(error))}", err=True)
            sys.exit(1)


def printable(text: str) -> str:
    """Return text whose control characters cannot steer a terminal."""
    return "".join(c if c == "\n" or c.isprintable() else repr(c)[1:-1] for c in text)


@click.group(cls=Affuse, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="affuse")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def main(debug: bool) -> None:
    r"""Emotion in recordings: from a folder of videos to a defensible result.

    \b
    affuse demo                                   all of it on a built-in corpus
    affuse manifest VIDEOS/ -o clips.csv
    affuse extract clips.csv --out features/
    affuse train mer2023-afg-a --features features/ --manifest clips.csv --out runs/afg-a
    """


@main.command()
@click.argument("folder", type=PATH)
@click.option("-o", "--out", type=FILE, default="clips.csv", show_default=True)
@click.option("--pattern", help="Regex with groups speaker, emotion, split, fold, on each id.")
@click.option("--folds", type=int, help="Deal clips into so many folds, speakers kept together.")
@click.option("--seed", type=int, default=0, show_default=True)
def manifest(folder: Path, out: Path, pattern: str | None, folds: int | None, seed: int) -> None:
    r"""Write a manifest, the table of clips, from a folder of media.

    \b
    affuse manifest VIDEOS/ -o clips.csv
    affuse manifest VIDEOS/ --pattern '(?P<speaker>\d+)_(?P<emotion>[a-z]+)' --folds 5
    """
    from .corpora._folder import scan

    clips = scan(folder, pattern=pattern)
    if folds:
        clips = clips.dealt(folds, seed=seed)
    clips.write(out)
    click.echo(f"{out}: {len(clips)} clips, {len(clips.speakers)} speakers, "
               f"emotions: {', '.join(clips.emotions) or 'not annotated'}")  # fmt: skip


@main.command("list")
@click.argument("kind", type=click.Choice(["encoders", "fusions", "heads", "corpora", "recipes"]))
@click.option("--json", "as_json", is_flag=True)
def list_(kind: str, as_json: bool) -> None:
    """What there is, a line each."""
    from . import plugins

    rows = plugins.catalogue(kind)
    click.echo(json.dumps(rows, indent=2) if as_json else table(rows))


def table(rows: list[dict[str, str]]) -> str:
    """Return rows of one set of columns as aligned text."""
    columns = list(rows[0]) if rows else []
    lines = [columns, *([row[c] for c in columns] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


@main.group()
def cache() -> None:
    """Features on disk: what there is, is it whole, bring in, take out."""


@cache.command("import")
@click.argument("path", type=PATH)
@click.option("--name", required=True, help="What the key begins with.")
@click.option("--modality", required=True, type=click.Choice(["audio", "visual", "text"]))
@click.option("-o", "--out", type=PATH, default="features", show_default=True)
@click.option("--rate", type=float, help="Vectors a second, where known.")
def import_(path: Path, name: str, modality: str, out: Path, rate: float | None) -> None:
    r"""Bring in features that another tool made.

    \b
    a folder of <clip id>.npy, each (dim,) or (time, dim)
    an .npz with frames, lengths, ids and, where known, duration
    a CSV with a column id and one column a feature, one row a clip
    """
    from .cache.foreign import import_features
    from .cache.store import FeatureStore

    key = import_features(path, FeatureStore(out), name=name, modality=modality, rate=rate)
    click.echo(f"{out / key}: {len(FeatureStore(out).rows(key))} clips")
