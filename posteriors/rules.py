"""Several systems' posteriors as one, by rules that learn nothing; `ensemble` fits the weights.

References
----------
Wang et al. 2023, "Hierarchical Audio-Visual Information Fusion with Multi-label Joint Decoding for
MER 2023": the combination of posterior probabilities. Which weights it used is not printed; equal
ones are our reading. The same first author's later "Entropy-Based Fusion and Pruning-Based Network
Architecture Optimization" weighs by entropy; its formula is not public, ours stands in `entropy`.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import PosteriorMismatch, UnknownName, listing
from .posterior import Posterior, softmax

FLOOR = 1e-12
"""A probability counts as at least this in a logarithm: one system's zero is no veto."""
RULES = ("mean", "geometric", "entropy", "majority", "median")
DIMENSION_RULES = ("mean", "median")


@dataclass(frozen=True)
class Members:
    """Posteriors of several systems over the same clips, in the same order.

    Attributes
    ----------
    names, ids, emotions : tuple of str
    probabilities : ndarray [shape=(members, clips, emotions)]
        Nan where a member has no answer.
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
    def answered(self) -> np.ndarray:
        """Whether a member answers a clip's emotion [shape=(members, clips)]."""
        return np.asarray(~np.isnan(self.probabilities).any(2))

    def clips(self, rows: np.ndarray) -> "Members":
        """Return some of the clips, by a mask or by their rows."""
        rows = np.flatnonzero(rows) if rows.dtype == bool else rows
        return Members(
            self.names,
            tuple(self.ids[r] for r in rows),
            self.emotions,
            self.probabilities[:, rows],
            {name: values[:, rows] for name, values in self.dimensions.items()},
        )

    def without(self, member: int) -> "Members":
        """Return all members but one."""
        keep = [i for i in range(len(self)) if i != member]
        return Members(
            tuple(self.names[i] for i in keep),
            self.ids,
            self.emotions,
            self.probabilities[keep],
            {name: values[keep] for name, values in self.dimensions.items()},
        )

    def only_dimensions(self) -> "Members":
        """Return the members without their emotions."""
        return Members(self.names, self.ids, (), self.probabilities[..., :0], self.dimensions)

    def member(self, member: int) -> Posterior:
        """Return one system's posterior, nan where it has no answer."""
        dimensions = {name: values[member] for name, values in self.dimensions.items()}
        return Posterior(self.ids, self.emotions, self.probabilities[member], dimensions)


def align(posteriors: Sequence[Posterior], *, names: Sequence[str] = ()) -> Members:
    """Bring posteriors to the same clips and order: ids and names decide, never positions.

    Parameters
    ----------
    posteriors : sequence of Posterior
        A clip that only some of them answer is kept; a dimension likewise.
    names : sequence of str
        For tables; numbered where left out.

    Raises
    ------
    PosteriorMismatch
        Emotions differ, or a member shares no clip with the others.
    """
    names = tuple(names) or tuple(f"member {i + 1}" for i in range(len(posteriors)))
    if not posteriors:
        raise PosteriorMismatch("nothing to combine; wanted two posteriors or more")
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
                f"{name} has no clip in common with the others: {listing(posterior.ids, most=3)} "
                "here; are the ids of the same corpus?"
            )
        if posterior.emotions:
            try:
                probabilities[m, rows] = posterior.ordered(emotions).probabilities
            except PosteriorMismatch as error:
                raise PosteriorMismatch(f"{name} against {names[0]}: {error}") from None
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
    """Combine systems without learning anything.

    Parameters
    ----------
    members : Members, or sequence of Posterior
    rule : str
        ``mean`` of the probabilities; ``geometric`` mean, which is the softmax of the mean logits
        (MERTools averages its folds so); ``entropy``: each clip weighs a member by how sure it is;
        ``majority`` of votes, shares of votes as probabilities; ``median``, renormalised.
    weights : ndarray [shape=(members,)] or None
        Non-negative; equal when None. Where a member has no answer, the others share its weight.
    dimensions : str
        ``mean`` (weighted) or ``median``.
    dimension_weights : dict of str to ndarray [shape=(members,)] or None
        Weights by dimension, such as inverse variances; those of `weights` when None.

    Raises
    ------
    PosteriorMismatch
        Members that do not fit together, or weights that do not fit the members.
    """
    if not isinstance(members, Members):
        members = align(members)
    weights = checked(weights, len(members))
    probabilities = pool(members.probabilities, weights, rule=rule)
    estimates = {}
    for name, values in members.dimensions.items():
        own = (dimension_weights or {}).get(name, weights)
        estimates[name] = _dimension(values, checked(own, len(members)), rule=dimensions)
    return Posterior(members.ids, members.emotions, probabilities, estimates)


