"""`affuse report`."""

from pathlib import Path

import click

from . import _options
from ._console import counted


@click.command("report", short_help="Write an HTML report that compares systems.")
@click.argument("systems", type=_options.PATH, nargs=-1, required=True)
@_options.manifest(help="Manifest with the labels.  [default: the manifest of the first run]")
@_options.out("report.html", help="HTML file to write.")
@_options.features(
    None, help="Feature store of the runs. With it, the report shows attention and robustness.  [default: show neither]"
)
@_options.device
@_options.split
@click.option("--title", default="affuse report", show_default=True, help="Title of the page.")
@_options.resamples
@_options.logits
def command(
    systems: tuple[Path, ...],
    manifest: Path | None,
    out: Path,
    features: Path | None,
    device: str,
    split: str | None,
    title: str,
    resamples: int,
    logits: bool,
) -> None:
    """Write one HTML file that compares systems side by side.

    SYSTEMS are posterior files or folders of runs. The report holds metrics with confidence intervals, confusion
    matrices, reliability, results per emotion and per speaker, and what each system adds to a combination. The file
    contains everything it shows and opens without a network connection.

    \b
    affuse report runs/afg-a runs/jca --features features/ -o report.html
    affuse report a.csv b.csv --manifest clips.csv
    affuse report combined.csv --manifest clips.csv --split test
    """
    from ..posteriors.systems import manifest_of, open_systems
    from ..reports.report import write_report

    opened = open_systems(systems, logits=logits)
    labels = manifest_of(manifest, opened)
    if labels is None:
        raise click.UsageError("A report needs labels. Pass --manifest clips.csv.")
    path = write_report(
        opened, labels, out, features=features, split=split, title=title, n_resamples=resamples, device=device
    )
    click.echo(f"{path}: {path.stat().st_size // 1000:,} kB, {counted(len(opened), 'system')}")
