"""`affuse cache`."""

import json
from pathlib import Path

import click

from ..errors import listing
from ._console import FILE, PATH, counted, printable, table


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
    from ..cache.importing import import_features
    from ..cache.store import FeatureStore

    key = import_features(path, FeatureStore(out), name=name, modality=modality, rate=rate)
    rows = FeatureStore(out).rows(key)
    click.echo(f"{out / key}: {counted(len(rows), 'clip')}")
    failed = [f"{clip} ({row.code})" for clip, row in sorted(rows.items()) if row.code != "ok"]
    if failed:
        click.echo(printable(f"{len(failed)} clips have no usable features: {listing(failed)}"), err=True)
        click.get_current_context().exit(3)


@command.command()
@click.argument("store", type=PATH, default="features")
@click.option("--json", "as_json", is_flag=True)
def status(store: Path, as_json: bool) -> None:
    """What a store holds, a line a key."""
    from ..cache.maintenance import store_status
    from ..cache.store import FeatureStore

    found = store_status(FeatureStore(store))
    if as_json:
        click.echo(json.dumps([line._asdict() for line in found], indent=2))
        return
    rows = [
        {**{k: "" if v is None else str(v) for k, v in line._asdict().items()}, "bytes": f"{line.bytes / 1e6:,.1f} MB"}
        for line in found
    ]
    click.echo(table(rows) if rows else f"{store} holds no features; `affuse extract` makes some")


@command.command()
@click.argument("store", type=PATH, default="features")
def verify(store: Path) -> None:
    """Check every shard against its digest."""
    from ..cache.maintenance import verify_store
    from ..cache.store import FeatureStore

    opened = FeatureStore(store)
    n = len({path for key in opened.keys() for path in opened.shard_paths(key)})
    faults = verify_store(opened)
    for fault in faults:
        click.echo(printable(fault), err=True)
    click.echo(f"{store}: {counted(n, 'shard')}, {len(faults)} damaged")
    if faults:
        click.get_current_context().exit(1)


@command.command()
@click.argument("store", type=PATH)
@click.argument("out", type=FILE)
def merge(store: Path, out: Path) -> None:
    """Write all keys into one file, which `affuse train --features` takes as well.

    \b
    affuse cache merge features/ features.h5
    """
    from ..cache.merge import merge_store
    from ..cache.store import FeatureStore

    merge_store(FeatureStore(store), out)
    click.echo(f"{out}: {out.stat().st_size / 1e6:,.1f} MB")


@command.command()
@click.argument("store", type=PATH)
@click.argument("key")
@click.argument("out", type=PATH)
@click.option(
    "--to",
    "form",
    type=click.Choice(["npz", "npy", "parquet"]),
    default="npz",
    show_default=True,
    help="npy: a file a clip, as MERTools reads them.",
)
def export(store: Path, key: str, out: Path, form: str) -> None:
    """Write a key's features for other tools; KEY may be cut short."""
    from ..cache.export import export_features
    from ..cache.store import FeatureStore

    n = export_features(FeatureStore(store), key, out, format=form)
    click.echo(f"{out}: {counted(n, 'clip')}")


@command.command()
@click.argument("store", type=PATH, default="features")
@click.option("--manifest", "clips", type=FILE, help="Rows of media that has changed go too.")
@click.option("--failed", is_flag=True, help="Rows of failed clips go too, to be tried again.")
@click.option("--dry-run", is_flag=True)
def gc(store: Path, clips: Path | None, failed: bool, dry_run: bool) -> None:
    """Drop what nothing reads: doubled and outdated rows, files that were never finished."""
    from ..cache.maintenance import collect_garbage
    from ..cache.store import FeatureStore
    from ..manifest import Manifest

    manifest = None if clips is None else Manifest.read(clips)
    gone = collect_garbage(FeatureStore(store), manifest=manifest, failed=failed, dry_run=dry_run)
    went = "would go" if dry_run else f"are gone, {gone.bytes / 1e6:,.1f} MB freed"
    unfinished = counted(gone.unfinished, "unfinished file")
    click.echo(f"{store}: {counted(gone.rows, 'row')}, {unfinished} {went}")
