"""`affuse manifest`."""

from pathlib import Path

import click

from ._console import FILE, PATH


@click.command("manifest")
@click.argument("folder", type=PATH)
@click.option("-o", "--out", type=FILE, default="clips.csv", show_default=True)
@click.option("--pattern", help="Regex with groups speaker, emotion, split, fold, on each id.")
@click.option("--folds", type=int, help="Deal clips into so many folds, speakers kept together.")
@click.option("--seed", type=int, default=0, show_default=True)
def command(folder: Path, out: Path, pattern: str | None, folds: int | None, seed: int) -> None:
    """Write a manifest, the table of clips, from a folder of media.

    \b
    affuse manifest VIDEOS/ -o clips.csv
    affuse manifest VIDEOS/ --pattern '(?P<speaker>\\d+)_(?P<emotion>[a-z]+)' --folds 5
    """
    from ..corpora._folder import scan

    clips = scan(folder, pattern=pattern)
    if folds:
        clips = clips.dealt(folds, seed=seed)
    clips.write(out)
    click.echo(f"{out}: {len(clips)} clips, {len(clips.speakers)} speakers, "
               f"emotions: {', '.join(clips.emotions) or 'not annotated'}")  # fmt: skip
