"""`affuse evaluate`."""

import json
from dataclasses import asdict
from pathlib import Path

import click

from . import _options


@click.command("evaluate", short_help="Score systems, with confidence intervals.")
@click.argument("systems", type=_options.PATH, nargs=-1, required=True, metavar="SYSTEM... [MANIFEST]")
@_options.manifest(
    help="Manifest with the labels.  [default: the last argument if it is a manifest, or the manifest of the first run]"
)
@click.option("--against", type=_options.PATH, help="Another system; print the paired differences from it.")
@_options.split
@click.option("--sentiment", is_flag=True, help="Treat valence as CMU-MOSEI's sentiment and add Acc-2, F1 and Acc-7.")
@_options.resamples
@click.option(
    "--degrade", is_flag=True, help="Also score runs with streams that are removed, shortened or noisy (robustness)."
)
@_options.features(help="Feature store of the runs, for --degrade.")
@_options.device
@_options.logits
@_options.as_json
def command(
    systems: tuple[Path, ...],
    manifest: Path | None,
    against: Path | None,
    split: str | None,
    sentiment: bool,
    resamples: int,
    degrade: bool,
    features: Path,
    device: str,
    logits: bool,
    as_json: bool,
) -> None:
    """Score systems, every metric with its 95 % confidence interval over speakers.

    SYSTEM is a posterior file of any tool or the folder of a run. A run is scored on the clips that each fold held
    out.

    \b
    affuse evaluate combined.csv clips.csv
    affuse evaluate runs/afg-a --against runs/jca
    affuse evaluate test.csv clips.csv --split test --json
    affuse evaluate runs/afg-a --degrade --features features/
    """
    from ..posteriors.evaluation import evaluate
    from ..posteriors.systems import manifest_of, open_systems
    from ..reports import text

    if manifest is None and len(systems) > 1 and systems[-1].is_file():
        *rest, manifest = systems
        systems = tuple(rest)
    opened = open_systems((*systems, *([against] if against else [])), logits=logits)
    runs = {system.name: system.folder for system in opened if system.folder is not None}
    if degrade and not runs:
        raise click.UsageError("--degrade predicts again, which needs a run. Name the folder of a run.")
    labels = manifest_of(manifest, opened)
    if labels is None:
        raise click.UsageError("Scores need labels: affuse evaluate SYSTEM... MANIFEST")
    shown = [evaluate(each, labels, split=split, sentiment=sentiment, n_resamples=resamples) for each in opened]
    other = shown.pop() if against else None
    differences = [each.minus(other) for each in shown] if other else []
    degraded = {}
    if degrade:
        from ..cache.store import FeatureStore
        from ..reports.insight import measure_robustness
        from ..training.run import Run

        store = FeatureStore(features)
        degraded = {name: measure_robustness(Run.open(run), labels, store, device=device) for name, run in runs.items()}
    if as_json:
        rows = [each.as_json() for each in shown]
        for row, difference in zip(rows, differences, strict=False):
            row["against"] = {name: value._asdict() for name, value in difference.items()}
        for row in rows:
            if row["name"] in degraded:
                row["degraded"] = [asdict(score) for score in degraded[row["name"]].scores]
        click.echo(json.dumps(rows, indent=2))
        return
    parts = [text.evaluation(each) for each in shown]
    parts += [text.difference(d, each.name, other.name) for each, d in zip(shown, differences, strict=False) if other]
    parts += [text.robustness(found, name) for name, found in degraded.items()]
    click.echo("\n\n".join(parts))
