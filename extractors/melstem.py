"""A spectrogram encoder that is trained from scratch: log-mel or MFCC, then convolutions over time and frequency.

The local audio branch of AVERFormer (Sun et al. 2025), whose text is not public. In our interpretation two such
encoders stand for its spectrogram and its MFCC. Each convolution halves the frequency axis and the first two halve the
time axis, which gives 25 steps per second.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..tensors import Stream
from ._audio import SoundEncoder
from ._encoder import CheckpointInfo
from ._scratch import TrainedFromScratch
from .logmel import LogMel

N_HALVINGS = 2
CHANNELS = (1, 16, 32, 32)


class MelStem(TrainedFromScratch, SoundEncoder):
    """Convolutions over log-mel spectra or MFCC, trained from scratch.

    Parameters
    ----------
    kind : str
        ``logmel``, or ``mfcc`` for MFCC with deltas.
    dim : int
        Width of a feature vector.
    """

    family = "melstem"
    rate = LogMel.rate / 2**N_HALVINGS
    checkpoints = (CheckpointInfo("melstem:untrained,dim=256", "", 256, 25, 0, "none"),)

    def __init__(self, *, kind: str = "logmel", dim: int = 64) -> None:
        super().__init__()
        self.kind, self.dim = kind, dim
        self.spectrum = LogMel(kind=kind, n_mels=64, deltas=kind == "mfcc")
        # Decibels and cepstra of speech span hundreds, so each coefficient is normalised first.
        self.norm = nn.LayerNorm(self.spectrum.dim)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(a, b, 3, (2 if i < N_HALVINGS else 1, 2), 1)
            for i, (a, b) in enumerate(zip(CHANNELS, CHANNELS[1:], strict=False))
        )
        height = self.spectrum.dim
        for _ in self.convolutions:
            height = (height + 1) // 2
        self.out = nn.Sequential(nn.Linear(CHANNELS[-1] * height, dim), nn.LayerNorm(dim))

    def identity(self) -> Mapping[str, Any]:
        return {**super().identity(), "kind": self.kind, "dim": self.dim}

    def forward(self, media: Stream) -> list[Stream]:
        with torch.autocast(media.values.device.type, enabled=False):
            # The first bands of silence and of speech are 80 dB apart, too much for half precision.
            (spectra,) = self.spectrum(media)
        x, mask, times = self.norm(spectra.values)[:, None], spectra.mask, spectra.times
        for i, convolve in enumerate(self.convolutions):
            x = torch.relu(convolve(x * mask[:, None, :, None]))
            if i < N_HALVINGS:
                mask, times = mask[:, ::2], times[:, ::2]
        values: Tensor = self.out(x.transpose(1, 2).flatten(2))
        return [Stream(values * mask[..., None], mask, times)]


plugin = MelStem
