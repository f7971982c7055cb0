"""Combination of several systems into one posterior, with a table of what each system contributes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import __version__
from ..errors import PosteriorMismatch, listing
from ..manifest import Manifest
from .bootstrap import N_RESAMPLES, Interval, bootstrap, interval
from .calibration import adjust_prior
from .cross_fitting import FITTED_DIMENSION_RULES, LEAST_SQUARES, assign_folds, cross_fit, member_temperatures
from .labels import MISSING, Labels
from .leaks import check_scored
from .learners import Rule, make_learner
from .metrics import main_metric, sign
from .over_time import manifest_over_time
from .posterior import Posterior
from .provenance import Provenance
from .rules import Members, align
from .systems import SystemLike, open_systems

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class ContributionRow:
    """Row of the table of contributions.

    Attributes
    ----------
    name : str
        Name of a member, or ``all``.
    score : Interval
        Score of the member alone.
    without : Interval or None
        Score of the combination of all other members.
    contribution : Interval or None
        Score of the combination of all members minus that of all others, paired; positive if the member helps.
    """

    name: str
    score: Interval
    without: Interval | None = None
    contribution: Interval | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the row as plain numbers."""
        cells = {"score": self.score, "without": self.without, "worth": self.contribution}
        return {"name": self.name} | {c: v and v._asdict() for c, v in cells.items()}

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> "ContributionRow":
        """Return the row that `as_json` wrote."""
        score, without, contribution = (row[c] and Interval(**row[c]) for c in ("score", "without", "worth"))
        return cls(str(row["name"]), score, without, contribution)


@dataclass(frozen=True)
class Combination:
    """A combined posterior with its weights and the table of contributions.

    Attributes
    ----------
    posterior : Posterior
    provenance : Provenance
        Weights of the members, the table and notices.
    """

    posterior: Posterior
    provenance: Provenance

    def __repr__(self) -> str:
        return f"<Combination of {', '.join(self.provenance.members)}: {len(self.posterior)} clips>"

    @property
    def score(self) -> str:
        """Name of the metric in the table."""
        return self.provenance.score

    @property
    def table(self) -> list[ContributionRow]:
        """The combination first, then each member; empty without labels."""
        return [ContributionRow.from_json(row) for row in self.provenance.table]

    @property
    def notices(self) -> list[str]:
        """Sentences that a user of the combination should read."""
        return self.provenance.notices

    def to_pandas(self) -> "pandas.DataFrame":
        """Return the posterior as a data frame; see `Posterior.to_pandas`."""
        return self.posterior.to_pandas()

    def write(self, path: str | Path) -> None:
        """Write the posterior to a CSV or Parquet file, and beside it the provenance as JSON."""
        self.posterior.write(Path(path))
        self.provenance.write(Path(path))

    def as_json(self) -> dict[str, Any]:
        """Return weights and table as plain numbers."""
        return {
            "made_by": self.provenance.made_by,
            "members": {name: dict(fitted) for name, fitted in self.provenance.members.items()},
            "score": self.score,
            "table": self.provenance.table,
            "notices": self.provenance.notices,
        }


