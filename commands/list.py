"""`affuse list`."""

import json

import click

from ._console import table


@click.command("list")
@click.argument("kind", type=click.Choice(["encoders", "fusions", "heads", "corpora", "recipes"]))
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True)
def command(kind: str, name: str | None, as_json: bool) -> None:
    """What there is, a line each; or one of them, with its options.

    \b
    affuse list recipes
    affuse list recipes mer2023-afg-a
    affuse list fusions jca
    """
    from .. import plugins

    if name is not None and as_json:
        raise click.UsageError("--json is for the whole list")
    if name is not None:
        click.echo(plugins.described(kind, name))
        return
    rows = plugins.catalogue(kind)
    click.echo(json.dumps(rows, indent=2) if as_json else table(rows))
