"""A face CNN that is trained from scratch: the visual front end of AVT-CA, one vector per frame.

Venkatraman et al. 2024 (arXiv 2407.18552), as in their released code: EfficientFace (Zhao et al. 2021) with units of
ShuffleNet V2 (Ma et al., ECCV 2018), a modulator that weights channels and positions, and a local extractor in
parallel. Their code applies the modulator after the first stage of units, their figure shows it before that stage; we
follow the code. Their sizes are ``width=29, units=[4, 8, 4], dim=1024, size=224``; our defaults are a tenth of that.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import EncoderError
from ._encoder import CheckpointInfo, Frames
from ._feature_maps import LocalExtractor, ModulatorAttention, convolution
from ._frames import FrameEncoder, Pixels
from ._scratch import TrainedFromScratch


class FaceStem(TrainedFromScratch, FrameEncoder):
    """AVT-CA's face CNN with modulator and local extractor, trained from scratch.

    Parameters
    ----------
    width : int
        Number of channels of the first feature map; the stages have 4, 8 and 16 times as many.
    units : sequence of int
        Number of ShuffleNet units in each of the three stages.
    dim : int
        Width of a feature vector.
    size : int
        Height and width of the frames in pixels, a multiple of 32.
    fps : float, optional
        Sampled frames per second; 5 if neither `fps` nor `frames` is given.
    frames : int, optional
        Number of frames sampled evenly over the clip.
    crop : str
        ``none`` or ``face``.
    """

    family = "facestem"
    default_fps = 5
    checkpoints = (CheckpointInfo("facestem:untrained,width=29,dim=1024,size=224", "", 1024, 5, 1, "none"),)

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
    ) -> None:
        super().__init__(fps=fps, frames=frames, crop=crop)
        if size % 32 or len(units) != 3 or min(units) < 1:
            raise EncoderError(
                f"facestem: Found size={size} and units={list(units)}. Expected a size that is a multiple of 32, and "
                "three stages of at least one unit."
            )
        self.width, self.units, self.dim = width, tuple(units), dim
        self.set_pixels(Pixels.unnormalised(Frames(size=size, crop_size=size, resample="bilinear")))
        self.first = nn.Sequential(*convolution(3, width, 3, stride=2), nn.MaxPool2d(3, 2, 1))
        stages = [4 * width, 8 * width, 16 * width]
        self.stages = nn.ModuleList(
            stage(before, after, n) for before, after, n in zip([width, *stages], stages, units, strict=False)
        )
        self.modulator = ModulatorAttention(stages[0])
        self.local = LocalExtractor(width, stages[0])
        self.last = nn.Sequential(*convolution(stages[-1], dim, 1))

    def identity(self) -> Mapping[str, Any]:
        return {**super().identity(), "width": self.width, "units": list(self.units), "dim": self.dim}

    def encode_frames(self, frames: Tensor) -> list[Tensor]:
        if not len(frames):
            return [frames.new_zeros(0, self.dim)]
        first = self.first(frames)
        x = self.modulator(self.stages[0](first)) + self.local(first)
        return [self.last(self.stages[2](self.stages[1](x))).mean((2, 3))]


class Unit(nn.Module):
    """Unit of ShuffleNet V2: one half of the channels is convolved, then the channels of both halves alternate.

    With a stride above 1, both branches receive all channels and both are convolved.
    """

    def __init__(self, n_in: int, n_out: int, *, stride: int) -> None:
        super().__init__()
        half, n_seen = n_out // 2, n_in if stride > 1 else n_in // 2
        self.stride = stride
        self.convolve = nn.Sequential(
            *convolution(n_seen, half, 1),
            *convolution(half, half, 3, stride=stride, groups=half, active=False),
            *convolution(half, half, 1),
        )
        self.shortcut = (
            nn.Sequential(
                *convolution(n_seen, n_seen, 3, stride=stride, groups=n_seen, active=False),
                *convolution(n_seen, half, 1),
            )
            if stride > 1
            else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return feature maps of shape (frames, n_out, height / stride, width / stride)."""
        kept, convolved = (x, x) if self.stride > 1 else x.chunk(2, 1)
        both = torch.stack([self.shortcut(kept), self.convolve(convolved)], dim=2)
        return both.flatten(1, 2)


def stage(n_in: int, n_out: int, n_units: int) -> nn.Sequential:
    """Return a unit that halves height and width, followed by `n_units` - 1 units that keep them."""
    rest = (Unit(n_out, n_out, stride=1) for _ in range(n_units - 1))
    return nn.Sequential(Unit(n_in, n_out, stride=2), *rest)


plugin = FaceStem
