"""`affuse combine`."""

import json
from pathlib import Path

import click

from ._console import FILE, PATH, counted


@click.command("combine")
@click.argument("sources", type=PATH, nargs=-1, required=True)
@click.option("-o", "--out", type=FILE, default="combined.csv", show_default=True)
@click.option("--manifest", "clips", type=FILE, help="Labels, speakers, folds. Default: a run's.")
@click.option(
    "--rule",
    help="Learnt: log-linear (default with labels), stacking, "
    "stacking-lightgbm. Else: mean (default), geometric, entropy, majority, median.",
)
@click.option("--weights", help="Of a mean: uniform, 0.7,0.3, log_loss, waf, mer2023, own:waf.")
@click.option(
    "--average",
    type=click.Choice(["posteriors", "logits"]),
    default="posteriors",
    help="logits: the softmax of the mean logits, MERTools' average of folds.",
)
@click.option(
    "--dimensions",
    help="Learnt: least-squares (default of learnt rules), inverse-variance. Else: mean (default), median, weighted.",
)
@click.option("--calibrate", is_flag=True, help="First bring members to their temperatures.")
@click.option("--prior-shift", is_flag=True, help="EM of the class prior on clips not learnt from.")
@click.option("--score", help="The table's figure. Default: mer2023, else waf.")
@click.option("--logits", is_flag=True, help="The files hold logits.")
@click.option("--json", "as_json", is_flag=True)
def command(
    sources: tuple[Path, ...],
    out: Path,
    clips: Path | None,
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
    """Combine systems: runs, or posteriors of any tool.

    \b
    affuse combine runs/* -o combined.csv
    affuse combine a.csv b.csv c.csv --manifest clips.csv -o combined.csv
    affuse combine fold*.csv --logits --average logits -o test.csv

    With labels, weights are fitted and every fold is combined by what the other folds taught; clips
    of the split test are combined by what all labelled clips taught.
    """
    from ..posteriors.combine import combine
    from ..posteriors.systems import manifest_of, open_all
    from ..reports import text

    if average == "logits":
        if rule not in (None, "mean", "geometric"):
            raise click.UsageError(f"--average logits is a mean; it does not go with --rule {rule}")
        rule = "geometric"
    opened, names = open_all(sources, logits=logits)
    found = combine(
        [source.posterior for source in opened],
        names=names,
        provenances=[source.provenance for source in opened],
        manifest=manifest_of(clips, opened),
        rule=rule,
        weights=weights,
        dimensions=dimensions,
        calibrate=calibrate,
        prior_shift=prior_shift,
        score=score,
    )
    found.posterior.write(out)
    found.provenance.write(out)
    if as_json:
        click.echo(json.dumps(found.as_json(), indent=2))
        return
    click.echo(text.combination(found))
    click.echo(f"\n{out}: {counted(len(found.posterior), 'clip')}")
