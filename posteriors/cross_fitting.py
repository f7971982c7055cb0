"""Cross-fitting: each labelled clip is combined with weights and temperatures fitted on other speakers."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..errors import LeakError, PosteriorMismatch, check_known, listing
from .calibration import temperature, temperature_scaled
from .labels import MISSING, Labels
from .learners import N_FOLDS, Learner
from .posterior import Posterior
from .rules import DIMENSION_RULES, Members, combine_by_rule

MAX_CLIPS = 10_000
"""Learners see at most this number of clips, evenly spread: a few weights need no more."""
LEAST_SQUARES = "least-squares"
FITTED_DIMENSION_RULES = (LEAST_SQUARES, "inverse-variance")
WEIGHTED = "weighted"
SUM_PENALTY = 1e3
"""Weight of the constraint that shares sum to one in the least-squares fit."""


@dataclass(frozen=True)
class CrossFitted:
    """A combination whose weights were fitted on other speakers.

    Attributes
    ----------
    posterior : Posterior
        Each labelled clip is combined with the fit to the other folds; all other clips with the fit to every labelled
        clip.
    weights, spread, temperatures : ndarray [shape=(members,)]
        Those of the fit to every labelled clip, and the standard deviation of the weights over folds. Temperatures
        are one where members were not calibrated.
    dimension_weights : dict of str to ndarray [shape=(members,)]
    """

    posterior: Posterior
    weights: np.ndarray
    spread: np.ndarray
    temperatures: np.ndarray
    dimension_weights: dict[str, np.ndarray]


def assign_folds(labels: Labels, *, n_folds: int = N_FOLDS) -> np.ndarray:
    """Return the number of the fold that holds each annotated clip out [shape=(clips,)]; -1 for the other clips.

    The folds of the manifest are used if there are at least two; otherwise the speakers are distributed over `n_folds`
    folds with balanced emotions. Clips of the split ``test`` are never fitted on, whether annotated or not.

    Raises
    ------
    LeakError
        A speaker is in two folds, or in a fold and in the test split.
    PosteriorMismatch
        There is only one speaker.
    """
    fold = np.full(len(labels), MISSING)
    tested = np.array([split == "test" for split in labels.splits] or [False] * len(labels), bool)
    rows = np.flatnonzero(labels.annotated & ~tested)
    named = [labels.folds[r] if labels.folds else None for r in rows]
    if len(set(named)) > 1 and None not in named:
        order = {name: i for i, name in enumerate(sorted(map(str, set(named))))}
        fold[rows] = [order[str(name)] for name in named]
    else:
        fold[rows] = _balanced_folds(labels.take(rows), n_folds)
    sides: dict[str, set[int]] = {}
    for row in (*rows, *np.flatnonzero(tested)):
        sides.setdefault(labels.speakers[row], set()).add(int(fold[row]))
    split = [speaker for speaker, found in sides.items() if len(found) > 1]
    if split:
        raise LeakError(
            f"Found {len(split)} speakers in more than one fold, or both in the test split and outside it "
            f"({listing(split)}). Weights would be fitted on speakers that are scored. Give each speaker one fold or "
            "split."
        )
    return fold


def _balanced_folds(labels: Labels, n_folds: int) -> np.ndarray:
    from sklearn.model_selection import StratifiedGroupKFold

    n_speakers = len(set(labels.speakers))
    if n_speakers < 2:
        raise PosteriorMismatch(
            f"Found {len(labels)} labelled clips of {n_speakers} speakers. Weights are cross-fitted over speakers, "
            "which needs at least two. Add labels, or combine without fitting: --rule mean."
        )
    splitter = StratifiedGroupKFold(min(n_folds, n_speakers), shuffle=True, random_state=0)
    fold = np.empty(len(labels), int)
    for number, (_, held_out) in enumerate(splitter.split(labels.emotion, labels.emotion, labels.speakers)):
        fold[held_out] = number
    return fold


def cross_fit(
    members: Members,
    labels: Labels,
    learner: Learner,
    *,
    fold: np.ndarray,
    temperatures: np.ndarray | None = None,
    dimensions: str = "mean",
) -> CrossFitted:
    """Combine each fold with the fit to the other folds, and all other clips with the fit to every fold.

    Parameters
    ----------
    members : Members
    labels : Labels
        Labels of the same clips, in the same order.
    learner : Learner
    fold : ndarray of int [shape=(clips,)]
        As `assign_folds` returns; all -1 where nothing is to be fitted.
    temperatures : ndarray [shape=(folds + 1, members)] or None
        As `member_temperatures` returns; members are first scaled by them.
    dimensions : str
        ``mean``, ``median``, or ``weighted`` with the weights of the emotions; fitted: ``inverse-variance`` of each
        member's error, and ``least-squares``, the shares with the smallest squared error together (Breiman 1996,
        "Stacked Regressions", Machine Learning 24; that they sum to one is ours).
    """
    check_known("rule for dimensions", dimensions, (*DIMENSION_RULES, WEIGHTED, *FITTED_DIMENSION_RULES))
    probabilities = np.full(members.probabilities.shape[1:], np.nan)
    estimates = {name: np.full(len(labels), np.nan) for name in members.dimensions}
    splits = _splits(fold)
    scales = np.ones((len(splits), len(members))) if temperatures is None else temperatures
    weights, own = [], {}
    for scale, (held_out, rest) in zip(scales, splits, strict=True):
        own = _dimension_weights(members, labels, rest, dimensions)
        rest = _usable(members, labels, rest)
        fitted = learner.fit(scale_temperatures(members.take(rest), scale), labels.take(rest))
        weights.append(fitted.weights)
        if not len(held_out):
            continue
        probabilities[held_out] = fitted.apply(scale_temperatures(members.take(held_out), scale))
        found = combine_by_rule(
            members.take(held_out).only_dimensions(),
            weights=fitted.weights if dimensions == WEIGHTED else None,
            dimensions="median" if dimensions == "median" else "mean",
            dimension_weights=own,
        )
        for name, values in found.dimensions.items():
            estimates[name][held_out] = values
    spread = np.std(weights[:-1], 0) if len(weights) > 1 else np.zeros(len(members))
    posterior = Posterior(members.ids, members.emotions, probabilities, estimates)
    return CrossFitted(posterior, weights[-1], spread, scales[-1], own)


def member_temperatures(members: Members, labels: Labels, *, fold: np.ndarray) -> np.ndarray:
    """Return the temperature of each member, fitted without each fold in turn [shape=(folds + 1, members)].

    The last row is fitted on all clips that a fold holds out.
    """
    rows = []
    for _, rest in _splits(fold):
        clips = _usable(members, labels, rest)
        rows.append([temperature(each[clips], labels.emotion[clips]) for each in members.probabilities])
    return np.array(rows)


def _splits(fold: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the rows held out and the rows fitted on: those of each fold, then those of clips in no fold."""
    held_out = [*np.unique(fold[fold != MISSING]), MISSING]
    return [(np.flatnonzero(fold == h), np.flatnonzero((fold != MISSING) & (fold != h))) for h in held_out]


