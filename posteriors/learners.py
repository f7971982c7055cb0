"""What is learnt in combining systems; `crossfit` keeps it from the clips it is applied to.

The learners, from the one to reach for first:

`LogLinear`
    Logits are the members' log-probabilities times an exponent each, plus the logarithm of the
    prior times another. It calibrates and combines in one step, has few numbers to learn, and is
    the documented default.
`Weights`
    Shares of a linear, geometric or entropy-weighted mean, by log loss, by a score, or in
    proportion to each member's own score.
`Stacking`
    Logistic regression or LightGBM on all log-probabilities.

References
----------
Genest & Zidek 1986, "Combining Probability Distributions", Statistical Science 1(1), eq. 3.13: the
logarithmic opinion pool. The prior's exponent is ours: of M members that err independently given
the emotion, Bayes' rule takes the product over the prior to the power M - 1.
Caruana et al. 2004, "Ensemble Selection from Libraries of Models", ICML: selection with
replacement.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ..errors import PosteriorMismatch, UnknownName
from .labels import Labels
from .metrics import figures, sign
from .posterior import Posterior, softmax
from .rules import FLOOR, RULES, Members, checked, combine_by_rule, pool

N_FOLDS = 5
SELECTIONS = 50
TIGHTNESS = 3.0
"""How much more tightly than its counts' error alone the log-linear pool holds the prior. Chosen on
synthetic members and on simple systems for RAVDESS."""
DEPTHS = (1.0, 1e-2, 1e-4, 1e-8)
"""How much less than half the least number written a zero may mean; the likeliest is taken."""
PENALTIES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)

Apply = Callable[[Members], np.ndarray]


@dataclass(frozen=True)
class Fitted:
    """What a learner found.

    Attributes
    ----------
    apply : callable
        Members to probabilities [shape=(clips, emotions)].
    weights : ndarray [shape=(members,)]
        For people: shares, or exponents, or nan where a learner has no such number.
    """

    apply: Apply
    weights: np.ndarray


class Learner(Protocol):
    """Fits a combination to labelled clips."""

    def fit(self, members: Members, truth: Labels) -> Fitted:
        """Return the combination; every clip of `truth` is labelled and in `members`' order."""


@dataclass(frozen=True)
class Rule:
    """A rule of `combine` that learns nothing, in a learner's clothes.

    Attributes
    ----------
    rule : str
    shares : tuple of float
        Equal where left out.
    """

    rule: str = "mean"
    shares: tuple[float, ...] = ()

    def fit(self, members: Members, truth: Labels) -> Fitted:
        shares = checked(self.shares or None, len(members))
        return Fitted(lambda other: pool(other.probabilities, shares, rule=self.rule), shares)

    def without(self, member: int) -> "Rule":
        return Rule(self.rule, self.shares[:member] + self.shares[member + 1 :])


class LogLinear:
    """Logarithmic opinion pool with an exponent for each member, and one for the prior.

    Fitted by log loss, which is convex in the exponents; those of members are not negative. They
    are held near the plain geometric mean as a Gaussian prior of variance one half would, which a
    few hundred clips need and thousands do not notice. The prior itself is only counted, and the
    error of a count is multiplied by its exponent; each emotion's logit may move by about as much.
    A member without an answer for a clip is no evidence: its factor is one.
    """

    def fit(self, members: Members, truth: Labels) -> Fitted:
        floors = _floors(members)
        depths = DEPTHS if (members.probabilities == 0).any() else DEPTHS[:1]
        fits = [self._fit(members, truth, np.maximum(floors * d, FLOOR)) for d in depths]
        return min(fits, key=lambda found: found[0])[1]

    def _fit(self, members: Members, truth: Labels, floors: np.ndarray) -> tuple[float, Fitted]:
        """Return the loss and the combination, where zeros mean `floors`."""
        from scipy.optimize import minimize

        n_clips, n_members, n_emotions = len(truth), len(members), len(members.emotions)
        counts = np.bincount(truth.emotion, minlength=n_emotions) + 1
        prior = np.log(counts / counts.sum())
        evidence = _evidence(members, prior, floors)
        hits = np.eye(n_emotions)[truth.emotion]
        likely = np.tensordot(evidence, hits, 2) / n_clips
        start = np.append(np.full(n_members, 1 / n_members), 0.0)
        stiff = TIGHTNESS * counts / counts.sum() / (2 * max(n_members - 1, 1) ** 2)

        def loss(found: np.ndarray) -> tuple[float, np.ndarray]:
            exponents, shift = np.split(found, [n_members + 1])
            logits = np.tensordot(exponents, evidence, 1) + shift
            top = logits.max(1, keepdims=True)
            powers = np.exp(logits - top)
            total = powers.sum(1, keepdims=True)
            shares, off = powers / total, exponents - start
            value = (np.log(total) + top).mean() - exponents @ likely - hits.mean(0) @ shift
            slope = np.tensordot(evidence, shares, 2) / n_clips - likely + 2 * off / n_clips
            moved = (shares - hits).mean(0) + 2 * stiff * shift
            held = off @ off / n_clips + stiff @ shift**2
            return float(value + held), np.concatenate([slope, moved])

        free = [(None, None)] * (1 + n_emotions)
        first = np.concatenate([start, np.zeros(n_emotions)])
        bounds = [(0, None)] * n_members + free
        found = minimize(loss, first, jac=True, method="L-BFGS-B", bounds=bounds)
        exponents, shift = np.split(found.x, [n_members + 1])

        def apply(other: Members) -> np.ndarray:
            logits = np.tensordot(exponents, _evidence(other, prior, floors), 1) + shift
            return _silent(softmax(logits), other)

        return float(found.fun), Fitted(apply, exponents[:-1])


