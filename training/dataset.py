"""Clips with their features and labels, ready to be batched.

Which key of the store is which stream of the recipe is settled here, once, in words a user can
read; arrays stay mapped in the store's files until a batch needs them.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..cache.store import Features, FeatureStore
from ..errors import MissingFeatures, RecipeError, listing
from ..manifest import Clip, Manifest
from ..tensors import IGNORE, Batch, Stream, Targets, modality

BUCKET = 16
"""Batches that are sorted by length together: more waste less padding, fewer keep clips mixed."""

AT_ONCE = 64

BLOCK = 4096
"""Steps of a long recording that are held as float32 at a time."""


class Sample(NamedTuple):
    """One clip, ready to be batched.

    Attributes
    ----------
    id : str
    streams : mapping of str to Features or None
        None where the clip lacks the modality.
    emotion : int
        `IGNORE` where not annotated.
    dimensions : ndarray [shape=(n,) or (time, n)]
        Nan where not annotated.
    """

    id: str
    streams: Mapping[str, Features | None]
    emotion: int
    dimensions: np.ndarray


@dataclass(frozen=True)
class CachedDataset:
    """Clips of one manifest with what a model sees of them.

    Attributes
    ----------
    samples : tuple of Sample
    speakers : tuple of str or None
        One a sample.
    shapes : dict of str to tuple of int
        Shape of one step of each stream: ``(dim,)`` or ``(layers, dim)``.
    emotions, dimensions : tuple of str
        What the samples' targets count.
    """

    samples: tuple[Sample, ...]
    speakers: tuple[str | None, ...]
    shapes: Mapping[str, tuple[int, ...]]
    emotions: tuple[str, ...]
    dimensions: tuple[str, ...]

    @property
    def at_once(self) -> int:
        """CachedDataset that prediction decodes at a time."""
        return AT_ONCE

    def __len__(self) -> int:
        return len(self.samples)

    @cached_property
    def lengths(self) -> list[int]:
        """Steps of each sample, over all its streams."""
        return [sum(len(f.values) for f in s.streams.values() if f is not None) for s in self.samples]

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids in order."""
        return tuple(sample.id for sample in self.samples)

    def where(self, wanted: Iterable[bool]) -> "CachedDataset":
        """Return the samples that a mask marks."""
        rows = [i for i, take in enumerate(wanted) if take]
        return replace(
            self, samples=tuple(self.samples[i] for i in rows), speakers=tuple(self.speakers[i] for i in rows)
        )

    def of(self, manifest: Manifest) -> "CachedDataset":
        """Return the samples of a manifest's clips."""
        return self.where(sample.id in manifest.by_id for sample in self.samples)

    def labelled(self) -> "CachedDataset":
        """Return the samples that can teach something: a label and at least one stream."""
        return self.where(
            (s.emotion != IGNORE or not np.isnan(s.dimensions).all()) and any(f is not None for f in s.streams.values())
            for s in self.samples
        )

    def targets(self) -> Targets:
        """Return all targets, as one batch would hold them."""
        return collate(self.samples, {}).targets

    def plan(self, size: int, *, order: Sequence[int], generator: torch.Generator) -> list[list[int]]:
        """Cut rows into batches of clips of similar length.

        Parameters
        ----------
        size : int
        order : sequence of int
            Rows as an epoch drew them. They are sorted by length within stretches of `BUCKET`
            batches, and the batches shuffled.
        """
        step = size * BUCKET
        batches: list[list[int]] = []
        for start in range(0, len(order), step):
            group = sorted(order[start : start + step], key=self.lengths.__getitem__)
            batches += cut(group, size)
        return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]

    def batch(self, rows: Sequence[int]) -> Batch:
        """Return some rows as a batch."""
        return collate([self.samples[row] for row in rows], self.shapes)

    def batches(self, plan: Sequence[Sequence[int]], *, generator: torch.Generator | None = None) -> Iterator[Batch]:
        """Yield a plan's batches; media is distorted where a generator is given."""
        del generator
        return (self.batch(rows) for rows in plan)


def cut(rows: Sequence[int], size: int) -> list[list[int]]:
    """Cut rows into batches; a last one of a single row joins its neighbour.

    Batch normalisation learns nothing from one clip.

    >>> cut(range(5), 2)
    [[0, 1], [2, 3, 4]]
    """
    batches = [list(rows[i : i + size]) for i in range(0, len(rows), size)]
    if len(batches) > 1 and len(batches[-1]) == 1:
        last = batches.pop()
        batches[-1] += last
    return batches


def padding_waste(batches: Iterable[Batch]) -> float:
    """Return the share of steps, over all streams, that are padding."""
    held = asked = 0
    for batch in batches:
        for stream in batch.streams.values():
            held += int(stream.mask.sum())
            asked += stream.mask.numel()
    return 1 - held / asked if asked else 0.0


