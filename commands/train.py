"""`affuse train`."""

import json
from pathlib import Path

import click

from ._console import FILE, PATH, table


@click.command("train")
@click.argument("recipe")
@click.option("--features", type=PATH, default="features", show_default=True)
@click.option("--manifest", "clips", type=FILE, default="clips.csv", show_default=True)
@click.option("-o", "--out", type=PATH, required=True, help="The run's folder.")
@click.option("--stream", "streams", multiple=True, help="KEY or NAME=KEY; default: all keys.")
@click.option("--seeds", type=int, help="Models a fold.")
@click.option("--set", "override", multiple=True, help="section.key=value: training.epochs=20.")
@click.option("--device", default="cpu", show_default=True)
@click.option("--workers", type=int, default=1, show_default=True, help="Models at a time.")
@click.option("--json", "as_json", is_flag=True)
def command(
    recipe: str,
    features: Path,
    clips: Path,
    out: Path,
    streams: tuple[str, ...],
    seeds: int | None,
    override: tuple[str, ...],
    device: str,
    workers: int,
    as_json: bool,
) -> None:
    """Train a recipe, by name or TOML file, over the folds of a manifest.

    \b
    affuse train mer2023-afg-a --features features/ --manifest clips.csv --out runs/afg-a
    affuse train my.toml --stream audio=wav2vec2 --set training.epochs=20 --out runs/mine
    """
    from ..cache.store import FeatureStore
    from ..corpora._manifest import Manifest
    from ..training.recipe import Recipe
    from ..training.results import results
    from ..training.rounds import train

    if seeds is not None:
        override = (*override, f"training.seeds={seeds}")
    manifest = Manifest.read(clips)
    run = train(
        Recipe.read(recipe, override=override),
        manifest,
        FeatureStore(features),
        out,
        streams=streams,
        device=device,
        workers=workers,
        tell=lambda line: click.echo(line, err=True),
    )
    rows = results(run, manifest)
    if as_json:
        facts = {"run": str(out), "notices": run.notices, "results": rows}
        click.echo(json.dumps(facts, indent=2))
        return
    for notice in run.notices:
        click.echo(f"note: {notice}")
    click.echo(table([{k: _text(v) for k, v in row.items()} for row in rows]))
    click.echo(f"posteriors: {out / 'posteriors'}")


def _text(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)