@dataclass(frozen=True)
class Weights:
    """Shares of the members in a mean.

    Attributes
    ----------
    rule : str
        How `combine` pools.
    by : str
        ``log_loss``: the shares that make the labels likeliest. A score such as ``waf`` or
        ``mer2023``: shares by selection with replacement, which climbs where no gradient is.
        ``own:waf`` and so on: in proportion to what each member reaches alone.
    """

    rule: str = "mean"
    by: str = "log_loss"

    def fit(self, members: Members, truth: Labels) -> Fitted:
        if self.by == "log_loss":
            shares = self._likeliest(members, truth)
        elif self.by.startswith("own:"):
            scores = [_score(members.member(m), truth, self.by.removeprefix("own:")) for m in range(len(members))]
            shares = checked(np.maximum(scores, 1e-6), len(members))
        else:
            shares = self._selected(members, truth)
        return Fitted(lambda other: pool(other.probabilities, shares, rule=self.rule), shares)

    def _likeliest(self, members: Members, truth: Labels) -> np.ndarray:
        from scipy.optimize import LinearConstraint, minimize

        hit = np.arange(len(truth)), truth.emotion

        def loss(shares: np.ndarray) -> float:
            rows = pool(members.probabilities, np.maximum(shares, 0), rule=self.rule)[hit]
            return float(-np.log(np.maximum(np.nan_to_num(rows), FLOOR)).mean())

        n = len(members)
        one = LinearConstraint(np.ones((1, n)), 1, 1)
        found = minimize(loss, np.full(n, 1 / n), method="SLSQP", bounds=[(0, 1)] * n, constraints=one).x
        return checked(np.maximum(found, 0), n)

    def _selected(self, members: Members, truth: Labels) -> np.ndarray:
        counts = np.zeros(len(members))
        best, chosen = -np.inf, counts
        for _ in range(SELECTIONS):
            tried = [counts + one for one in np.eye(len(members))]
            scores = [_score(self._pooled(members, t), truth, self.by) for t in tried]
            counts = tried[int(np.argmax(scores))]
            if max(scores) > best:
                best, chosen = max(scores), counts
        return checked(chosen, len(members))

    def _pooled(self, members: Members, shares: np.ndarray) -> Posterior:
        return combine_by_rule(members, rule=self.rule, weights=shares)


@dataclass(frozen=True)
class Stacking:
    """A classifier on all members' log-probabilities.

    Attributes
    ----------
    classifier : str
        ``logistic``: multinomial, its penalty chosen inside the clips it learns from, over folds of
        speakers. ``lightgbm``: shallow boosted trees.
    """

    classifier: str = "logistic"

    def fit(self, members: Members, truth: Labels) -> Fitted:
        floors = _floors(members)
        rows, labels = _columns(members, floors), truth.emotion
        model = _penalised(rows, labels, truth.speakers) if self.classifier == "logistic" else _boosted(rows, labels)
        seen = model.classes_

        def apply(other: Members) -> np.ndarray:
            result = np.zeros((len(other.ids), len(other.emotions)))
            result[:, seen] = model.predict_proba(_columns(other, floors))
            return _silent(result, other)

        return Fitted(apply, np.full(len(members), np.nan))


