"""Clips whose streams start from media: decoded, distorted if asked, prepared, batched.

A model cannot tell where a batch comes from: streams of features come from the cache, streams of
media are what their encoders want to see or hear. Everything drawn for a clip follows from the
epoch's seed and the clip's place, so it does not matter which thread reads it, or after how many
interruptions.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from ..cache.store import Features
from ..errors import EncoderError, MediaError, RecipeError
from ..extractors._encoder import Encoder, Prepared, gathered
from ..manifest import Clip, Manifest
from ..media.inputs import Frames, Media, Sound
from ..recipes.encoder_settings import AugmentationSettings, EncoderSettings
from ..tensors import IGNORE, Batch, Stream
from .dataset import CachedDataset, collate
from .encoder_stream import EncoderStream
from .media_augmentation import distorted
from .prefetch import Reader, shared

N_COUNTED = 64
"""Clips by which the mean and deviation of an encoder's output are taken."""


@dataclass(frozen=True)
class MediaLoading:
    """How media is read; nothing of it changes a number but `noise`.

    Attributes
    ----------
    workers : int
    face_detector : Path or None
        YuNet as ONNX; None: from the hub, where faces are cut out.
    noise : Path or None
        Folder with recordings of noise, such as MUSAN, for ``augmentation.snr``; None: Gaussian.
    """

    workers: int = 2
    face_detector: Path | None = None
    noise: Path | None = None


@dataclass(frozen=True)
class MediaDataset(CachedDataset):
    """CachedDataset of which some streams are read from media when a batch needs them.

    Attributes
    ----------
    clips : mapping of str to Clip
    encoders : mapping of str to Encoder
        For their wants and preparation alone.
    reader : Reader
    augmentation : AugmentationSettings
    noise : tuple of ndarray
    size : int
        Clips that prediction decodes at a time.
    """

    clips: Mapping[str, Clip] = field(default_factory=dict)
    encoders: Mapping[str, Encoder] = field(default_factory=dict)
    reader: Reader = field(default_factory=lambda: Reader([]))
    augmentation: AugmentationSettings = AugmentationSettings()
    noise: tuple[np.ndarray, ...] = ()
    size: int = 8

    @property
    def at_once(self) -> int:
        """Clips that prediction decodes at a time."""
        return self.size

    @cached_property
    def lengths(self) -> list[int]:
        """What clips are sorted by: their milliseconds in the manifest, or else their bytes."""
        clips = [self.clips[sample.id] for sample in self.samples]
        if all(c.start is not None and c.end is not None for c in clips):
            return [max(1, round(1000 * ((c.end or 0) - (c.start or 0)))) for c in clips]
        return [_n_bytes(clip) for clip in clips]

    def labelled(self) -> CachedDataset:
        """Return the samples that can teach something: a label, and media or features."""
        return self.where(
            (s.emotion != IGNORE or not np.isnan(s.dimensions).all()) and n > 0
            for s, n in zip(self.samples, self.lengths, strict=True)
        )

    def batch(self, rows: Sequence[int]) -> Batch:
        """Return some rows as a batch, undistorted."""
        return next(self.batches([rows]))

    def batches(self, plan: Sequence[Sequence[int]], *, generator: torch.Generator | None = None) -> Iterator[Batch]:
        """Yield a plan's batches, read ahead; distorted where a generator is given."""
        seed = None  # drawn now, not when the first batch is asked for
        if generator is not None and self.augmentation != AugmentationSettings():
            seed = int(torch.randint(2**62, (), generator=generator))

        def read(row: int) -> dict[str, Prepared | None]:
            return self._prepared(row, seed)

        read_ahead = self.reader.over(plan, read)
        return (self._collated(rows, prepared) for rows, prepared in read_ahead)

    def _prepared(self, row: int, seed: int | None) -> dict[str, Prepared | None]:
        media = self.reader.read(self.clips[self.samples[row].id])
        if seed is not None:
            media = distorted(media, self.augmentation, noise=self.noise, generator=np.random.default_rng([seed, row]))
        found: dict[str, Prepared | None] = {}
        for name, encoder in self.encoders.items():
            own = media[self.reader.wants.index(encoder.inputs)]
            found[name] = None if own is None else _prepare(encoder, own)
        return found

    def _collated(self, rows: Sequence[int], prepared: Sequence[Mapping[str, Prepared | None]]) -> Batch:
        samples = [self.samples[row] for row in rows]
        features = {n: shape for n, shape in self.shapes.items() if n not in self.encoders}
        batch = collate(samples, features)
        streams = dict(batch.streams)
        for name in self.encoders:
            stacked = _stacked([clip[name] for clip in prepared])
            streams |= {} if stacked is None else {name: stacked}
        streams = {name: streams[name] for name in self.shapes if name in streams}
        # A clip of which nothing could be decoded teaches nothing.
        there = torch.zeros(len(rows), dtype=torch.bool)
        for stream in streams.values():
            there |= stream.mask.any(1)
        batch.targets.emotion[~there] = IGNORE
        batch.targets.dimensions[~there] = torch.nan
        return batch._replace(streams=streams)

    def encoded(self, name: str, encoder: EncoderStream) -> list[Features]:
        """Return some clips' features by an encoder, to standardise its output by."""
        rows = np.linspace(0, len(self) - 1, min(len(self), N_COUNTED), dtype=int).tolist()
        plan = [rows[i : i + self.at_once] for i in range(0, len(rows), self.at_once)]
        device = next((p.device for p in encoder.parameters()), torch.device("cpu"))
        found = []
        was, _ = encoder.training, encoder.eval()
        with torch.no_grad():
            for batch in self.batches(plan):
                if name not in batch.streams:
                    continue
                values, mask, times = encoder(batch.streams[name].to(device)).to("cpu")
                found += [Features(v[m].numpy(), t[m].numpy()) for v, m, t in zip(values, mask, times, strict=True)]
        encoder.train(was)
        return found


