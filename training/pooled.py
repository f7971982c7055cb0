"""Heads on pooled features: every stream's statistics over time side by side, one row a clip."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from .. import plugins
from ..cache.store import Features
from ..errors import RecipeError
from ..heads._pooled import PooledHead
from ..posteriors.posterior import Posterior
from ..recipes.recipe import Choice, StreamSettings
from .dataset import CachedDataset

STATISTICS: dict[str, Callable[..., np.ndarray]] = {"mean": np.mean, "std": np.std}


class PooledModel:
    """A head on pooled features and how the features are pooled.

    Parameters
    ----------
    head : PooledHead
    streams : StreamSettings
    """

    def __init__(self, head: PooledHead, streams: StreamSettings) -> None:
        self.head, self.streams = head, streams

    @classmethod
    def build(
        cls, head: Choice, streams: StreamSettings, *, emotions: Sequence[str], dimensions: Sequence[str]
    ) -> "PooledModel":
        """Make it of a plug-in.

        Raises
        ------
        UnknownName, UnknownOption, RecipeError
        """
        built = plugins.build("head", head.name, emotions, dimensions, settings=head.options)
        return cls(built, streams)

    def fit(self, samples: CachedDataset) -> "PooledModel":
        """Learn from labelled samples."""
        targets = samples.targets()
        if targets.dimensions.ndim == 3:
            targets = targets._replace(dimensions=targets.dimensions.nanmean(1))
        speakers = [s or f"clip {i}" for i, s in zip(samples.ids, samples.speakers, strict=True)]
        self.head.fit(pooled(samples, self.streams), targets, speakers=speakers)
        return self

    def posterior(self, samples: CachedDataset, *, device: torch.device | str = "cpu") -> Posterior:
        """Decode every sample; one without any stream gets a row of nan."""
        probabilities, dimensions = self.head.predict(pooled(samples, self.streams))
        absent = np.array([not n_steps for n_steps in samples.lengths])
        probabilities[absent], dimensions[absent] = np.nan, np.nan
        named = {name: dimensions[:, d] for d, name in enumerate(samples.dimensions)}
        return Posterior(samples.ids, samples.emotions, probabilities, named)

    def save(self, path: Path) -> None:
        """Write the fitted head, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        spare = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            self.head.save(spare)
            os.replace(spare, path)
        finally:
            spare.unlink(missing_ok=True)

    def load(self, path: Path) -> "PooledModel":
        """Read what a model of the same recipe saved."""
        self.head.load(path)
        return self


def is_pooled(head: Choice) -> bool:
    """Tell whether a head stands on pooled features instead of a fusion."""
    found = plugins.find("head", head.name)
    return isinstance(found, type) and issubclass(found, PooledHead)


def pooled(samples: CachedDataset, streams: StreamSettings) -> np.ndarray:
    """Return statistics over time of every stream, side by side.

    Returns
    -------
    ndarray [shape=(clips, statistics x widths of all streams)]
        Nan where a clip lacks the stream.
    """
    blocks = []
    for name, shape in sorted(samples.shapes.items()):
        clips = [_flat(s.streams[name], shape, streams.layers) for s in samples.samples]
        blocks += [np.stack([_statistic(c, s, shape[-1]) for c in clips]) for s in streams.pool]
    if not blocks:
        raise RecipeError("streams.pool is empty; wanted mean, std or both")
    return np.concatenate(blocks, axis=1)


def _flat(features: Features | None, shape: Sequence[int], layers: Literal["mix"] | int) -> np.ndarray | None:
    if features is None or not len(features.values):
        return None
    values = np.asarray(features.values, np.float32)
    if len(shape) == 1:
        return values
    mixed: np.ndarray = values.mean(1) if layers == "mix" else values[:, int(layers)]
    return mixed


def _statistic(values: np.ndarray | None, statistic: str, dim: int) -> np.ndarray:
    if values is None:
        return np.full(dim, np.nan, np.float32)
    return STATISTICS[statistic](values, axis=0)
