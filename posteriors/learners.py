"""Learners: combinations whose weights are fitted to labels. `cross_fitting` keeps the scored clips out of the fit.

References
----------
Genest & Zidek 1986, "Combining Probability Distributions", Statistical Science 1(1), eq. 3.13: the logarithmic opinion
pool. The exponent of the prior is ours: for M members whose errors are independent given the emotion, Bayes' rule takes
the product divided by the prior to the power M - 1.
Caruana et al. 2004, "Ensemble Selection from Libraries of Models", ICML: selection with replacement.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import PosteriorMismatch, UnknownName, check_known
from .labels import Labels
from .metrics import compute_metrics, sign
from .posterior import MIN_PROBABILITY, Posterior, softmax
from .rules import RULES, Members, combine_by_rule, normalise_weights, pool

N_FOLDS = 5
N_SELECTIONS = 50
PRIOR_STRENGTH = 3.0
"""Factor by which the log-linear pool regularises the prior more strongly than the error of its counts requires. Chosen
on synthetic members and on simple systems for RAVDESS."""
ZERO_DEPTHS = (1.0, 1e-2, 1e-4, 1e-8)
"""Candidates for the value of a written zero, relative to half of the smallest number; the likeliest is used."""
PENALTIES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)


@dataclass(frozen=True)
class Fitted:
    """A fitted combination, with its weights or exponents for tables; nan where a learner has none."""

    apply: Callable[[Members], np.ndarray]
    weights: np.ndarray


class Learner(ABC):
    """Fits a combination to labelled clips."""

    @abstractmethod
    def fit(self, members: Members, labels: Labels) -> Fitted:
        """Return the combination; every clip of `labels` has an emotion, and the order is that of `members`."""

    def without(self, member: int) -> "Learner":
        """Return the learner for all members but one."""
        return self


@dataclass(frozen=True)
class Rule(Learner):
    """A rule of `combine_by_rule`, in which nothing is fitted; the weights of the members are equal by default."""

    rule: str = "mean"
    weights: tuple[float, ...] = ()

    def fit(self, members: Members, labels: Labels) -> Fitted:
        weights = normalise_weights(self.weights or None, len(members))
        return Fitted(lambda other: pool(other.probabilities, weights, rule=self.rule), weights)

    def without(self, member: int) -> "Rule":
        return Rule(self.rule, self.weights[:member] + self.weights[member + 1 :])


class LogLinear(Learner):
    """Logarithmic opinion pool with one exponent per member and one for the prior; the default.

    The logits are the log probabilities of the members and the log prior, each times its exponent, so that the
    members are calibrated and combined in one step with few parameters. It is fitted to the log loss, which is convex
    in the exponents; those of the members are not negative. A Gaussian prior with variance one half keeps the
    exponents near those of the geometric mean, which matters for a few hundred clips and not for thousands. The class
    prior is estimated from counts, whose error is multiplied by its exponent; therefore the logit of each emotion may
    also shift by about this error. A member without a prediction for a clip contributes a factor of one.
    """

    def fit(self, members: Members, labels: Labels) -> Fitted:
        zeros = _zero_values(members)
        depths = ZERO_DEPTHS if (members.probabilities == 0).any() else ZERO_DEPTHS[:1]
        fits = [self._fit(members, labels, np.maximum(zeros * depth, MIN_PROBABILITY)) for depth in depths]
        return min(fits, key=lambda found: found[0])[1]

    def _fit(self, members: Members, labels: Labels, zeros: np.ndarray) -> tuple[float, Fitted]:
        """Return the loss and the combination, with `zeros` in place of probabilities of zero."""
        from scipy.optimize import minimize

        n_clips, n_members, n_emotions = len(labels), len(members), len(members.emotions)
        counts = np.bincount(labels.emotion, minlength=n_emotions) + 1
        prior = np.log(counts / counts.sum())
        evidence = _evidence(members, prior, zeros)
        hits = np.eye(n_emotions)[labels.emotion]
        mean_evidence = np.tensordot(evidence, hits, 2) / n_clips
        start = np.append(np.full(n_members, 1 / n_members), 0.0)
        stiffness = PRIOR_STRENGTH * counts / counts.sum() / (2 * max(n_members - 1, 1) ** 2)

        def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
            exponents, shift = np.split(parameters, [n_members + 1])
            logits = np.tensordot(exponents, evidence, 1) + shift
            top = logits.max(1, keepdims=True)
            powers = np.exp(logits - top)
            total = powers.sum(1, keepdims=True)
            probabilities, offset = powers / total, exponents - start
            value = (np.log(total) + top).mean() - exponents @ mean_evidence - hits.mean(0) @ shift
            slope = np.tensordot(evidence, probabilities, 2) / n_clips - mean_evidence + 2 * offset / n_clips
            shift_slope = (probabilities - hits).mean(0) + 2 * stiffness * shift
            penalty = offset @ offset / n_clips + stiffness @ shift**2
            return float(value + penalty), np.concatenate([slope, shift_slope])

        bounds = [(0, None)] * n_members + [(None, None)] * (1 + n_emotions)
        first = np.concatenate([start, np.zeros(n_emotions)])
        found = minimize(loss, first, jac=True, method="L-BFGS-B", bounds=bounds)
        exponents, shift = np.split(found.x, [n_members + 1])

        def apply(other: Members) -> np.ndarray:
            logits = np.tensordot(exponents, _evidence(other, prior, zeros), 1) + shift
            return _without_missing(softmax(logits), other)

        return float(found.fun), Fitted(apply, exponents[:-1])


@dataclass(frozen=True)
class Weights(Learner):
    """Weights of the members in a mean.

    Attributes
    ----------
    rule : str
        Rule of `combine_by_rule`.
    by : str
        ``log_loss``: the weights that maximise the likelihood. A metric such as ``waf`` or ``mer2023``: selection with
        replacement, which needs no gradient. ``own:waf`` and so on: proportional to what each member reaches alone.
    """

    rule: str = "mean"
    by: str = "log_loss"

    def fit(self, members: Members, labels: Labels) -> Fitted:
        if self.by == "log_loss":
            weights = self._most_likely(members, labels)
        elif self.by.startswith("own:"):
            scores = [_score(members.member(m), labels, self.by.removeprefix("own:")) for m in range(len(members))]
            weights = normalise_weights(np.maximum(scores, 1e-6), len(members))
        else:
            weights = self._selected(members, labels)
        return Fitted(lambda other: pool(other.probabilities, weights, rule=self.rule), weights)

    def _most_likely(self, members: Members, labels: Labels) -> np.ndarray:
        from scipy.optimize import LinearConstraint, minimize

        hit = np.arange(len(labels)), labels.emotion

        def loss(weights: np.ndarray) -> float:
            rows = pool(members.probabilities, np.maximum(weights, 0), rule=self.rule)[hit]
            return float(-np.log(np.maximum(np.nan_to_num(rows), MIN_PROBABILITY)).mean())

        n = len(members)
        sum_to_one = LinearConstraint(np.ones((1, n)), 1, 1)
        found = minimize(loss, np.full(n, 1 / n), method="SLSQP", bounds=[(0, 1)] * n, constraints=sum_to_one).x
        return normalise_weights(np.maximum(found, 0), n)

    def _selected(self, members: Members, labels: Labels) -> np.ndarray:
        counts = np.zeros(len(members))
        best, selected = -np.inf, counts
        for _ in range(N_SELECTIONS):
            candidates = [counts + one for one in np.eye(len(members))]
            scores = [
                _score(combine_by_rule(members, rule=self.rule, weights=each), labels, self.by) for each in candidates
            ]
            counts = candidates[int(np.argmax(scores))]
            if max(scores) > best:
                best, selected = max(scores), counts
        return normalise_weights(selected, len(members))


@dataclass(frozen=True)
class Stacking(Learner):
    """A classifier on the log probabilities of all members.

    Attributes
    ----------
    classifier : str
        ``logistic``: multinomial regression, whose penalty is chosen by cross-validation over the speakers of the
        training clips. ``lightgbm``: shallow boosted trees.
    """

    classifier: str = "logistic"

    def fit(self, members: Members, labels: Labels) -> Fitted:
        zeros = _zero_values(members)
        rows, emotion = _columns(members, zeros), labels.emotion
        model = _logistic(rows, emotion, labels.speakers) if self.classifier == "logistic" else _boosted(rows, emotion)

        def apply(other: Members) -> np.ndarray:
            result = np.zeros((len(other.ids), len(other.emotions)))
            result[:, model.classes_] = model.predict_proba(_columns(other, zeros))
            return _without_missing(result, other)

        return Fitted(apply, np.full(len(members), np.nan))


LEARNERS: dict[str, Learner] = {
    "log-linear": LogLinear(),
    "stacking": Stacking(),
    "stacking-lightgbm": Stacking("lightgbm"),
}


def make_learner(rule: str, weights: str | None = None) -> Learner:
    """Return the learner of one of `RULES` or `LEARNERS`.

    The weights of a rule are ``uniform``, numbers separated by commas, or a value of `Weights.by`.
    """
    if rule in LEARNERS:
        if weights:
            raise PosteriorMismatch(f"{rule} fits its own weights. Leave out --weights {weights}.")
        return LEARNERS[rule]
    check_known("rule", rule, (*RULES, *LEARNERS))
    if weights is None or weights == "uniform":
        return Rule(rule)
    try:
        return Rule(rule, tuple(float(weight) for weight in weights.split(",")))
    except ValueError:
        return Weights(rule, weights)


def _zero_values(members: Members) -> np.ndarray:
    """Return the value that stands for a probability of zero [shape=(members, 1, 1)].

    Files are rounded: a zero is less than the smallest number that was written, so half of that is used.
    """
    positive = np.where(members.probabilities > 0, members.probabilities, 1.0)
    least: np.ndarray = positive.min((1, 2), keepdims=True)
    return np.maximum(least / 2, MIN_PROBABILITY)


def _evidence(members: Members, prior: np.ndarray, zeros: np.ndarray) -> np.ndarray:
    """Return the centred log probabilities of the members, zero for missing ones, followed by those of the prior."""
    logs = np.log(np.maximum(np.nan_to_num(members.probabilities, nan=1.0), zeros))
    every = np.concatenate([logs, np.broadcast_to(prior, (1, *logs.shape[1:]))])
    return np.asarray(every - every.mean(2, keepdims=True))


def _without_missing(probabilities: np.ndarray, members: Members) -> np.ndarray:
    """Return the probabilities with nan for clips that no member predicts."""
    return np.where(np.atleast_1d(members.has_prediction.any(0))[:, None], probabilities, np.nan)


def _columns(members: Members, zeros: np.ndarray) -> np.ndarray:
    """Return one row of features per clip; the mean of the other members replaces a missing prediction."""
    logs = np.log(np.maximum(members.probabilities, zeros))
    logs = logs - logs.mean(2, keepdims=True)
    known = members.has_prediction[..., None]
    mean = np.where(known, logs, 0).sum(0) / np.maximum(known.sum(0), 1)
    filled = np.where(known, logs, mean)
    return np.asarray(filled.transpose(1, 0, 2).reshape(len(members.ids), -1))


def _score(posterior: Posterior, labels: Labels, name: str) -> float:
    """Return a metric, negated if it is an error."""
    found = compute_metrics(posterior, labels, only=[name])
    if name not in found:
        raise UnknownName("metric of these posteriors", name, compute_metrics(posterior, labels))
    return sign(name) * found[name]


def _logistic(rows: np.ndarray, emotion: np.ndarray, speakers: Sequence[str]) -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, GroupKFold

    n_folds = min(N_FOLDS, len(set(speakers)))
    model = LogisticRegression(max_iter=1000, tol=1e-3)
    if n_folds < 2:
        return model.set_params(C=PENALTIES[0]).fit(rows, emotion)
    search = GridSearchCV(model, {"C": PENALTIES}, scoring=_log_likelihood, cv=GroupKFold(n_folds))
    return search.fit(rows, emotion, groups=speakers).best_estimator_


def _log_likelihood(model: Any, rows: np.ndarray, emotion: np.ndarray) -> float:
    """Score a model in the search; an emotion that is absent from the training fold is merely unlikely."""
    column = np.searchsorted(model.classes_, emotion)
    column[column == len(model.classes_)] = 0
    known = model.classes_[column] == emotion
    likelihood = model.predict_proba(rows)[np.arange(len(emotion)), column]
    return float(np.log(np.maximum(np.where(known, likelihood, 0), MIN_PROBABILITY)).mean())


def _boosted(rows: np.ndarray, emotion: np.ndarray) -> Any:
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
    ).fit(rows, emotion)
