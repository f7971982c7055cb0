"""`affuse cache`."""

from pathlib import Path

import click

from ._console import PATH


@click.group("cache")
def command() -> None:
    """Features on disk: what there is, is it whole, bring in, take out."""


@command.command("import")
@click.argument("path", type=PATH)
@click.option("--name", required=True, help="What the key begins with.")
@click.option("--modality", required=True, type=click.Choice(["audio", "visual", "text"]))
@click.option("-o", "--out", type=PATH, default="features", show_default=True)
@click.option("--rate", type=float, help="Vectors a second, where known.")
def import_(path: Path, name: str, modality: str, out: Path, rate: float | None) -> None:
    """Bring in features that another tool made.

    \b
    a folder of <clip id>.npy, each (dim,) or (time, dim)
    an .npz with frames, lengths, ids and, where known, duration
    a CSV with a column id and one column a feature, one row a clip
    """
    from ..cache.foreign import import_features
    from ..cache.store import FeatureStore

    key = import_features(path, FeatureStore(out), name=name, modality=modality, rate=rate)
    click.echo(f"{out / key}: {len(FeatureStore(out).rows(key))} clips")
