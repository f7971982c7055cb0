"""Posteriors over time: a row a moment, whose id is ``CLIP@SECONDS``.

So everything that reads posteriors reads these too: they are combined row by row, and scored as one
concatenation of all moments of all clips, as the ABAW and AVEC challenges do.
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
    """Return the ids of a clip's moments, to a tenth of a millisecond."""
    return [f"{clip}@{time:.4f}" for time in times]


def parted(ids: Sequence[str]) -> dict[str, np.ndarray]:
    """Return the rows of each clip's moments; ids of whole clips have none.

    >>> parted(["a@0.0000", "a@0.0400", "b"])
    {'a': array([0, 1])}
    """
    rows: dict[str, list[int]] = {}
    for row, name in enumerate(ids):
        match = MOMENT.fullmatch(name)
        if match:
            rows.setdefault(match[1], []).append(row)
    return {clip: np.array(found) for clip, found in rows.items()}


def of_clips(posterior: Posterior, clips: Sequence[str]) -> Posterior:
    """Return the rows of some clips: their own, or their moments."""
    wanted = set(clips)
    moments = [posterior.ids[r] for c, rows in parted(posterior.ids).items() if c in wanted for r in rows]
    return posterior.at(moments or [i for i in posterior.ids if i in wanted])


def put_back(
    ends: np.ndarray,
    answers: np.ndarray,
    times: np.ndarray,
    *,
    bounds: Sequence[float] = (),
    average: Sequence[float] = (),
) -> np.ndarray:
    """Bring the answers of sub-sequences back to a clip's moments.

    Parameters
    ----------
    ends : ndarray [shape=(answers, n)]
        When each answer holds, seconds; one column a dimension, since delays may differ.
    answers : ndarray [shape=(answers, n)]
    times : ndarray [shape=(moments,)]
        Rising.
    bounds : sequence of float
        Lowest and highest value that is kept; empty: all.
    average : sequence of float
        Seconds of a centred moving average, for all dimensions or each; empty: none.

    Returns
    -------
    ndarray [shape=(moments, n)]
        Linear between answers, constant beyond the first and the last; nan where there are none.
    """
    found = np.full((len(times), answers.shape[1]), np.nan)
    if not len(answers):
        return found
    for d in range(answers.shape[1]):
        order = np.argsort(ends[:, d], kind="stable")
        found[:, d] = np.interp(times, ends[order, d], answers[order, d])
    if len(bounds):
        found = np.clip(found, bounds[0], bounds[1])
    for d in range(found.shape[1] if len(average) else 0):
        window = average[min(d, len(average) - 1)]
        column = Track(times, found[:, d : d + 1], ("",)).smoothed(window)
        found[:, d] = column.values[:, 0]
    return found


def moments(manifest: Manifest, ids: Sequence[str], *, rate: float | None = None) -> Manifest:
    """Return a manifest that lists moments as clips, with the labels of that moment.

    Parameters
    ----------
    manifest : Manifest
    ids : sequence of str
        Of a posterior; where they are whole clips', the manifest is returned as it is.
    rate : float or None
        Of label files without a column ``time``.

    Raises
    ------
    PosteriorMismatch
        A moment's clip is not in the manifest.
    ManifestError
        A label file that cannot be read.
    """
    clips = parted(ids)
    if not clips or ids[0] in manifest.by_id:
        return manifest
    absent = [clip for clip in clips if clip not in manifest.by_id]
    if absent or sum(map(len, clips.values())) < len(ids):
        raise PosteriorMismatch(
            f"{manifest.name} does not list the clips of some moments "
            f"({listing(absent) or 'ids without @SECONDS'}); give the manifest predicted from"
        )
    found: list[Clip | None] = [None] * len(ids)
    for name, rows in clips.items():
        clip = manifest.by_id[name]
        times = np.array([float(ids[row].rpartition("@")[2]) for row in rows])
        values = _labels(clip, times, rate)
        for row, (valence, arousal) in zip(rows, values, strict=True):
            found[row] = Clip(
                id=ids[row],
                speaker=clip.speaker or f"clip {name}",
                split=clip.split,
                fold=clip.fold,
                valence=_known(valence),
                arousal=_known(arousal),
            )
    return Manifest((clip for clip in found if clip is not None), name=manifest.name)


def _labels(clip: Clip, times: np.ndarray, rate: float | None) -> np.ndarray:
    """Return the clip's valence and arousal at some times: (times, 2), nan where there is none."""
    if clip.labels is None:
        return np.full((len(times), len(DIMENSIONS)), np.nan)
    track = Track.read(clip.labels, rate=rate or None)
    columns = [_nearest(track.times, column, times) for column in track.of(DIMENSIONS).T]
    return np.stack(columns, axis=1)


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _nearest(times: np.ndarray, values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    if not len(times):
        return np.full(len(wanted), np.nan)
    spacing = np.median(np.diff(times)) if len(times) > 1 else 1.0
    place = np.searchsorted(times, wanted).clip(1, max(len(times) - 1, 1))
    left = np.maximum(place - 1, 0)
    right = np.minimum(place, len(times) - 1)
    near = np.where(wanted - times[left] <= times[right] - wanted, left, right)
    close = np.abs(times[near] - wanted) <= spacing / 2 + 1e-3
    return np.where(close, values[near], np.nan)
