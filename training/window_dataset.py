"""Dimensions over time: long recordings, cut into windows of sub-sequences with a label each.

Praveen et al. (arXiv 2203.14779, 2209.09068) train on windows of L sub-sequences, each labelled by
its last frame, slid so that every frame ends exactly one sub-sequence. Here time is in seconds, so
streams of any rate serve; a sub-sequence's features are their mean over it. Annotators answer late:
with a delay of d, what is seen until t is labelled by what was annotated at t + d.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch

from ..annotations import Track
from ..cache.store import Features
from ..errors import RecipeError
from ..manifest import Manifest
from ..posteriors.labels import MISSING, Labels
from ..posteriors.over_time import frame_ids, put_back
from ..posteriors.posterior import Posterior
from ..recipes.window_settings import WindowSettings
from ..tensors import IGNORE, Batch, Stream, Targets
from .dataset import CachedDataset, Sample


@dataclass(frozen=True)
class WindowDataset(CachedDataset):
    """CachedDataset whose rows are windows; `samples`, `speakers` and `tracks` stay one a clip.

    Attributes
    ----------
    tracks : tuple of Track or None
        Labels over time as annotated; None for a clip without.
    settings : WindowSettings
    delays : tuple of float
        One a dimension, seconds.
    annotated : bool
        Only windows with a label, to learn from; else all, to predict.
    """

    tracks: tuple[Track | None, ...]
    settings: WindowSettings
    delays: tuple[float, ...]
    annotated: bool = False

    def __len__(self) -> int:
        return len(self.places)

    @cached_property
    def places(self) -> np.ndarray:
        """Clip and start of each window: (windows, 2), the start in seconds.

        A window may begin before the clip does, so that the very first moments end a sub-sequence.
        """
        found = [np.zeros((0, 2))]
        for row, sample in enumerate(self.samples):
            starts = self._starts(_duration(sample))
            if self.annotated:
                starts = starts[[bool(np.isfinite(self._labels(row, s)).any()) for s in starts]]
            found.append(np.stack([np.full(len(starts), row), starts], axis=1))
        return np.concatenate(found)

    @cached_property
    def lengths(self) -> list[int]:
        """Steps of each window, over all its streams."""
        return [self.settings.length * len(self.shapes)] * len(self)

    def where(self, wanted: Iterable[bool]) -> "WindowDataset":
        """Return the clips that a mask marks."""
        rows = [i for i, take in enumerate(wanted) if take]
        return replace(
            self,
            samples=tuple(self.samples[i] for i in rows),
            speakers=tuple(self.speakers[i] for i in rows),
            tracks=tuple(self.tracks[i] for i in rows),
        )

    def labelled(self) -> "WindowDataset":
        """Return the windows that can teach something."""
        kept = super().labelled()
        assert isinstance(kept, WindowDataset)
        return replace(kept, annotated=True)

    def delayed(self, delays: Sequence[float]) -> "WindowDataset":
        """Return the same windows with other delays, one a dimension."""
        return replace(self, delays=tuple(delays))

    def targets(self) -> Targets:
        """Return every clip's means: what a head may count before it learns."""
        emotion = torch.full((len(self.samples),), IGNORE)
        means = np.stack([sample.dimensions for sample in self.samples])
        return Targets(emotion, torch.from_numpy(means.astype(np.float32)))

    def batch(self, rows: Sequence[int]) -> Batch:
        """Return some windows as a batch, read from the store's files now."""
        places = [(int(self.places[r, 0]), float(self.places[r, 1])) for r in rows]
        streams = {}
        for name, shape in self.shapes.items():
            parts = [self._pooled(row, name, shape, start) for row, start in places]
            values, mask, times = (np.stack(column) for column in zip(*parts, strict=True))
            streams[name] = Stream(*map(torch.from_numpy, (values, mask, times)))
        labels = np.stack([self._labels(row, start) for row, start in places])
        ids = tuple(self.samples[row].id for row, _ in places)
        emotion = torch.full((len(rows),), IGNORE)
        return Batch(ids, streams, Targets(emotion, torch.from_numpy(labels.astype(np.float32))))

    def assembled(self, rows: Sequence[int], answers: np.ndarray, mask: np.ndarray | None) -> Posterior:
        """Put the answers of windows back at their clips' moments.

        Parameters
        ----------
        rows : sequence of int
        answers : ndarray [shape=(rows, steps, n) or (rows, n)]
            One answer a window holds for all its steps.
        mask : ndarray of bool [shape=(rows, steps)] or None
            Steps that have an answer.

        Returns
        -------
        Posterior
            A row a moment: where the clip's labels stand, or else where a sub-sequence ends.
        """
        length = self.settings.length
        if answers.ndim == 2:
            answers, mask = np.repeat(answers[:, None], length, axis=1), None
        places = self.places[list(rows)]
        ends = places[:, 1:] + self.settings.seconds * np.arange(1, length + 1)
        there = np.ones(ends.shape, bool) if mask is None else mask
        clips = np.broadcast_to(places[:, :1], ends.shape)[there].astype(int)
        ends, flat = ends[there], answers[there]
        ids: list[str] = []
        parts = [np.zeros((0, len(self.dimensions)))]
        for row, sample in enumerate(self.samples):
            own = clips == row
            times = self._moments(row, ends[own])
            parts.append(
                put_back(
                    ends[own, None] + np.array(self.delays),
                    flat[own],
                    times,
                    bounds=self.settings.bounds,
                    average=self.settings.average,
                )
            )
            ids += frame_ids(sample.id, times)
        values = np.concatenate(parts)
        named = {name: values[:, d] for d, name in enumerate(self.dimensions)}
        return Posterior(tuple(ids), (), np.zeros((len(ids), 0)), named)

    def truth(self) -> Labels:
        """Return the labels as annotated, a row a moment, in the order of `assembled`."""
        ids: list[str] = []
        speakers: list[str] = []
        values = [np.zeros((0, len(self.dimensions)))]
        for sample, speaker, track in zip(self.samples, self.speakers, self.tracks, strict=True):
            if track is not None:
                ids += frame_ids(sample.id, track.times)
                speakers += [speaker or f"clip {sample.id}"] * len(track.times)
                values.append(track.of(self.dimensions))
        columns = np.concatenate(values)
        named = {name: columns[:, d] for d, name in enumerate(self.dimensions)}
        return Labels(tuple(ids), tuple(speakers), (), np.full(len(ids), MISSING), named)

    def labels(self, window: int) -> np.ndarray:
        """Return the labels of a window's sub-sequences: (steps, n), nan where there are none."""
        row, start = self.places[window]
        return self._labels(int(row), float(start))

    # -- one window -----------------------------------------------------------------------------

    def _starts(self, duration: float) -> np.ndarray:
        """WindowDataset of every phase, one behind the other, until the clip's end."""
        seconds, length = self.settings.seconds, self.settings.length
        n_phases = max(1, round(seconds / self.settings.stride))
        firsts = seconds * (np.arange(1, n_phases + 1) / n_phases - 1)
        n_windows = np.ceil((duration - firsts) / (length * seconds)).astype(int).clip(min=0)
        return np.concatenate([f + length * seconds * np.arange(n) for f, n in zip(firsts, n_windows, strict=True)])

    def _pooled(
        self, row: int, name: str, shape: tuple[int, ...], start: float
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        seconds, length = self.settings.seconds, self.settings.length
        edges = start + seconds * np.arange(length + 1)
        features = self.samples[row].streams.get(name)
        if features is None or not len(features.values):
            values, there = np.zeros((length, *shape), np.float32), np.zeros(length, bool)
        else:
            values, there = pooled(features, edges, spacing=self._spacings[row, name])
        middle = ((edges[:-1] + edges[1:]) / 2).astype(np.float32)
        return values, there, np.where(there, middle, np.float32(np.nan))

    @cached_property
    def _spacings(self) -> dict[tuple[int, str], float]:
        return {
            (row, name): _spacing(features.times)
            for row, sample in enumerate(self.samples)
            for name, features in sample.streams.items()
            if features is not None
        }

    @cached_property
    def _smooth(self) -> list[Track | None]:
        return [t and t.smoothed(self.settings.smooth) for t in self.tracks]

    def _labels(self, row: int, start: float) -> np.ndarray:
        settings = self.settings
        found = np.full((settings.length, len(self.dimensions)), np.nan)
        track = self._smooth[row]
        if track is None:
            return found
        edges = start + settings.seconds * np.arange(settings.length + 1)
        for d, name in enumerate(self.dimensions):
            if name in track.dimensions:
                column = track.values[:, track.dimensions.index(name)]
                found[:, d] = within(track.times, column, edges + self.delays[d], settings.label)
        return found

    def _moments(self, row: int, ends: np.ndarray) -> np.ndarray:
        track = self.tracks[row]
        return np.unique(ends) if track is None else track.times


def windowed(samples: CachedDataset, manifest: Manifest, settings: WindowSettings) -> WindowDataset:
    """Return a manifest's clips as windows, with the tracks that their label files hold.

    Raises
    ------
    RecipeError
        Delays or emotions that windows cannot carry.
    ManifestError
        A label file that cannot be read.
    """
    if samples.emotions:
        raise RecipeError("windows carry dimensions over time; set targets.emotion=false")
    n = len(samples.dimensions)
    if len(settings.delay) not in (1, n):
        raise RecipeError(f"windows.delay has {len(settings.delay)} numbers; wanted one, or {n}")
    tracks = tuple(
        None if clip.labels is None else Track.read(clip.labels, rate=settings.rate or None) for clip in manifest
    )
    means = [np.full(n, np.nan) if t is None else _means(t.of(samples.dimensions)) for t in tracks]
    clips = tuple(
        Sample(s.id, s.streams, IGNORE, mean.astype(np.float32)) for s, mean in zip(samples.samples, means, strict=True)
    )
    delays = tuple(settings.delay) * (n if len(settings.delay) == 1 else 1)
    return WindowDataset(clips, samples.speakers, samples.shapes, (), samples.dimensions, tracks, settings, delays)


def pooled(features: Features, edges: np.ndarray, *, spacing: float) -> tuple[np.ndarray, np.ndarray]:
    """Take the mean of a clip's features over stretches of time that follow each other.

    Parameters
    ----------
    features : Features
        Mapped; only what the stretches cover is read.
    edges : ndarray [shape=(steps + 1,)]
        Seconds, rising.
    spacing : float
        Seconds between frames: a stretch that is shorter takes the frame it lies in.

    Returns
    -------
    values : ndarray of float32 [shape=(steps, dim) or (steps, layers, dim)]
        Zero where there is nothing.
    there : ndarray of bool [shape=(steps,)]
    """
    times = features.times
    # In the times' own precision: else all of them would be converted for every window.
    cuts = np.searchsorted(times, edges.astype(times.dtype))
    low, high = cuts[:-1], cuts[1:]
    middle = (edges[:-1] + edges[1:]) / 2
    right = np.searchsorted(times, middle.astype(times.dtype)).clip(0, len(times) - 1)
    left = (right - 1).clip(0)
    near = np.where(middle - times[left] < times[right] - middle, left, right)
    empty = high <= low
    there = ~empty | (np.abs(times[near] - middle) <= spacing / 2 + 1e-6)
    low, high = np.where(empty, near, low), np.where(empty, near + 1, high)
    first, last = int(low.min()), int(high.max())
    block = np.asarray(features.values[first:last], np.float32)
    # reduceat wants every border inside: one row more, that counts nothing.
    block = np.concatenate([block, np.zeros_like(block[:1])])
    borders = np.stack([low, high], axis=1).ravel() - first
    sums = np.add.reduceat(block, borders, axis=0)[::2]
    counts = (high - low).reshape(-1, *[1] * (block.ndim - 1))
    return np.where(there.reshape(counts.shape), sums / counts, 0).astype(np.float32), there


def within(times: np.ndarray, values: np.ndarray, edges: np.ndarray, label: str) -> np.ndarray:
    """Return one label a stretch: its ``last`` one, or the ``mean`` of those annotated.

    A stretch holds its end but not its beginning; nan where it holds no label.

    Examples
    --------
    >>> within(np.array([0.5, 1.0, 1.5]), np.array([1.0, 2.0, 4.0]), np.array([0, 1, 2]), "last")
    array([2., 4.])
    >>> within(np.array([0.5, 1.0, 1.5]), np.array([1.0, 2.0, 4.0]), np.array([0, 1, 2]), "mean")
    array([1.5, 4. ])
    """
    cuts = np.searchsorted(times, edges + 1e-6, side="right")
    low, high = cuts[:-1], cuts[1:]
    if label == "last":
        filled = high > low
        return np.where(filled, values[(high - 1).clip(0)] if len(values) else np.nan, np.nan)
    found = np.full(len(low), np.nan)
    for i, (a, b) in enumerate(zip(low, high, strict=True)):
        found[i] = _means(values[a:b, None])[0]
    return found


def _means(values: np.ndarray) -> np.ndarray:
    """Return the mean of each column over what is known; nan where nothing is."""
    known = np.isfinite(values)
    n = known.sum(axis=0)
    total = np.where(known, values, 0.0).sum(axis=0)
    means: np.ndarray = np.divide(total, n, out=np.full(values.shape[1], np.nan), where=n > 0)
    return means


def _spacing(times: np.ndarray) -> float:
    return float(np.median(np.diff(times))) if len(times) > 1 else float("inf")


def _duration(sample: Sample) -> float:
    """Return where the clip's features end, seconds."""
    ends = [0.0]
    for features in sample.streams.values():
        if features is not None and len(features.times):
            spacing = _spacing(features.times)
            ends.append(float(features.times[-1]) + (spacing / 2 if np.isfinite(spacing) else 0))
    return max(ends)
