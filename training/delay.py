"""How late annotators answer, found on the training clips alone.

For every candidate a ridge regression from the sub-sequences' features to the labels so much later
is fitted on four fifths of the speakers and asked about the rest, five times over; the delay under
which answers and labels go together best is taken, a dimension at a time.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..errors import RecipeError
from .window_dataset import WindowDataset

PENALTY = 1.0
"""Of the ridge, a sub-sequence: features are standardised."""
MOST = 20_000
"""Sub-sequences that are looked at; of a larger corpus, every so manyth window."""
N_PARTS = 5


def find_delays(samples: WindowDataset, candidates: Sequence[float]) -> tuple[float, ...]:
    """Return the delay of each dimension, out of the candidates.

    The label of a sub-sequence is its mean here whatever the recipe says: a last label would stand
    half a sub-sequence after what is seen, and the search would find the delay less that half.

    Parameters
    ----------
    samples : WindowDataset
        Of the training fold.
    candidates : sequence of float
        Seconds.

    Raises
    ------
    RecipeError
        Fewer than two speakers, or too little that every candidate labels.
    """
    plain = replace(samples.settings, label="mean", stride=samples.settings.seconds, smooth=0.0)
    every = replace(samples, settings=plain, annotated=False)
    step = 1 + len(every) * plain.length // MOST
    rows = range(0, len(every), step)
    n = len(samples.dimensions)
    labels = np.stack([_labels(every.delayed([d] * n), rows) for d in candidates], axis=1)
    known = np.isfinite(labels).all(axis=(1, 2))
    seen, speakers = _seen(every, rows)
    seen, labels, speakers = seen[known], labels[known], speakers[known]
    people = sorted(set(speakers))
    if len(people) < 2:
        raise RecipeError(
            "windows.search needs labelled training clips of at least two speakers, found "
            f"{len(people)}; state windows.delay instead"
        )
    seen, wanted = (_within(x, speakers) for x in (seen, labels.reshape(len(labels), -1)))
    fits = [
        _agreement(seen, wanted, np.isin(speakers, people[part::N_PARTS], invert=True))
        for part in range(min(N_PARTS, len(people)))
    ]
    best = np.mean(fits, axis=0).reshape(len(candidates), n).argmax(axis=0)
    return tuple(float(candidates[i]) for i in best)


def _seen(samples: WindowDataset, rows: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return sub-sequences' features side by side, (steps, dims), and whose they are."""
    parts, speakers = [], []
    for row in rows:
        streams = samples.batch([row]).streams.values()
        flat = [s.values[0].numpy().reshape(samples.settings.length, -1) for s in streams]
        parts.append(np.concatenate(flat, axis=1))
        clip = int(samples.places[row, 0])
        speaker = samples.speakers[clip] or samples.samples[clip].id
        speakers += [speaker] * samples.settings.length
    return np.concatenate(parts), np.array(speakers)


def _labels(samples: WindowDataset, rows: Sequence[int]) -> np.ndarray:
    return np.concatenate([samples.labels(row) for row in rows])


def _within(values: np.ndarray, speakers: np.ndarray) -> np.ndarray:
    """Standardise each speaker's rows by themselves: when, not who, is the question."""
    found = np.empty_like(values)
    for speaker in set(speakers):
        own = values[speakers == speaker]
        deviation = own.std(axis=0)
        found[speakers == speaker] = (own - own.mean(axis=0)) / np.where(deviation > 1e-6, deviation, 1)
    return found


def _agreement(seen: np.ndarray, labels: np.ndarray, learn: np.ndarray) -> np.ndarray:
    """Return the correlation of answers and labels on the other speakers, for each column."""
    answers, wanted = seen[~learn] @ _ridge(seen[learn], labels[learn]), labels[~learn]
    spread = np.sqrt((answers**2).sum(axis=0) * (wanted**2).sum(axis=0))
    return np.asarray((answers * wanted).sum(axis=0) / np.maximum(spread, 1e-12))


def _ridge(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Solve in whichever space is smaller, of the features or of the sub-sequences."""
    n, dim = x.shape
    if n < dim:
        return np.asarray(x.T @ np.linalg.solve(x @ x.T + PENALTY * n * np.eye(n), y))
    return np.asarray(np.linalg.solve(x.T @ x + PENALTY * n * np.eye(dim), x.T @ y))
