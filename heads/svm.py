"""Support vector machine on pooled features for the emotion, support vector regression for the dimensions.

A fitted machine consists of its support vectors, a matrix that turns their kernels into one decision per pair of
emotions, and a logistic regression that turns the decisions into probabilities. The regression is fitted on decisions
about held-out training clips (Platt 1999, extended to all emotions at once), so that its probabilities are not
overconfident.
"""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from scipy.special import softmax

from ..errors import RecipeError, check_known
from ._pooled import PooledHead, inner_folds, softmax_regression


class SVM(PooledHead):
    """Support vector machine on pooled features.

    Parameters
    ----------
    emotions, dimensions : sequence of str
        Targets to predict.
    C : float
        Inverse strength of the penalty.
    kernel : {"rbf", "linear"}
        Kernel of machine and regression.
    gamma : float, optional
        Inverse width of the rbf kernel; None: one over the number of features.
    epsilon : float
        Tolerance of the regression, in standard deviations of the dimension.
    balanced : bool
        Whether emotions are weighted inversely to their frequency.
    """

    def __init__(
        self,
        emotions: Sequence[str],
        dimensions: Sequence[str],
        *,
        C: float = 1.0,
        kernel: str = "rbf",
        gamma: float | None = None,
        epsilon: float = 0.1,
        balanced: bool = False,
    ) -> None:
        super().__init__(emotions, dimensions)
        check_known("kernel", kernel, ("rbf", "linear"))
        self.C, self.kernel, self.gamma = C, kernel, gamma
        self.epsilon, self.balanced = epsilon, balanced
        if C <= 0 or epsilon < 0 or (gamma is not None and gamma <= 0):
            raise RecipeError(
                f"svm: found C = {C}, epsilon = {epsilon} and gamma = {gamma}, expected C and gamma above 0 and "
                "epsilon of at least 0."
            )

    def fit_emotion(self, z: np.ndarray, labels: np.ndarray, speakers: np.ndarray | None) -> None:
        n_emotions = len(self.emotions)
        decisions = np.zeros((len(z), n_emotions * (n_emotions - 1) // 2))
        for train, held_out in inner_folds(labels, speakers):
            machine = self._machine(z[train], labels[train])
            decisions[held_out] = self._decisions(z[held_out], *machine)
        self.arrays["weights"], self.arrays["biases"] = softmax_regression(decisions, labels, n_emotions, C=1.0)
        vectors, pairs, offsets = self._machine(z, labels)
        self.arrays |= {"vectors": vectors, "pairs": pairs, "offsets": offsets}

    def _machine(self, z: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return support vectors, coefficients of shape (vectors, pairs) and offsets of shape (pairs,)."""
        from sklearn.svm import SVC

        model = SVC(
            C=self.C, kernel=self.kernel, gamma=self._gamma(z), class_weight="balanced" if self.balanced else None
        ).fit(z, labels)
        column = {pair: p for p, pair in enumerate(combinations(range(len(self.emotions)), 2))}
        pairs = np.zeros((len(model.support_vectors_), len(column)))
        offsets = np.zeros(len(column))
        ends = np.cumsum(model.n_support_)
        rows = [slice(end - n, end) for n, end in zip(model.n_support_, ends, strict=True)]
        # For a vector of one class, libsvm stores a coefficient per other class, in order. With only two classes
        # scikit-learn inverts the sign, so that positive stands for the second class.
        sign = -1.0 if len(model.classes_) == 2 else 1.0
        for p, (i, j) in enumerate(combinations(range(len(model.classes_)), 2)):
            at = column[int(model.classes_[i]), int(model.classes_[j])]
            pairs[rows[i], at] = sign * model.dual_coef_[j - 1, rows[i]]
            pairs[rows[j], at] = sign * model.dual_coef_[i, rows[j]]
            offsets[at] = sign * model.intercept_[p]
        return model.support_vectors_, pairs, offsets

    def _gamma(self, z: np.ndarray) -> float:
        return 1 / z.shape[1] if self.gamma is None else self.gamma

    def _kernel(self, z: np.ndarray, vectors: np.ndarray) -> np.ndarray:
        products: np.ndarray = z @ vectors.T
        if self.kernel == "linear":
            return products
        squares = (z**2).sum(1)[:, None] + (vectors**2).sum(1) - 2 * products
        return np.asarray(np.exp(-self._gamma(z) * np.maximum(squares, 0)))

    def _decisions(self, z: np.ndarray, vectors: np.ndarray, pairs: np.ndarray, offsets: np.ndarray) -> np.ndarray:
        return np.asarray(self._kernel(z, vectors) @ pairs + offsets)

    def fit_dimension(self, name: str, z: np.ndarray, values: np.ndarray) -> None:
        from sklearn.svm import SVR

        centre, spread = values.mean(), max(float(values.std()), 1e-8)
        model = SVR(C=self.C, kernel=self.kernel, gamma=self._gamma(z), epsilon=self.epsilon)
        model.fit(z, (values - centre) / spread)
        self.arrays[f"{name}.vectors"] = model.support_vectors_
        self.arrays[f"{name}.weights"] = spread * model.dual_coef_[0]
        self.arrays[f"{name}.bias"] = spread * model.intercept_ + centre

    def probabilities(self, z: np.ndarray) -> np.ndarray:
        machine = (self.arrays[name] for name in ("vectors", "pairs", "offsets"))
        decisions = self._decisions(z, *machine)
        return np.asarray(softmax(decisions @ self.arrays["weights"] + self.arrays["biases"], axis=1))

    def dimension(self, name: str, z: np.ndarray) -> np.ndarray:
        kernel = self._kernel(z, self.arrays[f"{name}.vectors"])
        return np.asarray(kernel @ self.arrays[f"{name}.weights"] + self.arrays[f"{name}.bias"])

    def check(self) -> None:
        super().check()
        dim, n = len(self.arrays["mean"]), len(self.emotions)
        if n:
            n_vectors = len(self.expect("vectors", None, dim))
            self.expect("pairs", n_vectors, n * (n - 1) // 2)
            self.expect("offsets", n * (n - 1) // 2)
            self.expect("weights", n * (n - 1) // 2, n)
            self.expect("biases", n)
        for name in self.dimensions:
            n_vectors = len(self.expect(f"{name}.vectors", None, dim))
            self.expect(f"{name}.weights", n_vectors)
            self.expect(f"{name}.bias", 1)


plugin = SVM
