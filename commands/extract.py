"""`affuse extract`."""

import json
import os
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from . import _options
from ._console import counted, megabytes, note, printable, table

if TYPE_CHECKING:
    from ..engines._extraction import Extraction, ExtractReport

MAX_FAILURES = 20
"""Number of failed clips that are listed; --json lists all of them."""


@click.command("extract", short_help="Compute features of clips with pretrained encoders.")
@click.argument("paths", type=_options.PATH, nargs=-1, required=True)
@click.option(
    "-e",
    "--encoder",
    "requests",
    multiple=True,
    help="Encoder as FAMILY:CHECKPOINT@REVISION,OPTION=VALUE; all parts but FAMILY may be left out. Repeatable; each "
    "clip is decoded once for all encoders.  [default: wav2vec2 and clip]",
)
@_options.out("features", folder=True, help="Feature store to write to.")
@click.option(
    "--engine",
    default="local",
    show_default=True,
    help="Engine that runs the work; `affuse list engines` lists them. A dotted path names a class of your own.",
)
@_options.workers("Number of forward passes that run at the same time.  [default: one per core on a CPU, one on a GPU]")
@click.option("--slice", "part", help="I/N: do only the I-th of N parts of the work, for job arrays.  [default: 1/1]")
@_options.device
@click.option(
    "--precision",
    type=click.Choice(["float32", "float16", "bfloat16"]),
    help="Precision of the forward pass.  [default: that of features already in the store, else float16 on "
    "CUDA and float32 elsewhere]",
)
@_options.renamed("--dtype", "--precision")
@click.option(
    "--min-coverage",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    help="Minimum fraction of a clip that must decode. Clips below it are reported as failed.",
)
@click.option(
    "--no-face",
    type=click.Choice(["whole", "fail"]),
    default="whole",
    show_default=True,
    help="With crop=face, for a clip without a face: encode whole frames, or report the clip as failed.",
)
@click.option(
    "--face",
    type=click.Choice(["largest", "central"]),
    default="largest",
    show_default=True,
    help="With crop=face, which of several faces is followed.",
)
@_options.face_detector
@click.option("--allow-pickle", is_flag=True, help="Load pickled weights of checkpoints that have no safetensors.")
@click.option("--dry-run", is_flag=True, help="Estimate clips, files, bytes and hours, and write nothing.")
@_options.as_json
def command(
    paths: tuple[Path, ...],
    requests: tuple[str, ...],
    out: Path,
    engine: str,
    workers: int | None,
    part: str | None,
    device: str,
    precision: str | None,
    min_coverage: float,
    no_face: Literal["whole", "fail"],
    face: Literal["largest", "central"],
    face_detector: Path | None,
    allow_pickle: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Compute features of clips with pretrained encoders.

    PATHS are a manifest, or folders and media files. Repeating the command resumes an interrupted extraction, and
    features that exist are not computed again. The exit code is 3 if some clips fail.

    \b
    affuse extract clips.csv
    affuse extract VIDEOS/ -e wav2vec2:facebook/wav2vec2-base-960h -e hog
    affuse extract clips.csv -e clip:ViT-B-32/openai,fps=4,crop=face
    affuse extract clips.csv -e wav2vec2:/models/mine,layers=-4:-1,how=mean

    \b
    Options of every encoder:
      layers=last, -5, -4:-1 or all     layers to use
      how=sum, mean or apart            how to combine them
      pool=none or mean                 keep frames, or average over time
      store_dtype=float16 or float32    precision in the store
    """
    from ..cache.store import FeatureStore
    from ..corpora._folder import scan_files
    from ..engines._extraction import Extraction, ExtractionSettings
    from ..extractors._request import DEFAULT
    from ..manifest import AUDIO_SUFFIXES, VIDEO_SUFFIXES, Manifest
    from ..media.faces import FaceOptions

    settings = ExtractionSettings(
        workers=workers,
        device=device,
        precision=precision,
        part=_part(part),
        min_coverage=min_coverage,
        faces=FaceOptions(face_detector, face, no_face),
    )
    chosen = [f"{request},allow_pickle=true" if allow_pickle else request for request in requests or DEFAULT]
    if not requests:
        note(f"The encoders are {' and '.join(DEFAULT)}. Use -e to choose others.")
    path, *others = paths
    is_media = path.is_dir() or path.suffix.lower() in VIDEO_SUFFIXES | AUDIO_SUFFIXES
    clips = scan_files(paths) if others or is_media else Manifest.read(path)
    extraction = Extraction(clips, chosen, FeatureStore(out), settings=settings, engine=engine)
    if dry_run:
        found = extraction.estimate()
        if as_json:
            click.echo(json.dumps(found._asdict()))
        else:
            click.echo(
                f"{counted(found.clips, 'clip')} to decode, {counted(found.shards, 'shard')} to write, "
                f"about {megabytes(found.bytes)} and {found.seconds / 3600:.2f} hours on this machine"
            )
        return
    if extraction.chunks:
        click.echo(extraction.describe(), err=True)
    report = _run(extraction, quiet=as_json)
    if as_json:
        failures = [failure._asdict() for failure in report.failures]
        click.echo(json.dumps({**asdict(report), "failures": failures}, indent=2))
    else:
        _print(report, out)
    if report.failures:
        click.get_current_context().exit(3)


def _part(text: str | None) -> tuple[int, int]:
    if text is None:
        return 1, 1
    i, slash, n = text.partition("/")
    if not (slash and i.isdecimal() and n.isdecimal() and 1 <= int(i) <= int(n)):
        raise click.BadParameter(f"Found {text!r}. Write I/N with 1 <= I <= N, for example 2/8.", param_hint="--slice")
    return int(i), int(n)


def _run(extraction: "Extraction", *, quiet: bool) -> "ExtractReport":
    """Run an extraction with a progress bar that counts clips and failures."""
    from tqdm import tqdm

    failed: Counter[str] = Counter()
    with tqdm(total=extraction.n_clips, unit="clip", disable=quiet or None) as bar:

        def progress(clip: str, code: str) -> None:
            if code != "ok":
                failed[code] += 1
                bar.set_postfix_str(", ".join(f"{n} {code}" for code, n in failed.items()))
            bar.update()

        try:
            return extraction.run(progress)
        except KeyboardInterrupt:
            bar.close()
            click.echo("Interrupted. Finished clips are kept; repeat the command to resume.", err=True)
            os._exit(130)  # A thread may still run a forward pass, of which nothing is needed.


def _print(report: "ExtractReport", out: Path) -> None:
    for request, key in report.keys.items():
        click.echo(f"{out / key}  ({request})")
    done = f"{report.n_decoded:,} decoded in {report.seconds:.0f} s, {counted(report.n_shards, 'shard')} written"
    click.echo(f"{counted(report.n_clips, 'clip')}, {done if report.n_shards else 'nothing left to do'}")
    if report.failures:
        n_failed = len({failure.id for failure in report.failures})
        click.echo(f"{counted(n_failed, 'clip')} failed for at least one encoder:", err=True)
        requests = {key: request for request, key in report.keys.items()}
        reasons = Counter((failure.key, failure.code) for failure in report.failures)
        for (key, code), n in sorted(reasons.items()):
            click.echo(f"{requests[key]}: {n} {code}", err=True)
        rows = [failure._asdict() for failure in report.failures[:MAX_FAILURES]]
        click.echo(printable(table(rows)), err=True)
        if len(report.failures) > MAX_FAILURES:
            click.echo(f"{len(report.failures) - MAX_FAILURES} more failures; --json lists all of them.", err=True)
    if report.replaced:
        note(
            f"The media of {counted(len(report.replaced), 'clip')} changed since an earlier extraction. "
            f"`affuse cache gc {out} --manifest MANIFEST` removes the old features."
        )