def combine(
    systems: Sequence[SystemLike],
    *,
    names: Sequence[str] = (),
    manifest: Manifest | str | Path | None = None,
    rule: str | None = None,
    weights: str | Sequence[float] | None = None,
    dimensions: str | None = None,
    calibrate: bool = False,
    prior_shift: bool = False,
    score: str | None = None,
    leave_one_out: bool = True,
    n_resamples: int = N_RESAMPLES,
) -> Combination:
    """Combine systems; with labels, fit their weights by cross-fitting and report what each one contributes.

    Parameters
    ----------
    systems : sequence of Posterior, System, Run, Combination, Predictions or path
        Predictions for labelled clips must be out-of-fold: made by models that were not trained on these clips.
        Predictions for any other clips may accompany them.
    names : sequence of str
        Names of the systems; by default those of each `System`, and numbers.
    manifest : Manifest or None
        Labels, speakers and folds. Clips of the split ``test`` are never fitted on.
    rule : str or None
        Rule of `combine_by_rule`, or learner of `make_learner`; by default ``log-linear`` with labels, and ``mean``
        without.
    weights : str, sequence of float or None
        Weights of an averaging rule: ``uniform`` (default), numbers, ``log_loss``, the name of a
        metric, or ``own:`` and the name of a metric; see `make_learner`.
    dimensions : str or None
        Rule for the dimensions, see `cross_fit`; by default ``least-squares`` where the rule is fitted, else ``mean``.
    calibrate : bool
        Scale the temperature of each member first.
    prior_shift : bool
        Adjust the clips without labels to their own class prior at the end.
    score : str or None
        Metric of the table; by default ``mer2023`` where possible, else ``waf``, else ``ccc:`` of a dimension.
    leave_one_out : bool
        Report the contribution of each member, which takes one more fit per member.
    n_resamples : int
        Number of bootstrap resamples.

    Returns
    -------
    Combination

    Raises
    ------
    LeakError
        A system was fitted on clips whose labels are to be used.
    PosteriorMismatch
        Clips or emotions differ, or labels are needed and there are none.
    """
    given = open_systems(systems)
    manifest = None if manifest is None else Manifest.of(manifest)
    weights = weights if weights is None or isinstance(weights, str) else ",".join(map(str, weights))
    members = align([each.posterior for each in given], names=names or [each.name for each in given])
    labels = aligned_labels(members, manifest)
    trained_on = _trained_on([each.provenance for each in given], labels, manifest)
    labelled = manifest is not None and bool(labels.annotated.any())
    rule = rule or ("log-linear" if labelled and members.emotions else "mean")
    learner = make_learner(rule, weights)
    dimensions = dimensions or ("mean" if isinstance(learner, Rule) else LEAST_SQUARES)
    fits = not isinstance(learner, Rule) or calibrate or dimensions in FITTED_DIMENSION_RULES
    if fits and not labelled:
        raise PosteriorMismatch(
            "Found no labelled clip. Weights and temperatures are fitted to labels. Pass --manifest with labels, or "
            "combine by a rule that fits nothing: --rule mean."
        )
    fold = assign_folds(labels) if fits else np.full(len(labels), MISSING)

    temperatures = member_temperatures(members, labels, fold=fold) if calibrate else None
    whole = cross_fit(members, labels, learner, fold=fold, temperatures=temperatures, dimensions=dimensions)
    posterior = _at_own_prior(whole.posterior, labels, fold) if prior_shift else whole.posterior
    provenance = Provenance(
        f"affuse {__version__}, rule {rule}" + (f", weights {weights}" if weights else ""),
        {
            name: {"weight": float(w), "spread": float(s), "temperature": float(t)}
            for name, w, s, t in zip(members.names, whole.weights, whole.spread, whole.temperatures, strict=True)
        },
        [members.ids[r] for r in np.flatnonzero(fold != MISSING)],
        notices=_missing_predictions(members),
        learnt_from=trained_on,
    )
    scored = np.flatnonzero(labels.annotated & ((fold != MISSING) | (not fits)))
    if not len(scored):
        return Combination(posterior, provenance)
    others = [
        cross_fit(
            members.without(m),
            labels,
            learner.without(m),
            fold=fold,
            temperatures=None if temperatures is None else np.delete(temperatures, m, 1),
            dimensions=dimensions,
        ).posterior
        for m in range(len(members) if leave_one_out and len(members) > 1 else 0)
    ]
    name, table = _contributions(members, whole.posterior, others, labels.take(scored), score, n_resamples)
    notices = [*provenance.notices, *_better_alone(name, table)]
    provenance = replace(provenance, score=name, table=[row.as_json() for row in table], notices=notices)
    return Combination(posterior, provenance)


