"""Datasets: the clips of a manifest with their inputs and labels, from which training draws batches.

`CachedDataset` reads features from a store. Its siblings `MediaDataset` decodes media files when a batch
needs them, and `WindowDataset` cuts long recordings into windows. Everything else in this package works
on the common base `Dataset` and need not know which of them it was given.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np
import torch

from ..annotations import Track
from ..cache.store import Features, FeatureStore
from ..heads._head import Decoded
from ..heads._steps import mean_over_steps
from ..manifest import Clip, Manifest
from ..posteriors.labels import MISSING, Labels
from ..posteriors.posterior import Posterior
from ..tensors import IGNORE, Batch, Stream, Targets
from .streams import fill_times

if TYPE_CHECKING:
    from .encoder_stream import EncoderStream

BUCKET = 16
"""Number of batches that are sorted by length together. More of them need less padding, fewer mix the clips better."""


@dataclass(frozen=True)
class MediaLoading:
    """Settings for reading media files; only `noise` changes results.

    Attributes
    ----------
    workers : int
        Number of clips that are decoded at the same time.
    face_detector : Path or None
        YuNet as an ONNX file. With None it is downloaded from the hub where an encoder crops faces.
    noise : Path or None
        Folder of noise recordings, such as MUSAN, for ``augmentation.snr``. With None the noise is Gaussian.
    """

    workers: int = 2
    face_detector: Path | None = None
    noise: Path | None = None


class Sample(NamedTuple):
    """One clip with its inputs and labels.

    Attributes
    ----------
    id : str
    streams : mapping of str to Features or None
        Features by stream name; None where the clip lacks the stream.
    emotion : int
        Index of the emotion; `IGNORE` where the clip is not annotated.
    dimensions : ndarray [shape=(n,)]
        Labels of the dimensions; nan where the clip is not annotated.
    speaker : str or None
        None where the speaker is unknown.
    track : Track or None
        Labels over time, where the manifest has them.
    """

    id: str
    streams: Mapping[str, Features | None]
    emotion: int
    dimensions: np.ndarray
    speaker: str | None = None
    track: Track | None = None

    @property
    def group(self) -> str:
        """The speaker; a clip of an unknown speaker is a group of its own."""
        return self.speaker or f"clip {self.id}"

    @property
    def is_labelled(self) -> bool:
        """Whether the clip has any label."""
        return self.emotion != IGNORE or not bool(np.isnan(self.dimensions).all())

    @property
    def n_steps(self) -> int:
        """Number of steps, summed over the streams."""
        return sum(len(features.values) for features in self.streams.values() if features is not None)


@dataclass(frozen=True)
class Dataset(ABC):
    """Base of all datasets.

    A training item is one row of a batch: a clip, or one window of a clip. ``len(dataset)`` is the number of
    items, and `lengths`, `plan` and `batch` count items. `samples`, `where` and `subset` count clips.

    Attributes
    ----------
    samples : tuple of Sample
        One per clip.
    shapes : mapping of str to tuple of int
        Shape of one step of each stream: ``(dim,)`` or ``(layers, dim)``.
    emotions, dimensions : tuple of str
        Names of the targets.
    """

    samples: tuple[Sample, ...]
    shapes: Mapping[str, tuple[int, ...]]
    emotions: tuple[str, ...]
    dimensions: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.samples)

    @property
    @abstractmethod
    def lengths(self) -> list[int]:
        """Length of each item, by which items are sorted into batches; 0 where an item has no input."""

    @abstractmethod
    def batch(self, rows: Sequence[int]) -> Batch:
        """Return items as a batch, without augmentation."""

    @property
    def n_clips(self) -> int:
        """Number of clips."""
        return len(self.samples)

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of the clips, in order."""
        return tuple(sample.id for sample in self.samples)

    @property
    def prediction_batch(self) -> int:
        """Number of items that prediction passes through a network at a time."""
        return 64

    @property
    def failures(self) -> Mapping[str, str]:
        """Failure code by clip id, for the clips whose media could not be decoded so far."""
        return {}

    @property
    def delays(self) -> tuple[float, ...]:
        """Delay of the annotators in seconds, one per dimension; empty for datasets without labels over time."""
        return ()

    def with_delays(self, delays: Sequence[float]) -> Self:
        """Return the dataset with other delays; without labels over time there is nothing to delay."""
        del delays
        return self

    def with_estimated_delays(self) -> Self:
        """Return the dataset with delays estimated from its own clips, where the recipe asks for that."""
        return self

    def where(self, mask: Iterable[bool]) -> Self:
        """Return the clips that a mask selects."""
        return replace(self, samples=tuple(s for s, selected in zip(self.samples, mask, strict=True) if selected))

    def subset(self, manifest: Manifest) -> Self:
        """Return the clips that a manifest lists."""
        return self.where(sample.id in manifest.by_id for sample in self.samples)

    def labelled(self) -> Self:
        """Return the clips that can be trained on: those with a label and at least one stream."""
        return self.where(s.is_labelled and any(f is not None for f in s.streams.values()) for s in self.samples)

    def features(self, stream: str, encoder: "EncoderStream | None" = None) -> Iterable[Features | None]:
        """Return the features of a stream, from which its mean and deviation are estimated.

        Where the stream starts from media, they come from its encoder.
        """
        del encoder
        return [sample.streams[stream] for sample in self.samples]

    def targets(self) -> Targets:
        """Return the targets of all clips as one batch."""
        return collate(self.samples, {}).targets

    def labels(self) -> Labels:
        """Return the labels against which `assemble`'s posterior is scored."""
        emotion = [MISSING if s.emotion == IGNORE else s.emotion for s in self.samples]
        dimensions = np.array([s.dimensions for s in self.samples], float)
        return Labels(
            self.ids,
            tuple(s.group for s in self.samples),
            self.emotions,
            np.array(emotion, int),
            {name: dimensions[:, d] for d, name in enumerate(self.dimensions)},
        )

    def plan(self, size: int, *, order: Sequence[int], generator: torch.Generator) -> list[list[int]]:
        """Split items into batches of similar length.

        Parameters
        ----------
        size : int
            Number of items per batch.
        order : sequence of int
            Items in the order of the epoch. They are sorted by length within stretches of `BUCKET` batches,
            and the batches are shuffled.
        """
        step = size * BUCKET
        batches: list[list[int]] = []
        for start in range(0, len(order), step):
            group = sorted(order[start : start + step], key=self.lengths.__getitem__)
            batches += split_batches(group, size)
        return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]

    def batches(self, plan: Sequence[Sequence[int]], *, generator: torch.Generator | None = None) -> Iterator[Batch]:
        """Yield the batches of a plan; media are augmented where a generator is given."""
        del generator
        return map(self.batch, plan)

    def prediction_batches(self) -> Iterator[tuple[list[int], Batch]]:
        """Yield all items that have an input, sorted by length, with their batches."""
        rows = [row for row, length in enumerate(self.lengths) if length]
        plan = split_batches(sorted(rows, key=self.lengths.__getitem__), self.prediction_batch)
        return zip(plan, self.batches(plan), strict=True)

    def assemble(self, decoded: Iterable[tuple[Sequence[int], Batch, Decoded]]) -> Posterior:
        """Put a network's output for `prediction_batches` together, with one row per clip, in order.

        Dimensions over time become their mean over the clip. Clips of which a batch holds no stream have nan.
        """
        probabilities = np.full((self.n_clips, len(self.emotions)), np.nan)
        dimensions = np.full((self.n_clips, len(self.dimensions)), np.nan)
        for part, batch, output in decoded:
            present = torch.stack([s.mask.any(1) for s in batch.streams.values()]).any(0).numpy()
            rows = np.array(part)[present]
            if self.emotions:
                probabilities[rows] = output.logits.double().softmax(-1).cpu().numpy()[present]
            if self.dimensions:
                dimensions[rows] = mean_over_steps(output.dimensions, output.mask).double().cpu().numpy()[present]
        named = {name: dimensions[:, d] for d, name in enumerate(self.dimensions)}
        return Posterior(self.ids, self.emotions, probabilities, named)


