"""A recipe as a scikit-learn classifier, for cloning, cross-validation and grid search."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import NotFittedError

from ..cache.store import Features, FeatureStore
from ..errors import RecipeError, listing
from ..manifest import Clip, Manifest
from ..plugins import check_modality, modality_of
from ..recipes.recipe import Recipe
from ..tensors import IGNORE
from .dataset import CachedDataset, Sample, gather
from .distributed import process_group
from .learner import fit_recipe
from .standardisation import standardise_per_speaker
from .streams import choose_streams


class EmotionClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Classifier that trains one model of a recipe and predicts the emotions of clips.

    A clip is a `Clip` of a manifest, whose features are read from `store`; a mapping of stream names to arrays of
    shape (time, dim) or (dim,); or one such array, which becomes the stream ``audio``. Both
    ``fit(manifest, labels)`` and ``fit([{"audio": a, "visual": v}, …], labels)`` work.

    Parameters
    ----------
    recipe : str or Path
        Name of a recipe, or path of a TOML file.
    store : FeatureStore, str, Path or None
        Features of the clips of a manifest.
    streams : sequence of str
        ``NAME=KEY`` or ``KEY`` of the store; empty: all keys.
    override : sequence of str
        Changed values of the recipe: ``section.key=value``, as for `affuse train --set`.
    epochs : int or None
        Number of epochs; None: that of the recipe.
    learning_rate : float or None
        Learning rate; None: that of the recipe.
    random_state : int
        Seed of the initial weights and of the order of clips.
    device : str
        Such as ``cpu`` or ``cuda:1``; ``auto`` takes the fastest device.

    Attributes
    ----------
    classes_ : ndarray of str
        Emotions, in the order of the columns of `predict_proba`.
    model_ : TrainedModel
        The trained model.
    n_epochs_ : int
        Number of epochs that were trained.
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
        store: FeatureStore | str | Path | None = None,
        streams: Sequence[str] = (),
        override: Sequence[str] = (),
        epochs: int | None = None,
        learning_rate: float | None = None,
        random_state: int = 0,
        device: str = "auto",
    ) -> None:
        self.recipe, self.store, self.streams, self.override = recipe, store, streams, override
        self.epochs, self.learning_rate = epochs, learning_rate
        self.random_state, self.device = random_state, device

    def fit(self, X: Sequence[Any], y: Sequence[str]) -> "EmotionClassifier":
        """Train on clips and their emotions.

        Parameters
        ----------
        X : sequence of Clip, mapping or ndarray
        y : sequence of str [shape=(clips,)]

        Raises
        ------
        RecipeError
            The recipe has members, or the clips and labels do not fit together.
        """
        recipe = self._recipe()
        if len(X) != len(y):
            raise RecipeError(f"Found {len(X)} clips and {len(y)} labels. Pass one label per clip.")
        if missing := [i for i, label in enumerate(y) if label is None or label != label]:
            raise RecipeError(f"The clips {listing(missing)} have no label. Leave them out.")
        self.classes_ = np.unique(np.asarray(y))
        self.streams_: dict[str, tuple[int, ...]] = {}
        dataset = self._dataset(X, [str(label) for label in y])
        self.streams_ = dict(dataset.shapes)
        device = process_group().device(self.device)
        self.model_, self.n_epochs_ = fit_recipe(recipe, dataset, seed=self.random_state, device=device)
        return self

    def predict_proba(self, X: Sequence[Any]) -> np.ndarray:
        """Return probabilities of shape (clips, classes); nan for a clip without any stream."""
        dataset = self._dataset(X, None)
        device = process_group().device(self.device)
        return self.model_.posterior(dataset, device=device).probabilities

    def predict(self, X: Sequence[Any]) -> np.ndarray:
        """Return the most probable emotion of every clip.

        A clip without any stream gets the first emotion, since scikit-learn needs a label, and a warning.
        """
        probabilities = self.predict_proba(X)
        if missing := np.flatnonzero(np.isnan(probabilities).any(1)).tolist():
            text = f"The clips {listing(missing)} have no stream; their label '{self.classes_[0]}' is a placeholder."
            warnings.warn(text, stacklevel=2)
        predicted: np.ndarray = self.classes_[np.nan_to_num(probabilities).argmax(1)]
        return predicted

    def _recipe(self) -> Recipe:
        own = [
            f"training.{name}={value}"
            for name, value in (("epochs", self.epochs), ("learning_rate", self.learning_rate))
            if value is not None
        ]
        if isinstance(self.override, str):
            raise RecipeError(f"Found override = {self.override!r}. Pass a list: [{self.override!r}].")
        recipe = Recipe.read(self.recipe, override=[*self.override, *own])
        if recipe.members:
            raise RecipeError(
                f"{recipe.name} has members. Fit one estimator for each and average them, as scikit-learn's "
                "VotingClassifier does."
            )
        return recipe

    def _dataset(self, X: Sequence[Any], labels: Sequence[str] | None) -> CachedDataset:
        if not len(X):
            raise RecipeError("Found no clip. Pass at least one.")
        if not hasattr(self, "classes_"):
            raise NotFittedError("This EmotionClassifier is not fitted. Call fit first.")
        recipe, emotions = self._recipe(), [str(c) for c in self.classes_]
        index = {emotion: i for i, emotion in enumerate(emotions)}
        targets = [IGNORE] * len(X) if labels is None else [index[label] for label in labels]
        if isinstance(X[0], Clip):
            dataset = self._from_clips(X, recipe, emotions)
        else:
            dataset = _from_arrays(X, recipe.streams.modalities, emotions, self.streams_)
        samples = (s._replace(emotion=t) for s, t in zip(dataset.samples, targets, strict=True))
        dataset = replace(dataset, samples=tuple(samples))
        return standardise_per_speaker(dataset)[0] if recipe.streams.standardise == "speaker" else dataset

    def _from_clips(self, X: Sequence[Clip], recipe: Recipe, emotions: Sequence[str]) -> CachedDataset:
        if self.store is None:
            raise RecipeError("Clips of a manifest need store=, the store with their features.")
        store = FeatureStore.of(self.store)
        chosen = choose_streams(store, requests=self.streams, modalities=recipe.streams.modalities)
        return gather(Manifest(X), store, chosen, emotions=emotions, dimensions=())


def _from_arrays(
    X: Sequence[Any], modalities: Sequence[str], emotions: Sequence[str], known: Mapping[str, tuple[int, ...]]
) -> CachedDataset:
    clips = [_streams(i, x, modalities) for i, x in enumerate(X)]
    shapes = dict(known)
    for i, clip in enumerate(clips):
        if known and (unknown := sorted(set(clip) - set(known))):
            raise RecipeError(
                f"Clip {i} has the stream {listing(unknown)}, which the model was not trained on. "
                f"Its streams are {listing(known)}."
            )
        for name, features in clip.items():
            shape = features.values.shape[1:]
            if shapes.setdefault(name, shape) != shape:
                raise RecipeError(
                    f"Clip {i} has {name} of shape {features.values.shape}, but other clips have the shape "
                    f"{shapes[name]} per step. Pass features of one encoder."
                )
    if not shapes:
        kind = f" of the modality {listing(modalities)}" if modalities else ""
        raise RecipeError(f"No clip has a stream{kind}. Pass at least one.")
    samples = tuple(
        Sample(str(i), {name: clip.get(name) for name in sorted(shapes)}, IGNORE, np.zeros(0))
        for i, clip in enumerate(clips)
    )
    return CachedDataset(samples, dict(sorted(shapes.items())), tuple(emotions), ())


def _streams(clip: int, x: Any, modalities: Sequence[str]) -> dict[str, Features]:
    found = {}
    for name, array in (x if isinstance(x, Mapping) else {"audio": x}).items():
        check_modality(modality_of(name), RecipeError)
        if array is None or (modalities and modality_of(name) not in modalities):
            continue
        values = np.asarray(array)
        if values.dtype.kind not in "fiub" or not np.isfinite(values).all():
            raise RecipeError(f"Clip {clip}: {name} contains values that are not finite numbers. Leave the stream out.")
        values = values[None] if values.ndim == 1 else values
        found[name] = Features(values, np.arange(len(values), dtype=np.float32))
    return found
