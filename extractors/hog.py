"""Histograms of oriented gradients, one a frame: the visual descriptor without weights.

Dalal & Triggs, CVPR 2005: cells of 8 x 8 pixels, 9 unsigned orientations, blocks of 2 x 2 cells
normalised by L2-Hys. Our reading is scikit-image's: a pixel votes for the one bin that it falls in,
with its gradient's length. OpenCV's `HOGDescriptor` left the main library with version 5.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor
from torch.nn import functional as F

from ..tensors import Stream
from ._encoder import CheckpointInfo, Encoder, Frames, Media, Prepared
from ._frames import over_frames, sampled, to_channels

SIDE, CELL, BLOCK, BINS = 64, 8, 2, 9


class Hog(Encoder):
    """Histograms of oriented gradients of 64 x 64 grey frames; no weights.

    Parameters
    ----------
    fps, frames : float or None, int or None
        Frames a second, or in all; 5 a second where neither is given.
    crop : str
        ``none`` or ``face``.
    """

    modality: ClassVar[Literal["audio", "visual"]] = "visual"
    checkpoints: ClassVar[tuple[CheckpointInfo, ...]] = (CheckpointInfo("", "", 1764, 5, 0, "none"),)

    def __init__(self, *, fps: float | None = None, frames: int | None = None, crop: str = "none") -> None:
        super().__init__()
        self.inputs: Frames = sampled(
            Frames(size=SIDE, squash=True, resample="bilinear"), fps=fps, frames=frames, crop=crop, default=5
        )
        self.batching: Literal["mask", "equal", "single"] = "mask"
        self.dim = (SIDE // CELL - BLOCK + 1) ** 2 * BLOCK**2 * BINS
        self.n_layers = 1
        self.rate = self.inputs.fps

    @classmethod
    def from_pretrained(
        cls, checkpoint: str = "", *, fps: float | None = None, frames: int | None = None, crop: str = "none"
    ) -> Self:
        """Make the descriptor; there is nothing to load."""
        return cls(fps=fps, frames=frames, crop=crop)

    @classmethod
    def untrained(
        cls, *, seed: int = 0, fps: float | None = None, frames: int | None = None, crop: str = "none"
    ) -> Self:
        """Make the descriptor; the seed changes nothing."""
        return cls(fps=fps, frames=frames, crop=crop)

    def identity(self) -> Mapping[str, Any]:
        return {"family": "hog", "version": 1, "wants": vars(self.inputs)}

    def prepare(self, media: Media) -> Prepared:
        return to_channels(media, scale=1 / 255)

    def forward(self, media: Stream) -> list[Stream]:
        return over_frames(media, lambda frames: [histograms(grey(frames))])


def grey(frames: Tensor) -> Tensor:
    """Return luma (ITU-R BT.601) of RGB frames, shape (frames, height, width)."""
    return frames.movedim(1, -1) @ frames.new_tensor([0.299, 0.587, 0.114])


def histograms(frames: Tensor) -> Tensor:
    """Return HOG of grey frames.

    Parameters
    ----------
    frames : Tensor [shape=(frames, height, width)]
        Sides are multiples of `CELL`.

    Returns
    -------
    Tensor [shape=(frames, blocks down * blocks across * BLOCK * BLOCK * BINS)]
    """
    down, across = torch.zeros_like(frames), torch.zeros_like(frames)
    down[:, 1:-1] = frames[:, 2:] - frames[:, :-2]
    across[:, :, 1:-1] = frames[:, :, 2:] - frames[:, :, :-2]
    angle = torch.rad2deg(torch.atan2(down, across)) % 180
    chosen = (angle * BINS / 180).long().clamp(max=BINS - 1)[:, None]
    votes = frames.new_zeros(len(frames), BINS, *frames.shape[1:])
    votes.scatter_(1, chosen, torch.hypot(down, across)[:, None])
    cells = F.avg_pool2d(votes, CELL)
    blocks = cells.unfold(2, BLOCK, 1).unfold(3, BLOCK, 1)  # frames, bins, y, x, BLOCK, BLOCK
    vectors = blocks.permute(0, 2, 3, 4, 5, 1).flatten(3)
    vectors = _unit(vectors).clamp(max=0.2)
    return _unit(vectors).flatten(1)


def _unit(vectors: Tensor) -> Tensor:
    return vectors / (vectors.square().sum(-1, keepdim=True) + 1e-10).sqrt()


plugin = Hog
