"""Posteriors over time: one row per moment of a clip, with the id ``CLIP@SECONDS``.

They have the format of any other posterior. They are combined row by row and scored over all moments of all clips
together, as in the ABAW and AVEC challenges.
"""

import re
from collections.abc import Sequence

import numpy as np

from ..annotations import DIMENSIONS, Track
from ..errors import PosteriorMismatch, listing
from ..manifest import Clip, Manifest
from .posterior import Posterior

MOMENT = re.compile(r"(.+)@(\d+\.\d{4})", re.DOTALL)


def frame_ids(clip: str, times: np.ndarray) -> list[str]:
    """Return the ids of the moments of a clip, to a tenth of a millisecond."""
    return [f"{clip}@{time:.4f}" for time in times]


def rows_by_clip(ids: Sequence[str]) -> dict[str, np.ndarray]:
    """Return the rows of each clip's moments; ids of whole clips are left out.

    >>> rows_by_clip(["a@0.0000", "a@0.0400", "b"])
    {'a': array([0, 1])}
    """
    rows: dict[str, list[int]] = {}
    for row, name in enumerate(ids):
        match = MOMENT.fullmatch(name)
        if match:
            rows.setdefault(match[1], []).append(row)
    return {clip: np.array(found) for clip, found in rows.items()}


def select_clips(posterior: Posterior, clips: Sequence[str]) -> Posterior:
    """Return the rows of some clips, or those of their moments."""
    selected = set(clips)
    moments = [posterior.ids[r] for c, rows in rows_by_clip(posterior.ids).items() if c in selected for r in rows]
    return posterior.at(moments or [i for i in posterior.ids if i in selected])


def interpolate_predictions(
    ends: np.ndarray,
    predictions: np.ndarray,
    times: np.ndarray,
    *,
    bounds: Sequence[float] = (),
    average: Sequence[float] = (),
) -> np.ndarray:
    """Interpolate the predictions for windows of a clip at given times.

    Parameters
    ----------
    ends : ndarray [shape=(predictions, n)]
        Seconds that each prediction holds for, one column per dimension, since delays may differ.
    predictions : ndarray [shape=(predictions, n)]
    times : ndarray [shape=(times,)]
        Seconds, rising.
    bounds : sequence of float
        Lower and upper bound of the result; empty: none.
    average : sequence of float
        Seconds of a centred moving average, one for all dimensions or one each; empty: none.

    Returns
    -------
    ndarray [shape=(times, n)]
        Linear between predictions, constant before the first and after the last; nan where there are none.
    """
    found = np.full((len(times), predictions.shape[1]), np.nan)
    if not len(predictions):
        return found
    for d in range(predictions.shape[1]):
        order = np.argsort(ends[:, d], kind="stable")
        found[:, d] = np.interp(times, ends[order, d], predictions[order, d])
    if len(bounds):
        found = np.clip(found, bounds[0], bounds[1])
    for d in range(found.shape[1] if len(average) else 0):
        seconds = average[min(d, len(average) - 1)]
        found[:, d] = Track(times, found[:, d : d + 1], ("",)).smoothed(seconds).values[:, 0]
    return found


def manifest_over_time(manifest: Manifest, ids: Sequence[str], *, rate: float | None = None) -> Manifest:
    """Return a manifest that lists moments as clips, with the labels at each moment.

    Parameters
    ----------
    manifest : Manifest
    ids : sequence of str
        Ids of a posterior. If they are those of whole clips, the manifest is returned unchanged.
    rate : float or None
        Frames per second of label files without a column ``time``.
    """
    clips = rows_by_clip(ids)
    if not clips or ids[0] in manifest.by_id:
        return manifest
    missing = [clip for clip in clips if clip not in manifest.by_id]
    if missing or sum(map(len, clips.values())) < len(ids):
        raise PosteriorMismatch(
            f"Manifest {manifest.name} does not list the clips of some moments "
            f"({listing(missing) or 'ids without @SECONDS'}). Pass the manifest that the posterior was predicted from."
        )
    found: list[Clip | None] = [None] * len(ids)
    for name, rows in clips.items():
        clip = manifest.by_id[name]
        times = np.array([float(ids[row].rpartition("@")[2]) for row in rows])
        for row, (valence, arousal) in zip(rows, _labels(clip, times, rate), strict=True):
            found[row] = Clip(
                id=ids[row],
                speaker=clip.speaker or f"clip {name}",
                split=clip.split,
                fold=clip.fold,
                valence=None if np.isnan(valence) else float(valence),
                arousal=None if np.isnan(arousal) else float(arousal),
            )
    return Manifest((clip for clip in found if clip is not None), name=manifest.name)


def _labels(clip: Clip, times: np.ndarray, rate: float | None) -> np.ndarray:
    """Return valence and arousal of a clip at some times [shape=(times, 2)], nan where not annotated."""
    if clip.labels is None:
        return np.full((len(times), len(DIMENSIONS)), np.nan)
    track = Track.read(clip.labels, rate=rate or None)
    return _nearest(track.times, track.select(DIMENSIONS), times)


def _nearest(times: np.ndarray, values: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Return the row of values nearest to each time of `at`; nan where none is within half a step."""
    if not len(times):
        return np.full((len(at), values.shape[1]), np.nan)
    step = np.median(np.diff(times)) if len(times) > 1 else 1.0
    place = np.searchsorted(times, at).clip(1, max(len(times) - 1, 1))
    left = np.maximum(place - 1, 0)
    right = np.minimum(place, len(times) - 1)
    near = np.where(at - times[left] <= times[right] - at, left, right)
    close = np.abs(times[near] - at) <= step / 2 + 1e-3
    return np.where(close[:, None], values[near], np.nan)
