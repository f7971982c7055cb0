"""Logistic regression on pooled features for the emotion, ridge regression for the dimensions."""

from collections.abc import Sequence

import numpy as np
from scipy.special import softmax

from ..errors import RecipeError
from ._pooled import PooledHead, inner_folds, softmax_regression


class Logistic(PooledHead):
    """Logistic regression on pooled features.

    Parameters
    ----------
    emotions, dimensions : sequence of str
        Targets to predict.
    C : float or sequence of float
        Inverse strength of the penalty. Among several values, the one with the lowest log loss over speaker-independent
        folds of the training clips is used.
    alpha : float
        Penalty of the ridge regression.
    balanced : bool
        Whether emotions are weighted inversely to their frequency.
    """

    def __init__(
        self,
        emotions: Sequence[str],
        dimensions: Sequence[str],
        *,
        C: float | Sequence[float] = 0.03,
        alpha: float = 100.0,
        balanced: bool = False,
    ) -> None:
        super().__init__(emotions, dimensions)
        self.candidates = [float(C)] if isinstance(C, (int, float)) else [float(c) for c in C]
        self.alpha, self.balanced = alpha, balanced
        if min(self.candidates, default=0) <= 0 or alpha < 0:
            raise RecipeError(
                f"logistic: found C = {C} and alpha = {alpha}, expected C above 0 and alpha of at least 0."
            )

    def fit_emotion(self, z: np.ndarray, labels: np.ndarray, speakers: np.ndarray | None) -> None:
        best = min(self.candidates, key=lambda C: self._log_loss(C, z, labels, speakers))
        self.arrays["weights"], self.arrays["biases"] = self._fit(best, z, labels)

    def _log_loss(self, C: float, z: np.ndarray, labels: np.ndarray, speakers: np.ndarray | None) -> float:
        if len(self.candidates) == 1:
            return 0.0
        losses = []
        for train, held_out in inner_folds(labels, speakers):
            weights, biases = self._fit(C, z[train], labels[train])
            correct = softmax(z[held_out] @ weights + biases, axis=1)[np.arange(len(held_out)), labels[held_out]]
            losses.append(-np.log(np.maximum(correct, 1e-9)))
        return float(np.concatenate(losses).mean())

    def _fit(self, C: float, z: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return softmax_regression(z, labels, len(self.emotions), C=C, balanced=self.balanced)

    def fit_dimension(self, name: str, z: np.ndarray, values: np.ndarray) -> None:
        from sklearn.linear_model import Ridge

        model = Ridge(alpha=self.alpha).fit(z, values)
        self.arrays[f"{name}.weights"] = model.coef_
        self.arrays[f"{name}.bias"] = np.atleast_1d(model.intercept_)

    def probabilities(self, z: np.ndarray) -> np.ndarray:
        return np.asarray(softmax(z @ self.arrays["weights"] + self.arrays["biases"], axis=1))

    def dimension(self, name: str, z: np.ndarray) -> np.ndarray:
        return np.asarray(z @ self.arrays[f"{name}.weights"] + self.arrays[f"{name}.bias"])

    def check(self) -> None:
        super().check()
        dim = len(self.arrays["mean"])
        if self.emotions:
            self.expect("weights", dim, len(self.emotions))
            self.expect("biases", len(self.emotions))
        for name in self.dimensions:
            self.expect(f"{name}.weights", dim)
            self.expect(f"{name}.bias", 1)


plugin = Logistic
