"""`affuse list`."""

import json

import click

from . import _options
from ._console import table

KINDS = ("encoders", "engines", "fusions", "heads", "corpora", "recipes")


@click.command("list", short_help="List encoders, fusions, heads, corpora, recipes, engines.")
@click.argument("kind", type=click.Choice(KINDS))
@click.argument("name", required=False)
@_options.as_json
def command(kind: str, name: str | None, as_json: bool) -> None:
    """List what is available: encoders, engines, fusions, heads, corpora or recipes.

    With a NAME, show the description of that one entry with its options and their defaults, or the TOML text of a
    recipe.

    \b
    affuse list encoders
    affuse list recipes mer2023-afg-a
    affuse list fusions jca
    """
    from .. import plugins

    if name is not None and as_json:
        raise click.UsageError("--json prints the whole list. Leave NAME out.")
    if name is not None:
        click.echo(plugins.described(kind, name))
        return
    rows = plugins.catalogue(kind)
    click.echo(json.dumps(rows, indent=2) if as_json else table(rows))
