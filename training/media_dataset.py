"""Datasets whose streams start from media files: clips are decoded, augmented, prepared and batched.

A model does not see where a batch comes from: streams of features come from the store, and streams of media are
what their encoders take as input. All random numbers of a clip follow from the seed of the epoch and the row of
the clip. They depend neither on the thread that reads the clip nor on interruptions.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
import torch

from ..cache.store import Features
from ..errors import EncoderError, MediaError, RecipeError
from ..extractors._encoder import Encoder, Prepared, pad_sequences
from ..manifest import Clip, Manifest
from ..media.faces import FaceOptions
from ..media.inputs import Frames, Media, Sound
from ..recipes.encoder_settings import AugmentationSettings, EncoderSettings
from ..tensors import IGNORE, Batch, Stream
from .dataset import Dataset, MediaLoading, collate
from .encoder_stream import EncoderStream
from .media_augmentation import augment_media
from .prefetch import MediaReader, shared_reader

N_STATISTICS_CLIPS = 64
"""Number of clips from which the mean and deviation of an encoder's output are estimated."""


@dataclass(frozen=True)
class MediaDataset(Dataset):
    """Clips of which some streams are read from media files when a batch needs them.

    Attributes
    ----------
    encoders : mapping of str to Encoder
        Encoder of each stream that starts from media. Only its inputs and its preparation are used.
    noise : tuple of ndarray
        Recordings of noise.
    prediction_batch : int
        Number of clips that prediction passes through a network at a time.
    """

    clips: Mapping[str, Clip]
    encoders: Mapping[str, Encoder]
    reader: MediaReader
    augmentation: AugmentationSettings = AugmentationSettings()
    noise: tuple[np.ndarray, ...] = ()
    prediction_batch: int = 8

    @property
    def failures(self) -> Mapping[str, str]:
        """Failure code by clip id, for the clips that could not be decoded completely so far."""
        return self.reader.failures

    @cached_property
    def lengths(self) -> list[int]:
        """Duration of each clip in milliseconds where the manifest has all of them, or else its size in bytes."""
        clips = [self.clips[sample.id] for sample in self.samples]
        if all(c.start is not None and c.end is not None for c in clips):
            return [max(1, round(1000 * ((c.end or 0) - (c.start or 0)))) for c in clips]
        return [_n_bytes(clip) for clip in clips]

    def labelled(self) -> Self:
        """Return the clips that can be trained on: those with a label and a media file."""
        return self.where(s.is_labelled and n > 0 for s, n in zip(self.samples, self.lengths, strict=True))

    def batch(self, rows: Sequence[int]) -> Batch:
        """Return clips as a batch, without augmentation."""
        return next(self.batches([rows]))

    def batches(self, plan: Sequence[Sequence[int]], *, generator: torch.Generator | None = None) -> Iterator[Batch]:
        """Yield the batches of a plan, which are read ahead; media are augmented where a generator is given."""
        seed = None  # drawn now, not when the first batch is taken
        if generator is not None and self.augmentation != AugmentationSettings():
            seed = int(torch.randint(2**62, (), generator=generator))

        def read(row: int) -> dict[str, Prepared | None]:
            return self._prepared(row, seed)

        return (self._collated(rows, prepared) for rows, prepared in self.reader.map_batches(plan, read))

    def features(self, stream: str, encoder: EncoderStream | None = None) -> Iterable[Features | None]:
        """Return the features of a stream; those of an encoder are computed for `N_STATISTICS_CLIPS` clips."""
        if encoder is None:
            yield from super().features(stream)
            return
        rows = np.linspace(0, len(self) - 1, min(len(self), N_STATISTICS_CLIPS), dtype=int).tolist()
        plan = [rows[i : i + self.prediction_batch] for i in range(0, len(rows), self.prediction_batch)]
        device = next((p.device for p in encoder.parameters()), torch.device("cpu"))
        was_training, _ = encoder.training, encoder.eval()
        for batch in self.batches(plan):
            if stream in batch.streams:
                with torch.no_grad():
                    values, mask, times = encoder(batch.streams[stream].to(device)).to("cpu")
                for v, m, t in zip(values, mask, times, strict=True):
                    yield Features(v[m].numpy(), t[m].numpy())
        encoder.train(was_training)

    def _prepared(self, row: int, seed: int | None) -> dict[str, Prepared | None]:
        media = self.reader.read(self.clips[self.samples[row].id])
        if seed is not None:
            generator = np.random.default_rng([seed, row])
            media = augment_media(media, self.augmentation, noise=self.noise, generator=generator)
        inputs = distinct_inputs(self.encoders)
        return {name: _prepare(e, media[inputs.index(e.inputs)]) for name, e in self.encoders.items()}

    def _collated(self, rows: Sequence[int], prepared: Sequence[Mapping[str, Prepared | None]]) -> Batch:
        cached = {name: shape for name, shape in self.shapes.items() if name not in self.encoders}
        batch = collate([self.samples[row] for row in rows], cached)
        from_media = {name: _stacked([clip[name] for clip in prepared]) for name in self.encoders}
        found = {**batch.streams, **from_media}
        streams = {name: stream for name in self.shapes if (stream := found[name]) is not None}
        # A clip of which nothing could be decoded must not be trained on.
        present = torch.zeros(len(rows), dtype=torch.bool)
        for stream in streams.values():
            present |= stream.mask.any(1)
        batch.targets.emotion[~present] = IGNORE
        batch.targets.dimensions[~present] = torch.nan
        return batch._replace(streams=streams)


