"""How late annotators answer, found on the training clips alone.

For every candidate a ridge regression from the sub-sequences' features to the labels so much later
is fitted on half of the speakers and asked about the other half, both ways; the delay under which
answers and labels go together best is taken, a dimension at a time.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..errors import RecipeError
from .windows import Windows

PENALTY = 0.1
"""Of the ridge, a sub-sequence: features are standardised."""


def find_delays(samples: Windows, candidates: Sequence[float]) -> tuple[float, ...]:
    """Return the delay of each dimension, out of the candidates.

    The label of a sub-sequence is its mean here whatever the recipe says: a last label would stand
    half a sub-sequence after what is seen, and the search would find the delay less that half.

    Parameters
    ----------
    samples : Windows
        Of the training fold.
    candidates : sequence of float
        Seconds.

    Raises
    ------
    RecipeError
        Fewer than two speakers, or no stretch that every candidate labels.
    """
    plain = replace(samples.settings, label="mean", stride=samples.settings.seconds, smooth=0.0)
    every = replace(samples, settings=plain, annotated=False)
    n = len(samples.dimensions)
    seen, groups = _seen(every)
    labels = np.stack(
        [_labels(every.delayed([delay] * n)) for delay in candidates], axis=1
    )  # (steps, candidates, n)
    people = sorted(set(groups))
    if len(people) < 2:
        raise RecipeError("windows.search needs training clips of at least two speakers")
    first = np.isin(groups, people[::2])
    found = []
    for d in range(n):
        known = np.isfinite(labels[:, :, d]).all(axis=1)
        if min((known & first).sum(), (known & ~first).sum()) < len(candidates):
            raise RecipeError("windows.search: too few stretches that every candidate labels")
        fits = [
            _agreement(seen[known], labels[known, :, d], half[known]) for half in (first, ~first)
        ]
        found.append(float(candidates[int(np.mean(fits, axis=0).argmax())]))
    return tuple(found)


def _seen(samples: Windows) -> tuple[np.ndarray, np.ndarray]:
    """Return all sub-sequences' features side by side, (steps, dims), and whose they are."""
    parts, groups = [], []
    for row in range(len(samples)):
        streams = samples.batch([row]).streams.values()
        flat = [s.values[0].numpy().reshape(samples.settings.length, -1) for s in streams]
        parts.append(np.concatenate(flat, axis=1))
        clip = int(samples.places[row, 0])
        speaker = samples.speakers[clip] or samples.samples[clip].id
        groups += [speaker] * samples.settings.length
    return np.concatenate(parts), np.array(groups)


def _labels(samples: Windows) -> np.ndarray:
    rows = range(len(samples))
    return np.concatenate([samples.batch([row]).targets.dimensions[0].numpy() for row in rows])


def _agreement(seen: np.ndarray, labels: np.ndarray, learn: np.ndarray) -> np.ndarray:
    """Return the correlation of answers and labels on the other half, for each candidate."""
    mean, deviation = seen[learn].mean(axis=0), seen[learn].std(axis=0)
    x = (seen - mean) / np.where(deviation > 1e-6, deviation, 1)
    centre = labels[learn].mean(axis=0)
    gram = x[learn].T @ x[learn] + PENALTY * learn.sum() * np.eye(x.shape[1])
    weights = np.linalg.solve(gram, x[learn].T @ (labels[learn] - centre))
    answers, wanted = x[~learn] @ weights, labels[~learn]
    answers, wanted = answers - answers.mean(axis=0), wanted - wanted.mean(axis=0)
    spread = np.sqrt((answers**2).sum(axis=0) * (wanted**2).sum(axis=0))
    return np.asarray((answers * wanted).sum(axis=0) / np.maximum(spread, 1e-12))
