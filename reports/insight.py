"""Robustness and attention of a run, for the report and for `affuse evaluate --degrade`."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from ..cache.store import FeatureStore
from ..inference.robustness import degrade
from ..manifest import Manifest
from ..posteriors.combine import aligned_labels
from ..posteriors.metrics import compute_metrics, main_metric
from ..posteriors.rules import align
from ..tensors import Stream
from ..training.model import EmotionModel
from ..training.run import Run

N_EXAMPLES = 4


@dataclass(frozen=True)
class DegradedScore:
    """Score of a run while one of its streams is degraded; see `DegradedPrediction`."""

    stream: str
    damage: str
    level: float
    score: float


@dataclass(frozen=True)
class Robustness:
    """Scores of a run by one metric, first with intact and then with degraded streams."""

    metric: str
    scores: list[DegradedScore]

    @property
    def intact(self) -> float:
        """Score with intact streams."""
        return self.scores[0].score


@dataclass(frozen=True)
class AttentionExample:
    """Attention of a model over one held-out clip: times in seconds and weights, by the name of the attention map."""

    clip: str
    emotion: str
    weights: Mapping[str, tuple[np.ndarray, np.ndarray]]


def measure_robustness(run: Run, manifest: Manifest, store: FeatureStore, *, device: str = "auto") -> Robustness:
    """Score a run with intact and with degraded streams; models of a fold score the clips it held out."""
    scores: list[DegradedScore] = []
    metric = ""
    for each in degrade(run, manifest, store, device=device):
        values = compute_metrics(each.posterior, aligned_labels(align([each.posterior]), manifest))
        metric = metric or main_metric(values)
        scores.append(DegradedScore(each.stream, each.degradation, each.level, values.get(metric, np.nan)))
    return Robustness(metric, scores)


def attention_examples(run: Run, manifest: Manifest, store: FeatureStore) -> list[AttentionExample]:
    """Return the attention over a few held-out clips with different emotions, if the fusion has attention maps."""
    if run.metadata is None or not run.folder.models:
        return []
    fold = run.folds(Manifest.read(run.folder.manifest))[0]
    model = run.load(run.folder.model(run.metadata.seeds[0], fold.name))
    chosen = {clip.emotion: clip for clip in reversed(manifest.subset(fold.held_out.ids))}
    clips = Manifest(list(chosen.values())[:N_EXAMPLES])
    if not isinstance(model, EmotionModel) or not len(clips):
        return []
    dataset, _ = run.dataset(clips, store)
    result = []
    model.eval()
    for row, clip in enumerate(clips):
        with torch.no_grad():
            prepared = model.prepare(dataset.batch([row]).streams)
            maps = model.fusion(prepared).attention if prepared else {}
        found = {name: _over_time(name, values, prepared) for name, values in maps.items()}
        weights = {name: over_time for name, over_time in found.items() if over_time is not None}
        if weights:
            result.append(AttentionExample(clip.id, clip.emotion or "", weights))
    return result


def _over_time(name: str, values: torch.Tensor, prepared: Mapping[str, Stream]) -> tuple[np.ndarray, np.ndarray] | None:
    """Return times and weights of a map that is named after its stream; None for any other map."""
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
