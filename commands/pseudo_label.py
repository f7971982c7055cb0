"""`affuse pseudo-label`."""

import json
from pathlib import Path

import click

from ._console import FILE, PATH, counted


@click.command("pseudo-label")
@click.argument("sources", type=PATH, nargs=-1, required=True)
@click.option("--manifest", "clips", type=FILE, required=True, help="Lists the unlabelled clips.")
@click.option("-o", "--out", type=FILE, default="pseudo.csv", show_default=True)
@click.option("--per-emotion", type=click.IntRange(1), help="Default: as many as the rarest has.")
@click.option(
    "--least",
    type=click.FloatRange(0, 1),
    default=0.0,
    show_default=True,
    help="Mean probability that a clip must reach.",
)
@click.option("--logits", is_flag=True, help="The files hold logits.")
@click.option("--json", "as_json", is_flag=True)
def command(
    sources: tuple[Path, ...],
    clips: Path,
    out: Path,
    per_emotion: int | None,
    least: float,
    logits: bool,
    as_json: bool,
) -> None:
    """Write a manifest of unlabelled clips on which systems agree, as many of each emotion.

    \b
    affuse pseudo-label a.csv b.csv --manifest all.csv --per-emotion 200 -o pseudo.csv
    """
    from ..manifest import Manifest
    from ..posteriors.pseudo_labels import pseudo_labels
    from ..posteriors.systems import open_all

    opened, names = open_all(sources, logits=logits)
    found = pseudo_labels(
        [source.posterior for source in opened], Manifest.read(clips), names=names, per_emotion=per_emotion, least=least
    )
    found.manifest.write(out)
    if as_json:
        facts = {"out": str(out), "counts": found.counts, "left_out": found.left_out}
        click.echo(json.dumps(facts, indent=2))
        return
    for reason, n in found.left_out.items():
        click.echo(f"left out, {reason}: {n}")
    each = ", ".join(f"{n} {emotion}" for emotion, n in found.counts.items())
    click.echo(f"{out}: {counted(len(found.manifest), 'clip')}, {each}")
