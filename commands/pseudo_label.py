"""`affuse pseudo-label`."""

import json
from pathlib import Path

import click

from . import _options
from ._console import counted


@click.command("pseudo-label", short_help="Label clips on which several systems agree.")
@click.argument("systems", type=_options.PATH, nargs=-1, required=True)
@_options.manifest(required=True, help="Manifest that lists the unlabelled clips.")
@_options.out("pseudo.csv", help="Manifest to write.")
@click.option(
    "--per-emotion",
    type=click.IntRange(1),
    help="Maximum number of clips per emotion.  [default: as many as the rarest emotion has]",
)
@click.option(
    "--least",
    type=click.FloatRange(0, 1),
    default=0.0,
    show_default=True,
    help="Minimum probability of the emotion, averaged over the systems.",
)
@_options.logits
@_options.as_json
def command(
    systems: tuple[Path, ...],
    manifest: Path,
    out: Path,
    per_emotion: int | None,
    least: float,
    logits: bool,
    as_json: bool,
) -> None:
    """List the unlabelled clips on which all systems agree, labelled with that emotion.

    SYSTEMS are posterior files or folders of runs. Each emotion is given to the same number of clips, the most
    probable first. Clips of the split test, and clips that share a speaker or a recording with it, are left out.

    \b
    affuse pseudo-label a.csv b.csv --manifest all.csv -o pseudo.csv
    affuse pseudo-label runs/* --manifest all.csv --per-emotion 200 --least 0.7
    """
    from ..manifest import Manifest
    from ..posteriors.pseudo_labels import pseudo_labels
    from ..posteriors.systems import open_systems

    opened = open_systems(systems, logits=logits)
    found = pseudo_labels(
        [system.posterior for system in opened],
        Manifest.read(manifest),
        names=[system.name for system in opened],
        per_emotion=per_emotion,
        least=least,
    )
    found.manifest.write(out)
    if as_json:
        click.echo(json.dumps({"out": str(out), "counts": found.counts, "left_out": found.left_out}, indent=2))
        return
    for reason, n in found.left_out.items():
        click.echo(f"left out, {reason}: {counted(n, 'clip')}")
    per_label = ", ".join(f"{n} {emotion}" for emotion, n in found.counts.items())
    click.echo(f"{out}: {counted(len(found.manifest), 'clip')} ({per_label})")
