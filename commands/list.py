"""`affuse list`."""

import json

import click

from ._console import table


@click.command("list")
@click.argument("kind", type=click.Choice(["encoders", "fusions", "heads", "corpora", "recipes"]))
@click.option("--json", "as_json", is_flag=True)
def command(kind: str, as_json: bool) -> None:
    """What there is, a line each."""
    from .. import plugins

    rows = plugins.catalogue(kind)
    click.echo(json.dumps(rows, indent=2) if as_json else table(rows))
