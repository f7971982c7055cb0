"""`affuse combine`."""

import json
from pathlib import Path

import click

from . import _options
from ._console import counted


@click.command("combine", short_help="Combine the posteriors of several systems.")
@click.argument("systems", type=_options.PATH, nargs=-1, required=True)
@_options.out("combined.csv", help="Posterior file to write.")
@_options.manifest(
    help="Manifest with labels, speakers and folds, for fitted rules.  [default: the manifest of the first run]"
)
@click.option(
    "--rule",
    help="Rule for emotions. Fitted to labels: log-linear, stacking, stacking-lightgbm. Not fitted, "
    "unless --weights names a metric: mean, geometric. Never fitted: entropy, majority, median.  "
    "[default: log-linear with labels, else mean]",
)
@click.option(
    "--weights",
    help="Weights for mean and geometric: uniform, a comma-separated list such as 0.7,0.3, or a metric to optimise "
    "(log_loss, mer2023, waf, macro_f1, uar or accuracy). own:METRIC weights each member by its own score.  "
    "[default: uniform]",
)
@click.option(
    "--average",
    type=click.Choice(["posteriors", "logits"]),
    default="posteriors",
    show_default=True,
    help="Average posteriors, or logits before the softmax as MERTools averages folds (the rule geometric).",
)
@click.option(
    "--dimensions",
    help="Rule for valence and arousal. Fitted to labels: least-squares, inverse-variance. Not fitted: mean, median, "
    "weighted.  [default: least-squares with a fitted rule, else mean]",
)
@click.option("--calibrate", is_flag=True, help="Calibrate each member by temperature scaling first (cross-fitted).")
@click.option(
    "--prior-shift",
    is_flag=True,
    help="For clips that were not used to fit any weights, adapt the predictions to their class frequencies, by "
    "expectation maximisation.",
)
@click.option("--score", help="Metric of the table of contributions.  [default: mer2023 where possible, else waf]")
@_options.logits
@_options.as_json
def command(
    systems: tuple[Path, ...],
    out: Path,
    manifest: Path | None,
    rule: str | None,
    weights: str | None,
    average: str,
    dimensions: str | None,
    calibrate: bool,
    prior_shift: bool,
    score: str | None,
    logits: bool,
    as_json: bool,
) -> None:
    """Combine the posteriors of several systems, and show what each of them contributes.

    SYSTEMS are posterior files of any tool or folders of runs. With labels, weights are fitted and cross-fitted: each
    fold is combined with weights that were fitted on the other folds. Clips of the split test are combined with
    weights that were fitted on all other labelled clips.

    \b
    affuse combine runs/* -o combined.csv
    affuse combine a.csv b.csv c.csv --manifest clips.csv
    affuse combine a.csv b.csv --rule mean --weights 0.7,0.3
    affuse combine fold*.csv --logits --average logits -o test.csv
    """
    from ..posteriors.combine import combine
    from ..posteriors.systems import manifest_of, open_systems
    from ..reports import text

    if average == "logits":
        if rule not in (None, "mean", "geometric"):
            raise click.UsageError(f"--average logits is an average. It cannot be used with --rule {rule}.")
        rule = "geometric"
    opened = open_systems(systems, logits=logits)
    found = combine(
        opened,
        manifest=manifest_of(manifest, opened),
        rule=rule,
        weights=weights,
        dimensions=dimensions,
        calibrate=calibrate,
        prior_shift=prior_shift,
        score=score,
    )
    found.write(out)
    if as_json:
        click.echo(json.dumps(found.as_json(), indent=2))
        return
    click.echo(text.combination(found))
    click.echo(f"\n{out}: {counted(len(found.posterior), 'clip')}")
