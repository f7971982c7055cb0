"""`affuse demo`."""

from pathlib import Path

import click

from ._console import PATH

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


@click.command("demo")
@click.option("-o", "--out", type=PATH, default="affuse-demo", show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
@click.pass_context
def command(ctx: click.Context, out: Path, seed: int) -> None:
    """Make the built-in corpus and run the main verbs on it, each shown as you would type it.

    The corpus is synthetic: drawn faces, synthetic voices. Its figures say that the parts work
    together, nothing of how well they would do on people.
    """
    from ..corpora.demo import make

    if not (out / "corpus" / "manifest.csv").is_file():
        clips = make(out / "corpus", seed=seed)
        click.echo(
            f"made {len(clips)} synthetic clips of {len(clips.speakers)} drawn speakers in "
            f"{out / 'corpus'}; features are MFCC and gradient histograms, no download"
        )
    affuse = ctx.find_root().command
    for step in STEPS.strip().splitlines():
        words = step.format(out=out).split()
        click.secho(f"\n$ affuse {' '.join(words)}", bold=True)
        affuse.main(words, standalone_mode=False)
