"""`affuse submit`."""

from pathlib import Path

import click

from . import _options
from ._console import counted


@click.command("submit", short_help="Write predictions in the format of a challenge.")
@click.argument("challenge", type=click.Choice(["abaw", "mer2023"]))
@click.argument("posterior", type=_options.FILE)
@_options.out("predictions.txt", help="File to write.")
@click.option(
    "--sample",
    type=_options.FILE,
    help="Sample submission of the ABAW challenge; it lists the frames to predict. Required for abaw.",
)
def command(challenge: str, posterior: Path, out: Path, sample: Path | None) -> None:
    """Write a posterior file as the submission of a challenge.

    CHALLENGE is abaw (valence and arousal of every frame) or mer2023 (emotion and valence of every clip). POSTERIOR
    is a file that train, predict or combine wrote.

    \b
    affuse submit mer2023 runs/mer2023/posteriors/test.csv -o answer.csv
    affuse submit abaw runs/jca/posteriors/test.csv \\
        --sample CVPR_6th_ABAW_VA_test_set_sample.txt
    """
    from ..posteriors import submission
    from ..posteriors.posterior import Posterior

    predictions = Posterior.read(posterior)
    if challenge == "mer2023":
        submission.write_mer2023(predictions, out)
    elif sample is None:
        raise click.UsageError("The ABAW challenge needs --sample, its list of frames.")
    else:
        submission.write_abaw(predictions, out, lengths=submission.abaw_lengths(sample))
    click.echo(f"{out}: {counted(len(predictions), 'prediction')}")
