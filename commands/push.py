"""`affuse push`."""

from pathlib import Path

import click

from . import _options


@click.command("push", short_help="Upload a run to the Hugging Face Hub.")
@click.argument("run", type=_options.PATH)
@click.argument("name")
@_options.licence
@click.option("--public", is_flag=True, help="Let everybody see the model.  [default: its owners only]")
def command(run: Path, name: str, licence: str, public: bool) -> None:
    """Upload a run to the Hugging Face Hub with a model card.

    RUN is the folder of a finished run. NAME is the name of the model on the Hub, ORGANISATION/MODEL; `affuse
    predict` accepts it in place of a folder. The upload holds weights, recipe and model card. It holds no clips, no
    labels and no predictions. Log in first with `hf auth login`.

    \b
    affuse push runs/afg-a my-lab/afg-a --licence cc-by-nc-4.0
    affuse predict my-lab/afg-a talk.mp4
    """
    from ..inference.hub import push_to_hub
    from ..training.run import Run

    click.echo(push_to_hub(Run.open(run), name, licence=licence, private=not public))
