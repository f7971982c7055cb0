"""Cross-fitting: each clip is combined by weights and temperatures that never saw its speaker."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import LeakError, PosteriorMismatch, UnknownName, listing
from .calibration import heated, temperature
from .labels import MISSING, Labels
from .learners import N_FOLDS, Learner
from .posterior import Posterior
from .rules import DIMENSION_RULES, Members, combine_by_rule

MOST_CLIPS = 10_000
"""Learners see at most so many clips, evenly spread: a handful of weights needs no more."""
LEAST_SQUARES = "least-squares"
INVERSE_VARIANCE = "inverse-variance"
LEARNT = (LEAST_SQUARES, INVERSE_VARIANCE)
WEIGHTED = "weighted"
ANCHOR = 1e3
"""How heavily shares are held to a sum of one in the least squares."""


@dataclass(frozen=True)
class CrossFitted:
    """A combination in which no clip was combined by what saw it.

    Attributes
    ----------
    posterior : Posterior
        Labelled clips by the other folds' fit; all others by the fit on every labelled clip.
    weights : ndarray [shape=(members,)]
        Of the fit on every labelled clip.
    spread : ndarray [shape=(members,)]
        Standard deviation of the weights over folds.
    temperatures : ndarray [shape=(members,)]
        One where members were not calibrated.
    dimension_weights : dict of str to ndarray [shape=(members,)]
    """

    posterior: Posterior
    weights: np.ndarray
    spread: np.ndarray
    temperatures: np.ndarray
    dimension_weights: dict[str, np.ndarray]


def rounds(truth: Labels, *, n: int = N_FOLDS) -> np.ndarray:
    """Return which fold holds each annotated clip out [shape=(clips,)]; -1 for the others.

    The manifest's folds where it has two or more; else speakers dealt into `n`, emotions balanced.
    Clips of the split ``test`` are never learnt from, annotated or not.

    Raises
    ------
    LeakError
        A speaker stands in two folds, or under test and in a fold.
    PosteriorMismatch
        One speaker alone.
    """
    fold = np.full(len(truth), MISSING)
    tested = np.array([split == "test" for split in truth.splits] or [False] * len(truth), bool)
    rows = np.flatnonzero(truth.annotated & ~tested)
    named = [truth.folds[r] if truth.folds else None for r in rows]
    if len(set(named)) > 1 and None not in named:
        order = {name: i for i, name in enumerate(sorted(map(str, set(named))))}
        fold[rows] = [order[str(name)] for name in named]
    else:
        fold[rows] = _dealt(truth.rows(rows), n)
    sides: dict[str, set[int]] = {}
    for row in (*rows, *np.flatnonzero(tested)):
        sides.setdefault(truth.speakers[row], set()).add(int(fold[row]))
    torn = [speaker for speaker, found in sides.items() if len(found) > 1]
    if torn:
        raise LeakError(
            f"speakers in more than one fold, or both under test and not: {listing(torn)}; weights "
            "would be fitted on people they are scored on. Give each speaker one fold or split."
        )
    return fold


def _dealt(truth: Labels, n: int) -> np.ndarray:
    from sklearn.model_selection import StratifiedGroupKFold

    n = min(n, len(set(truth.speakers)))
    if n < 2:
        raise PosteriorMismatch(
            f"weights are fitted over speakers; found {len(truth)} labelled clips of {n}, wanted "
            "two speakers or more. Without labels combine by a rule: --rule mean"
        )
    dealer = StratifiedGroupKFold(n, shuffle=True, random_state=0)
    fold = np.empty(len(truth), int)
    for number, (_, held) in enumerate(dealer.split(truth.emotion, truth.emotion, truth.speakers)):
        fold[held] = number
    return fold


def cross_fit(
    members: Members,
    truth: Labels,
    learner: Learner,
    *,
    fold: np.ndarray,
    temperatures: np.ndarray | None = None,
    dimensions: str = "mean",
) -> CrossFitted:
    """Fit on all folds but one and combine that one, in turn; then all for the clips in none.

    Parameters
    ----------
    members : Members
    truth : Labels
        Of the same clips, in the same order.
    learner : Learner
    fold : ndarray of int [shape=(clips,)]
        As `rounds` returns; all -1 where nothing is to be fitted.
    temperatures : ndarray [shape=(rounds, members)] or None
        As `member_temperatures` returns: members are first brought to theirs.
    dimensions : str
        ``mean``, ``median``, ``weighted`` as the emotions are; or, learnt, ``inverse-variance`` of
        each member's error, and ``least-squares``, the shares that err least together (Breiman
        1996, "Stacked Regressions", Machine Learning 24; ours sum to one).
    """
    known = (*DIMENSION_RULES, WEIGHTED, *LEARNT)
    if dimensions not in known:
        raise UnknownName("rule for dimensions", dimensions, known)
    probabilities = np.full(members.probabilities.shape[1:], np.nan)
    estimates = {name: np.full(len(truth), np.nan) for name in members.dimensions}
    turns = _turns(fold)
    heat = np.ones((len(turns), len(members))) if temperatures is None else temperatures
    weights, own = [], {}
    for turn, (held, seen) in enumerate(turns):
        own = _dimension_weights(members, truth, seen, dimensions)
        seen = _enough(members, truth, seen)
        fitted = learner.fit(at(members.clips(seen), heat[turn]), truth.rows(seen))
        weights.append(fitted.weights)
        if not len(held):
            continue
        probabilities[held] = fitted.apply(at(members.clips(held), heat[turn]))
        found = combine_by_rule(
            members.clips(held).only_dimensions(),
            weights=fitted.weights if dimensions == WEIGHTED else None,
            dimensions="median" if dimensions == "median" else "mean",
            dimension_weights=own,
        )
        for name, values in found.dimensions.items():
            estimates[name][held] = values
    spread = np.std(weights[:-1], 0) if len(weights) > 1 else np.zeros(len(members))
    posterior = Posterior(members.ids, members.emotions, probabilities, estimates)
    return CrossFitted(posterior, weights[-1], spread, heat[-1], own)


def member_temperatures(members: Members, truth: Labels, *, fold: np.ndarray) -> np.ndarray:
    """Return each member's temperature in each round, fitted on that round's clips.

    Returns
    -------
    ndarray [shape=(rounds, members)]
        The last row is fitted on all clips that a fold holds out.
    """
    rows = []
    for _, seen in _turns(fold):
        shown = _enough(members, truth, seen)
        labels = truth.emotion[shown]
        rows.append([temperature(each[shown], labels) for each in members.probabilities])
    return np.array(rows)


def _turns(fold: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return what is held out and what is learnt from: fold by fold, then clips of no fold."""
    held = [*np.unique(fold[fold != MISSING]), MISSING]
    return [(np.flatnonzero(fold == h), np.flatnonzero((fold != MISSING) & (fold != h))) for h in held]


