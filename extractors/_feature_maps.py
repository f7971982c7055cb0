"""Modulator and local extractor of AVT-CA, which weight the feature maps of a convolutional network on single frames.

Venkatraman et al. 2024 (arXiv 2407.18552), as in their released code; both parts come from EfficientFace (Zhao et al.
2021). The weighted map is ``ModulatorAttention(x) + LocalExtractor(earlier map)``.
"""

import torch
from torch import Tensor, nn

from ..errors import MediaError


class ModulatorAttention(nn.Module):
    """Attention over channels and positions of a feature map: ``x * sigmoid(channel * position)``.

    The hidden layers have fewer channels by a factor of `reduction`.
    """

    def __init__(self, channels: int, *, reduction: int = 16) -> None:
        super().__init__()
        narrow = max(1, channels // reduction)
        self.channel = nn.Sequential(
            nn.Linear(channels, narrow), nn.BatchNorm1d(narrow), nn.ReLU(), nn.Linear(narrow, channels)
        )
        self.place = nn.Sequential(
            *convolution(channels, narrow, 1),
            *convolution(narrow, narrow, 3, dilation=4),
            *convolution(narrow, narrow, 3, dilation=4),
            nn.Conv2d(narrow, 1, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Weight maps of shape (frames, channels, height, width)."""
        channel = self.channel(x.mean((2, 3)))[:, :, None, None]
        return x * torch.sigmoid(channel * self.place(x))


class LocalExtractor(nn.Module):
    """Convolutions over each quarter of a feature map: forehead and mouth, left and right.

    The number of channels after it, `out`, is a multiple of that before it.
    """

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.quarters = nn.ModuleList(
            nn.Sequential(
                *convolution(channels, out, 3, stride=2, groups=channels), *convolution(out, out, 3, groups=out)
            )
            for _ in range(4)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return maps of shape (frames, out, height / 2, width / 2); both sides are multiples of four."""
        height, width = x.shape[-2:]
        if height % 4 or width % 4:
            raise MediaError(
                "frame_size",
                f"Maps of {height} x {width} pixels cannot be cut into quarters for convolutions of stride 2.",
            )
        parts = [part for row in x.chunk(2, -2) for part in row.chunk(2, -1)]
        found = [extract(part) for extract, part in zip(self.quarters, parts, strict=True)]
        rows = [torch.cat(found[:2], -1), torch.cat(found[2:], -1)]
        return torch.cat(rows, -2)


def convolution(
    n_in: int, n_out: int, kernel: int, *, stride: int = 1, dilation: int = 1, groups: int = 1, active: bool = True
) -> list[nn.Module]:
    """Return a convolution that keeps the size at stride 1, its batch normalisation and, if `active`, a ReLU."""
    padding = dilation * (kernel // 2)
    convolve = nn.Conv2d(n_in, n_out, kernel, stride, padding, dilation, groups, bias=False)
    return [convolve, nn.BatchNorm2d(n_out), *([nn.ReLU()] if active else [])]
