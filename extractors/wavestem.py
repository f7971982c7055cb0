"""A waveform stem from random weights: strided convolutions and a small transformer.

The global audio branch of AVERFormer (Sun et al. 2025), whose paper's text is not public: built
after wav2vec 2.0 (Baevski et al., NeurIPS 2020), 50 steps a second, without its group norm, so that
clips of any lengths share a batch. Sizes are ours.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import MediaError
from ..tensors import Stream
from ._encoder import CheckpointInfo, Encoder, Media, Prepared, Sound, seeded
from ._scratch import Block, sinusoids, unpublished

KERNELS, STRIDES = (10, 8, 4, 4), (5, 4, 4, 4)
SAMPLING_RATE = 16_000


class WaveStem(Encoder):
    """Waveform convolutions and transformer, to be trained from random weights.

    Parameters
    ----------
    dim : int
    depth : int
        Layers of the transformer.
    heads : int
        Divides `dim`.
    seed : int
        That the weights were drawn by.
    """

    modality: ClassVar[Literal["audio", "visual"]] = "audio"
    checkpoints: ClassVar[tuple[CheckpointInfo, ...]] = (
        CheckpointInfo("wavestem:untrained,dim=256,depth=4", "", 256, 50, 4, "none"),
    )

    def __init__(self, *, dim: int = 64, depth: int = 2, heads: int = 4, seed: int = 0) -> None:
        super().__init__()
        self.dim, self.n_layers, self.heads, self.seed = dim, 1, heads, seed
        self.batching: Literal["mask", "equal", "single"] = "mask"
        self.inputs: Sound = Sound(SAMPLING_RATE)
        self.rate = SAMPLING_RATE / 320
        widths = (1, *(dim for _ in KERNELS))
        self.convolutions = nn.ModuleList(
            nn.Conv1d(a, b, k, s) for a, b, k, s in zip(widths, widths[1:], KERNELS, STRIDES, strict=False)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in KERNELS)
        self.blocks = nn.ModuleList(Block(dim, heads=heads) for _ in range(depth))
        self.norm = nn.LayerNorm(dim)

    @classmethod
    def from_pretrained(cls, checkpoint: str = "", *, dim: int = 64, depth: int = 2, heads: int = 4) -> Self:
        raise unpublished("wavestem", checkpoint)

    @classmethod
    def untrained(cls, *, seed: int = 0, dim: int = 64, depth: int = 2, heads: int = 4) -> Self:
        with seeded(seed):
            return cls(dim=dim, depth=depth, heads=heads, seed=seed)

    def identity(self) -> Mapping[str, Any]:
        return {
            "family": "wavestem",
            "version": 1,
            "untrained": str(self.seed),
            "dim": self.dim,
            "depth": len(self.blocks),
            "heads": self.heads,
        }

    def prepare(self, media: Media) -> Prepared:
        samples = torch.from_numpy(media.values.astype("float32"))
        if len(samples) < span():
            raise MediaError("too_short", "the clip's sound is shorter than one step of the model")
        samples = (samples - samples.mean()) / (samples.var(correction=0) + 1e-7).sqrt()
        return Prepared(samples, torch.arange(len(samples)) / SAMPLING_RATE)

    def forward(self, media: Stream) -> list[Stream]:
        n_steps = steps(media.mask.sum(1))
        samples = media.values.masked_fill(~media.mask, 0)
        x = F.pad(samples, (0, max(0, span() - samples.shape[1])))[:, None]
        for convolve, norm in zip(self.convolutions, self.norms, strict=True):
            x = F.gelu(norm(convolve(x).transpose(1, 2))).transpose(1, 2)
        x = x.transpose(1, 2)
        clock = torch.arange(x.shape[1], device=x.device)
        mask = clock < n_steps[:, None]
        times = (clock * 320 + span() / 2) / SAMPLING_RATE
        times = times.expand(mask.shape).masked_fill(~mask, torch.nan)
        x = x + sinusoids(times, self.dim)
        for block in self.blocks:
            x = block(x, mask)
        return [Stream(self.norm(x) * mask[..., None], mask, times)]


def steps(n_samples: Tensor) -> Tensor:
    """Return how many steps so many samples make."""
    for kernel, stride in zip(KERNELS, STRIDES, strict=True):
        n_samples = ((n_samples - kernel) // stride + 1).clamp(min=0)
    return n_samples


def span() -> int:
    """Return the samples that one step sees."""
    seen, jump = 1, 1
    for kernel, stride in zip(KERNELS, STRIDES, strict=True):
        seen, jump = seen + (kernel - 1) * jump, jump * stride
    return seen


plugin = WaveStem
