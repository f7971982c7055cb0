"""`affuse push`."""

from pathlib import Path

import click

from ._console import PATH


@click.command("push")
@click.argument("run", type=PATH)
@click.argument("name")
@click.option("--licence", default="other", show_default=True, help="For the card.")
@click.option("--public", is_flag=True, help="For everybody to see; else for its owners.")
def command(run: Path, name: str, licence: str, public: bool) -> None:
    """Push a run to the hub with a model card; `affuse predict ORG/NAME` opens it there.

    \b
    affuse push runs/afg-a my-lab/afg-a --licence cc-by-nc-4.0
    """
    from ..inference.hub import push
    from ..training.run import Run

    click.echo(push(Run.open(run), name, licence=licence, private=not public))
