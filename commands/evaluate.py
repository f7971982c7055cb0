"""`affuse evaluate`."""

import json
from pathlib import Path

import click

from ._console import FILE, PATH


@click.command("evaluate")
@click.argument("sources", type=PATH, nargs=-1, required=True)
@click.option("--manifest", "clips", type=FILE, help="Labels. Default: the last argument, or a "
              "run's.")  # fmt: skip
@click.option("--against", type=PATH, help="Another system: paired differences from it.")
@click.option("--split", help="Score one split's clips; those without a posterior are wrong.")
@click.option("--sentiment", is_flag=True, help="Valence is CMU-MOSEI's: add Acc-2 and Acc-7.")
@click.option("--draws", type=click.IntRange(1), default=1000, show_default=True,
              help="Of the bootstrap over speakers.")  # fmt: skip
@click.option("--logits", is_flag=True, help="The files hold logits.")
@click.option("--json", "as_json", is_flag=True)
def command(
    sources: tuple[Path, ...],
    clips: Path | None,
    against: Path | None,
    split: str | None,
    sentiment: bool,
    draws: int,
    logits: bool,
    as_json: bool,
) -> None:
    """Score systems, every figure with its interval over speakers.

    \b
    affuse evaluate combined.csv clips.csv
    affuse evaluate runs/afg-a --against runs/jca
    affuse evaluate test.csv clips.csv --split test --json
    """
    from ..posteriors.evaluation import evaluate
    from ..posteriors.source import manifest_of, open_all
    from ..reports import text

    if clips is None and len(sources) > 1 and sources[-1].is_file():
        *rest, clips = sources
        sources = tuple(rest)
    opened, names = open_all((*sources, *([against] if against else [])), logits=logits)
    manifest = manifest_of(clips, opened)
    if manifest is None:
        raise click.UsageError("scores need labels: affuse evaluate POSTERIOR... MANIFEST")
    found = [
        evaluate(
            source.posterior,
            manifest,
            name=name,
            split=split,
            seeds=source.seeds,
            provenance=source.provenance,
            sentiment=sentiment,
            n_draws=draws,
        )
        for source, name in zip(opened, names, strict=True)
    ]
    shown, other = (found[:-1], found[-1]) if against else (found, None)
    differences = [each.minus(other) for each in shown] if other else []
    if as_json:
        rows = [each.as_json() for each in shown]
        for row, difference in zip(rows, differences, strict=False):
            row["against"] = {n: i._asdict() for n, i in difference.items()}
        click.echo(json.dumps(rows, indent=2))
        return
    parts = [text.evaluation(each) for each in shown]
    for each, difference in zip(shown, differences, strict=False):
        parts.append(text.difference(difference, each.name, other.name if other else ""))
    click.echo("\n\n".join(parts))
