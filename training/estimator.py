"""A recipe as a scikit-learn classifier: clone, cross-validation and grid search work on it."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import NotFittedError

from ..cache.importing import MODALITIES
from ..cache.store import Features, FeatureStore
from ..errors import RecipeError, listing
from ..manifest import Clip, Manifest
from ..recipes.recipe import Recipe
from ..tensors import IGNORE, modality
from .dataset import CachedDataset, Sample, choose_streams, gather, per_speaker
from .learner import learn


class EmotionClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Trains one model of a recipe on clips and tells their emotions.

    A clip is a `Clip` of a manifest, whose features are looked up in `store`; or a mapping of
    stream name to array, of shape (time, dim) or (dim,); or one such array, the stream ``audio``.
    So ``fit(manifest, labels)`` works, and so does ``fit([{"audio": a, "visual": v}, …], labels)``.

    Parameters
    ----------
    recipe : str or Path
        Name or TOML file.
    store : str, Path or None
        Features folder, for clips of a manifest.
    streams : sequence of str
        ``NAME=KEY`` or ``KEY``; empty: all keys of the store.
    override : sequence of str
        ``section.key=value``, as `affuse train --set` takes them.
    epochs : int or None
        In place of the recipe's.
    learning_rate : float or None
        In place of the recipe's.
    random_state : int
    device : str

    Attributes
    ----------
    classes_ : ndarray of str
        What the columns of `predict_proba` stand for.
    model_ : System
        What was learnt.
    streams_ : dict of str to tuple of int
        Shape of one step of each stream.

    Examples
    --------
    >>> from sklearn.model_selection import GroupKFold, cross_val_score
    >>> classifier = EmotionClassifier("mer2023-afg-a", store="features/")
    >>> cross_val_score(classifier, manifest, labels, groups=speakers,
    ...                 cv=GroupKFold(5))  # doctest: +SKIP
    """

    def __init__(
        self,
        recipe: str | Path = "mer2023-afg-a",
        *,
        store: str | Path | None = None,
        streams: Sequence[str] = (),
        override: Sequence[str] = (),
        epochs: int | None = None,
        learning_rate: float | None = None,
        random_state: int = 0,
        device: str = "cpu",
    ) -> None:
        self.recipe, self.store, self.streams, self.override = recipe, store, streams, override
        self.epochs, self.learning_rate = epochs, learning_rate
        self.random_state, self.device = random_state, device

    def fit(self, X: Sequence[Any], y: Sequence[str]) -> "EmotionClassifier":
        """Learn from clips and their emotions.

        Parameters
        ----------
        X : sequence of Clip, mapping or ndarray
        y : sequence of str [shape=(clips,)]

        Raises
        ------
        RecipeError
            The recipe has members, or clips and labels do not fit together.
        """
        recipe = self._recipe()
        if len(X) != len(y):
            raise RecipeError(f"{len(X)} clips and {len(y)} labels; wanted one a clip")
        if absent := [i for i, label in enumerate(y) if label is None or label != label]:
            raise RecipeError(f"clips {listing(absent)} have no label; leave them out")
        self.classes_ = np.unique(np.asarray(y))
        self.streams_: dict[str, tuple[int, ...]] = {}
        samples = self._samples(X, [str(label) for label in y])
        self.streams_ = dict(samples.shapes)
        self.model_, self.n_epochs_ = learn(recipe, samples, seed=self.random_state, device=self.device)
        return self

    def predict_proba(self, X: Sequence[Any]) -> np.ndarray:
        """Return probabilities of shape (clips, classes); nan for a clip without any stream."""
        samples = self._samples(X, None)
        return self.model_.posterior(samples, device=self.device).probabilities

    def predict(self, X: Sequence[Any]) -> np.ndarray:
        """Return the likeliest emotion of every clip.

        A clip without any stream gets the first emotion, as scikit-learn wants a label, and a
        warning says so.
        """
        probabilities = self.predict_proba(X)
        if silent := np.flatnonzero(np.isnan(probabilities).any(1)).tolist():
            told = f"no stream in clips {listing(silent)}: '{self.classes_[0]}' stands for no answer"
            warnings.warn(told, stacklevel=2)
        chosen: np.ndarray = self.classes_[np.nan_to_num(probabilities).argmax(1)]
        return chosen

    def _recipe(self) -> Recipe:
        own = [
            f"training.{name}={value}"
            for name, value in (("epochs", self.epochs), ("learning_rate", self.learning_rate))
            if value is not None
        ]
        if isinstance(self.override, str):
            raise RecipeError(f"override = {self.override!r}; wanted a list, [{self.override!r}]")
        recipe = Recipe.read(self.recipe, override=[*self.override, *own])
        if recipe.members:
            raise RecipeError(
                f"{recipe.name} has members; fit one estimator each and average, as scikit-learn's "
                "VotingClassifier does"
            )
        return recipe

    def _samples(self, X: Sequence[Any], labels: Sequence[str] | None) -> CachedDataset:
        if not len(X):
            raise RecipeError("no clip; wanted at least one")
        if not hasattr(self, "classes_"):
            raise NotFittedError("this EmotionClassifier is not fitted; call fit first")
        recipe, emotions = self._recipe(), [str(c) for c in self.classes_]
        index = {emotion: i for i, emotion in enumerate(emotions)}
        targets = [IGNORE] * len(X) if labels is None else [index[label] for label in labels]
        if isinstance(X[0], Clip):
            samples = self._of_clips(X, recipe, emotions)
        else:
            samples = _of_arrays(X, recipe.streams.modalities, emotions, self.streams_)
        samples = CachedDataset(
            tuple(s._replace(emotion=t) for s, t in zip(samples.samples, targets, strict=True)),
            samples.speakers,
            samples.shapes,
            samples.emotions,
            samples.dimensions,
        )
        return per_speaker(samples)[0] if recipe.streams.standardise == "speaker" else samples

    def _of_clips(self, X: Sequence[Clip], recipe: Recipe, emotions: Sequence[str]) -> CachedDataset:
        if self.store is None:
            raise RecipeError("clips of a manifest need store=, the folder of their features")
        store = FeatureStore(self.store)
        chosen = choose_streams(store, asked=self.streams, modalities=recipe.streams.modalities)
        return gather(Manifest(X), store, chosen, emotions=emotions, dimensions=())


