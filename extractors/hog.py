"""Histograms of oriented gradients, one vector per frame: a visual descriptor without weights.

Dalal & Triggs (CVPR 2005): cells of 8 x 8 pixels, 9 unsigned orientations, blocks of 2 x 2 cells normalised by L2-Hys.
The paper distributes the vote of a pixel over neighbouring bins. Like scikit-image we give it to one bin, weighted by
the length of its gradient. OpenCV's `HOGDescriptor` is no longer part of its main library since version 5.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from ._encoder import CheckpointInfo, Frames
from ._frames import FrameEncoder, Pixels

SIDE, CELL, BLOCK, BINS = 64, 8, 2, 9


class Hog(FrameEncoder):
    """Histograms of oriented gradients of 64 x 64 grey frames; no weights.

    Parameters
    ----------
    fps : float, optional
        Sampled frames per second; 5 if neither `fps` nor `frames` is given.
    frames : int, optional
        Number of frames sampled evenly over the clip.
    crop : str
        ``none`` or ``face``.
    """

    family = "hog"
    has_weights = False
    default_fps = 5
    pixels = Pixels.unnormalised(Frames(size=SIDE, squash=True, resample="bilinear"))
    dim = (SIDE // CELL - BLOCK + 1) ** 2 * BLOCK**2 * BINS
    checkpoints = (CheckpointInfo("", "", dim, 5, 0, "none"),)

    def encode_frames(self, frames: Tensor) -> list[Tensor]:
        return [histograms(grey(frames))]


def grey(frames: Tensor) -> Tensor:
    """Return the luma (ITU-R BT.601) of RGB frames of shape (frames, 3, height, width)."""
    return frames.movedim(1, -1) @ frames.new_tensor([0.299, 0.587, 0.114])


def histograms(frames: Tensor) -> Tensor:
    """Return the histograms of grey frames, shape (frames, blocks down * blocks across * BLOCK * BLOCK * BINS).

    Height and width of the frames are multiples of `CELL`.
    """
    vertical, horizontal = torch.zeros_like(frames), torch.zeros_like(frames)
    vertical[:, 1:-1] = frames[:, 2:] - frames[:, :-2]
    horizontal[:, :, 1:-1] = frames[:, :, 2:] - frames[:, :, :-2]
    angle = torch.rad2deg(torch.atan2(vertical, horizontal)) % 180
    bins = (angle * BINS / 180).long().clamp(max=BINS - 1)[:, None]
    votes = frames.new_zeros(len(frames), BINS, *frames.shape[1:])
    votes.scatter_(1, bins, torch.hypot(vertical, horizontal)[:, None])
    cells = F.avg_pool2d(votes, CELL)
    blocks = cells.unfold(2, BLOCK, 1).unfold(3, BLOCK, 1)  # frames, bins, y, x, BLOCK, BLOCK
    vectors = blocks.permute(0, 2, 3, 4, 5, 1).flatten(3)
    vectors = _unit(vectors).clamp(max=0.2)
    return _unit(vectors).flatten(1)


def _unit(vectors: Tensor) -> Tensor:
    return vectors / (vectors.square().sum(-1, keepdim=True) + 1e-10).sqrt()


plugin = Hog