def attach_media(
    samples: CachedDataset,
    manifest: Manifest,
    encoders: Mapping[str, EncoderSettings],
    *,
    loading: MediaLoading,
    augmentation: AugmentationSettings,
    size: int,
) -> MediaDataset:
    """Return samples whose streams of those encoders start from the manifest's media."""
    attached = {name: EncoderStream.build(settings, seed=0) for name, settings in encoders.items()}
    wants: list[Sound | Frames] = []
    for each in attached.values():
        if each.encoder.inputs not in wants:
            wants.append(each.encoder.inputs)
    detector = loading.face_detector
    if detector is None and any(isinstance(w, Frames) and w.crop == "face" for w in wants):
        from ..media.faces import detector_weights

        detector = detector_weights()
    shapes = {**samples.shapes, **{name: each.shape for name, each in attached.items()}}
    rates = [want.sampling_rate for want in wants if isinstance(want, Sound)]
    noise = _recordings(loading.noise, rates) if loading.noise and augmentation.snr else ()
    return MediaDataset(
        samples.samples,
        samples.speakers,
        dict(sorted(shapes.items())),
        samples.emotions,
        samples.dimensions,
        clips={clip.id: clip for clip in manifest},
        encoders={name: each.encoder.eval() for name, each in attached.items()},
        reader=shared(tuple(wants), loading.workers, detector),
        augmentation=augmentation,
        noise=noise,
        size=size,
    )


def _prepare(encoder: Encoder, media: Media) -> Prepared | None:
    try:
        return encoder.prepare(media)
    except MediaError:
        return None


def _stacked(clips: Sequence[Prepared | None]) -> Stream | None:
    """Pad prepared clips; one that lacks the modality is masked throughout. None if all do."""
    example = next((clip for clip in clips if clip is not None), None)
    if example is None:
        return None
    values = [example.values[:0] if clip is None else clip.values for clip in clips]
    times = [example.times[:0] if clip is None else clip.times for clip in clips]
    return gathered(values, times)


def _n_bytes(clip: Clip) -> int:
    """Return the size of a clip's media; 0 where there is none."""
    paths = {path for path in (clip.video, clip.audio) if path is not None and path.is_file()}
    return sum(path.stat().st_size for path in paths)


def _recordings(folder: Path, rates: Sequence[int]) -> tuple[np.ndarray, ...]:
    """Read every recording of noise below a folder.

    Raises
    ------
    EncoderError
        There is none that can be decoded.
    RecipeError
        Encoders that want sound at different sampling rates.
    """
    if len(set(rates)) != 1:
        raise RecipeError(f"noise recordings need encoders of one sampling rate, found {rates}")
    reader = Reader([Sound(rates[0])], workers=1, kept=0)
    try:
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        found = [reader.read(Clip(str(path), audio=path))[0] for path in files]
    finally:
        reader.close()
    noise = tuple(each.values for each in found if each is not None and len(each.values))
    if not noise:
        raise EncoderError(f"{folder} holds no recording that can be decoded; wanted sounds")
    return noise