def collate(samples: Sequence[Sample], shapes: Mapping[str, tuple[int, ...]]) -> Batch:
    """Pad samples into a batch.

    Parameters
    ----------
    samples : sequence of Sample
    shapes : mapping of str to tuple of int
        For every stream the shape of one step, ``(dim,)`` or ``(layers, dim)``: it stands in for
        clips that lack the stream.
    """
    streams = {name: _padded([s.streams.get(name) for s in samples], shape) for name, shape in shapes.items()}
    emotion = torch.tensor([s.emotion for s in samples], dtype=torch.int64)
    return Batch(tuple(s.id for s in samples), streams, Targets(emotion, _stacked([s.dimensions for s in samples])))


def _padded(features: Sequence[Features | None], shape: tuple[int, ...]) -> Stream:
    length = max([1, *(len(f.values) for f in features if f is not None)])
    values = np.zeros((len(features), length, *shape), np.float32)
    mask = np.zeros((len(features), length), bool)
    times = np.full((len(features), length), np.nan, np.float32)
    for row, clip in enumerate(features):
        if clip is not None and len(clip.values):
            n = len(clip.values)
            values[row, :n] = clip.values
            times[row, :n] = clip.times
            mask[row, :n] = True
    return Stream(torch.from_numpy(values), torch.from_numpy(mask), torch.from_numpy(times))


def _stacked(dimensions: Sequence[np.ndarray]) -> Tensor:
    length = max(len(d) for d in dimensions) if dimensions[0].ndim == 2 else None
    if length is None:
        return torch.from_numpy(np.stack(dimensions).astype(np.float32))
    padded = torch.full((len(dimensions), length, dimensions[0].shape[1]), torch.nan)
    for row, track in enumerate(dimensions):
        padded[row, : len(track)] = torch.from_numpy(track.astype(np.float32))
    return padded


# -- streams --------------------------------------------------------------------------------


def choose_streams(store: FeatureStore, *, asked: Sequence[str] = (), modalities: Sequence[str] = ()) -> dict[str, str]:
    """Settle which key of the store is which stream.

    Parameters
    ----------
    store : FeatureStore
    asked : sequence of str
        ``KEY`` or ``NAME=KEY``; a key may be given by its beginning. Empty: all keys of the store.
    modalities : sequence of str
        Of those, only streams of these modalities; empty: all.

    Returns
    -------
    dict of str to str
        Key by stream name. The only stream of a modality is called ``audio`` or ``visual``;
        several are ``audio:NAME``, by the features' names.

    Raises
    ------
    MissingFeatures
        The store is empty, or holds no such key.
    RecipeError
        Nothing is left, or two streams share a name.
    """
    keys = store.keys()
    if not keys:
        raise MissingFeatures(
            f"{store.path} holds no features; make them with `affuse extract CLIPS --out "
            f"{store.path}` or `affuse cache import`"
        )
    named: list[tuple[str, str]] = []
    bare: list[str] = []
    for text in asked or keys:
        name, equals, key = text.partition("=") if text not in keys else ("", "", text)
        found = store.match(key if equals else text)
        if equals:
            named.append((_checked(name, store.specification(found)), found))
        else:
            bare.append(found)
    kinds = Counter(store.specification(key)["modality"] for key in bare)
    taken = Counter(modality(name) for name, _ in named)
    for key in bare:
        facts = store.specification(key)
        kind = facts["modality"]
        alone = kinds[kind] + taken[kind] == 1
        named.append((kind if alone else f"{kind}:{_short(store, key, bare)}", key))
    named = [(n, k) for n, k in named if not modalities or modality(n) in modalities]
    if not named:
        raise RecipeError(f"the recipe takes {listing(modalities)} alone, {store.path} holds {listing(keys)}")
    twice = [name for name, n in Counter(name for name, _ in named).items() if n > 1]
    if twice:
        raise RecipeError(f"two streams called {listing(twice)}; name them with --stream NAME=KEY")
    return dict(sorted(named))


def _checked(name: str, facts: Mapping[str, Any]) -> str:
    if modality(name) != facts["modality"]:
        raise RecipeError(
            f"a stream of {facts['modality']} features cannot be called {name!r}; a name begins "
            f"with its modality, such as {facts['modality']!r} or '{facts['modality']}:{name}'"
        )
    return name


def _short(store: FeatureStore, key: str, keys: Sequence[str]) -> str:
    names = [store.specification(other).get("name", other) for other in keys]
    name = str(store.specification(key).get("name", key))
    return name if names.count(name) == 1 else key


# -- samples --------------------------------------------------------------------------------