def _of_arrays(
    X: Sequence[Any], modalities: Sequence[str], emotions: Sequence[str], known: Mapping[str, tuple[int, ...]]
) -> CachedDataset:
    clips = [_streams(i, x, modalities) for i, x in enumerate(X)]
    shapes = dict(known)
    for i, clip in enumerate(clips):
        if known and (unknown := sorted(set(clip) - set(known))):
            raise RecipeError(f"clip {i}: no stream {listing(unknown)} was learnt from; there is {listing(known)}")
        for name, features in clip.items():
            shape = features.values.shape[1:]
            if shapes.setdefault(name, shape) != shape:
                raise RecipeError(
                    f"clip {i}: {name} of shape {features.values.shape}, others have {shapes[name]} a step"
                )
    if not shapes:
        wanted = f" of modality {listing(modalities)}" if modalities else ""
        raise RecipeError(f"no stream{wanted} in any clip")
    samples = tuple(
        Sample(str(i), {name: clip.get(name) for name in sorted(shapes)}, IGNORE, np.zeros(0))
        for i, clip in enumerate(clips)
    )
    ordered = dict(sorted(shapes.items()))
    return CachedDataset(samples, (None,) * len(samples), ordered, tuple(emotions), ())


def _streams(clip: int, x: Any, modalities: Sequence[str]) -> dict[str, Features]:
    found = {}
    for name, array in (x if isinstance(x, Mapping) else {"audio": x}).items():
        if modality(name) not in MODALITIES:
            raise RecipeError(
                f"clip {clip}: a stream called {name!r}; a name begins with its modality, such as "
                f"'visual:{name}': {listing(MODALITIES)}"
            )
        if array is None or (modalities and modality(name) not in modalities):
            continue
        values = np.asarray(array)
        if values.dtype.kind not in "fiub" or not np.isfinite(values).all():
            raise RecipeError(f"clip {clip}: {name} is not finite numbers; leave a stream out that is not there")
        values = values[None] if values.ndim == 1 else values
        found[name] = Features(values, np.arange(len(values), dtype=np.float32))
    return found