def checked(weights: np.ndarray | Sequence[float] | None, n_members: int) -> np.ndarray:
    """Return weights that sum to one; equal ones for None.

    Raises
    ------
    PosteriorMismatch
        Another number of weights than members, a negative one, or none above zero.
    """
    if weights is None:
        return np.full(n_members, 1 / n_members)
    weights = np.asarray(weights, float)
    usable = np.isfinite(weights).all() and (weights >= 0).all() and weights.any()
    if weights.shape != (n_members,) or not usable:
        raise PosteriorMismatch(
            f"the weights {listing(weights.tolist(), most=12)} do not fit {n_members} members; "
            "wanted one each, none negative, one above zero"
        )
    return np.asarray(weights / weights.sum())


def pool(probabilities: np.ndarray, weights: np.ndarray, *, rule: str) -> np.ndarray:
    """Pool probabilities by a rule; nan where no member answers.

    Parameters
    ----------
    probabilities : ndarray [shape=(members, clips, emotions)]
    weights : ndarray [shape=(members,)]
    rule : str

    Returns
    -------
    ndarray [shape=(clips, emotions)]
    """
    if rule not in RULES:
        raise UnknownName("rule", rule, RULES)
    if not probabilities.shape[2]:
        return np.zeros(probabilities.shape[1:])
    answered = ~np.isnan(probabilities).any(2)
    known = np.where(answered[..., None], probabilities, 0)
    share = weights[:, None] * answered
    if rule == "entropy":
        share = share * certainty(known)
    share = share / np.where(share.sum(0) > 0, share.sum(0), np.nan)
    if rule in ("mean", "entropy"):
        return np.asarray(np.einsum("mc,mce->ce", share, known))
    if rule == "geometric":
        return softmax(np.einsum("mc,mce->ce", share, np.log(np.maximum(known, FLOOR))))
    if rule == "majority":
        return _votes(known, share)
    middle = _weighted_median(known, share[..., None])
    return np.asarray(middle / middle.sum(1, keepdims=True))


def certainty(probabilities: np.ndarray) -> np.ndarray:
    r"""Return the entropy weights exp(-H / log K) of posteriors, over the last axis.

    Wang et al.'s formula is not public. Ours is :math:`\exp(-H_i / \tau)` with the entropy
    :math:`H_i = -\sum_y P_i(y) \log P_i(y)` of member i and :math:`\tau = \log K`, so that a sure
    member weighs e times one that knows nothing, whatever the number K of emotions.
    """
    entropy = -(probabilities * np.log(np.maximum(probabilities, FLOOR))).sum(-1)
    return np.asarray(np.exp(-entropy / np.log(max(probabilities.shape[-1], 2))))


def _votes(probabilities: np.ndarray, share: np.ndarray) -> np.ndarray:
    n_emotions = probabilities.shape[2]
    chosen = probabilities.argmax(2)[..., None] == np.arange(n_emotions)
    votes = np.einsum("mc,mce->ce", share, chosen)
    mean = np.einsum("mc,mce->ce", share, probabilities)
    # a tie goes to the emotion that the members find likelier, by less than any vote weighs
    least = np.where(share > 0, share, np.inf).min(0, initial=1)[:, None]
    votes = votes + 1e-3 * least * mean
    return np.asarray(votes / votes.sum(1, keepdims=True))


def _dimension(values: np.ndarray, weights: np.ndarray, *, rule: str) -> np.ndarray:
    if rule not in DIMENSION_RULES:
        raise UnknownName("rule for dimensions", rule, DIMENSION_RULES)
    known = ~np.isnan(values)
    share = weights[:, None] * known
    share = share / np.where(share.sum(0) > 0, share.sum(0), np.nan)
    filled = np.where(known, values, 0)
    if rule == "median":
        return _weighted_median(filled, share)
    return np.asarray((share * filled).sum(0))


def _weighted_median(values: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Median over the first axis, members of weight zero left out; the mean of the middle two."""
    order = np.argsort(np.where(share > 0, values, np.inf), axis=0)
    ranked = np.take_along_axis(values, order, 0)
    reached = np.cumsum(np.take_along_axis(np.broadcast_to(share, values.shape), order, 0), 0)
    lower = np.take_along_axis(ranked, (reached >= 0.5 - 1e-9).argmax(0)[None], 0)[0]
    upper = np.take_along_axis(ranked, (reached > 0.5 + 1e-9).argmax(0)[None], 0)[0]
    return np.where(np.isnan(reached[-1]), np.nan, (lower + upper) / 2)
