"""What a recipe trains on one fold: a network by gradients, or a head on pooled features."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from ..errors import RecipeError, listing
from ..posteriors.posterior import Posterior
from ..recipes.recipe import Recipe
from .dataset import CachedDataset
from .delay import find_delays
from .loop import fit, initialise, seeded
from .model import EmotionModel
from .pooled import PooledModel, is_pooled
from .window_dataset import WindowDataset


class TrainedModel(Protocol):
    """What one training leaves behind."""

    def posterior(self, samples: CachedDataset, *, device: torch.device | str = "cpu") -> Posterior:
        """Return what it makes of some samples, in their order."""

    def save(self, path: Path) -> None:
        """Write it, whole or not at all."""


def learn(
    recipe: Recipe,
    samples: CachedDataset,
    *,
    seed: int,
    device: str = "cpu",
    log: Path | None = None,
    state_file: Path | None = None,
    start: Path | None = None,
) -> tuple[TrainedModel, int]:
    """Train a recipe on the clips of a training fold.

    Where the recipe has patience, some of the clips are set aside to choose the epoch on, speakers
    kept apart: what is held out for scoring is never looked at.

    Parameters
    ----------
    recipe : Recipe
    samples : CachedDataset
        Those without a label or without any stream are left out.
    seed : int
    device : str
    log, state_file : Path or None
        As `fit` takes them.
    start : Path or None
        A saved model whose fusion and head go on here.

    Returns
    -------
    TrainedModel
    int
        Epochs that it took; 0 for heads that know none.
    """
    assert recipe.head is not None
    with _fitting_threads(recipe):
        train = samples.labelled()
        if not len(train):
            raise RecipeError("no clip of the training folds has a label and features")
        if is_pooled(recipe.head):
            return _pooled(recipe, samples.emotions, samples.dimensions).fit(train), 0
        if isinstance(train, WindowDataset) and train.settings.search:
            train = train.delayed(find_delays(train, train.settings.search))
        validation = None
        if recipe.training.patience:
            train, validation = set_aside(train, recipe.training.validation, seed=seed)
        model = built(recipe, samples, seed=seed)
        if isinstance(train, WindowDataset):
            model.config["delays"] = list(train.delays)
        initialise(model, train, standardised=not start and recipe.streams.standardise != "none")
        if start:
            model.begin_from(EmotionModel.load(start))
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
def _fitting_threads(recipe: Recipe) -> Iterator[None]:
    """Give models on cached features one thread: they are too small for more to pay.

    Where other programs use the cores too, waiting for each other costs such threads tenfold.
    """
    if recipe.encoders:
        yield
        return
    import sklearn.linear_model  # noqa: F401  only libraries that are loaded can be held back
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(before)


def built(recipe: Recipe, samples: CachedDataset, *, seed: int) -> EmotionModel:
    """Return the recipe's network for some samples as it begins, its weights drawn by the seed.

    Raises
    ------
    RecipeError
        The recipe has no fusion, or its fusion would ignore a stream.
    """
    if recipe.fusion is None or recipe.head is None:
        raise RecipeError(f"{recipe.name} has no [fusion], which its head stands on")
    if unread := sorted(set(recipe.encoders) - set(samples.shapes)):
        raise RecipeError(
            f"{recipe.name} reads {listing(unread)} from media, which these samples do not hold; "
            "train it by `affuse train`"
        )
    with seeded(seed):
        model = EmotionModel.build(
            samples.shapes,
            (recipe.fusion.name, recipe.fusion.options),
            (recipe.head.name, recipe.head.options),
            emotions=samples.emotions,
            dimensions=samples.dimensions,
            layers=recipe.streams.layers,
            encoders=recipe.encoders,
            seed=seed,
        )
    model.fusion.check_streams()
    return model


def rehearse(recipe: Recipe, samples: CachedDataset) -> None:
    """Answer one clip by a network as it begins: what cannot work fails before anything is kept.

    Raises
    ------
    AffuseError
        What the network's parts found wrong with their options or shapes.
    """
    assert recipe.head is not None
    if is_pooled(recipe.head):
        _pooled(recipe, samples.emotions, samples.dimensions)
    elif not recipe.encoders and len(samples):
        first = max(range(len(samples)), key=samples.lengths.__getitem__)
        model = built(recipe, samples, seed=0)
        model.posterior(samples.where(i == first for i in range(len(samples))))


def load(path: Path, recipe: Recipe, *, emotions: Sequence[str], dimensions: Sequence[str]) -> TrainedModel:
    """Load what `learn` made of a recipe and `save` wrote."""
    assert recipe.head is not None
    if is_pooled(recipe.head):
        return _pooled(recipe, emotions, dimensions).load(path)
    return EmotionModel.load(path)


def _pooled(recipe: Recipe, emotions: Sequence[str], dimensions: Sequence[str]) -> PooledModel:
    assert recipe.head is not None
    return PooledModel.build(recipe.head, recipe.streams, emotions=emotions, dimensions=dimensions)


def set_aside(samples: CachedDataset, share: float, *, seed: int) -> tuple[CachedDataset, CachedDataset]:
    """Split clips into those to learn from and those to choose the epoch on.

    Speakers stand on one side, emotions on both as far as that goes; a clip without a speaker is
    its own.

    Raises
    ------
    RecipeError
        A single speaker cannot be split.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    groups = [s or f"clip {i}" for i, s in zip(samples.ids, samples.speakers, strict=True)]
    n_parts = min(round(1 / share), len(set(groups)))
    if n_parts < 2:
        raise RecipeError(
            "training.patience needs clips of at least two speakers in the training folds, found "
            "one; set training.patience=0 to train all epochs"
        )
    labels = [sample.emotion for sample in samples.samples]
    dealer = StratifiedGroupKFold(n_parts, shuffle=True, random_state=seed)
    _, held = next(dealer.split(labels, labels, groups))
    aside = np.zeros(len(groups), bool)
    aside[held] = True
    return samples.where(~aside), samples.where(aside)
