"""The contract of a head on pooled features: fitted in one call and stored as plain arrays.

Scikit-learn and LightGBM fit the models. The result is a handful of arrays, and prediction from them takes a few
lines. A fitted head is therefore a safetensors file: it contains no code, prediction does not need these libraries,
and it does not depend on their version.
"""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

import numpy as np

from ..errors import RecipeError
from ..tensors import IGNORE, Targets

N_INNER = 5
"""Number of folds within the training fold, for the choice of settings."""


class PooledHead(ABC):
    """Base class of every head on pooled features.

    A subclass adds its options as keyword-only arguments and implements the four abstract methods. It stores all
    fitted values in `arrays`.

    >>> head = plugins.build("head", "logistic", emotions, dimensions, settings={"C": 0.03})
    >>> head.fit(x, targets, speakers=speakers).save("fold1.safetensors")      # doctest: +SKIP
    >>> again = plugins.build("head", "logistic", emotions, dimensions, settings={"C": 0.03})
    >>> probabilities, dimensions = again.load("fold1.safetensors").predict(x) # doctest: +SKIP

    Parameters
    ----------
    emotions, dimensions : sequence of str
        Targets to predict; either may be empty, not both.

    Attributes
    ----------
    arrays : dict of str to ndarray
        Fitted values by name; empty before `fit` or `load`.
    """

    def __init__(self, emotions: Sequence[str], dimensions: Sequence[str]) -> None:
        self.emotions, self.dimensions = tuple(emotions), tuple(dimensions)
        self.arrays: dict[str, np.ndarray] = {}

    def fit(self, x: np.ndarray, targets: Targets, *, speakers: Sequence[object] | None = None) -> Self:
        """Fit the head to pooled features.

        Parameters
        ----------
        x : ndarray [shape=(clips, dim)]
            Nan where a clip lacks the stream. The head standardises the features over these clips.
        targets : Targets
            Emotions of shape (clips,) and dimensions of shape (clips, n).
        speakers : sequence, optional
            Speaker of each clip; settings are chosen on folds that keep speakers together.

        Raises
        ------
        RecipeError
            If fewer than two emotions are annotated, or a dimension has no annotation.
        """
        with np.errstate(invalid="ignore"):
            present = ~np.isnan(x)
            n = np.maximum(present.sum(0), 1)
            mean = np.where(present, x, 0).sum(0, dtype=np.float64) / n
            variance = (np.where(present, x - mean, 0) ** 2).sum(0) / n
        scale = np.where(variance > 1e-10 * np.maximum(1, mean**2), np.sqrt(variance), 1)
        self.arrays = {"mean": mean, "scale": scale}
        z, groups = self._standardised(x), None if speakers is None else np.asarray(speakers)
        if self.emotions:
            labels = targets.emotion.numpy()
            known = labels != IGNORE
            if len(np.unique(labels[known])) < 2:
                raise RecipeError(
                    f"{type(self).__name__} needs training clips of at least two emotions, but found "
                    f"{len(np.unique(labels[known]))}. Annotate more clips or choose other folds."
                )
            self.fit_emotion(z[known], labels[known], None if groups is None else groups[known])
        for d, name in enumerate(self.dimensions):
            values = targets.dimensions[:, d].numpy()
            known = ~np.isnan(values)
            if not known.any():
                raise RecipeError(
                    f"No training clip is annotated with {name}. Annotate it or leave it out of targets.dimensions."
                )
            self.fit_dimension(name, z[known], values[known].astype(np.float64))
        return self

    def predict(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Predict from pooled features.

        Parameters
        ----------
        x : ndarray [shape=(clips, dim)]

        Returns
        -------
        probabilities : ndarray [shape=(clips, emotions)]
        dimensions : ndarray [shape=(clips, n)]

        Raises
        ------
        RecipeError
            If the head is not fitted, or was fitted on another number of features.
        """
        if not self.arrays:
            raise RecipeError(f"{type(self).__name__} is not fitted yet. Call fit or load before predict.")
        if x.ndim != 2 or x.shape[1] != len(self.arrays["mean"]):
            raise RecipeError(
                f"Found features of shape {x.shape}, but this head was fitted on {len(self.arrays['mean'])} columns. "
                "Use the features of the same encoders and the same streams.pool."
            )
        z = self._standardised(x)
        empty = np.zeros((len(x), 0))
        values = [self.dimension(name, z) for name in self.dimensions]
        return (self.probabilities(z) if self.emotions else empty, np.stack(values, axis=1) if values else empty)

    def save(self, path: str | Path) -> None:
        """Write the fitted arrays."""
        from safetensors.numpy import save_file

        save_file({name: np.ascontiguousarray(a) for name, a in self.arrays.items()}, path)

    def load(self, path: str | Path) -> Self:
        """Load the arrays that a head with the same options saved.

        Raises
        ------
        RecipeError
            If the file holds no fitted head of this kind, or its arrays do not fit together.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        try:
            self.arrays = load_file(path)
            self.check()
        except (OSError, SafetensorError, KeyError, ValueError, IndexError) as error:
            self.arrays = {}
            raise RecipeError(f"{path} is not a fitted {type(self).__name__}: {error}. Train it again.") from error
        return self

    def _standardised(self, x: np.ndarray) -> np.ndarray:
        z: np.ndarray = (x.astype(np.float64) - self.arrays["mean"]) / self.arrays["scale"]
        return np.asarray(np.nan_to_num(z, copy=False, nan=0.0))

    def expect(self, name: str, *shape: int | None) -> np.ndarray:
        """Return a loaded array after checking its shape; None stands for any length.

        Raises
        ------
        ValueError
            If it has another shape or holds values that are not finite.
        """
        array = self.arrays[name]
        fits = array.ndim == len(shape) and all(
            expected is None or found == expected for found, expected in zip(array.shape, shape, strict=True)
        )
        if not fits or not np.isfinite(array).all():
            raise ValueError(f"array {name!r} of shape {array.shape} does not fit")
        return array

    def check(self) -> None:
        """Raise ValueError if the loaded arrays do not fit together; subclasses add their own arrays."""
        self.expect("mean", None)
        self.expect("scale", len(self.arrays["mean"]))

    @abstractmethod
    def fit_emotion(self, z: np.ndarray, labels: np.ndarray, speakers: np.ndarray | None) -> None:
        """Fit the emotions: `z` of shape (clips, dim), `labels` (clips,) of at least two emotions."""

    @abstractmethod
    def fit_dimension(self, name: str, z: np.ndarray, values: np.ndarray) -> None:
        """Fit one dimension: `z` of shape (clips, dim), `values` (clips,)."""

    @abstractmethod
    def probabilities(self, z: np.ndarray) -> np.ndarray:
        """Return probabilities of shape (clips, emotions)."""

    @abstractmethod
    def dimension(self, name: str, z: np.ndarray) -> np.ndarray:
        """Return the values of one dimension, shape (clips,)."""


def inner_folds(labels: np.ndarray, speakers: np.ndarray | None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield training and held-out rows of folds within the training fold; known speakers stay together."""
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    rows, counts = np.arange(len(labels)), np.unique(labels, return_counts=True)[1]
    n_folds = N_INNER if speakers is None else min(N_INNER, len(np.unique(speakers)))
    if speakers is None or n_folds < 2:
        smallest = int(counts.min())
        folds = StratifiedKFold(max(2, min(N_INNER, smallest)), shuffle=True, random_state=0)
        yield from folds.split(rows, labels) if smallest > 1 else [(rows, rows)]
        return
    n_folds = min(n_folds, int(counts.max()))
    if n_folds < 2:
        yield rows, rows
        return
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The least populated class")
        yield from StratifiedGroupKFold(n_folds).split(rows, labels, speakers)


ABSENT = -1e30
"""Logit of an emotion that is absent from the training fold: finite, with a probability of zero."""


def softmax_regression(
    x: np.ndarray, labels: np.ndarray, n_emotions: int, *, C: float, balanced: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Return weights (dim, emotions) and biases (emotions,) of a multinomial logistic regression.

    An emotion that is absent from the labels gets the bias `ABSENT`.
    """
    from sklearn.linear_model import LogisticRegression

    class_weight = "balanced" if balanced else None
    model = LogisticRegression(C=C, max_iter=2000, class_weight=class_weight).fit(x, labels)
    coef, intercept = model.coef_, model.intercept_
    if len(model.classes_) == 2:
        coef = np.concatenate([np.zeros_like(coef), coef])
        intercept = np.concatenate([np.zeros_like(intercept), intercept])
    weights, biases = np.zeros((x.shape[1], n_emotions)), np.full(n_emotions, ABSENT)
    weights[:, model.classes_], biases[model.classes_] = coef.T, intercept
    return weights, biases