def _usable(members: Members, labels: Labels, rows: np.ndarray) -> np.ndarray:
    """Return the rows with a label and a prediction; at most `MAX_CLIPS`, evenly spread."""
    rows = rows[(labels.emotion[rows] != MISSING) & members.has_prediction[:, rows].any(0)]
    return rows[:: max(1, -(-len(rows) // MAX_CLIPS))]


def scale_temperatures(members: Members, temperatures: Sequence[float] | np.ndarray) -> Members:
    """Return the members with their probabilities at these temperatures."""
    if all(value == 1 for value in temperatures):
        return members
    rows = [temperature_scaled(p, t) for p, t in zip(members.probabilities, temperatures, strict=True)]
    return replace(members, probabilities=np.stack(rows))


def _dimension_weights(members: Members, labels: Labels, rows: np.ndarray, rule: str) -> dict[str, np.ndarray]:
    """Return the shares of the members by dimension; empty for a rule in which nothing is fitted."""
    result = {}
    for name, values in members.dimensions.items():
        if name not in labels.dimensions or rule not in FITTED_DIMENSION_RULES:
            continue
        error = values[:, rows] - labels.dimensions[name][rows]
        complete = error[:, ~np.isnan(error).any(0)]
        if rule == LEAST_SQUARES and complete.shape[1] > len(members):
            result[name] = _least_squares(complete)
            continue
        known = ~np.isnan(error)
        mse = np.nansum(error**2, 1) / np.maximum(known.sum(1), 1)
        inverse = np.where(known.any(1), 1 / np.maximum(mse, 1e-9), 0)
        if inverse.any():
            result[name] = inverse / inverse.sum()
    return result


def _least_squares(errors: np.ndarray) -> np.ndarray:
    """Return the non-negative shares with the least mean square of the mixed errors [shape=(members, clips)]."""
    from scipy.optimize import nnls

    n_members, n_clips = errors.shape
    size = np.sqrt((errors**2).mean()) or 1.0
    rows = np.vstack([errors.T / size, np.full((1, n_members), SUM_PENALTY * np.sqrt(n_clips))])
    shares, _ = nnls(rows, np.append(np.zeros(n_clips), SUM_PENALTY * np.sqrt(n_clips)))
    return np.asarray(shares / shares.sum())
