"""`affuse cache`."""

import json
from pathlib import Path

import click

from ..errors import listing
from . import _options
from ._console import counted, megabytes, printable, table

store_argument = click.argument("store", type=_options.PATH, default="features")


@click.group("cache", short_help="Inspect, check, import, export and clean feature stores.")
def command() -> None:
    """Inspect, check, convert and clean feature stores.

    A feature store is the folder that `affuse extract` writes. STORE is its path; several of these commands take the
    folder `features` by default.

    \b
    affuse cache status features/
    affuse cache verify features/
    """


@command.command("import", short_help="Import features of another tool.")
@click.argument("path", type=_options.PATH)
@click.option("--name", required=True, help="Beginning of the key under which the features are stored.")
@click.option(
    "--modality",
    required=True,
    help="Modality that the features describe: audio, visual, text, or another lower-case word.",
)
@_options.out("features", folder=True, help="Feature store to write to.")
@click.option(
    "--rate", type=float, help="Feature vectors per second.  [default: spread evenly over the duration of the clip]"
)
def import_(path: Path, name: str, modality: str, out: Path, rate: float | None) -> None:
    """Import features that another tool made into a feature store.

    PATH is a folder of `<clip id>.npy` files, each of shape (dim,) or (time, dim); an .npz file with the arrays
    frames, lengths, ids and, where known, duration; or a CSV file with a column id, one column per feature and one
    row per clip. The exit code is 3 if some clips have no usable features.

    \b
    affuse cache import openface/ --name openface --modality visual --rate 25
    affuse cache import egemaps.csv --name egemaps --modality audio
    """
    from ..cache.importing import import_features
    from ..cache.store import FeatureStore

    store = FeatureStore(out)
    key = import_features(path, store, name=name, modality=modality, rate=rate)
    rows = store.rows(key)
    click.echo(f"{out / key}: {counted(len(rows), 'clip')}")
    failed = [f"{clip} ({row.code})" for clip, row in sorted(rows.items()) if row.code != "ok"]
    if failed:
        click.echo(printable(f"{counted(len(failed), 'clip')} without usable features: {listing(failed)}"), err=True)
        click.get_current_context().exit(3)


@command.command(short_help="Show what a store holds.")
@store_argument
@_options.as_json
def status(store: Path, as_json: bool) -> None:
    """Show what a feature store holds, one line per key.

    The table gives modality and length of the feature vectors, their rate, the clips with and without features, and
    the size.

    \b
    affuse cache status
    affuse cache status features/ --json
    """
    from ..cache.maintenance import store_status
    from ..cache.store import FeatureStore

    keys = [each._asdict() for each in store_status(FeatureStore(store))]
    if as_json:
        click.echo(json.dumps(keys, indent=2))
    elif not keys:
        click.echo(f"{store} holds no features. `affuse extract` writes some.")
    else:
        rows = [{n: "" if v is None else str(v) for n, v in k.items()} | {"bytes": megabytes(k["bytes"])} for k in keys]
        click.echo(table(rows))


@command.command(short_help="Check every file of a store for damage.")
@store_argument
def verify(store: Path) -> None:
    """Check every file (shard) of a feature store against its stored digest.

    Damaged files are listed, and the exit code is then 1. To extract the features of a damaged file again, delete the
    file and repeat `affuse extract`.

    \b
    affuse cache verify
    affuse cache verify /data/features
    """
    from ..cache.maintenance import verify_store
    from ..cache.store import FeatureStore

    opened = FeatureStore(store)
    faults = verify_store(opened)
    for fault in faults:
        click.echo(printable(fault), err=True)
    n_shards = len({path for key in opened.keys() for path in opened.shard_paths(key)})
    click.echo(f"{store}: {counted(n_shards, 'shard')}, {len(faults)} damaged")
    if faults:
        click.get_current_context().exit(1)


@command.command(short_help="Write a whole store into one file.")
@click.argument("store", type=_options.PATH)
@click.argument("out", type=_options.FILE)
def merge(store: Path, out: Path) -> None:
    """Write all features of STORE into the single HDF5 file OUT.

    The file can be used wherever a feature store is read, for example with `affuse train --features`.

    \b
    affuse cache merge features/ features.h5
    affuse train mer2023-afg-a --features features.h5 --out runs/afg-a
    """
    from ..cache.merge import merge_store
    from ..cache.store import FeatureStore

    merge_store(FeatureStore(store), out)
    click.echo(f"{out}: {megabytes(out.stat().st_size)}")


@command.command(short_help="Write features for other tools.")
@click.argument("store", type=_options.PATH)
@click.argument("key")
@click.argument("out", type=_options.PATH)
@click.option(
    "--to",
    "format",
    type=click.Choice(["npz", "npy", "parquet"]),
    default="npz",
    show_default=True,
    help="Format: npz (packed arrays), npy (one file per clip, as MERTools reads them) or parquet (a table).",
)
def export(store: Path, key: str, out: Path, format: str) -> None:
    """Write the features of one key for another tool.

    KEY is a key that `affuse cache status` lists, or the beginning of one. OUT is the file to write, or the folder
    with --to npy.

    \b
    affuse cache export features/ wav2vec2 wav2vec2.npz
    affuse cache export features/ clip clip-features/ --to npy
    """
    from ..cache.export import export_features
    from ..cache.store import FeatureStore

    n_clips = export_features(FeatureStore(store), key, out, format=format)
    click.echo(f"{out}: {counted(n_clips, 'clip')}")


@command.command(short_help="Remove unused rows and unfinished files.")
@store_argument
@_options.manifest(help="Also remove features whose media have changed since, for the clips of this manifest.")
@click.option("--failed", is_flag=True, help="Also remove the rows of failed clips, so that they are tried again.")
@click.option("--dry-run", is_flag=True, help="Count what would be removed, and remove nothing.")
def gc(store: Path, manifest: Path | None, failed: bool, dry_run: bool) -> None:
    """Remove rows that nothing reads and files that were never finished.

    Such rows are duplicates, and with --manifest features of media that have changed.

    \b
    affuse cache gc features/ --dry-run
    affuse cache gc features/ --manifest clips.csv
    affuse cache gc features/ --failed
    """
    from ..cache.maintenance import collect_garbage
    from ..cache.store import FeatureStore
    from ..manifest import Manifest

    clips = None if manifest is None else Manifest.read(manifest)
    found = collect_garbage(FeatureStore(store), manifest=clips, failed=failed, dry_run=dry_run)
    items = f"{counted(found.rows, 'row')} and {counted(found.unfinished, 'unfinished file')}"
    if dry_run:
        click.echo(f"{store}: would remove {items}.")
    else:
        click.echo(f"{store}: removed {items}, {megabytes(found.bytes)} freed.")