LEARNERS: dict[str, Learner] = {
    "log-linear": LogLinear(),
    "stacking": Stacking(),
    "stacking-lightgbm": Stacking("lightgbm"),
}


def learner(rule: str, weights: str | None = None) -> Learner:
    """Return the learner of a rule's name and of what its weights are to be.

    Parameters
    ----------
    rule : str
        One of `RULES` or of `LEARNERS`.
    weights : str or None
        ``uniform``, numbers with commas between, or what `Weights.by` takes.

    Raises
    ------
    UnknownName
        No such rule.
    PosteriorMismatch
        The rule fits its own weights.
    """
    if rule in LEARNERS:
        if weights:
            raise PosteriorMismatch(f"{rule} fits its own weights; leave out {weights!r}")
        return LEARNERS[rule]
    if rule not in RULES:
        raise UnknownName("rule", rule, (*RULES, *LEARNERS))
    if weights is None or weights == "uniform":
        return Rule(rule)
    try:
        return Rule(rule, tuple(float(share) for share in weights.split(",")))
    except ValueError:
        return Weights(rule, weights)


def _floors(members: Members) -> np.ndarray:
    """Return what stands for a probability of zero, shape (members, 1, 1).

    Files are rounded: zero is less than whatever was written, so half the least of that.
    """
    positive = np.where(members.probabilities > 0, members.probabilities, 1.0)
    least: np.ndarray = positive.min((1, 2), keepdims=True)
    return np.maximum(least / 2, FLOOR)


def _evidence(members: Members, prior: np.ndarray, floors: np.ndarray) -> np.ndarray:
    """Return centred log-probabilities, zero where unanswered, and the prior's, behind them."""
    logs = np.log(np.maximum(np.nan_to_num(members.probabilities, nan=1.0), floors))
    everywhere = np.broadcast_to(prior, (1, *logs.shape[1:]))
    every = np.concatenate([logs, everywhere])
    return np.asarray(every - every.mean(2, keepdims=True))


def _silent(probabilities: np.ndarray, members: Members) -> np.ndarray:
    """Take back answers for clips that no member answers."""
    return np.where(np.atleast_1d(members.answered.any(0))[:, None], probabilities, np.nan)


def _columns(members: Members, floors: np.ndarray) -> np.ndarray:
    """Return a row of features a clip; what a member leaves out, the others' mean stands for."""
    logs = np.log(np.maximum(members.probabilities, floors))
    logs = logs - logs.mean(2, keepdims=True)
    known = members.answered[..., None]
    mean = np.where(known, logs, 0).sum(0) / np.maximum(known.sum(0), 1)
    filled = np.where(known, logs, mean)
    return np.asarray(filled.transpose(1, 0, 2).reshape(len(members.ids), -1))


def _score(posterior: Posterior, truth: Labels, name: str) -> float:
    """Return a score that grows with quality."""
    found = figures(posterior, truth)
    if name not in found:
        raise UnknownName("score of these posteriors", name, found)
    return sign(name) * found[name]


def _penalised(rows: np.ndarray, labels: np.ndarray, speakers: Sequence[str]) -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, GroupKFold

    n = min(N_FOLDS, len(set(speakers)))
    model = LogisticRegression(max_iter=1000, tol=1e-3)
    if n < 2:
        return model.set_params(C=PENALTIES[0]).fit(rows, labels)
    search = GridSearchCV(model, {"C": PENALTIES}, scoring=_likelihood, cv=GroupKFold(n))
    return search.fit(rows, labels, groups=speakers).best_estimator_


def _likelihood(model: Any, rows: np.ndarray, labels: np.ndarray) -> float:
    """Score for a search; an emotion that a fold never showed is merely unlikely."""
    column = np.searchsorted(model.classes_, labels)
    column[column == len(model.classes_)] = 0
    seen = model.classes_[column] == labels
    likelihood = model.predict_proba(rows)[np.arange(len(labels)), column]
    return float(np.log(np.maximum(np.where(seen, likelihood, 0), FLOOR)).mean())


def _boosted(rows: np.ndarray, labels: np.ndarray) -> Any:
    import lightgbm

    return lightgbm.LGBMClassifier(
        n_estimators=100,
        learning_rate=0.05,
        num_leaves=7,
        min_child_samples=20,
        subsample=0.8,
        subsample_freq=1,
        colsample_bytree=0.5,
        reg_lambda=10.0,
        random_state=0,
        deterministic=True,
        force_row_wise=True,
        n_jobs=1,
        verbose=-1,
    ).fit(rows, labels)
