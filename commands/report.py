"""`affuse report`."""

from pathlib import Path

import click

from ._console import FILE, PATH


@click.command("report")
@click.argument("sources", type=PATH, nargs=-1, required=True)
@click.option("--manifest", "clips", type=FILE, help="Labels. Default: a run's.")
@click.option("-o", "--out", type=FILE, default="report.html", show_default=True)
@click.option("--features", type=PATH, help="Show runs under damage, and their attention.")
@click.option("--split", help="Score one split's clips.")
@click.option("--title", default="affuse report", show_default=True)
@click.option(
    "--draws", type=click.IntRange(1), default=1000, show_default=True, help="Of the bootstrap over speakers."
)
@click.option("--logits", is_flag=True, help="The files hold logits.")
def command(
    sources: tuple[Path, ...],
    clips: Path | None,
    out: Path,
    features: Path | None,
    split: str | None,
    title: str,
    draws: int,
    logits: bool,
) -> None:
    """Write one HTML file that shows runs and posteriors side by side; it opens offline.

    \b
    affuse report runs/afg-a runs/jca --features features/ -o report.html
    affuse report a.csv b.csv --manifest clips.csv
    """
    from ..posteriors.systems import manifest_of, open_all
    from ..reports.report import report

    opened, names = open_all(sources, logits=logits)
    manifest = manifest_of(clips, opened)
    if manifest is None:
        raise click.UsageError("a report needs labels: --manifest clips.csv")
    html = report(opened, names, manifest, title=title, split=split, features=features, n_draws=draws)
    out.write_text(html, encoding="utf-8")
    click.echo(f"{out}: {len(html) // 1000} kB, {len(opened)} systems")
