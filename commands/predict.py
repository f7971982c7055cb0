"""`affuse predict`."""

from pathlib import Path

import click

from ._console import FILE, PATH


@click.command("predict")
@click.argument("run", type=PATH)
@click.option("--features", type=PATH, default="features", show_default=True)
@click.option("--manifest", "clips", type=FILE, default="clips.csv", show_default=True)
@click.option("-o", "--out", type=FILE, default="posterior.csv", show_default=True)
@click.option("--stream", "streams", multiple=True, help="NAME=KEY, where keys differ.")
@click.option("--device", default="cpu", show_default=True)
@click.option(
    "--decoders",
    type=click.IntRange(1),
    default=2,
    show_default=True,
    help="Clips decoded at a time, where streams start from media.",
)
@click.option("--face-detector", type=FILE, help="YuNet as ONNX; default: from the hub.")
def command(
    run: Path,
    features: Path,
    clips: Path,
    out: Path,
    streams: tuple[str, ...],
    device: str,
    decoders: int,
    face_detector: Path | None,
) -> None:
    """Decode clips with a trained run: the mean of its folds and seeds.

    \b
    affuse predict runs/afg-a --features features/ --manifest new.csv -o posterior.csv
    """
    from ..cache.store import FeatureStore
    from ..corpora._manifest import Manifest
    from ..training.media import Loading
    from ..training.run import Run

    opened = Run.open(run, loading=Loading(decoders, face_detector))
    manifest = Manifest.read(clips)
    posterior = opened.predict(manifest, FeatureStore(features), streams=streams, device=device)
    posterior.write(out)
    if learnt := opened.learnt_from(manifest):
        honest = run / "posteriors" / "out-of-fold.csv"
        click.echo(f"note: the run learnt from {learnt} of these clips; use {honest}", err=True)
    click.echo(f"{out}: {len(posterior)} clips")
