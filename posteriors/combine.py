"""Several systems into one, with the table that says what each of them was worth."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from .. import __version__
from ..errors import PosteriorMismatch, listing
from ..manifest import Manifest
from .bootstrap import N_DRAWS, Figures, Interval, drawn, interval
from .calibration import shifted
from .cross_fitting import LEARNT, LEAST_SQUARES, CrossFitted, cross_fit, member_temperatures, rounds
from .labels import MISSING, Labels
from .leaks import check_scored
from .learners import Learner, Rule, learner
from .metrics import figures, headline, sign
from .over_time import moments
from .posterior import Posterior
from .provenance import Provenance
from .rules import Members, align

DEFAULT_RULE = "log-linear"
"""What labels make possible; without them it is the mean."""


@dataclass(frozen=True)
class ContributionRow:
    """A line of the table.

    Attributes
    ----------
    name : str
        A member's, or ``all``.
    score : Interval
        Of the member alone.
    without : Interval or None
        Of the combination of all others.
    worth : Interval or None
        The combination of all minus that of all others, paired, above zero if the member helps.
    """

    name: str
    score: Interval
    without: Interval | None = None
    worth: Interval | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the line as plain numbers."""
        cells = {"score": self.score, "without": self.without, "worth": self.worth}
        return {"name": self.name} | {c: v and v._asdict() for c, v in cells.items()}

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> "ContributionRow":
        """Return the line that those plain numbers tell."""
        cells = {c: v and Interval(**v) for c, v in facts.items() if c != "name"}
        return cls(str(facts["name"]), **cells)


