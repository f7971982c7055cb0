"""A waveform encoder that is trained from scratch: strided convolutions and a small transformer.

The global audio branch of AVERFormer (Sun et al. 2025), whose text is not public. Our interpretation follows wav2vec
2.0 (Baevski et al., NeurIPS 2020) at 50 steps per second, without its group normalisation, so that clips of different
lengths can share a batch. The sizes are ours.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from ..tensors import Stream
from ._audio import SoundEncoder, n_steps, receptive_field
from ._encoder import CheckpointInfo, Media, Prepared
from ._scratch import TrainedFromScratch, TransformerBlock, sinusoids

KERNELS, STRIDES = (10, 8, 4, 4), (5, 4, 4, 4)
SPAN, HOP = receptive_field(KERNELS, STRIDES), 320


class WaveStem(TrainedFromScratch, SoundEncoder):
    """Convolutions over the waveform and a transformer, trained from scratch.

    Parameters
    ----------
    dim : int
        Width of a feature vector.
    depth : int
        Number of transformer layers.
    heads : int
        Number of attention heads, a divisor of `dim`.
    """

    family = "wavestem"
    min_samples = SPAN
    rate = SoundEncoder.sampling_rate / HOP
    checkpoints = (CheckpointInfo("wavestem:untrained,dim=256,depth=4", "", 256, 50, 4, "none"),)

    def __init__(self, *, dim: int = 64, depth: int = 2, heads: int = 4) -> None:
        super().__init__()
        self.dim, self.heads = dim, heads
        widths = (1, *(dim for _ in KERNELS))
        self.convolutions = nn.ModuleList(
            nn.Conv1d(a, b, k, s) for a, b, k, s in zip(widths, widths[1:], KERNELS, STRIDES, strict=False)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in KERNELS)
        self.blocks = nn.ModuleList(TransformerBlock(dim, heads=heads) for _ in range(depth))
        self.norm = nn.LayerNorm(dim)

    def identity(self) -> Mapping[str, Any]:
        return {**super().identity(), "dim": self.dim, "depth": len(self.blocks), "heads": self.heads}

    def prepare(self, media: Media) -> Prepared:
        samples, times = super().prepare(media)
        return Prepared((samples - samples.mean()) / (samples.var(correction=0) + 1e-7).sqrt(), times)

    def forward(self, media: Stream) -> list[Stream]:
        counts = n_steps(media.mask.sum(1), KERNELS, STRIDES)
        samples = media.values.masked_fill(~media.mask, 0)
        x = F.pad(samples, (0, max(0, SPAN - samples.shape[1])))[:, None]
        for convolve, norm in zip(self.convolutions, self.norms, strict=True):
            x = F.gelu(norm(convolve(x).transpose(1, 2))).transpose(1, 2)
        x = x.transpose(1, 2)
        steps = torch.arange(x.shape[1], device=x.device)
        mask = steps < counts[:, None]
        times = (steps * HOP + SPAN / 2) / self.sampling_rate
        times = times.expand(mask.shape).masked_fill(~mask, torch.nan)
        x = x + sinusoids(times, self.dim)
        for block in self.blocks:
            x = block(x, mask)
        return [Stream(self.norm(x) * mask[..., None], mask, times)]


plugin = WaveStem