@dataclass(frozen=True)
class CachedDataset(Dataset):
    """Clips whose features come from a store; arrays stay memory-mapped until a batch needs them."""

    @cached_property
    def lengths(self) -> list[int]:
        """Number of steps of each clip, summed over its streams."""
        return [sample.n_steps for sample in self.samples]

    def batch(self, rows: Sequence[int]) -> Batch:
        """Return clips as a padded batch."""
        return collate([self.samples[row] for row in rows], self.shapes)


def gather(
    manifest: Manifest,
    store: FeatureStore,
    streams: Mapping[str, str],
    *,
    emotions: Sequence[str],
    dimensions: Sequence[str],
) -> CachedDataset:
    """Look up the features and labels of every clip.

    Imported features without times are spread evenly over the clip.

    Parameters
    ----------
    streams : mapping of str to str
        Key of the store by stream name, as `choose_streams` returns it.
    emotions, dimensions : sequence of str
        Names of the targets.

    Raises
    ------
    MissingFeatures
        Some clips were never extracted. A clip whose extraction failed, or which imported features do not
        contain, only lacks the stream.
    """
    missing = {name: set(store.missing_clips(key, manifest.ids)) for name, key in streams.items()}
    index = {emotion: i for i, emotion in enumerate(emotions)}
    samples = tuple(
        Sample(
            clip.id,
            fill_times({n: None if clip.id in missing[n] else store.read(key, clip.id) for n, key in streams.items()}),
            IGNORE if clip.emotion is None else index.get(clip.emotion, IGNORE),
            np.array([_label(clip, d) for d in dimensions], np.float32),
            clip.speaker,
        )
        for clip in manifest
    )
    shapes = {name: tuple(store.tables(key)[0].values.shape[1:]) for name, key in streams.items()}
    return CachedDataset(samples, shapes, tuple(emotions), tuple(dimensions))