def _enough(members: Members, truth: Labels, seen: np.ndarray) -> np.ndarray:
    """Return the clips with an emotion and an answer; at most `MOST_CLIPS`, evenly spread."""
    seen = seen[(truth.emotion[seen] != MISSING) & members.answered[:, seen].any(0)]
    return seen[:: max(1, -(-len(seen) // MOST_CLIPS))]


def at(members: Members, temperatures: Sequence[float] | np.ndarray) -> Members:
    """Return the members, each at its temperature."""
    if all(value == 1 for value in temperatures):
        return members
    rows = [heated(p, t) for p, t in zip(members.probabilities, temperatures, strict=True)]
    return Members(members.names, members.ids, members.emotions, np.stack(rows), members.dimensions)


def _dimension_weights(members: Members, truth: Labels, seen: np.ndarray, rule: str) -> dict[str, np.ndarray]:
    """Return the shares that a learnt rule gives the members, by dimension."""
    result = {}
    for name, values in members.dimensions.items():
        if name not in truth.dimensions or rule not in LEARNT:
            continue
        error = values[:, seen] - truth.dimensions[name][seen]
        together = error[:, ~np.isnan(error).any(0)]
        if rule == LEAST_SQUARES and together.shape[1] > len(members):
            result[name] = _least_squares(together)
            continue
        known = ~np.isnan(error)
        mse = np.nansum(error**2, 1) / np.maximum(known.sum(1), 1)
        inverse = np.where(known.any(1), 1 / np.maximum(mse, 1e-9), 0)
        if inverse.any():
            result[name] = inverse / inverse.sum()
    return result


def _least_squares(errors: np.ndarray) -> np.ndarray:
    """Return shares, none negative, whose mix of errors [shape=(members, clips)] is least."""
    from scipy.optimize import nnls

    n_members, n_clips = errors.shape
    size = np.sqrt((errors**2).mean()) or 1.0
    rows = np.vstack([errors.T / size, np.full((1, n_members), ANCHOR * np.sqrt(n_clips))])
    shares, _ = nnls(rows, np.append(np.zeros(n_clips), ANCHOR * np.sqrt(n_clips)))
    return np.asarray(shares / shares.sum())
