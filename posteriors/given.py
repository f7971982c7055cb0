"""A posterior dressed as a scikit-learn classifier, which only calibration needs to import."""

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin


class Given(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A classifier, to scikit-learn, whose answers are its input."""

    def __init__(self, n_emotions: int) -> None:
        self.n_emotions = n_emotions
        self.classes_ = np.arange(n_emotions)

    def fit(self, rows: np.ndarray, labels: np.ndarray) -> "Given":
        return self

    def predict(self, rows: np.ndarray) -> np.ndarray:
        return np.asarray(rows.argmax(1))

    def predict_proba(self, rows: np.ndarray) -> np.ndarray:
        return rows
