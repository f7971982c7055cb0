"""A spectrogram stem from random weights: log-mel or MFCC, then convolutions over both axes.

The local audio branch of AVERFormer (Sun et al. 2025), whose paper's text is not public: two such
stems stand for its spectrogram and its MFCC. Each convolution halves frequency, the first two halve
time: 25 steps a second. All of it is ours.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor, nn

from ..tensors import Stream
from ._encoder import CheckpointInfo, Encoder, Media, Prepared, Sound, seeded
from ._scratch import unpublished
from .logmel import LogMel

N_HALVINGS = 2
CHANNELS = (1, 16, 32, 32)


class MelStem(Encoder):
    """Log-mel or MFCC with convolutions, to be trained from random weights.

    Parameters
    ----------
    kind : str
        ``logmel``, or ``mfcc`` with deltas.
    dim : int
    seed : int
        That the weights were drawn by.
    """

    modality: ClassVar[Literal["audio", "visual"]] = "audio"
    checkpoints: ClassVar[tuple[CheckpointInfo, ...]] = (CheckpointInfo("melstem:untrained,dim=256", "", 256, 25, 0, "none"),)

    def __init__(self, *, kind: str = "logmel", dim: int = 64, seed: int = 0) -> None:
        super().__init__()
        self.spectrum = LogMel(kind=kind, n_mels=64, deltas=kind == "mfcc")
        self.kind, self.dim, self.n_layers, self.seed = kind, dim, 1, seed
        self.batching: Literal["mask", "equal", "single"] = "mask"
        self.inputs: Sound = self.spectrum.inputs
        assert self.spectrum.rate is not None
        self.rate = self.spectrum.rate / 2**N_HALVINGS
        # Decibels and cepstra of speech span hundreds: a norm per coefficient comes first.
        self.norm = nn.LayerNorm(self.spectrum.dim)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(a, b, 3, (2 if i < N_HALVINGS else 1, 2), 1)
            for i, (a, b) in enumerate(zip(CHANNELS, CHANNELS[1:], strict=False))
        )
        height = self.spectrum.dim
        for _ in self.convolutions:
            height = (height + 1) // 2
        self.out = nn.Sequential(nn.Linear(CHANNELS[-1] * height, dim), nn.LayerNorm(dim))

    @classmethod
    def from_pretrained(cls, checkpoint: str = "", *, kind: str = "logmel", dim: int = 64) -> Self:
        raise unpublished("melstem", checkpoint)

    @classmethod
    def untrained(cls, *, seed: int = 0, kind: str = "logmel", dim: int = 64) -> Self:
        with seeded(seed):
            return cls(kind=kind, dim=dim, seed=seed)

    def identity(self) -> Mapping[str, Any]:
        return {"family": "melstem", "version": 1, "untrained": str(self.seed), "kind": self.kind, "dim": self.dim}

    def prepare(self, media: Media) -> Prepared:
        return self.spectrum.prepare(media)

    def forward(self, media: Stream) -> list[Stream]:
        with torch.autocast(media.values.device.type, enabled=False):
            # The first bands of silence and of speech are 80 dB apart: no half precision here.
            (spectra,) = self.spectrum(media)
        x, mask, times = self.norm(spectra.values)[:, None], spectra.mask, spectra.times
        for i, convolve in enumerate(self.convolutions):
            x = torch.relu(convolve(x * mask[:, None, :, None]))
            if i < N_HALVINGS:
                mask, times = mask[:, ::2], times[:, ::2]
        values: Tensor = self.out(x.transpose(1, 2).flatten(2))
        return [Stream(values * mask[..., None], mask, times)]


plugin = MelStem
