"""Heads on pooled features: the statistics of every stream over time, concatenated into one row per clip."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from .. import plugins
from ..cache._commit import atomic_write
from ..cache.store import Features
from ..errors import RecipeError
from ..heads._pooled import PooledHead
from ..posteriors.posterior import Posterior
from ..recipes.recipe import PluginSettings, StreamSettings
from .dataset import Dataset

STATISTICS: dict[str, Callable[..., np.ndarray]] = {"mean": np.mean, "std": np.std}


class PooledModel:
    """A head on pooled features, with the way in which features are pooled."""

    def __init__(self, head: PooledHead, streams: StreamSettings) -> None:
        self.head, self.streams = head, streams

    @classmethod
    def build(
        cls, head: PluginSettings, streams: StreamSettings, *, emotions: Sequence[str], dimensions: Sequence[str]
    ) -> "PooledModel":
        """Build the model from a plug-in."""
        return cls(plugins.build("head", head.name, emotions, dimensions, settings=head.options), streams)

    def fit(self, dataset: Dataset) -> "PooledModel":
        """Fit the head to labelled clips."""
        speakers = [sample.group for sample in dataset.samples]
        self.head.fit(pool_features(dataset, self.streams), dataset.targets(), speakers=speakers)
        return self

    def posterior(self, dataset: Dataset, *, device: torch.device | str = "cpu") -> Posterior:
        """Decode every clip; a clip without any stream gets a row of nan. The device is ignored."""
        del device
        probabilities, dimensions = self.head.predict(pool_features(dataset, self.streams))
        empty = np.array([not sample.n_steps for sample in dataset.samples], bool)
        probabilities[empty], dimensions[empty] = np.nan, np.nan
        named = {name: dimensions[:, d] for d, name in enumerate(dataset.dimensions)}
        return Posterior(dataset.ids, dataset.emotions, probabilities, named)

    def save(self, path: Path) -> None:
        """Write the fitted head; the file is complete or absent."""
        with atomic_write(path) as temporary:
            self.head.save(temporary)

    def load(self, path: Path) -> "PooledModel":
        """Read the fitted head of a model of the same recipe."""
        self.head.load(path)
        return self


def pool_features(dataset: Dataset, streams: StreamSettings) -> np.ndarray:
    """Return the statistics over time of every stream, concatenated.

    Returns
    -------
    ndarray [shape=(clips, number of statistics x width of all streams)]
        Nan where a clip lacks the stream.
    """
    if not streams.pool:
        raise RecipeError("streams.pool is empty. Set it to mean, std or both.")
    blocks = []
    for name, shape in sorted(dataset.shapes.items()):
        clips = [_one_layer(s.streams[name], shape, streams.layers) for s in dataset.samples]
        for statistic in streams.pool:
            missing = np.full(shape[-1], np.nan, np.float32)
            blocks.append(np.stack([missing if c is None else STATISTICS[statistic](c, axis=0) for c in clips]))
    return np.concatenate(blocks, axis=1)


def _one_layer(features: Features | None, shape: Sequence[int], layers: Literal["mix"] | int) -> np.ndarray | None:
    if features is None or not len(features.values):
        return None
    values = np.asarray(features.values, np.float32)
    if len(shape) == 1:
        return values
    mixed: np.ndarray = values.mean(1) if layers == "mix" else values[:, int(layers)]
    return mixed