def aligned_labels(members: Members, manifest: Manifest | None) -> Labels:
    """Return the labels of the members' clips, in their order; none without a manifest."""
    if manifest is None:
        return Labels(members.ids, members.ids, members.emotions, np.full(len(members.ids), MISSING))
    manifest = manifest_over_time(manifest, members.ids)
    unknown = [clip for clip in members.ids if clip not in manifest.by_id]
    if unknown:
        raise PosteriorMismatch(
            f"Manifest {manifest.name} does not list {len(unknown)} of {len(members.ids)} clips ({listing(unknown)}). "
            "Pass the manifest that belongs to these posteriors."
        )
    clips = Manifest((manifest.by_id[clip] for clip in members.ids), name=manifest.name)
    return Labels.from_manifest(clips, members.emotions)


def _trained_on(provenances: Sequence[Provenance | None], labels: Labels, manifest: Manifest | None) -> list[str]:
    """Return the clips that members were fitted on; refuse them where their labels would be used."""
    known = [p for p in provenances if p is not None]
    if manifest is not None:
        listed = manifest_over_time(manifest, labels.ids)
        labelled = [listed.by_id[labels.ids[r]] for r in np.flatnonzero(labels.annotated)]
        for each in known:
            check_scored(labelled, provenance=each, manifests=(manifest, listed))
    return list(dict.fromkeys(clip for each in known for clip in each.fitted_clips))


def _at_own_prior(posterior: Posterior, labels: Labels, fold: np.ndarray) -> Posterior:
    seen = labels.emotion[(fold != MISSING) & (labels.emotion != MISSING)]
    if not len(seen):
        raise PosteriorMismatch(
            "Found no labels that weights were fitted to. --prior-shift needs them to know the class prior of the "
            "training data. Pass a manifest with labels and a rule that is fitted, such as --rule log-linear."
        )
    others = fold == MISSING
    prior = np.bincount(seen, minlength=len(posterior.emotions)) / len(seen)
    probabilities = np.array(posterior.probabilities)
    probabilities[others] = adjust_prior(probabilities[others], prior)[0]
    return replace(posterior, probabilities=probabilities)


def _missing_predictions(members: Members) -> list[str]:
    result = []
    any_member = members.has_prediction.any(0)
    for name, known in zip(members.names, members.has_prediction, strict=True):
        missing = [members.ids[r] for r in np.flatnonzero(any_member & ~known)]
        if missing:
            result.append(
                f"{name} has no prediction for {len(missing)} of {len(members.ids)} clips "
                f"({listing(missing, most=3)}). These clips are combined from the other members."
            )
    return result


def _better_alone(score: str, table: list[ContributionRow]) -> list[str]:
    whole, *members = table
    known = [row for row in members if not np.isnan(row.score.value)]
    best = max(known, key=lambda row: sign(score) * row.score.value, default=whole)
    if not sign(score) * (best.score.value - whole.score.value) > 0:
        return []
    return [
        f"{best.name} alone reaches {score} {best.score.value:.3f}, the combination {whole.score.value:.3f}. "
        "Leave weak members out, or try --rule mean, which fits nothing."
    ]


def _contributions(
    members: Members, whole: Posterior, others: Sequence[Posterior], labels: Labels, score: str | None, n_resamples: int
) -> tuple[str, list[ContributionRow]]:
    everything = bootstrap(whole.at(labels.ids), labels, n_resamples=n_resamples)
    name = score or main_metric(everything.values)
    if name not in everything.values:
        raise PosteriorMismatch(
            f"Found no metric {name!r} for these posteriors; available: {listing(everything.values, most=20)}."
        )
    table = [ContributionRow("all", everything.interval(name))]
    for m, member in enumerate(members.names):
        alone = bootstrap(members.member(m).at(labels.ids), labels, n_resamples=n_resamples).interval(name)
        if not others:
            table.append(ContributionRow(member, alone))
            continue
        rest = bootstrap(others[m].at(labels.ids), labels, n_resamples=n_resamples)
        gain = everything.values[name] - rest.values[name]
        gains = everything.resampled[name] - rest.resampled[name]
        contribution = interval(sign(name) * gain, sign(name) * gains)
        table.append(ContributionRow(member, alone, rest.interval(name), contribution))
    return name, table
