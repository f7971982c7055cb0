"""The scores by which training chooses among epochs and reports its folds."""

import numpy as np

from ..posteriors import metrics
from ..posteriors.labels import MISSING, Labels
from ..posteriors.posterior import Posterior
from ..tensors import IGNORE
from .dataset import CachedDataset
from .window_dataset import WindowDataset


def truth_of(samples: CachedDataset) -> Labels:
    """Return the labels of some samples as scores want them; of windows, moment by moment."""
    if isinstance(samples, WindowDataset):
        return samples.truth()
    emotion = np.array([MISSING if s.emotion == IGNORE else s.emotion for s in samples.samples])
    tracks = [np.atleast_2d(s.dimensions) for s in samples.samples]
    means = np.array([[_mean(column) for column in track.T] for track in tracks])
    return Labels(
        samples.ids,
        tuple(s or f"clip {i}" for i, s in zip(samples.ids, samples.speakers, strict=True)),
        samples.emotions,
        emotion.astype(int),
        {name: means[:, d] for d, name in enumerate(samples.dimensions)},
    )


def _mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


def score(posterior: Posterior, samples: CachedDataset, select: str) -> float:
    """Return the score a recipe selects by; more is better.

    ``mer2023`` is weighted F1 alone where nobody annotated valence, and the concordance where no
    emotion is learnt; ``ccc`` and ``mse`` are means over the dimensions, ``mse`` negated.
    """
    figures = metrics.figures(posterior, truth_of(samples))
    if select == "mer2023" and "mer2023" not in figures:
        select = "waf" if "waf" in figures else "ccc"
    if select in figures:
        return figures[select]
    found = [value for name, value in figures.items() if name.startswith(f"{select}:")]
    return metrics.sign(select) * float(np.mean(found)) if found else float("nan")
