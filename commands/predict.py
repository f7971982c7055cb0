"""`affuse predict`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from . import _options
from ._console import counted, note, printable

if TYPE_CHECKING:
    from ..inference.recordings import Predictions, TimelinePredictions

SECONDS = click.FloatRange(0, min_open=True)


@click.command("predict", short_help="Predict clips or your own recordings with trained runs.")
@click.argument("paths", type=_options.PATH, nargs=-1, required=True, metavar="RUN... [MEDIA...]")
@_options.features(
    help="Feature store of the clips in the manifest; for media, the store that the runs were trained on, "
    "which records the encoders."
)
@_options.manifest("clips.csv", help="Manifest of the clips to predict, where no media are given.")
@_options.out(
    folder=True,
    help="Posterior file to write, or with --every a folder for the timelines.  [default: posterior.csv for a "
    "manifest, timelines with --every, otherwise nothing is written]",
)
@click.option("--every", type=SECONDS, help="Predict media over time: seconds between two predictions.")
@click.option(
    "--window",
    type=SECONDS,
    default=4.0,
    show_default=True,
    help="With --every: length of the window that each prediction is based on, in seconds.",
)
@click.option(
    "--smooth",
    type=click.FloatRange(0),
    default=0.0,
    show_default=True,
    help="With --every: length of a moving average over the predictions, in seconds.",
)
@click.option(
    "--stream",
    "streams",
    multiple=True,
    help="NAME=KEY: read a stream from features with another key than in training. Repeatable.",
)
@_options.device
@_options.decoders
@_options.face_detector
@_options.as_json
def command(
    paths: tuple[Path, ...],
    features: Path,
    manifest: Path,
    out: Path | None,
    every: float | None,
    window: float,
    smooth: float,
    streams: tuple[str, ...],
    device: str,
    decoders: int,
    face_detector: Path | None,
    as_json: bool,
) -> None:
    """Predict clips or your own recordings with trained runs, averaged over their models.

    A clip or recording from the training data is predicted only by the models that were not trained on it.

    RUN is the folder of a run or the name of one on the Hugging Face Hub. MEDIA are video and audio files, or folders
    with such files. Without MEDIA, the clips of --manifest are predicted from their features. The exit code is 3 if
    some recordings cannot be decoded.

    \b
    affuse predict runs/afg-a runs/jca talk.mp4
    affuse predict runs/afg-a talk.mp4 --every 1.0 --window 4.0 -o timelines/
    affuse predict runs/afg-a --manifest new.csv -o posterior.csv
    affuse predict my-lab/afg-a talk.mp4
    """
    from ..inference import recordings
    from ..inference.hub import fetch_run
    from ..posteriors.run_folder import RunFolder
    from ..training.dataset import MediaLoading

    found = [path if path.exists() else fetch_run(path) for path in paths]
    runs = [path for path in found if RunFolder(path).recipe.is_file()]
    media = [path for path in found if path not in runs]
    if not runs:
        raise click.UsageError(f"{found[0]} is not a run. `affuse train RECIPE --out FOLDER` makes one.")
    if every is None and smooth:
        raise click.UsageError("--smooth applies to timelines. Pass --every as well.")
    if every is not None and not media:
        raise click.UsageError("--every applies to recordings: affuse predict RUN VIDEO --every 1.0")
    loading = MediaLoading(decoders, face_detector)
    failures: list[str] = []
    if not media:
        from ..manifest import Manifest

        predictions = recordings.predict_clips(
            runs, Manifest.read(manifest), features, streams=streams, device=device, loading=loading
        )
        _write(predictions, out or Path("posterior.csv"))
    elif every is None:
        predictions = recordings.predict(runs, media, features=features, device=device, loading=loading)
        failures = predictions.failures
        if out:
            _write(predictions, out, quiet=True)
        _print(predictions, as_json)
    else:
        timelines = recordings.predict_timelines(
            runs, media, every=every, window=window, smooth=smooth, features=features, device=device, loading=loading
        )
        failures = timelines.failures
        _write_timelines(timelines, out or Path("timelines"), ", ".join(run.resolve().name for run in runs))
    for failure in failures:
        click.echo(printable(failure), err=True)
    if failures:
        click.get_current_context().exit(3)


def _write(predictions: "Predictions", out: Path, *, quiet: bool = False) -> None:
    predictions.write(out)
    for notice in predictions.notices:
        note(notice)
    if quiet:
        return
    posterior = predictions.posterior
    missing = len(posterior) - int(posterior.has_prediction().sum())
    click.echo(f"{out}: {counted(len(posterior), 'clip')}")
    if missing:
        click.echo(f"{counted(missing, 'clip')} without a prediction, because all streams of the runs are missing.")


def _print(predictions: "Predictions", as_json: bool) -> None:
    rows = predictions.records()
    if as_json:
        click.echo(json.dumps(rows, indent=1))
        return
    for row in rows:
        numbers = "  ".join(f"{name} {value:.2f}" for name, value in row.items() if isinstance(value, float))
        click.echo(printable(f"{row['id']}: {row['emotion'] or ''}  {numbers}"))


def _write_timelines(predictions: "TimelinePredictions", folder: Path, made_by: str) -> None:
    from ..posteriors.annotation_tools import FORMATS
    from ..reports.timeline import write_timeline

    for timeline in predictions.timelines:
        page = write_timeline(timeline, folder, made_by=made_by)
        click.echo(f"{page}: {counted(len(timeline), 'prediction')}; also as {', '.join(FORMATS)}")
