"""`affuse submit`."""

from pathlib import Path

import click

from ._console import FILE, counted


@click.command("submit")
@click.argument("challenge", type=click.Choice(["abaw", "mer2023"]))
@click.argument("posterior", type=FILE)
@click.option("-o", "--out", type=FILE, default="predictions.txt", show_default=True)
@click.option("--sample", type=FILE, help="ABAW's sample submission: which frames it expects.")
def command(challenge: str, posterior: Path, out: Path, sample: Path | None) -> None:
    """Write a posterior as a challenge takes it.

    \b
    affuse submit mer2023 runs/mer2023/posteriors/test.csv -o answer.csv
    affuse submit abaw runs/jca/posteriors/test.csv --sample CVPR_6th_ABAW_VA_test_set_sample.txt
    """
    from ..posteriors import submission
    from ..posteriors.posterior import Posterior

    answers = Posterior.read(posterior)
    if challenge == "mer2023":
        submission.write_mer2023(answers, out)
    elif sample is None:
        raise click.UsageError("abaw needs --sample, the challenge's list of frames")
    else:
        submission.write_abaw(answers, out, lengths=submission.abaw_lengths(sample))
    click.echo(f"{out}: {counted(len(answers), 'answer')}")
