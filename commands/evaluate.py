"""`affuse evaluate`."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ._console import FILE, PATH

if TYPE_CHECKING:
    from ..manifest import Manifest
    from ..posteriors.systems import System
    from ..reports.insight import Insight


@click.command("evaluate")
@click.argument("sources", type=PATH, nargs=-1, required=True)
@click.option("--manifest", "clips", type=FILE, help="Labels. Default: the last argument, or a run's.")
@click.option("--against", type=PATH, help="Another system: paired differences from it.")
@click.option("--split", help="Score one split's clips; those without a posterior are wrong.")
@click.option("--sentiment", is_flag=True, help="Valence is CMU-MOSEI's: add Acc-2 and Acc-7.")
@click.option(
    "--draws", type=click.IntRange(1), default=1000, show_default=True, help="Of the bootstrap over speakers."
)
@click.option("--degrade", is_flag=True, help="Runs: also with streams removed, thinned, noisy.")
@click.option("--features", type=PATH, default="features", show_default=True, help="For --degrade.")
@click.option("--logits", is_flag=True, help="The files hold logits.")
@click.option("--json", "as_json", is_flag=True)
def command(
    sources: tuple[Path, ...],
    clips: Path | None,
    against: Path | None,
    split: str | None,
    sentiment: bool,
    draws: int,
    degrade: bool,
    features: Path,
    logits: bool,
    as_json: bool,
) -> None:
    """Score systems, every figure with its interval over speakers.

    \b
    affuse evaluate combined.csv clips.csv
    affuse evaluate runs/afg-a --against runs/jca
    affuse evaluate test.csv clips.csv --split test --json
    affuse evaluate runs/afg-a --degrade --features features/
    """
    from ..posteriors.systems import evaluate_all, manifest_of, open_all
    from ..reports import text

    if clips is None and len(sources) > 1 and sources[-1].is_file():
        *rest, clips = sources
        sources = tuple(rest)
    opened, names = open_all((*sources, *([against] if against else [])), logits=logits)
    if degrade and not any(source.folder for source in opened):
        raise click.UsageError("--degrade answers anew, which only runs can; name their folders")
    manifest = manifest_of(clips, opened)
    if manifest is None:
        raise click.UsageError("scores need labels: affuse evaluate POSTERIOR... MANIFEST")
    found = evaluate_all(opened, names, manifest, split=split, sentiment=sentiment, n_draws=draws)
    shown, other = (found[:-1], found[-1]) if against else (found, None)
    differences = [each.minus(other) for each in shown] if other else []
    damaged = _damaged(opened, manifest, features) if degrade else {}
    if as_json:
        rows = [each.as_json() for each in shown]
        for row, difference in zip(rows, differences, strict=False):
            row["against"] = {n: i._asdict() for n, i in difference.items()}
        for row in rows:
            if row["name"] in damaged:
                row["degraded"] = [asdict(d) for d in damaged[row["name"]].robustness]
        click.echo(json.dumps(rows, indent=2))
        return
    parts = [text.evaluation(each) for each in shown]
    for each, difference in zip(shown, differences, strict=False):
        parts.append(text.difference(difference, each.name, other.name if other else ""))
    parts += [text.robustness(each, name) for name, each in damaged.items()]
    click.echo("\n\n".join(parts))


def _damaged(sources: "list[System]", manifest: "Manifest", features: Path) -> "dict[str, Insight]":
    from ..cache.store import FeatureStore
    from ..reports.insight import insight
    from ..training.run import Run

    store = FeatureStore(features)
    return {
        source.name: insight(Run.open(source.folder), manifest, store)
        for source in sources
        if source.folder is not None
    }
