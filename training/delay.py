"""Estimation of the annotators' delay from the training clips alone.

Annotators react late. For every candidate delay, a ridge regression from features to the labels that follow
by that delay is fitted on four fifths of the speakers and evaluated on the others, five times. The delay with the
highest mean correlation is chosen, for each dimension separately.
"""

from collections.abc import Sequence

import numpy as np

from ..errors import RecipeError

PENALTY = 1.0
"""Ridge penalty per sub-sequence, for standardised features."""
N_PARTS = 5
"""Number of parts into which the speakers are split."""


def find_delays(
    features: np.ndarray, labels: np.ndarray, speakers: np.ndarray, candidates: Sequence[float]
) -> tuple[float, ...]:
    """Return the best delay of each dimension.

    Parameters
    ----------
    features : ndarray [shape=(sub-sequences, width)]
    labels : ndarray [shape=(sub-sequences, candidates, dimensions)]
        Labels under each candidate delay; nan where there are none.
    speakers : ndarray of str [shape=(sub-sequences,)]
    candidates : sequence of float
        Delays in seconds.
    """
    known = np.isfinite(labels).all(axis=(1, 2))
    features, labels, speakers = features[known], labels[known], speakers[known]
    people = sorted(set(speakers))
    if len(people) < 2:
        raise RecipeError(
            f"Found labelled training clips of {len(people)} speakers. windows.search needs at least two. "
            "Set windows.delay instead."
        )
    x, y = (_standardised_per_speaker(v, speakers) for v in (features, labels.reshape(len(labels), -1)))
    correlations = [
        _correlation(x, y, np.isin(speakers, people[part::N_PARTS], invert=True))
        for part in range(min(N_PARTS, len(people)))
    ]
    best = np.mean(correlations, axis=0).reshape(len(candidates), -1).argmax(axis=0)
    return tuple(float(candidates[i]) for i in best)


def _standardised_per_speaker(values: np.ndarray, speakers: np.ndarray) -> np.ndarray:
    """Standardise the rows of each speaker, so that only differences over time remain."""
    found = np.empty_like(values)
    for speaker in set(speakers):
        own = values[speakers == speaker]
        deviation = own.std(axis=0)
        found[speakers == speaker] = (own - own.mean(axis=0)) / np.where(deviation > 1e-6, deviation, 1)
    return found


def _correlation(x: np.ndarray, y: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Return the correlation of predictions and labels on the rows outside `train`, for each column of `y`."""
    from sklearn.linear_model import Ridge

    model = Ridge(PENALTY * train.sum(), fit_intercept=False).fit(x[train], y[train])
    predictions, labels = model.predict(x[~train]).reshape(-1, y.shape[1]), y[~train]
    spread = np.sqrt((predictions**2).sum(axis=0) * (labels**2).sum(axis=0))
    return np.asarray((predictions * labels).sum(axis=0) / np.maximum(spread, 1e-12))
