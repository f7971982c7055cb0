"""Robustness of a run: its predictions when a stream is missing, loses frames or is noisy."""

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from ..cache.store import Features, FeatureStore
from ..errors import RecipeError
from ..manifest import Manifest
from ..posteriors.posterior import Posterior
from ..posteriors.rules import combine_by_rule
from ..training.dataset import Sample
from ..training.distributed import process_group
from ..training.run import Run
from ..training.standardisation import statistics


class DegradedPrediction(NamedTuple):
    """Predictions of a run for clips with one degraded stream.

    Attributes
    ----------
    stream : str
        Name of the degraded stream; empty for the original clips.
    degradation : str
        ``none``, ``removed``, ``frames removed`` or ``noise``.
    level : float
        Share of the frames that were removed, or standard deviation of the noise relative to that of the stream.
    posterior : Posterior
        Predictions for all clips.
    """

    stream: str
    degradation: str
    level: float
    posterior: Posterior


def degrade(
    run: Run,
    manifest: Manifest,
    store: FeatureStore,
    *,
    frames: Sequence[float] = (0.25, 0.5, 0.75, 0.9),
    noise: Sequence[float] = (0.25, 0.5, 1.0, 2.0),
    seed: int = 0,
    device: str = "auto",
) -> Iterator[DegradedPrediction]:
    """Yield the predictions of a run for the original clips and for every degradation of every stream.

    Clips that a fold held out are predicted by the models of that fold only, all other clips by every model, so the
    predictions may be scored. The only stream of a run is never removed.

    Parameters
    ----------
    run : Run
        Run on cached features, or a combination of such runs.
    manifest : Manifest
        Clips to predict.
    store : FeatureStore
        Feature store that holds the features of the clips.
    frames : sequence of float
        Shares of the frames to remove, from 0 to 1.
    noise : sequence of float
        Standard deviations of Gaussian noise, relative to the standard deviation of each feature.
    seed : int
        Seed for the choice of frames and for the noise. Models and levels share the same draws.
    device : str
        Device for the models: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.

    Raises
    ------
    RecipeError
        The run reads media directly.
    MissingFeatures
        The store lacks the features of a stream.
    """
    if run.metadata is None:
        parts = [
            degrade(member, manifest, store, frames=frames, noise=noise, seed=seed, device=device)
            for member in run.members
        ]
        for same in zip(*parts, strict=True):
            posterior = combine_by_rule([each.posterior for each in same], rule=run.recipe.combine.rule)
            yield same[0]._replace(posterior=posterior)
        return
    if run.recipe.encoders:
        raise RecipeError(
            f"{run.path} reads media directly, but only cached features can be degraded. Degrade the media files "
            "yourself, or train the same recipe on cached features."
        )
    place = process_group().device(device)
    original, _ = run.dataset(manifest, store)
    yield DegradedPrediction("", "none", 0.0, run.predict_dataset(original, manifest, device=place))
    levels = [("removed", 1.0), *(("frames removed", x) for x in frames), *(("noise", x) for x in noise)]
    for stream in original.shapes:
        deviation = statistics(sample.streams[stream] for sample in original.samples)[1]
        for degradation, level in levels:
            if degradation == "removed" and len(original.shapes) == 1:
                continue
            samples = tuple(_degrade(s, stream, degradation, level, deviation, seed) for s in original.samples)
            posterior = run.predict_dataset(replace(original, samples=samples), manifest, device=place)
            yield DegradedPrediction(stream, degradation, level, posterior)


def _degrade(sample: Sample, stream: str, degradation: str, level: float, deviation: np.ndarray, seed: int) -> Sample:
    features, degraded = sample.streams[stream], None
    # Seeded by the clip's id, so that neither the order nor the selection of clips changes the draws.
    generator = np.random.default_rng([seed, zlib.crc32(f"{sample.id}\0{stream}".encode())])
    if features is not None and degradation == "noise":
        noise = generator.standard_normal(features.values.shape, dtype=np.float32)
        degraded = features._replace(values=features.values + level * deviation * noise)
    elif features is not None and degradation == "frames removed":
        kept = generator.random(len(features.values)) >= level
        degraded = Features(features.values[kept], features.times[kept]) if kept.any() else None
    return sample._replace(streams={**sample.streams, stream: degraded})
