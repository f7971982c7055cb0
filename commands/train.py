"""`affuse train`."""

import json
from pathlib import Path

import click

from . import _options
from ._console import note, table


@click.command("train", short_help="Train a recipe, cross-validated over folds.")
@click.argument("recipe")
@_options.features(help="Feature store to read.")
@_options.manifest("clips.csv", help="Manifest with the labels, speakers and folds.")
@_options.out(required=True, folder=True, help="Folder of the run.")
@click.option(
    "--stream",
    "streams",
    multiple=True,
    help="KEY or NAME=KEY: features to train on. Repeatable.  [default: all keys of the store; for a recipe "
    "with [encoders], none]",
)
@click.option("--seeds", type=int, help="Number of models per fold.  [default: that of the recipe]")
@click.option(
    "--set", "override", multiple=True, help="SECTION.KEY=VALUE: a value that replaces one of the recipe. Repeatable."
)
@_options.device
@_options.workers("Number of models that are trained at the same time.  [default: one per core; one on a GPU]")
@click.option(
    "--start",
    type=_options.PATH,
    help="Folder of a run, trained on cached features, whose models initialise this training.",
)
@_options.decoders
@_options.face_detector
@click.option(
    "--noise",
    type=_options.PATH,
    help="Folder of noise recordings, mixed into the sound if the recipe sets augmentation.snr.  "
    "[default: Gaussian noise]",
)
@click.option(
    "--dry-run", is_flag=True, help="Print the number of weights, the memory and the steps, and write nothing."
)
@click.option("--find-batch-size", is_flag=True, help="Like --dry-run, and find the largest batch that fits in memory.")
@_options.as_json
def command(
    recipe: str,
    features: Path,
    manifest: Path,
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
    """Train a recipe over the folds of a manifest.

    RECIPE is a name that `affuse list recipes` shows, or a TOML file. Each fold is predicted by models that were not
    trained on it; these predictions are the results printed at the end. Repeating the command resumes an interrupted
    run. On several GPUs, start it with `accelerate launch -m affuse train ...`.

    \b
    affuse train mer2023-afg-a --out runs/afg-a
    affuse train my.toml --stream audio=wav2vec2 --out runs/mine
    affuse train jca --set training.epochs=20 --seeds 3 --out runs/jca
    affuse train averformer-e2e --out runs/e2e --dry-run
    """
    from ..cache.store import FeatureStore
    from ..manifest import Manifest
    from ..recipes.recipe import Recipe
    from ..training.cross_validation import train
    from ..training.dataset import MediaLoading
    from ..training.distributed import process_group

    if seeds is not None:
        override = (*override, f"training.seeds={seeds}")
    clips, store = Manifest.read(manifest), FeatureStore(features)
    read, loading = Recipe.read(recipe, override=override), MediaLoading(decoders, face_detector, noise)
    if dry_run or find_batch_size:
        from ..training.dry_run import dry_run as estimate

        found = estimate(
            read, clips, store, streams=streams, device=device, loading=loading, find_batch_size=find_batch_size
        )
        click.echo("\n".join(found.lines()))
        return
    try:
        run = train(
            read,
            clips,
            store,
            out=out,
            streams=streams,
            device=device,
            workers=workers,
            start=start,
            loading=loading,
            progress=lambda line: click.echo(line, err=True),
        )
    except KeyboardInterrupt:
        click.echo("Interrupted. Finished models are kept; repeat the command to resume.", err=True)
        click.get_current_context().exit(130)
    if not process_group().is_main_process:
        return
    rows = run.results(clips)
    if as_json:
        click.echo(json.dumps({"run": str(out), "notices": run.notices, "results": rows}, indent=2))
        return
    for notice in run.notices:
        note(notice)
    click.echo(table([{name: _text(value) for name, value in row.items()} for row in rows]))
    click.echo(f"posteriors: {run.folder.posteriors}")


def _text(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)
