"""Training of one model: a network by gradients, or a head on pooled features."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

from .. import plugins
from ..errors import RecipeError, listing
from ..heads._pooled import PooledHead
from ..posteriors.posterior import Posterior
from ..recipes.recipe import PluginSettings, Recipe
from .dataset import Dataset
from .loop import fit, initialise, seeded
from .model import EmotionModel

if TYPE_CHECKING:
    from .pooled import PooledModel


class TrainedModel(Protocol):
    """Interface of a trained model."""

    def posterior(self, dataset: Dataset, *, device: torch.device | str = "cpu") -> Posterior:
        """Return the posterior of a dataset, one row per clip."""

    def save(self, path: Path) -> None:
        """Write the model; the file is complete or absent."""


def fit_recipe(
    recipe: Recipe,
    dataset: Dataset,
    *,
    seed: int,
    device: torch.device | str = "cpu",
    log: Path | None = None,
    state_file: Path | None = None,
    start: Path | None = None,
) -> tuple[TrainedModel, int]:
    """Train one model of a recipe on the clips of a training fold; return it with its number of epochs.

    Where the recipe has patience, some of the clips are split off to choose the epoch, with other speakers than the
    rest. Held-out clips are not used. Heads on pooled features are fitted in 0 epochs.

    Parameters
    ----------
    dataset : Dataset
        Training clips; those without a label or without any stream are ignored.
    log, state_file : Path or None
        See `loop.fit`.
    start : Path or None
        Saved model from which the input norms, the fusion and the head are taken.
    """
    assert recipe.head is not None
    with _one_thread(recipe):
        train = dataset.labelled()
        if not len(train):
            raise RecipeError(
                "No clip of the training folds has both a label and features. Fill in labels or extract features."
            )
        if is_pooled(recipe.head):
            return _pooled(recipe, dataset.emotions, dataset.dimensions).fit(train), 0
        train = train.with_estimated_delays()
        validation = None
        if recipe.training.patience:
            train, validation = validation_split(train, recipe.training.validation, seed=seed)
        model = build_network(recipe, dataset, seed=seed)
        if train.delays:
            model.config["delays"] = list(train.delays)
        initialise(model, train, standardise=not start and recipe.streams.standardise != "none")
        if start:
            model.start_from(EmotionModel.load(start))
        history = fit(
            model,
            train,
            recipe.training,
            validation=validation,
            seed=seed,
            device=device,
            log=log,
            state_file=state_file,
        )
        return model, len(history)


@contextmanager
def _one_thread(recipe: Recipe) -> Iterator[None]:
    """Train models of cached features in one thread.

    They are too small to gain from more, and where other programs use the cores as well, threads that wait for each
    other take ten times as long.
    """
    if recipe.encoders:
        yield
        return
    import sklearn.linear_model  # noqa: F401  only loaded libraries can be limited
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(before)


def build_network(recipe: Recipe, dataset: Dataset, *, seed: int) -> EmotionModel:
    """Return the untrained network of a recipe for the streams of a dataset; the seed draws its weights."""
    if recipe.fusion is None or recipe.head is None:
        raise RecipeError(f"{recipe.name} has no [fusion], which its head needs. Add one to the recipe.")
    if missing := sorted(set(recipe.encoders) - set(dataset.shapes)):
        raise RecipeError(
            f"{recipe.name} reads {listing(missing)} from media, which this dataset does not contain. "
            "Train it with `affuse train`."
        )
    with seeded(seed):
        model = EmotionModel.build(
            dataset.shapes,
            (recipe.fusion.name, recipe.fusion.options),
            (recipe.head.name, recipe.head.options),
            emotions=dataset.emotions,
            dimensions=dataset.dimensions,
            layers=recipe.streams.layers,
            encoders=recipe.encoders,
            seed=seed,
        )
    model.fusion.check_streams()
    return model


def check_recipe(recipe: Recipe, dataset: Dataset) -> None:
    """Pass the longest clip through the untrained network, so that faults are found before anything is written."""
    assert recipe.head is not None
    if is_pooled(recipe.head):
        _pooled(recipe, dataset.emotions, dataset.dimensions)
    elif not recipe.encoders and len(dataset):
        longest = max(dataset.samples, key=lambda sample: sample.n_steps)
        build_network(recipe, dataset, seed=0).posterior(dataset.where(s is longest for s in dataset.samples))


def is_pooled(head: PluginSettings) -> bool:
    """Return whether a head is fitted to pooled features instead of the output of a fusion."""
    found = plugins.find("head", head.name)
    return isinstance(found, type) and issubclass(found, PooledHead)


def load_model(path: Path, recipe: Recipe, *, emotions: Sequence[str], dimensions: Sequence[str]) -> TrainedModel:
    """Load a model that `fit_recipe` has trained."""
    assert recipe.head is not None
    if is_pooled(recipe.head):
        return _pooled(recipe, emotions, dimensions).load(path)
    return EmotionModel.load(path)


def _pooled(recipe: Recipe, emotions: Sequence[str], dimensions: Sequence[str]) -> "PooledModel":
    from .pooled import PooledModel

    assert recipe.head is not None
    return PooledModel.build(recipe.head, recipe.streams, emotions=emotions, dimensions=dimensions)


def validation_split(dataset: Dataset, share: float, *, seed: int) -> tuple[Dataset, Dataset]:
    """Split clips into those to train on and those on which the epoch is chosen.

    No speaker is on both sides, and emotions are as equally distributed as possible. A clip without a speaker counts
    as a speaker of its own.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    groups = [sample.group for sample in dataset.samples]
    n_parts = min(round(1 / share), len(set(groups)))
    if n_parts < 2:
        raise RecipeError(
            "Found one speaker in the training folds. training.patience needs at least two speakers. Set "
            "training.patience=0 to train all epochs."
        )
    labels = [sample.emotion for sample in dataset.samples]
    splitter = StratifiedGroupKFold(n_parts, shuffle=True, random_state=seed)
    _, rows = next(splitter.split(labels, labels, groups))
    validation = np.isin(np.arange(dataset.n_clips), rows)
    return dataset.where(~validation), dataset.where(validation)
