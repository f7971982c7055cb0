"""`affuse predict`."""

import json
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ._console import FILE, PATH, counted, printable

if TYPE_CHECKING:
    from ..manifest import Manifest
    from ..posteriors.posterior import Posterior
    from ..posteriors.timeline import Timeline
    from ..training.run import Run

PAGES = (".csv", ".json", ".TextGrid", ".eaf")


@click.command("predict")
@click.argument("runs", type=PATH, nargs=-1, required=True, metavar="RUN... [MEDIA...]")
@click.option(
    "--features",
    type=PATH,
    default="features",
    show_default=True,
    help="Of the clips; for media, those that the runs learnt from.",
)
@click.option("--manifest", "clips", type=FILE, default="clips.csv", show_default=True)
@click.option("-o", "--out", type=PATH, help="posterior.csv; with --every a folder, timelines.")
@click.option("--every", type=click.FloatRange(0, min_open=True), help="Media: an answer every so many seconds.")
@click.option(
    "--window",
    type=click.FloatRange(0, min_open=True),
    default=4.0,
    show_default=True,
    help="Seconds that each of those answers sees.",
)
@click.option(
    "--smooth",
    type=click.FloatRange(0),
    default=0.0,
    show_default=True,
    help="Seconds of a moving average over those answers.",
)
@click.option("--stream", "streams", multiple=True, help="NAME=KEY, where keys differ.")
@click.option("--device", default="cpu", show_default=True, help="auto, cpu, cuda, cuda:1, mps.")
@click.option(
    "--decoders",
    type=click.IntRange(1),
    default=2,
    show_default=True,
    help="Clips decoded at a time, where streams start from media.",
)
@click.option("--face-detector", type=FILE, help="YuNet as ONNX; default: from the hub.")
@click.option("--json", "as_json", is_flag=True)
def command(
    runs: tuple[Path, ...],
    features: Path,
    clips: Path,
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
    """Decode clips, or your own recordings, with trained runs: the mean of folds, seeds and runs.

    \b
    affuse predict runs/afg-a --features features/ --manifest new.csv -o posterior.csv
    affuse predict runs/afg-a runs/jca talk.mp4
    affuse predict runs/afg-a talk.mp4 --every 1.0 --window 4.0 -o timelines/
    affuse predict my-lab/afg-a --features features/ --manifest new.csv
    """
    from ..inference.hub import fetched
    from ..training.media_dataset import MediaLoading
    from ..training.run import Run

    loading = MediaLoading(decoders, face_detector)
    runs = tuple(p if p.exists() else fetched(str(p)) for p in runs)
    opened = [Run.open(p, loading=loading) for p in runs if (p / "recipe.toml").is_file()]
    media = tuple(p for p in runs if not (p / "recipe.toml").is_file())
    if not opened:
        raise click.UsageError(f"{runs[0]} is not a run; `affuse train RECIPE --out` makes one")
    if every is None and smooth:
        raise click.UsageError("--smooth is for timelines: say --every too")
    if media:
        _recordings(opened, media, features, out, every, window, smooth, device, as_json)
    elif every is not None:
        raise click.UsageError("--every is for recordings: affuse predict RUN VIDEO --every 1.0")
    else:
        _clips(opened, features, clips, out or Path("posterior.csv"), streams, device)


def _clips(runs: "list[Run]", features: Path, clips: Path, out: Path, streams: tuple[str, ...], device: str) -> None:
    from ..cache.store import FeatureStore
    from ..manifest import Manifest
    from ..posteriors.rules import combine_by_rule

    manifest, store = Manifest.read(clips), FeatureStore(features)
    answers = [run.predict(manifest, store, streams=streams, device=device) for run in runs]
    posterior = answers[0] if len(answers) == 1 else combine_by_rule(answers)
    _write(posterior, runs, manifest, out)
    silent = len(posterior) - int(posterior.answered().sum())
    said = f", {silent} without an answer: they have none of the run's streams" if silent else ""
    click.echo(f"{out}: {counted(len(posterior), 'clip')}{said}")


def _write(posterior: "Posterior", runs: "list[Run]", clips: "Manifest", out: Path) -> None:
    """Write answers, and beside them which clips the runs learnt from."""
    from .. import __version__
    from ..posteriors.provenance import Provenance

    posterior.write(out)
    learnt = {run.path: run.learnt_from(clips) for run in runs}
    made_by = f"affuse {__version__}, predict of {', '.join(map(str, learnt))}"
    seen = list(dict.fromkeys(clip for known in learnt.values() for clip in known))
    Provenance(made_by, learnt_from=seen).write(out)
    for path, known in learnt.items():
        if known:
            honest = path / "posteriors" / "out-of-fold.csv"
            click.echo(f"note: {path} learnt from {len(known)} of these clips; to score them, use {honest}", err=True)


def _recordings(
    runs: "list[Run]",
    media: tuple[Path, ...],
    features: Path,
    out: Path | None,
    every: float | None,
    window: float,
    smooth: float,
    device: str,
    as_json: bool,
) -> None:
    from ..cache.store import FeatureStore
    from ..inference.recordings import answer, cut, recordings, timelines

    recorded = recordings(media)
    clips = cut(recorded, every=every, window=window) if every else recorded
    found = answer(runs, clips, features=FeatureStore(features), device=device)
    for failure in found.failures:
        click.echo(printable(failure), err=True)
    if every:
        made_by = ", ".join(run.path.resolve().name for run in runs)
        for each in timelines(found, recorded, every=every):
            smoothed = each.smoothed(smooth) if smooth else each
            _write_timeline(smoothed, out or Path("timelines"), made_by)
    else:
        if out:
            _write(found.posterior, runs, recorded, out)
        rows = _rows(found.posterior)
        if as_json:
            click.echo(json.dumps(rows, indent=1))
        elif rows:
            click.echo(_lines(rows))
    if found.failures:
        click.get_current_context().exit(3)


def _write_timeline(timeline: "Timeline", folder: Path, made_by: str) -> None:
    from ..reports.timeline import timeline_page

    place = folder / timeline.name
    for ending in PAGES:
        timeline.write(place.with_name(place.name + ending))
    page = place.with_name(place.name + ".html")
    page.write_text(timeline_page(timeline, out=page, made_by=made_by), encoding="utf-8")
    click.echo(f"{page}: {counted(len(timeline), 'answer')}; beside it {', '.join(PAGES)}")


def _rows(posterior: "Posterior") -> "list[dict[str, object]]":
    """Return a row a recording that has an answer; a number that has none is None."""
    answered = posterior.answered()
    posterior = posterior.at([clip for clip, a in zip(posterior.ids, answered, strict=True) if a])
    numbers = dict(zip(posterior.emotions, posterior.probabilities.T, strict=True))
    numbers |= posterior.dimensions
    chosen = posterior.chosen() if posterior.emotions else [-1] * len(posterior)
    return [
        {"id": clip, "emotion": posterior.emotions[e] if e >= 0 else None}
        | {name: None if isnan(v[r]) else round(float(v[r]), 4) for name, v in numbers.items()}
        for r, (clip, e) in enumerate(zip(posterior.ids, chosen, strict=True))
    ]


def _lines(rows: "list[dict[str, object]]") -> str:
    """Return a line a recording: its emotion first, if it has one, then every number."""
    return "\n".join(
        f"{row['id']}: {row['emotion'] or ''}  "
        + "  ".join(f"{k} {v:.2f}" for k, v in row.items() if isinstance(v, float))
        for row in rows
    )
