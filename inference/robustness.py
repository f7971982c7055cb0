"""Posteriors of a run when its streams are missing, thinned or noisy, at stated levels."""

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
from ..training.dataset import Sample, statistics
from ..training.run import Run

FRAMES = (0.25, 0.5, 0.75, 0.9)
NOISE = (0.25, 0.5, 1.0, 2.0)


class Degraded(NamedTuple):
    """What was done to which stream, and what the run then said.

    Attributes
    ----------
    stream : str
        Empty for the untouched clips.
    damage : str
        ``none``, ``removed``, ``frames removed`` or ``noise``.
    level : float
        Share of the frames; or the noise's deviation, in the stream's own deviations.
    posterior : Posterior
    """

    stream: str
    damage: str
    level: float
    posterior: Posterior


def degraded(
    run: Run,
    manifest: Manifest,
    store: FeatureStore,
    *,
    frames: Sequence[float] = FRAMES,
    noise: Sequence[float] = NOISE,
    seed: int = 0,
    device: str = "cpu",
) -> Iterator[Degraded]:
    """Yield the run's posterior of its own clips under each damage.

    Clips that a fold held out are decoded by the models of that fold alone; where none was held
    out (clips of the split ``test``, other corpora), all models answer.

    Parameters
    ----------
    run : Run
    manifest : Manifest
    store : FeatureStore
    frames, noise : sequence of float
        Levels.
    seed : int
        Of which frames go and what the noise is; the same for every model and level.
    device : str
    """
    if run.facts is None:
        for same in zip(
            *(degraded(m, manifest, store, frames=frames, noise=noise, seed=seed, device=device) for m in run.members),
            strict=True,
        ):
            answers = [each.posterior for each in same]
            yield same[0]._replace(posterior=combine_by_rule(answers, rule=run.recipe.combine.rule))
        return
    if run.recipe.encoders:
        raise RecipeError(
            f"{run.path} reads media, and it is features that are damaged here; distort the files, "
            "or train the same recipe on cached features"
        )
    clean, _ = run.samples(manifest, store)
    yield Degraded("", "none", 0.0, run.answer(clean, manifest, device=device))
    levels = [("removed", 1.0), *(("frames removed", x) for x in frames), *(("noise", x) for x in noise)]
    for stream in clean.shapes:
        deviation = statistics(s.streams[stream] for s in clean.samples)[1]
        for damage, level in levels:
            if damage == "removed" and len(clean.shapes) == 1:
                continue
            changed = tuple(
                _with(s, stream, _damaged(s, stream, damage, level, deviation, seed)) for s in clean.samples
            )
            samples = replace(clean, samples=changed)
            yield Degraded(stream, damage, level, run.answer(samples, manifest, device=device))


def _with(sample: Sample, stream: str, features: Features | None) -> Sample:
    return sample._replace(streams={**sample.streams, stream: features})


def _damaged(
    sample: Sample, stream: str, damage: str, level: float, deviation: np.ndarray, seed: int
) -> Features | None:
    features = sample.streams[stream]
    if features is None or damage == "removed":
        return None
    # By the clip's name, so that neither the order nor the choice of clips changes what is drawn.
    generator = np.random.default_rng([seed, zlib.crc32(f"{sample.id}\0{stream}".encode())])
    if damage == "noise":
        drawn = generator.standard_normal(features.values.shape, dtype=np.float32)
        return features._replace(values=features.values + level * deviation * drawn)
    kept = generator.random(len(features.values)) >= level
    if not kept.any():
        return None
    return Features(features.values[kept], features.times[kept])
