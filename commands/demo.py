"""`affuse demo`."""

from pathlib import Path

import click

from . import _options
from ._console import counted

STEPS = """
manifest {out}/corpus --corpus demo -o {out}/clips.csv
extract {out}/clips.csv -e logmel,kind=mfcc -e hog,fps=5 --out {out}/features
train audio-only --features {out}/features --manifest {out}/clips.csv --out {out}/runs/audio-only
train visual-only --features {out}/features --manifest {out}/clips.csv --out {out}/runs/visual-only
train mer2023 --features {out}/features --manifest {out}/clips.csv --out {out}/runs/mer2023
combine {out}/runs/audio-only {out}/runs/visual-only {out}/runs/mer2023 -o {out}/combined.csv
evaluate {out}/combined.csv {out}/clips.csv
report {out}/runs/audio-only {out}/runs/visual-only {out}/runs/mer2023 {out}/combined.csv \
--manifest {out}/clips.csv --features {out}/features -o {out}/report.html
"""


@click.command("demo", short_help="Run every step on a built-in corpus.")
@_options.out("affuse-demo", folder=True, help="Folder to write.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the corpus.")
@click.pass_context
def command(ctx: click.Context, out: Path, seed: int) -> None:
    """Make the built-in corpus and run the main commands on it, from manifest to report.

    Each command is printed as you would type it. Nothing is downloaded. The corpus is synthetic (drawn faces and
    synthetic voices): it demonstrates the pipeline, not recognition accuracy.

    \b
    affuse demo
    affuse demo --out /tmp/demo --seed 1
    """
    from ..corpora.demo import make_demo_corpus

    if not (out / "corpus" / "manifest.csv").is_file():
        clips = make_demo_corpus(out / "corpus", seed=seed)
        click.echo(
            f"Made {counted(len(clips), 'synthetic clip')} of {counted(len(clips.speakers), 'drawn speaker')} in "
            f"{out / 'corpus'}. The features are MFCC and gradient histograms, so nothing is downloaded."
        )
    affuse = ctx.find_root().command
    for step in STEPS.strip().splitlines():
        words = step.format(out=out).split()
        click.secho(f"\n$ affuse {' '.join(words)}", bold=True)
        affuse.main(words, standalone_mode=False)
