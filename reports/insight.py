"""What a report shows of a run beyond its posteriors: which streams it leans on, where it looks."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch

from ..cache.store import FeatureStore
from ..inference.robustness import degraded
from ..manifest import Manifest
from ..posteriors.combine import truth_of
from ..posteriors.metrics import figures, headline
from ..posteriors.rules import align
from ..tensors import Stream
from ..training.model import EmotionModel
from ..training.run import Run

EXAMPLES = 4


@dataclass(frozen=True)
class Damage:
    """A score under one damage of one stream."""

    stream: str
    damage: str
    level: float
    score: float


@dataclass(frozen=True)
class Example:
    """Where a model looked in one held-out clip.

    Attributes
    ----------
    clip : str
    emotion : str
        The label.
    weights : dict of str to (ndarray [shape=(time,)], ndarray [shape=(time,)])
        Seconds and weights, by map.
    """

    clip: str
    emotion: str
    weights: Mapping[str, tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Insight:
    """What was found in one run.

    Attributes
    ----------
    score : str
        Figure that `robustness` shows.
    robustness : list of Damage
        The untouched clips first.
    examples : list of Example
    """

    score: str
    robustness: list[Damage] = field(default_factory=list)
    examples: list[Example] = field(default_factory=list)

    @property
    def whole(self) -> float:
        """The score of the untouched clips."""
        return self.robustness[0].score


def insight(run: Run, manifest: Manifest, store: FeatureStore) -> Insight:
    """Damage a run's streams and look at its attention; each clip by models that held it out."""
    found, score = [], ""
    for each in degraded(run, manifest, store):
        answers = each.posterior
        truth = truth_of(align([answers]), manifest)
        values = figures(answers, truth)
        score = score or headline(values)
        found.append(Damage(each.stream, each.damage, each.level, values.get(score, np.nan)))
    return Insight(score, found, examples(run, manifest, store))


def examples(run: Run, manifest: Manifest, store: FeatureStore) -> list[Example]:
    """Return the attention over a few held-out clips of different emotions, where there is any."""
    if run.facts is None or not run.models:
        return []
    fold = run.folds(Manifest.read(run.path / "manifest.csv"))[0]
    model = run.load(run.path / "models" / f"seed{run.facts.seeds[0]}-fold{fold.name}.safetensors")
    chosen = {clip.emotion: clip for clip in reversed(manifest.where(fold.held_out.ids))}
    clips = Manifest(list(chosen.values())[:EXAMPLES])
    if not isinstance(model, EmotionModel) or not len(clips):
        return []
    samples, _ = run.samples(clips, store)
    result = []
    model.eval()
    for row, clip in enumerate(clips):
        with torch.no_grad():
            prepared = model.prepare(samples.batch([row]).streams)
            maps = model.fusion(prepared).attention if prepared else {}
        weights = {
            name: over_time
            for name, values in maps.items()
            if (over_time := _over_time(name, values, prepared)) is not None
        }
        if weights:
            result.append(Example(clip.id, clip.emotion or "", weights))
    return result


def _over_time(name: str, values: torch.Tensor, prepared: Mapping[str, Stream]) -> tuple[np.ndarray, np.ndarray] | None:
    """Return seconds and weights of a map named after its stream; None for any other map."""
    stream = next((s for n, s in prepared.items() if name == n or name.startswith(f"{n} ")), None)
    if stream is None or values.ndim < 2:
        return None
    mask = stream.mask[0]
    time = [d for d in range(1, values.ndim) if values.shape[d] == len(mask)]
    if not time or mask.sum() < 2:
        return None
    others = [d for d in range(1, values.ndim) if d != time[-1]]
    mean = values.mean(others) if others else values
    return stream.times[0][mask].numpy(), mean[0][mask].numpy()
