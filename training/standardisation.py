"""Mean and deviation of features, over a training fold or per speaker."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import TypeVar

import numpy as np

from ..cache.store import Features
from ..errors import RecipeError, listing
from .dataset import Dataset

AnyDataset = TypeVar("AnyDataset", bound=Dataset)

BLOCK = 4096
"""Number of steps of a long recording that are converted to float32 at a time."""

MIN_CLIPS = 8
"""Number of clips of a speaker below which their mean and deviation are poor estimates."""


def standardise_per_speaker(dataset: AnyDataset) -> tuple[AnyDataset, list[str]]:
    """Standardise every stream over all clips of the same speaker; labels are not used.

    Notices about speakers with fewer than `MIN_CLIPS` clips are returned too.
    """
    unknown = [sample.id for sample in dataset.samples if sample.speaker is None]
    if unknown:
        raise RecipeError(
            f"Found {len(unknown)} clips without a speaker ({listing(unknown)}). streams.standardise = 'speaker' "
            "needs one for every clip. Fill in the `speaker` column or set streams.standardise=train."
        )
    counts = Counter(str(sample.speaker) for sample in dataset.samples)
    found = {
        (speaker, name): statistics(s.streams[name] for s in dataset.samples if s.speaker == speaker)
        for speaker in counts
        for name in dataset.shapes
    }
    samples = tuple(
        s._replace(streams={n: _standardised(f, *found[str(s.speaker), n]) for n, f in s.streams.items()})
        for s in dataset.samples
    )
    few = sorted(speaker for speaker, n in counts.items() if n < MIN_CLIPS)
    notices = [f"Speakers with fewer than {MIN_CLIPS} clips to standardise over: {listing(few)}."] if few else []
    return replace(dataset, samples=samples), notices


def statistics(clips: Iterable[Features | None]) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean and deviation over all steps of some clips.

    Returns
    -------
    mean, deviation : ndarray of float32 [shape of one step]
        A deviation of zero becomes one. Without any step they are zero and one.
    """
    n, shift = 0, None
    total = squares = np.zeros(())
    for features in clips:
        for start in range(0, 0 if features is None else len(features.values), BLOCK):
            assert features is not None
            values = np.asarray(features.values[start : start + BLOCK], np.float32)
            # Sums of squares around a mean that is far from zero would lose all digits.
            shift = values.mean(0) if shift is None else shift
            n, values = n + len(values), values - shift
            total = total + values.sum(0, dtype=np.float64)
            squares = squares + np.square(values).sum(0, dtype=np.float64)
    if shift is None:
        return np.zeros((), np.float32), np.ones((), np.float32)
    mean = shift + total / n
    deviation = np.sqrt(np.maximum(squares / n - np.square(total / n), 0))
    deviation[deviation < 1e-5 * np.maximum(1, abs(mean))] = 1
    return mean.astype(np.float32), deviation.astype(np.float32)


def _standardised(features: Features | None, mean: np.ndarray, deviation: np.ndarray) -> Features | None:
    return None if features is None else features._replace(values=(features.values - mean) / deviation)
