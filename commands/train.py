"""`affuse train`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ._console import FILE, PATH, table

if TYPE_CHECKING:
    from ..training.run import Run


@click.command("train")
@click.argument("recipe")
@click.option("--features", type=PATH, default="features", show_default=True)
@click.option("--manifest", "clips", type=FILE, default="clips.csv", show_default=True)
@click.option("-o", "--out", type=PATH, required=True, help="The run's folder.")
@click.option("--stream", "streams", multiple=True, help="KEY or NAME=KEY; default: all keys, with [encoders] none.")
@click.option("--seeds", type=int, help="Models a fold.")
@click.option("--set", "override", multiple=True, help="section.key=value: training.epochs=20.")
@click.option("--device", default="cpu", show_default=True, help="auto, cpu, cuda, cuda:1, mps.")
@click.option("--workers", type=click.IntRange(1), help="Models at a time; default: the cores.")
@click.option("--start", type=PATH, help="A run on cached features to fine-tune from.")
@click.option(
    "--decoders",
    type=click.IntRange(1),
    default=2,
    show_default=True,
    help="Clips decoded at a time, where streams start from media.",
)
@click.option("--face-detector", type=FILE, help="YuNet as ONNX; default: from the hub.")
@click.option("--noise", type=PATH, help="Recordings for augmentation.snr; default: Gaussian.")
@click.option("--dry-run", is_flag=True, help="Weights, memory and steps; nothing is written.")
@click.option("--find-batch-size", is_flag=True, help="The most clips at a time that fit.")
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
    workers: int | None,
    start: Path | None,
    decoders: int,
    face_detector: Path | None,
    noise: Path | None,
    dry_run: bool,
    find_batch_size: bool,
    as_json: bool,
) -> None:
    """Train a recipe, by name or TOML file, over the folds of a manifest.

    \b
    affuse train mer2023-afg-a --features features/ --manifest clips.csv --out runs/afg-a
    affuse train my.toml --stream audio=wav2vec2 --set training.epochs=20 --out runs/mine
    affuse train averformer-e2e --manifest clips.csv --out runs/e2e --dry-run
    accelerate launch -m affuse train averformer-e2e --manifest clips.csv --out runs/e2e
    """
    from ..cache.store import FeatureStore
    from ..manifest import Manifest
    from ..recipes.recipe import Recipe
    from ..training.cross_validation import train
    from ..training.distributed import crew
    from ..training.dry_run import rehearse
    from ..training.media_dataset import MediaLoading
    from ..training.summary import results

    if seeds is not None:
        override = (*override, f"training.seeds={seeds}")
    manifest, store = Manifest.read(clips), FeatureStore(features)
    read, loading = Recipe.read(recipe, override=override), MediaLoading(decoders, face_detector, noise)
    if dry_run or find_batch_size:
        found = rehearse(
            read, manifest, store, streams=streams, device=device, loading=loading, fitting=find_batch_size
        )
        click.echo("\n".join(found.lines()))
        return
    try:
        run = train(
            read,
            manifest,
            store,
            out,
            streams=streams,
            device=device,
            workers=workers,
            start=start,
            loading=loading,
            tell=lambda line: click.echo(line, err=True),
        )
    except KeyboardInterrupt:
        click.echo("stopped; finished models stay. Run the same command again to go on.", err=True)
        click.get_current_context().exit(130)
    if crew().leads:
        _tell(run, results(run, manifest), out, as_json)


def _tell(run: "Run", rows: "list[dict[str, object]]", out: Path, as_json: bool) -> None:
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