@dataclass(frozen=True)
class Combination:
    """The combined posterior, its weights, and its table.

    Attributes
    ----------
    posterior : Posterior
    provenance : Provenance
    score : str
        Name of the table's figure.
    table : list of ContributionRow
        The combination first; empty without labels.
    """

    posterior: Posterior
    provenance: Provenance
    score: str = ""
    table: list[ContributionRow] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Return weights and table as plain numbers."""
        members = {name: dict(facts) for name, facts in self.provenance.members.items()}
        return {
            "made_by": self.provenance.made_by,
            "members": members,
            "score": self.score,
            "table": [row.as_json() for row in self.table],
            "notices": self.provenance.notices,
        }


def combine(
    posteriors: Sequence[Posterior],
    *,
    names: Sequence[str] = (),
    provenances: Sequence[Provenance | None] = (),
    manifest: Manifest | None = None,
    rule: str | None = None,
    weights: str | None = None,
    dimensions: str | None = None,
    calibrate: bool = False,
    prior_shift: bool = False,
    score: str | None = None,
    leave_one_out: bool = True,
    n_draws: int = N_DRAWS,
) -> Combination:
    """Combine systems; where there are labels fit the weights, cross-fitted, and say their worth.

    Parameters
    ----------
    posteriors : sequence of Posterior
        Out-of-fold posteriors of labelled clips; posteriors of any other clips beside them.
    names : sequence of str
    provenances : sequence of Provenance or None
        How each came about, where that is known.
    manifest : Manifest or None
        Labels, speakers and folds. Clips of the split ``test`` are never learnt from.
    rule : str or None
        ``log-linear`` with labels and ``mean`` without; see `ensemble` and `combine`.
    weights : str or None
        For a mean: ``uniform``, numbers, ``log_loss``, a score, ``own:`` and a score.
    dimensions : str or None
        ``least-squares`` where the rule learns, else ``mean``; or ``median``, ``weighted``,
        ``inverse-variance``.
    calibrate, prior_shift : bool
        Members to their temperatures first; clips without labels to their own class prior last.
    score : str or None
        The table's: ``mer2023`` where possible, else ``waf``, else ``ccc:`` of a dimension.
    leave_one_out : bool
    n_draws : int
        Of the bootstrap over speakers.

    Raises
    ------
    LeakError
        A member learnt from clips whose labels are to be used.
    PosteriorMismatch
        Clips or emotions differ, or there are no labels for what wants them.
    """
    members = align(posteriors, names=names)
    truth = truth_of(members, manifest)
    learnt = _learnt(provenances, truth, manifest)
    labelled = manifest is not None and bool(truth.annotated.any())
    rule = rule or (DEFAULT_RULE if labelled and members.emotions else "mean")
    how = learner(rule, weights)
    dimensions = dimensions or ("mean" if isinstance(how, Rule) else LEAST_SQUARES)
    fits = not isinstance(how, Rule) or calibrate or dimensions in LEARNT
    if fits and not labelled:
        raise PosteriorMismatch(
            "fitted weights and temperatures need labels, and no clip here has "
            "one; give --manifest, or combine by a rule that learns nothing: --rule mean"
        )
    fold = rounds(truth) if fits else np.full(len(truth), MISSING)

    heat = member_temperatures(members, truth, fold=fold) if calibrate else None
    way = _Way(truth, how, fold, heat, dimensions)
    whole = way.of(members)
    posterior = _at_own_prior(whole.posterior, truth, fold) if prior_shift else whole.posterior
    provenance = Provenance(
        f"affuse {__version__}, rule {rule}" + (f", weights {weights}" if weights else ""),
        {
            name: {"weight": float(w), "spread": float(s), "temperature": float(t)}
            for name, w, s, t in zip(members.names, whole.weights, whole.spread, whole.temperatures, strict=True)
        },
        [members.ids[r] for r in np.flatnonzero(fold != MISSING)],
        notices=_silences(members),
        learnt_from=learnt,
    )
    scored = np.flatnonzero(truth.annotated & ((fold != MISSING) | (not fits)))
    if not len(scored):
        return Combination(posterior, provenance)
    left_out = range(len(members) if leave_one_out and len(members) > 1 else 0)
    others = [way.without(m).of(members.without(m)).posterior for m in left_out]
    name, table = _table(members, whole.posterior, others, truth, scored, score, n_draws)
    notices = [*provenance.notices, *_behind(name, table)]
    provenance = replace(provenance, score=name, table=[row.as_json() for row in table], notices=notices)
    return Combination(posterior, provenance, name, table)


@dataclass(frozen=True)
class _Way:
    """How members are combined, all of them or all but one."""

    truth: Labels
    how: Learner
    fold: np.ndarray
    temperatures: np.ndarray | None
    dimensions: str

    def of(self, members: Members) -> CrossFitted:
        return cross_fit(
            members, self.truth, self.how, fold=self.fold, temperatures=self.temperatures, dimensions=self.dimensions
        )

    def without(self, member: int) -> "_Way":
        how = self.how.without(member) if isinstance(self.how, Rule) else self.how
        heat = self.temperatures
        return replace(self, how=how, temperatures=heat if heat is None else np.delete(heat, member, 1))


def truth_of(members: Members, manifest: Manifest | None) -> Labels:
    """Return the labels of the members' clips, in their order; empty ones without a manifest.

    Raises
    ------
    PosteriorMismatch
        The members answer clips that the manifest does not list.
    """
    if manifest is None:
        nobody = np.full(len(members.ids), MISSING)
        return Labels(members.ids, members.ids, members.emotions, nobody)
    manifest = moments(manifest, members.ids)
    foreign = [clip for clip in members.ids if clip not in manifest.by_id]
    if foreign:
        raise PosteriorMismatch(
            f"{len(foreign)} of {len(members.ids)} clips are not in {manifest.name}: "
            f"{listing(foreign)}; is it the manifest of these posteriors?"
        )
    clips = Manifest((manifest.by_id[clip] for clip in members.ids), name=manifest.name)
    return Labels.of(clips, members.emotions)


def _learnt(provenances: Sequence[Provenance | None], truth: Labels, manifest: Manifest | None) -> list[str]:
    """Return what members learnt from; refuse where these clips are labelled here."""
    known = [p for p in provenances if p is not None]
    if manifest is not None:
        listed = moments(manifest, truth.ids)
        labelled = [listed.by_id[truth.ids[r]] for r in np.flatnonzero(truth.annotated)]
        for each in known:
            check_scored(labelled, provenance=each, manifests=(manifest, listed))
    return list(dict.fromkeys(clip for each in known for clip in each.seen))


def _at_own_prior(posterior: Posterior, truth: Labels, fold: np.ndarray) -> Posterior:
    learnt = truth.emotion[(fold != MISSING) & (truth.emotion != MISSING)]
    if not len(learnt):
        raise PosteriorMismatch("a shifted prior is corrected against the labels learnt from; there are none here")
    others = fold == MISSING
    prior = np.bincount(learnt, minlength=len(posterior.emotions)) / len(learnt)
    probabilities = np.array(posterior.probabilities)
    probabilities[others] = shifted(probabilities[others], prior)[0]
    return Posterior(posterior.ids, posterior.emotions, probabilities, posterior.dimensions)


def _silences(members: Members) -> list[str]:
    """Say which members leave clips unanswered that others answer."""
    result = []
    known = members.answered.any(0)
    for name, answered in zip(members.names, members.answered, strict=True):
        silent = [members.ids[r] for r in np.flatnonzero(known & ~answered)]
        if silent:
            result.append(
                f"{name} has no answer for {len(silent)} of {len(members.ids)} clips "
                f"({listing(silent, most=3)}); the others answer those"
            )
    return result


def _behind(score: str, table: list[ContributionRow]) -> list[str]:
    """Say where a member alone is better than all together."""
    whole, *members = table
    known = [row for row in members if not np.isnan(row.score.value)]
    best = max(known, key=lambda row: sign(score) * row.score.value, default=whole)
    if not sign(score) * (best.score.value - whole.score.value) > 0:
        return []
    return [
        f"{best.name} alone reaches {score} {best.score.value:.3f}, all together "
        f"{whole.score.value:.3f}: leave weak members out, or try --rule mean, which learns nothing"
    ]


def _table(
    members: Members,
    whole: Posterior,
    others: list[Posterior],
    truth: Labels,
    rows: np.ndarray,
    score: str | None,
    n_draws: int,
) -> tuple[str, list[ContributionRow]]:
    labels = truth.rows(rows)
    everything = _scored(whole, labels, n_draws)
    value, draws = everything
    name = score or headline(value)
    if name not in value:
        raise PosteriorMismatch(f"no score {name!r} here; there is {listing(value, most=20)}")
    table = [ContributionRow("all", interval(value[name], draws[name]))]
    for m, member in enumerate(members.names):
        alone, alone_draws = _scored(members.member(m), labels, n_draws)
        own = interval(alone.get(name, np.nan), alone_draws.get(name, np.full(n_draws, np.nan)))
        if not others:
            table.append(ContributionRow(member, own))
            continue
        rest, rest_draws = _scored(others[m], labels, n_draws)
        gain, gains = value[name] - rest[name], draws[name] - rest_draws[name]
        worth = interval(sign(name) * gain, sign(name) * gains)
        table.append(ContributionRow(member, own, interval(rest[name], rest_draws[name]), worth))
    return name, table


def _scored(posterior: Posterior, truth: Labels, n_draws: int) -> tuple[dict[str, float], Figures]:
    answers = posterior.at(truth.ids)
    return figures(answers, truth), drawn(answers, truth, n_draws=n_draws)
