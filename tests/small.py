"""Encoders small enough to be checked by hand, requested by their dotted path."""

from collections.abc import Mapping
from typing import Any, Self

import torch

from affuse.errors import MediaError
from affuse.extractors._encoder import Encoder, Media, Prepared, Sound, pad_sequences
from affuse.tensors import Stream

STEP = 160


class Steps(Encoder):
    """Three layers over steps of 10 ms: loudness, its cumulative sum, and both."""

    modality = "audio"

    def __init__(self, *, batching: str = "mask", scale: float = 1.0) -> None:
        super().__init__()
        self.batching, self.scale = batching, scale
        self.dim, self.n_layers, self.rate, self.inputs = 2, 3, 100.0, Sound(16_000)
        self.n_passes = 0

    @classmethod
    def from_pretrained(cls, checkpoint: str = "", *, batching: str = "mask", scale: float = 1.0) -> Self:
        return cls(batching=batching, scale=scale)

    @classmethod
    def untrained(cls, *, batching: str = "mask", scale: float = 1.0) -> Self:
        return cls(batching=batching, scale=scale)

    def identity(self) -> Mapping[str, Any]:
        return {"family": "steps", "scale": self.scale, "batching": self.batching}

    def prepare(self, media: Media) -> Prepared:
        n = len(media.values) // STEP
        if n == 0:
            raise MediaError("too_short", "less than a step")
        values = torch.from_numpy(media.values[: n * STEP].reshape(n, STEP))
        return Prepared(values, (torch.arange(n) + 0.5) / 100)

    def forward(self, media: Stream) -> list[Stream]:
        loud = media.values.square().mean(-1).sqrt() * self.scale * media.mask
        total = loud.cumsum(1)
        pairs = [(loud, loud), (total, loud), (loud, total)]
        return [Stream(torch.stack(pair, -1), media.mask, media.times) for pair in pairs]


class Words(Steps):
    """A stand-in for a text encoder: sound goes in, features of the modality ``text`` come out."""

    modality = "text"

    def identity(self) -> Mapping[str, Any]:
        return {**super().identity(), "family": "words"}


def single(encoder: Encoder, media: Media) -> list[Stream]:
    """Encode one clip alone."""
    prepared = encoder.prepare(media)
    with torch.inference_mode():
        return encoder(pad_sequences([prepared.values], [prepared.times]))