def gather(
    manifest: Manifest,
    store: FeatureStore,
    streams: Mapping[str, str],
    *,
    emotions: Sequence[str],
    dimensions: Sequence[str],
) -> CachedDataset:
    """Look up every clip's features and labels.

    Imported features whose times nobody knows are taken to cover the clip evenly.

    Raises
    ------
    MissingFeatures
        Clips were never extracted. One whose extraction failed lacks the stream instead, and so
        does one that features from elsewhere do not hold.
    """
    absent = {name: set(store.lacking(key, manifest.ids)) for name, key in streams.items()}
    index = {emotion: i for i, emotion in enumerate(emotions)}
    samples = [
        Sample(
            clip.id,
            timed(
                {name: None if clip.id in absent[name] else store.read(key, clip.id) for name, key in streams.items()}
            ),
            IGNORE if clip.emotion is None else index.get(clip.emotion, IGNORE),
            np.array([_number(clip, d) for d in dimensions], np.float32),
        )
        for clip in manifest
    ]
    speakers = tuple(clip.speaker for clip in manifest)
    shapes = {name: tuple(store.tables(key)[0].values.shape[1:]) for name, key in streams.items()}
    return CachedDataset(tuple(samples), speakers, shapes, tuple(emotions), tuple(dimensions))


def absences(samples: CachedDataset) -> list[str]:
    """Say how many clips lack a stream, or every one."""
    lacking = {f"no {name}": sum(s.streams.get(name) is None for s in samples.samples) for name in samples.shapes}
    if len(samples.shapes) > 1:
        nothing = sum(not any(s.streams.values()) for s in samples.samples)
        lacking["no stream at all, and no answer"] = nothing
    told = [f"{n} have {what}" for what, n in lacking.items() if n]
    return [f"of {len(samples)} clips, {', '.join(told)}"] if told else []


def timed(streams: Mapping[str, Features | None]) -> dict[str, Features | None]:
    """Spread steps without a time over the span of the clip's other streams, or a second each."""
    found = dict(streams)
    known = [f.times for f in found.values() if f is not None and np.isfinite(f.times).any()]
    # The last step's centre and half a step more, had the first begun at zero.
    end = max((float(np.nanmax(t) + np.nanmin(t)) for t in known), default=0.0)
    for name, features in found.items():
        if features is not None and not np.isfinite(features.times).all():
            n = len(features.times)
            times = (np.arange(n, dtype=np.float32) + 0.5) * ((end or n) / n)
            found[name] = features._replace(times=times)
    return found


def _number(clip: Clip, dimension: str) -> float:
    value = getattr(clip, dimension)
    return np.nan if value is None else float(value)


FEW = 8
"""Clips of a speaker below which a mean and a deviation of their own say little."""


def per_speaker(samples: CachedDataset) -> tuple[CachedDataset, list[str]]:
    """Standardise every stream over all clips of the same speaker; labels are not looked at.

    Returns
    -------
    CachedDataset
    list of str
        Notices: speakers of whom there are fewer than `FEW` clips.

    Raises
    ------
    RecipeError
        Clips without a speaker.
    """
    unknown = [i for i, s in zip(samples.ids, samples.speakers, strict=True) if s is None]
    if unknown:
        raise RecipeError(
            f"streams.standardise = 'speaker', but {len(unknown)} clips have no speaker "
            f"({listing(unknown)}); fill the column, or set streams.standardise=train"
        )
    few = [str(s) for s, n in sorted(Counter(samples.speakers).items(), key=str) if n < FEW]
    found = {
        (speaker, name): statistics(
            sample.streams[name]
            for sample, other in zip(samples.samples, samples.speakers, strict=True)
            if other == speaker
        )
        for speaker in set(samples.speakers)
        for name in samples.shapes
    }
    changed = tuple(
        sample._replace(
            streams={name: _standardised(features, *found[speaker, name]) for name, features in sample.streams.items()}
        )
        for sample, speaker in zip(samples.samples, samples.speakers, strict=True)
    )
    notices = [f"fewer than {FEW} clips to standardise by, of speaker {listing(few)}"] if few else []
    return replace(samples, samples=changed), notices


def statistics(clips: Iterable[Features | None]) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and deviation over all steps of some clips.

    Returns
    -------
    mean, deviation : ndarray of float32 [shape of one step]
        A deviation of zero becomes one. Zero and one where there is no clip.
    """
    n, shift = 0, None
    total = squares = np.zeros(())
    for features in clips:
        for start in range(0, 0 if features is None else len(features.values), BLOCK):
            assert features is not None
            values = np.asarray(features.values[start : start + BLOCK], np.float32)
            # Sums of squares about a mean that is far from zero would lose every digit.
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
    if features is None:
        return None
    return features._replace(values=(features.values - mean) / deviation)
