"""Combination of several systems by rules in which nothing is fitted; `learners` fits weights.

References
----------
Wang et al. 2023, "Hierarchical Audio-Visual Information Fusion with Multi-label Joint Decoding for MER 2023": the
combination of posterior probabilities. The weights are not published; equal weights are our interpretation. The same
first author's later "Entropy-Based Fusion and Pruning-Based Network Architecture Optimization" weights by entropy; its
formula is not public, ours is in `entropy_weight`.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..errors import PosteriorMismatch, check_known, listing
from .posterior import MIN_PROBABILITY, Posterior, softmax

RULES = ("mean", "geometric", "entropy", "majority", "median")
DIMENSION_RULES = ("mean", "median")


@dataclass(frozen=True)
class Members:
    """Posteriors of several systems for the same clips, in the same order.

    Attributes
    ----------
    names, ids, emotions : tuple of str
    probabilities : ndarray [shape=(members, clips, emotions)]
        Nan where a member has no prediction.
    dimensions : dict of str to ndarray [shape=(members, clips)]
    """

    names: tuple[str, ...]
    ids: tuple[str, ...]
    emotions: tuple[str, ...]
    probabilities: np.ndarray
    dimensions: dict[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.names)

    @property
    def has_prediction(self) -> np.ndarray:
        """Whether a member predicts the emotion of a clip [shape=(members, clips)]."""
        return np.asarray(~np.isnan(self.probabilities).any(2))

    def take(self, rows: np.ndarray) -> "Members":
        """Return some of the clips, given as row numbers."""
        return replace(
            self,
            ids=tuple(self.ids[r] for r in rows),
            probabilities=self.probabilities[:, rows],
            dimensions={name: values[:, rows] for name, values in self.dimensions.items()},
        )

    def without(self, member: int) -> "Members":
        """Return all members but one."""
        keep = [i for i in range(len(self)) if i != member]
        return replace(
            self,
            names=tuple(self.names[i] for i in keep),
            probabilities=self.probabilities[keep],
            dimensions={name: values[keep] for name, values in self.dimensions.items()},
        )

    def only_dimensions(self) -> "Members":
        """Return the members without their emotions."""
        return replace(self, emotions=(), probabilities=self.probabilities[..., :0])

    def member(self, member: int) -> Posterior:
        """Return the posterior of one system, nan where it has no prediction."""
        dimensions = {name: values[member] for name, values in self.dimensions.items()}
        return Posterior(self.ids, self.emotions, self.probabilities[member], dimensions)


def align(posteriors: Sequence[Posterior], *, names: Sequence[str] = ()) -> Members:
    """Bring posteriors to the same clips and the same order of clips and emotions.

    Parameters
    ----------
    posteriors : sequence of Posterior
        Ids and names of emotions are matched, never positions. A clip or a dimension that only some of the systems
        predict is kept.
    names : sequence of str
        Names of the systems, for tables; they are numbered by default.

    Raises
    ------
    PosteriorMismatch
        Emotions differ, a member has no clip in common with the others, or two members have one name.
    """
    names = tuple(names) or tuple(f"member {i + 1}" for i in range(len(posteriors)))
    if not posteriors:
        raise PosteriorMismatch("Found no posterior to combine. Expected two or more.")
    same = [name for name, n in Counter(names).items() if n > 1]
    if same:
        raise PosteriorMismatch(f"Found several systems with the name {listing(same)}. Give each a name of its own.")
    emotions = next((p.emotions for p in posteriors if p.emotions), ())
    row = {clip: r for r, clip in enumerate(dict.fromkeys(c for p in posteriors for c in p.ids))}
    probabilities = np.full((len(posteriors), len(row), len(emotions)), np.nan)
    kinds = dict.fromkeys(name for p in posteriors for name in p.dimensions)
    dimensions = {name: np.full((len(posteriors), len(row)), np.nan) for name in kinds}
    found = Counter(clip for p in posteriors for clip in p.ids)
    for m, (name, posterior) in enumerate(zip(names, posteriors, strict=True)):
        rows = np.fromiter((row[clip] for clip in posterior.ids), int, len(posterior))
        if len(posteriors) > 1 and all(found[clip] == 1 for clip in posterior.ids):
            raise PosteriorMismatch(
                f"{name} has no clip in common with the others; its clips are {listing(posterior.ids, most=3)}. "
                "Check that the ids are those of the same corpus."
            )
        if posterior.emotions:
            try:
                probabilities[m, rows] = posterior.ordered(emotions).probabilities
            except PosteriorMismatch as error:
                raise PosteriorMismatch(f"{name} does not fit {names[0]}: {error}") from None
        for kind, values in posterior.dimensions.items():
            dimensions[kind][m, rows] = values
    return Members(names, tuple(row), emotions, probabilities, dimensions)


def combine_by_rule(
    members: Members | Sequence[Posterior],
    *,
    rule: str = "mean",
    weights: np.ndarray | None = None,
    dimensions: str = "mean",
    dimension_weights: dict[str, np.ndarray] | None = None,
) -> Posterior:
    """Combine systems by a rule in which nothing is fitted.

    Parameters
    ----------
    members : Members, or sequence of Posterior
    rule : str
        ``mean`` of the probabilities; ``geometric`` mean, which is the softmax of the mean logits (MERTools averages
        its folds in this way); ``entropy``, a mean in which each clip weights a member by its certainty; ``majority``,
        the fractions of votes; or ``median``, renormalised.
    weights : ndarray [shape=(members,)] or None
        Non-negative; equal by default. Where a member has no prediction, the others share its weight.
    dimensions : str
        ``mean`` (weighted) or ``median``.
    dimension_weights : dict of str to ndarray [shape=(members,)] or None
        Weights by dimension, such as inverse variances; by default those of `weights`.
    """
    if not isinstance(members, Members):
        members = align(members)
    weights = normalise_weights(weights, len(members))
    probabilities = pool(members.probabilities, weights, rule=rule)
    estimates = {}
    for name, values in members.dimensions.items():
        own = normalise_weights((dimension_weights or {}).get(name, weights), len(members))
        estimates[name] = _pool_dimension(values, own, rule=dimensions)
    return Posterior(members.ids, members.emotions, probabilities, estimates)


def normalise_weights(weights: np.ndarray | Sequence[float] | None, n_members: int) -> np.ndarray:
    """Return weights that sum to one; equal ones for None."""
    if weights is None:
        return np.full(n_members, 1 / n_members)
    weights = np.asarray(weights, float)
    usable = np.isfinite(weights).all() and (weights >= 0).all() and weights.any()
    if weights.shape != (n_members,) or not usable:
        raise PosteriorMismatch(
            f"The weights {listing(weights.tolist(), most=12)} do not fit {n_members} members. Expected one weight per "
            "member, none negative and at least one above zero."
        )
    return np.asarray(weights / weights.sum())


def pool(probabilities: np.ndarray, weights: np.ndarray, *, rule: str) -> np.ndarray:
    """Pool the probabilities of members by one of `RULES`; nan where no member has a prediction.

    The shapes are (members, clips, emotions) before, (members,) for the weights, and (clips, emotions) after.
    """
    check_known("rule", rule, RULES)
    if not probabilities.shape[2]:
        return np.zeros(probabilities.shape[1:])
    known = ~np.isnan(probabilities).any(2)
    values = np.where(known[..., None], probabilities, 0)
    share = _shares(weights[:, None] * known * (entropy_weight(values) if rule == "entropy" else 1))
    if rule in ("mean", "entropy"):
        return np.asarray(np.einsum("mc,mce->ce", share, values))
    if rule == "geometric":
        return softmax(np.einsum("mc,mce->ce", share, np.log(np.maximum(values, MIN_PROBABILITY))))
    if rule == "majority":
        return _votes(values, share)
    middle = _weighted_median(values, share[..., None])
    return np.asarray(middle / middle.sum(1, keepdims=True))


def entropy_weight(probabilities: np.ndarray) -> np.ndarray:
    r"""Return the entropy weights exp(-H / log K) of posteriors over the last axis.

    The formula of Wang et al. is not public. Ours is :math:`\exp(-H_i / \tau)` with the entropy
    :math:`H_i = -\sum_y P_i(y) \log P_i(y)` of member i and :math:`\tau = \log K`, so that a member that is certain
    weighs e times as much as one with a uniform posterior, whatever the number K of emotions.
    """
    entropy = -(probabilities * np.log(np.maximum(probabilities, MIN_PROBABILITY))).sum(-1)
    return np.asarray(np.exp(-entropy / np.log(max(probabilities.shape[-1], 2))))


def _shares(weights: np.ndarray) -> np.ndarray:
    """Return weights that sum to one over the members; nan where all are zero."""
    return np.asarray(weights / np.where(weights.sum(0) > 0, weights.sum(0), np.nan))


def _votes(probabilities: np.ndarray, share: np.ndarray) -> np.ndarray:
    predicted = probabilities.argmax(2)[..., None] == np.arange(probabilities.shape[2])
    votes = np.einsum("mc,mce->ce", share, predicted)
    mean = np.einsum("mc,mce->ce", share, probabilities)
    # The mean probability decides ties; it counts less than the smallest vote.
    least = np.where(share > 0, share, np.inf).min(0, initial=1)[:, None]
    votes = votes + 1e-3 * least * mean
    return np.asarray(votes / votes.sum(1, keepdims=True))


def _pool_dimension(values: np.ndarray, weights: np.ndarray, *, rule: str) -> np.ndarray:
    check_known("rule for dimensions", rule, DIMENSION_RULES)
    known = ~np.isnan(values)
    share = _shares(weights[:, None] * known)
    filled = np.where(known, values, 0)
    return _weighted_median(filled, share) if rule == "median" else np.asarray((share * filled).sum(0))


def _weighted_median(values: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Return the weighted median over the first axis, the mean of the two middle values where there are two."""
    order = np.argsort(np.where(share > 0, values, np.inf), axis=0)
    ranked = np.take_along_axis(values, order, 0)
    reached = np.cumsum(np.take_along_axis(np.broadcast_to(share, values.shape), order, 0), 0)
    lower = np.take_along_axis(ranked, (reached >= 0.5 - 1e-9).argmax(0)[None], 0)[0]
    upper = np.take_along_axis(ranked, (reached > 0.5 + 1e-9).argmax(0)[None], 0)[0]
    return np.where(np.isnan(reached[-1]), np.nan, (lower + upper) / 2)