def describe_missing_streams(dataset: CachedDataset) -> list[str]:
    """Return a notice that says how many clips lack which stream; empty where none does."""
    counts = {f"no {name}": sum(s.streams.get(name) is None for s in dataset.samples) for name in dataset.shapes}
    if len(dataset.shapes) > 1:
        without_any = sum(not any(s.streams.values()) for s in dataset.samples)
        counts["no stream at all and therefore no prediction"] = without_any
    parts = [f"{n} have {what}" for what, n in counts.items() if n]
    return [f"Of {dataset.n_clips} clips, {', '.join(parts)}."] if parts else []


def split_batches(rows: Sequence[int], size: int) -> list[list[int]]:
    """Split rows into batches; a last batch of a single row joins the batch before it.

    Batch normalisation cannot be trained on a single item.

    >>> split_batches(range(5), 2)
    [[0, 1], [2, 3, 4]]
    """
    batches = [list(rows[i : i + size]) for i in range(0, len(rows), size)]
    if len(batches) > 1 and len(batches[-1]) == 1:
        last = batches.pop()
        batches[-1] += last
    return batches


def padding_share(batches: Iterable[Batch]) -> float:
    """Return the share of steps, over all streams, that are padding."""
    n_present = n_total = 0
    for batch in batches:
        for stream in batch.streams.values():
            n_present += int(stream.mask.sum())
            n_total += stream.mask.numel()
    return 1 - n_present / n_total if n_total else 0.0


def collate(samples: Sequence[Sample], shapes: Mapping[str, tuple[int, ...]]) -> Batch:
    """Pad samples into a batch; `shapes` are those of one step of each stream."""
    streams = {name: _padded([s.streams.get(name) for s in samples], shape) for name, shape in shapes.items()}
    emotion = torch.tensor([s.emotion for s in samples], dtype=torch.int64)
    dimensions = torch.from_numpy(np.stack([s.dimensions for s in samples]).astype(np.float32))
    return Batch(tuple(s.id for s in samples), streams, Targets(emotion, dimensions))


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


def _label(clip: Clip, dimension: str) -> float:
    value = getattr(clip, dimension)
    return np.nan if value is None else float(value)
