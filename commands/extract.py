"""`affuse extract`."""

import json
import os
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ._console import FILE, PATH, counted, printable, table

if TYPE_CHECKING:
    from ..engines._extraction import Extraction, ExtractReport
    from ..manifest import Manifest

SHOWN = 20


@click.command("extract")
@click.argument("paths", type=PATH, nargs=-1, required=True)
@click.option(
    "-e",
    "--encoder",
    "requests",
    multiple=True,
    help="FAMILY:CHECKPOINT[@REVISION][,option=value…]; several for one decode.",
)
@click.option("-o", "--out", type=PATH, default="features", show_default=True)
@click.option("--workers", type=click.IntRange(1), help="Forward passes at a time.")
@click.option("--slice", "part", help="i/n: the i-th of n parts of the work, for job arrays.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, mps.")
@click.option(
    "--dtype",
    "precision",
    type=click.Choice(["float32", "float16", "bfloat16"]),
    help="Of the forward pass; default: float16 on CUDA, else float32.",
)
@click.option(
    "--min-coverage",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    help="A clip of which less can be decoded fails.",
)
@click.option(
    "--no-face",
    type=click.Choice(["whole", "fail"]),
    default="whole",
    show_default=True,
    help="With crop=face, where no face is found.",
)
@click.option(
    "--face",
    type=click.Choice(["largest", "central"]),
    default="largest",
    show_default=True,
    help="With crop=face, whose face is followed where there are several.",
)
@click.option("--face-detector", type=FILE, help="YuNet as ONNX; default: from the hub.")
@click.option("--allow-pickle", is_flag=True, help="Load pickled weights where nothing safer is.")
@click.option("--dry-run", is_flag=True, help="Clips, shards, bytes and hours; nothing is written.")
@click.option("--json", "as_json", is_flag=True)
def command(
    paths: tuple[Path, ...],
    requests: tuple[str, ...],
    out: Path,
    workers: int | None,
    part: str | None,
    device: str,
    precision: str | None,
    min_coverage: float,
    no_face: str,
    face: str,
    face_detector: Path | None,
    allow_pickle: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Turn clips into features; running again goes on where it stopped.

    PATHS are a manifest, folders, or media files.

    \b
    affuse extract clips.csv --out features/
    affuse extract VIDEOS/ -e wav2vec2:facebook/wav2vec2-base-960h -e clip:ViT-B-32/openai,fps=4
    affuse extract clips.csv -e wav2vec2:/models/mine,layers=-4:-1,how=mean -e hog,crop=face

    \b
    options of every encoder: layers=last|-5|-4:-1|all  how=sum|mean|apart  pool=none|mean
                              dtype=float16|float32 (as stored)
    """
    from ..cache.store import FeatureStore
    from ..engines._extraction import Extraction, ExtractionSettings
    from ..extractors._request import DEFAULT

    settings = ExtractionSettings(
        workers=workers,
        device=device,
        precision=precision,
        part=_part(part),
        min_coverage=min_coverage,
        no_face=no_face,
        face=face,
        face_detector=face_detector,
    )
    chosen = [f"{r},allow_pickle=true" if allow_pickle else r for r in requests or DEFAULT]
    if not requests:
        click.echo(f"encoders: {' and '.join(DEFAULT)}; -e chooses others", err=True)
    extraction = Extraction(_manifest(paths), chosen, FeatureStore(out), settings=settings)
    if dry_run:
        _estimate(extraction, as_json)
        return
    if extraction.buckets:
        click.echo(extraction.means(), err=True)
    report = _run(extraction, quiet=as_json)
    _tell(report, out, as_json)
    if report.failures:
        click.get_current_context().exit(3)


def _part(text: str | None) -> tuple[int, int]:
    if text is None:
        return 1, 1
    i, sign, n = text.partition("/")
    if not (sign and i.isdecimal() and n.isdecimal() and 1 <= int(i) <= int(n)):
        raise click.BadParameter(f"{text!r}; wanted i/n with 1 <= i <= n", param_hint="--slice")
    return int(i), int(n)


def _manifest(paths: tuple[Path, ...]) -> "Manifest":
    """Read a manifest, or make one of folders and files."""
    from ..corpora._folder import scan
    from ..errors import ManifestError
    from ..manifest import AUDIO_SUFFIXES, VIDEO_SUFFIXES, Clip, Manifest

    clips: list[Clip] = []
    for path in paths:
        if path.is_dir():
            clips += scan(path)
        elif path.suffix.lower() in VIDEO_SUFFIXES:
            clips.append(Clip(path.stem, video=path))
        elif path.suffix.lower() in AUDIO_SUFFIXES:
            clips.append(Clip(path.stem, audio=path))
        elif len(paths) > 1:
            raise ManifestError(f"{path} is neither media nor a folder; give one manifest alone")
        else:
            return Manifest.read(path)
    return Manifest(clips, name=" ".join(map(str, paths)))


def _run(extraction: "Extraction", *, quiet: bool) -> "ExtractReport":
    from tqdm import tqdm

    failed: Counter[str] = Counter()
    with tqdm(total=extraction.n_clips, unit="clip", disable=quiet or None) as bar:

        def tell(clip: str, code: str) -> None:
            if code != "ok":
                failed[code] += 1
                bar.set_postfix_str(", ".join(f"{n} {code}" for code, n in failed.items()))
            bar.update()

        try:
            return extraction.run(tell)
        except KeyboardInterrupt:
            bar.close()
            click.echo("stopped; what is committed stays. Run the same command again to go on.", err=True)
            os._exit(130)  # a forward pass may still run in a thread; nothing of it is needed


def _tell(report: "ExtractReport", out: Path, as_json: bool) -> None:
    failures = [failure._asdict() for failure in report.failures]
    if as_json:
        click.echo(json.dumps({**asdict(report), "failures": failures}, indent=2))
        return
    for request, key in report.keys.items():
        click.echo(f"{out / key}  ({request})")
    written = counted(report.n_shards, "shard")
    done = f"{report.n_decoded} decoded in {report.seconds:.0f} s, {written} written"
    went = done if report.n_shards else "nothing left to do"
    click.echo(f"{counted(report.n_clips, 'clip')}, {went}")
    if failures:
        clips = len({failure.id for failure in report.failures})
        click.echo(f"{counted(clips, 'clip')} failed for one encoder or more:", err=True)
        requests = {key: request for request, key in report.keys.items()}
        reasons = Counter((failure.key, failure.code) for failure in report.failures)
        for (key, code), n in sorted(reasons.items()):
            click.echo(f"{requests[key]}: {n} {code}", err=True)
        click.echo(printable(table(failures[:SHOWN])), err=True)
        if len(failures) > SHOWN:
            click.echo(f"and {len(failures) - SHOWN} more; --json lists all", err=True)
    if report.replaced:
        click.echo(
            f"the media of {counted(len(report.replaced), 'clip')} has changed; `affuse cache gc "
            f"{out} --manifest CLIPS.csv` drops the features of what it was",
            err=True,
        )


def _estimate(extraction: "Extraction", as_json: bool) -> None:
    found = extraction.estimate()
    if as_json:
        click.echo(json.dumps(found._asdict()))
        return
    click.echo(
        f"{counted(found.clips, 'clip')} to decode, {counted(found.shards, 'shard')} to write, "
        f"about {found.bytes / 1e6:,.1f} MB and {found.seconds / 3600:.2f} hours here"
    )