def add_media_streams(
    dataset: Dataset,
    manifest: Manifest,
    encoders: Mapping[str, EncoderSettings],
    *,
    loading: MediaLoading,
    augmentation: AugmentationSettings,
    size: int,
) -> MediaDataset:
    """Return a dataset with one more stream for each encoder, read from the media files of a manifest."""
    built = {name: EncoderStream.build(settings, seed=0) for name, settings in encoders.items()}
    modules = {name: each.encoder.eval() for name, each in built.items()}
    inputs = distinct_inputs(modules)
    crops = any(isinstance(each, Frames) and each.crop == "face" for each in inputs)
    faces = FaceOptions(loading.face_detector).located() if crops else None
    shapes = {**dataset.shapes, **{name: each.shape for name, each in built.items()}}
    rates = [each.sampling_rate for each in inputs if isinstance(each, Sound)]
    return MediaDataset(
        dataset.samples,
        dict(sorted(shapes.items())),
        dataset.emotions,
        dataset.dimensions,
        clips=manifest.by_id,
        encoders=modules,
        reader=shared_reader(tuple(inputs), loading.workers, faces),
        augmentation=augmentation,
        noise=_noise(loading.noise, rates) if loading.noise and augmentation.snr else (),
        prediction_batch=size,
    )


def distinct_inputs(encoders: Mapping[str, Encoder]) -> list[Sound | Frames]:
    """Return the inputs of some encoders, each once, in order."""
    return list(dict.fromkeys(encoder.inputs for encoder in encoders.values()))


def _prepare(encoder: Encoder, media: Media | None) -> Prepared | None:
    if media is None:
        return None
    try:
        return encoder.prepare(media)
    except MediaError:
        return None


def _stacked(clips: Sequence[Prepared | None]) -> Stream | None:
    """Pad prepared clips; a clip without the modality is masked throughout. Return None if all are."""
    example = next((clip for clip in clips if clip is not None), None)
    if example is None:
        return None
    values = [example.values[:0] if clip is None else clip.values for clip in clips]
    times = [example.times[:0] if clip is None else clip.times for clip in clips]
    return pad_sequences(values, times)


def _n_bytes(clip: Clip) -> int:
    """Return the size of a clip's media files; 0 where there are none."""
    paths = {path for path in (clip.video, clip.audio) if path is not None and path.is_file()}
    return sum(path.stat().st_size for path in paths)


def _noise(folder: Path, rates: Sequence[int]) -> tuple[np.ndarray, ...]:
    """Read all recordings of noise in a folder and its subfolders."""
    if len(set(rates)) != 1:
        raise RecipeError(f"Found encoders with the sampling rates {rates}. Noise recordings need a single rate.")
    reader = MediaReader([Sound(rates[0])], workers=1, cache_bytes=0)
    try:
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        found = [reader.read(Clip(str(path), audio=path))[0] for path in files]
    finally:
        reader.close()
    noise = tuple(each.values for each in found if each is not None and len(each.values))
    if not noise:
        raise EncoderError(f"{folder} contains no sound file that can be decoded. Choose a folder of noise recordings.")
    return noise
