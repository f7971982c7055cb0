"""A face CNN from random weights: the visual front end of AVT-CA, a vector a frame.

Venkatraman et al. 2024 (arXiv 2407.18552) as released: EfficientFace (Zhao et al. 2021) with units
of ShuffleNet V2 (Ma et al., ECCV 2018), a modulator that weighs channels and places, and a local
extractor beside it. In their code the modulator stands behind the first stage of units, in their
figure before it; here as in the code. Their sizes are ``width=29, units=[4, 8, 4], dim=1024,
size=224``; the defaults are a tenth of that.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor, nn

from ..errors import EncoderError
from ..tensors import Stream
from ._encoder import CheckpointInfo, Encoder, Frames, Media, Prepared, seeded
from ._feature_maps import LocalExtractor, ModulatorAttention
from ._frames import over_frames, sampled, to_channels
from ._scratch import unpublished


class FaceStem(Encoder):
    """AVT-CA's face CNN with modulator and local extractor, to be trained from random weights.

    Parameters
    ----------
    width : int
        Channels of the first map; the stages have 4, 8 and 16 times as many.
    units : sequence of int
        Inverted residuals of each of the three stages.
    dim, size : int
        Of a frame's vector; of the frames, a multiple of 32.
    fps, frames : float or None, int or None
        Frames a second, or in all; 5 a second where neither is given.
    crop : str
        ``none`` or ``face``.
    seed : int
        That the weights were drawn by.
    """

    modality: ClassVar[Literal["audio", "visual"]] = "visual"
    checkpoints: ClassVar[tuple[CheckpointInfo, ...]] = (
        CheckpointInfo("facestem:untrained,width=29,dim=1024,size=224", "", 1024, 5, 1, "none"),
    )

    def __init__(
        self,
        *,
        width: int = 8,
        units: Sequence[int] = (1, 1, 1),
        dim: int = 64,
        size: int = 64,
        fps: float | None = None,
        frames: int | None = None,
        crop: str = "none",
        seed: int = 0,
    ) -> None:
        super().__init__()
        if size % 32 or len(units) != 3 or min(units) < 1:
            raise EncoderError(
                f"facestem: found size={size}, units={list(units)}; wanted a multiple of 32 and "
                "three stages of at least one unit"
            )
        self.width, self.units, self.dim, self.n_layers = width, tuple(units), dim, 1
        self.seed = seed
        self.batching: Literal["mask", "equal", "single"] = "mask"
        self.inputs: Frames = sampled(
            Frames(size=size, crop_size=size, resample="bilinear"), fps=fps, frames=frames, crop=crop, default=5
        )
        self.rate = self.inputs.fps
        self.first = nn.Sequential(*convolution(3, width, 3, stride=2), nn.MaxPool2d(3, 2, 1))
        stages = [4 * width, 8 * width, 16 * width]
        self.stages = nn.ModuleList(
            stage(before, after, n) for before, after, n in zip([width, *stages], stages, units, strict=False)
        )
        self.modulator = ModulatorAttention(stages[0])
        self.local = LocalExtractor(width, stages[0])
        self.last = nn.Sequential(*convolution(stages[-1], dim, 1))

    @classmethod
    def from_pretrained(
        cls,
        checkpoint: str = "",
        *,
        width: int = 8,
        units: Sequence[int] = (1, 1, 1),
        dim: int = 64,
        size: int = 64,
        fps: float | None = None,
        frames: int | None = None,
        crop: str = "none",
    ) -> Self:
        raise unpublished("facestem", checkpoint)

    @classmethod
    def untrained(
        cls,
        *,
        seed: int = 0,
        width: int = 8,
        units: Sequence[int] = (1, 1, 1),
        dim: int = 64,
        size: int = 64,
        fps: float | None = None,
        frames: int | None = None,
        crop: str = "none",
    ) -> Self:
        with seeded(seed):
            return cls(width=width, units=units, dim=dim, size=size, fps=fps, frames=frames, crop=crop, seed=seed)

    def identity(self) -> Mapping[str, Any]:
        return {
            "family": "facestem",
            "version": 1,
            "untrained": str(self.seed),
            "width": self.width,
            "units": list(self.units),
            "dim": self.dim,
            "wants": vars(self.inputs),
        }

    def prepare(self, media: Media) -> Prepared:
        return to_channels(media, scale=1 / 255)

    def forward(self, media: Stream) -> list[Stream]:
        return over_frames(media, lambda frames: [self._vectors(frames)])

    def _vectors(self, frames: Tensor) -> Tensor:
        if not len(frames):
            return frames.new_zeros(0, self.dim)
        first = self.first(frames)
        x = self.modulator(self.stages[0](first)) + self.local(first)
        vectors: Tensor = self.last(self.stages[2](self.stages[1](x))).mean((2, 3))
        return vectors


class Unit(nn.Module):
    """ShuffleNet V2's unit: one half passes, the other is convolved, then channels are dealt anew.

    With a stride both branches see all channels, and both are convolved.
    """

    def __init__(self, n_in: int, n_out: int, *, stride: int) -> None:
        super().__init__()
        half, seen = n_out // 2, n_in if stride > 1 else n_in // 2
        self.stride = stride
        self.convolve = nn.Sequential(
            *convolution(seen, half, 1),
            *convolution(half, half, 3, stride=stride, groups=half, active=False),
            *convolution(half, half, 1),
        )
        self.shortcut = (
            nn.Sequential(
                *convolution(seen, seen, 3, stride=stride, groups=seen, active=False), *convolution(seen, half, 1)
            )
            if stride > 1
            else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return maps of shape (frames, n_out, height / stride, width / stride)."""
        kept, seen = (x, x) if self.stride > 1 else x.chunk(2, 1)
        both = torch.stack([self.shortcut(kept), self.convolve(seen)], dim=2)
        return both.flatten(1, 2)


def stage(n_in: int, n_out: int, n_units: int) -> nn.Sequential:
    """Return a unit that halves the map, and others that keep it."""
    rest = (Unit(n_out, n_out, stride=1) for _ in range(n_units - 1))
    return nn.Sequential(Unit(n_in, n_out, stride=2), *rest)


def convolution(
    n_in: int, n_out: int, kernel: int, *, stride: int = 1, groups: int = 1, active: bool = True
) -> list[nn.Module]:
    """Return a convolution, its norm and, where `active`, a ReLU."""
    convolve = nn.Conv2d(n_in, n_out, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [convolve, nn.BatchNorm2d(n_out), *([nn.ReLU()] if active else [])]


plugin = FaceStem
