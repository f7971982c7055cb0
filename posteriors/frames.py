"""Posteriors over time: a row a moment, whose id is ``CLIP@SECONDS``.

So everything that reads posteriors reads these too: they are combined row by row, and scored as one
concatenation of all moments of all clips, as the ABAW and AVEC challenges do.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ..corpora._manifest import Clip, Manifest
from ..corpora._tracks import DIMENSIONS, Track
from ..errors import PosteriorMismatch, listing
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
    moments = [
        posterior.ids[r] for c, rows in parted(posterior.ids).items() if c in wanted for r in rows
    ]
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
        for row, labels in zip(rows, values, strict=True):
            known = {d: float(x) for d, x in zip(DIMENSIONS, labels, strict=True) if x == x}
            found[row] = Clip(id=ids[row], speaker=clip.speaker or f"clip {name}",
                              split=clip.split, fold=clip.fold, **known)  # fmt: skip
    return Manifest((clip for clip in found if clip is not None), name=manifest.name)


def _labels(clip: Clip, times: np.ndarray, rate: float | None) -> np.ndarray:
    """Return the clip's valence and arousal at some times: (times, 2), nan where there is none."""
    if clip.labels is None:
        return np.full((len(times), len(DIMENSIONS)), np.nan)
    track = Track.read(clip.labels, rate=rate or None)
    columns = [_nearest(track.times, column, times) for column in track.of(DIMENSIONS).T]
    return np.stack(columns, axis=1)


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


def write_abaw(posterior: Posterior, path: Path, *, lengths: Mapping[str, int]) -> None:
    """Write the valence-arousal track's submission: a line a frame.

    Parameters
    ----------
    posterior : Posterior
        Over time, with valence and arousal, a moment a frame of each video.
    path : Path
    lengths : mapping of str to int
        Frames that the challenge expects of each video, in its order: a last prediction is
        repeated where there are fewer, the rest is cut.

    Raises
    ------
    PosteriorMismatch
        A video or a dimension is missing.
    """
    clips = parted(posterior.ids)
    absent = [video for video in lengths if video not in clips]
    lacking = [d for d in ("valence", "arousal") if d not in posterior.dimensions]
    if absent or lacking:
        raise PosteriorMismatch(
            f"the posterior lacks {listing([*lacking, *absent])}; the submission needs valence and "
            "arousal at every frame of every video of the test set"
        )
    with path.open("w", encoding="utf-8") as file:
        file.write("image_location,valence,arousal\n")
        for video, n_frames in lengths.items():
            rows = clips[video]
            for i in range(n_frames):
                row = rows[min(i, len(rows) - 1)]
                v, a = (posterior.dimensions[d][row] for d in ("valence", "arousal"))
                file.write(f"{video}/{i + 1:05d}.jpg,{v:.6g},{a:.6g}\n")


def abaw_lengths(sample: Path) -> dict[str, int]:
    """Return how many frames a challenge's sample submission lists of each video, in its order."""
    lengths: dict[str, int] = {}
    with sample.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            video, slash, _ = line.partition("/")
            if slash:
                lengths[video] = lengths.get(video, 0) + 1
    if not lengths:
        raise PosteriorMismatch(f"{sample} lists no frame; wanted lines such as VIDEO/00001.jpg,…")
    return lengths
