"""Windows over long recordings, for dimensions over time.

Praveen et al. (arXiv 2203.14779 and 2209.09068) train on windows of L sub-sequences. Each sub-sequence is
labelled by its last frame, and windows slide so that every frame ends exactly one sub-sequence. Our
interpretation: time is measured in seconds, so that streams of any rate serve, and the features of a
sub-sequence are their mean over it. Annotators react late: with a delay d, what is seen until t is labelled
by the annotation at t + d.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import numpy as np
import torch

from ..annotations import Track
from ..cache.store import Features
from ..errors import RecipeError
from ..heads._head import Decoded
from ..manifest import Manifest
from ..posteriors.labels import MISSING, Labels
from ..posteriors.over_time import frame_ids, interpolate_predictions
from ..posteriors.posterior import Posterior
from ..recipes.window_settings import WindowSettings
from ..tensors import IGNORE, Batch, Stream, Targets
from .dataset import Dataset, Sample
from .delay import find_delays

MAX_SUBSEQUENCES = 20_000
"""Number of sub-sequences from which delays are estimated; of a larger corpus, every n-th window is used."""


@dataclass(frozen=True)
class WindowDataset(Dataset):
    """Long recordings whose training items are windows.

    Attributes
    ----------
    settings : WindowSettings
    annotated : bool
        Use only windows with a label, for training; False: all windows, for prediction.
    """

    settings: WindowSettings
    annotated: bool = False

    def __len__(self) -> int:
        return len(self.places)

    @cached_property
    def places(self) -> np.ndarray:
        """Clip and start in seconds of each window [shape=(windows, 2)].

        A window may begin before its clip does, so that the first moments of the clip also end a sub-sequence.
        """
        found = [np.zeros((0, 2))]
        for clip, sample in enumerate(self.samples):
            starts = self._starts(_duration(sample))
            if self.annotated:
                starts = starts[[bool(np.isfinite(self._labels(clip, s)).any()) for s in starts]]
            found.append(np.stack([np.full(len(starts), clip), starts], axis=1))
        return np.concatenate(found)

    @cached_property
    def lengths(self) -> list[int]:
        """Number of steps of each window, summed over its streams."""
        return [self.settings.length * len(self.shapes)] * len(self)

    @property
    def delays(self) -> tuple[float, ...]:
        """Delay of the annotators in seconds, one per dimension."""
        delay = tuple(self.settings.delay)
        return delay * len(self.dimensions) if len(delay) == 1 else delay

    def with_delays(self, delays: Sequence[float]) -> Self:
        """Return the same windows with other delays, one per dimension; empty: keep them."""
        return replace(self, settings=replace(self.settings, delay=tuple(delays))) if delays else self

    def with_estimated_delays(self) -> Self:
        """Return the same windows with the best of ``windows.search`` as delays, where the recipe lists some.

        Labels are means over sub-sequences here, whatever ``windows.label`` says. The last label stands half a
        sub-sequence after the middle of what is seen, so that the estimate would be too small by as much.
        """
        candidates = self.settings.search
        if not candidates:
            return self
        plain = replace(self.settings, label="mean", stride=self.settings.seconds, smooth=0.0)
        windows = replace(self, settings=plain, annotated=False)
        rows = range(0, len(windows), 1 + len(windows) * plain.length // MAX_SUBSEQUENCES)
        n = len(self.dimensions)
        labels = [windows.with_delays([delay] * n) for delay in candidates]
        stacked = np.stack([np.concatenate([w.window_labels(r) for r in rows]) for w in labels], axis=1)
        features, speakers = [], []
        for row in rows:
            streams = windows.batch([row]).streams.values()
            features.append(np.concatenate([s.values[0].numpy().reshape(plain.length, -1) for s in streams], axis=1))
            speakers += [self.samples[int(windows.places[row, 0])].group] * plain.length
        return self.with_delays(find_delays(np.concatenate(features), stacked, np.array(speakers), candidates))

    def labelled(self) -> Self:
        """Return the windows that can be trained on."""
        return replace(super().labelled(), annotated=True)

    def targets(self) -> Targets:
        """Return the mean labels of every clip, from which a head takes its statistics."""
        emotion = torch.full((self.n_clips,), IGNORE)
        means = np.stack([sample.dimensions for sample in self.samples])
        return Targets(emotion, torch.from_numpy(means.astype(np.float32)))

    def batch(self, rows: Sequence[int]) -> Batch:
        """Return windows as a batch, read from the store's files now."""
        places = [(int(self.places[r, 0]), float(self.places[r, 1])) for r in rows]
        streams = {}
        for name, shape in self.shapes.items():
            parts = [self._averaged(clip, name, shape, start) for clip, start in places]
            values, mask, times = (np.stack(column) for column in zip(*parts, strict=True))
            streams[name] = Stream(*map(torch.from_numpy, (values, mask, times)))
        labels = np.stack([self._labels(clip, start) for clip, start in places])
        ids = tuple(self.samples[clip].id for clip, _ in places)
        emotion = torch.full((len(rows),), IGNORE)
        return Batch(ids, streams, Targets(emotion, torch.from_numpy(labels.astype(np.float32))))

    def assemble(self, decoded: Iterable[tuple[Sequence[int], Batch, Decoded]]) -> Posterior:
        """Put a network's output for windows back at the moments of their clips.

        The rows are moments: where the labels of the clip stand, or else where a sub-sequence ends. A network that
        decodes one vector per window predicts the same for all its sub-sequences.
        """
        length, offsets = self.settings.length, self.settings.seconds * np.arange(1, self.settings.length + 1)
        clips, ends, values = [np.zeros(0, int)], [np.zeros(0)], [np.zeros((0, len(self.dimensions)))]
        for rows, _, output in decoded:
            predictions = output.dimensions.double().cpu().numpy()
            present = np.ones((len(rows), length), bool)
            if predictions.ndim == 2:
                predictions = np.repeat(predictions[:, None], length, axis=1)
            elif output.mask is not None:
                present = output.mask.cpu().numpy()
            places = self.places[list(rows)]
            clips.append(np.broadcast_to(places[:, :1], present.shape)[present].astype(int))
            ends.append((places[:, 1:] + offsets)[present])
            values.append(predictions[present])
        return self._at_moments(np.concatenate(clips), np.concatenate(ends), np.concatenate(values))

    def labels(self) -> Labels:
        """Return the labels as annotated, one row per moment, in the order of `assemble`."""
        ids: list[str] = []
        speakers: list[str] = []
        values = [np.zeros((0, len(self.dimensions)))]
        for sample in self.samples:
            if sample.track is not None:
                ids += frame_ids(sample.id, sample.track.times)
                speakers += [sample.group] * len(sample.track.times)
                values.append(sample.track.select(self.dimensions))
        columns = np.concatenate(values)
        named = {name: columns[:, d] for d, name in enumerate(self.dimensions)}
        return Labels(tuple(ids), tuple(speakers), (), np.full(len(ids), MISSING), named)

    def window_labels(self, window: int) -> np.ndarray:
        """Return the labels of a window's sub-sequences [shape=(steps, n)]; nan where there are none."""
        clip, start = self.places[window]
        return self._labels(int(clip), float(start))

    def _at_moments(self, clips: np.ndarray, ends: np.ndarray, values: np.ndarray) -> Posterior:
        ids: list[str] = []
        parts = [np.zeros((0, len(self.dimensions)))]
        for clip, sample in enumerate(self.samples):
            own = clips == clip
            times = np.unique(ends[own]) if sample.track is None else sample.track.times
            moments = interpolate_predictions(
                ends[own, None] + np.array(self.delays),
                values[own],
                times,
                bounds=self.settings.bounds,
                average=self.settings.average,
            )
            parts.append(moments)
            ids += frame_ids(sample.id, times)
        columns = np.concatenate(parts)
        named = {name: columns[:, d] for d, name in enumerate(self.dimensions)}
        return Posterior(tuple(ids), (), np.zeros((len(ids), 0)), named)

    def _starts(self, duration: float) -> np.ndarray:
        """Return the starts of the windows of every phase, one after the other until the end of the clip."""
        seconds, length = self.settings.seconds, self.settings.length
        n_phases = max(1, round(seconds / self.settings.stride))
        firsts = seconds * (np.arange(1, n_phases + 1) / n_phases - 1)
        n_windows = np.ceil((duration - firsts) / (length * seconds)).astype(int).clip(min=0)
        return np.concatenate([f + length * seconds * np.arange(n) for f, n in zip(firsts, n_windows, strict=True)])

    def _averaged(
        self, clip: int, name: str, shape: tuple[int, ...], start: float
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        edges = start + self.settings.seconds * np.arange(self.settings.length + 1)
        features = self.samples[clip].streams.get(name)
        if features is None or not len(features.values):
            values, present = np.zeros((self.settings.length, *shape), np.float32), np.zeros(len(edges) - 1, bool)
        else:
            values, present = average_stretches(features, edges, spacing=self._spacings[clip, name])
        middle = ((edges[:-1] + edges[1:]) / 2).astype(np.float32)
        return values, present, np.where(present, middle, np.float32(np.nan))

    @cached_property
    def _spacings(self) -> dict[tuple[int, str], float]:
        return {
            (clip, name): _spacing(features.times)
            for clip, sample in enumerate(self.samples)
            for name, features in sample.streams.items()
            if features is not None
        }

    @cached_property
    def _smoothed(self) -> list[Track | None]:
        return [sample.track and sample.track.smoothed(self.settings.smooth) for sample in self.samples]

    def _labels(self, clip: int, start: float) -> np.ndarray:
        found = np.full((self.settings.length, len(self.dimensions)), np.nan)
        track = self._smoothed[clip]
        if track is None:
            return found
        edges = start + self.settings.seconds * np.arange(self.settings.length + 1)
        for d, name in enumerate(self.dimensions):
            if name in track.dimensions:
                column = track.values[:, track.dimensions.index(name)]
                found[:, d] = label_stretches(track.times, column, edges + self.delays[d], self.settings.label)
        return found


def cut_windows(dataset: Dataset, manifest: Manifest, settings: WindowSettings) -> WindowDataset:
    """Return the clips of a manifest as windows, with the labels over time from its label files."""
    if dataset.emotions:
        raise RecipeError(
            "Windows are labelled with dimensions over time, not with emotions. Set targets.emotion=false."
        )
    n = len(dataset.dimensions)
    if len(settings.delay) not in (1, n):
        raise RecipeError(f"windows.delay has {len(settings.delay)} numbers. Give one number, or one for each of {n}.")
    samples = []
    for sample, clip in zip(dataset.samples, manifest, strict=True):
        track = None if clip.labels is None else Track.read(clip.labels, rate=settings.rate or None)
        means = np.full(n, np.nan) if track is None else _means(track.select(dataset.dimensions))
        samples.append(sample._replace(emotion=IGNORE, dimensions=means.astype(np.float32), track=track))
    return WindowDataset(tuple(samples), dataset.shapes, (), dataset.dimensions, settings)


def average_stretches(features: Features, edges: np.ndarray, *, spacing: float) -> tuple[np.ndarray, np.ndarray]:
    """Average the features of a clip over consecutive stretches of time.

    Parameters
    ----------
    features : Features
        Memory-mapped features; only the part that the stretches cover is read.
    edges : ndarray [shape=(steps + 1,)]
        Edges of the stretches in seconds, rising.
    spacing : float
        Seconds between steps of the features. A stretch that contains no step takes the step it lies in.

    Returns
    -------
    values : ndarray of float32 [shape=(steps, dim) or (steps, layers, dim)]
        Zero where there are no features.
    present : ndarray of bool [shape=(steps,)]
    """
    times = features.times
    # Search in the precision of the times: otherwise all of them would be converted for every window.
    cuts = np.searchsorted(times, edges.astype(times.dtype))
    low, high = cuts[:-1], cuts[1:]
    middle = (edges[:-1] + edges[1:]) / 2
    right = np.searchsorted(times, middle.astype(times.dtype)).clip(0, len(times) - 1)
    left = (right - 1).clip(0)
    near = np.where(middle - times[left] < times[right] - middle, left, right)
    empty = high <= low
    present = ~empty | (np.abs(times[near] - middle) <= spacing / 2 + 1e-6)
    low, high = np.where(empty, near, low), np.where(empty, near + 1, high)
    first, last = int(low.min()), int(high.max())
    block = np.asarray(features.values[first:last], np.float32)
    # reduceat needs every edge inside the array, hence one more row, which is not counted.
    block = np.concatenate([block, np.zeros_like(block[:1])])
    borders = np.stack([low, high], axis=1).ravel() - first
    sums = np.add.reduceat(block, borders, axis=0)[::2]
    counts = (high - low).reshape(-1, *[1] * (block.ndim - 1))
    return np.where(present.reshape(counts.shape), sums / counts, 0).astype(np.float32), present


def label_stretches(times: np.ndarray, values: np.ndarray, edges: np.ndarray, label: str) -> np.ndarray:
    """Return one label per stretch of time: its ``last`` one, or the ``mean`` of those annotated.

    A stretch contains its end but not its beginning. Its label is nan where it contains none.

    Examples
    --------
    >>> label_stretches(np.array([0.5, 1.0, 1.5]), np.array([1.0, 2.0, 4.0]), np.array([0, 1, 2]), "last")
    array([2., 4.])
    >>> label_stretches(np.array([0.5, 1.0, 1.5]), np.array([1.0, 2.0, 4.0]), np.array([0, 1, 2]), "mean")
    array([1.5, 4. ])
    """
    cuts = np.searchsorted(times, edges + 1e-6, side="right")
    low, high = cuts[:-1], cuts[1:]
    if label == "last":
        filled = high > low
        return np.where(filled, values[(high - 1).clip(0)] if len(values) else np.nan, np.nan)
    return np.array([_means(values[a:b, None])[0] for a, b in zip(low, high, strict=True)])


def _means(values: np.ndarray) -> np.ndarray:
    """Return the mean of the known values of each column; nan where none is known."""
    known = np.isfinite(values)
    n = known.sum(axis=0)
    total = np.where(known, values, 0.0).sum(axis=0)
    means: np.ndarray = np.divide(total, n, out=np.full(values.shape[1], np.nan), where=n > 0)
    return means


def _spacing(times: np.ndarray) -> float:
    return float(np.median(np.diff(times))) if len(times) > 1 else float("inf")


def _duration(sample: Sample) -> float:
    """Return the end of a clip's features in seconds."""
    ends = [0.0]
    for features in sample.streams.values():
        if features is not None and len(features.times):
            spacing = _spacing(features.times)
            ends.append(float(features.times[-1]) + (spacing / 2 if np.isfinite(spacing) else 0))
    return max(ends)
