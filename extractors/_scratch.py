"""Parts of the encoders without published weights, which are trained together with the fusion.

A recipe uses such an encoder like any other, for example in the place of wav2vec 2.0. Extracting features with its
random weights is of no use.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import EncoderError
from ._encoder import EncoderFamily


class TrainedFromScratch(EncoderFamily):
    """Base of a family without published weights: its constructor draws random weights."""

    def load(self, checkpoint: str) -> None:
        raise EncoderError(
            f"Found the checkpoint {checkpoint!r}, but {self.family} has no published weights. Use "
            f"{self.family}:untrained and train it by a recipe with a section [encoders]."
        )


class TransformerBlock(nn.Module):
    """A transformer layer with normalisation before attention and before the feed-forward part (Xiong et al. 2020)."""

    def __init__(self, width: int, *, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.project = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.widen, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Transform `x` of shape (batch, time, width); no step attends to steps where `mask` is False."""
        q, k, v = self.project(self.norms[0](x)).unflatten(-1, (3, self.heads, -1)).unbind(2)
        q, k, v = (each.transpose(1, 2) for each in (q, k, v))
        # A clip without any valid step attends everywhere, because a softmax over nothing is nan.
        visible = (mask | ~mask.any(1, keepdim=True))[:, None, None]
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=visible)
        x = x + self.out(attended.transpose(1, 2).flatten(2))
        out: Tensor = x + self.narrow(F.gelu(self.widen(self.norms[1](x))))
        return out


def sinusoids(times: Tensor, width: int) -> Tensor:
    """Return sinusoidal positions (Vaswani et al. 2017) of times in seconds, with periods from 0.1 s to 100 s.

    Times of shape (batch, time) become (batch, time, width); nan is read as 0.
    """
    n = width // 2
    rates = 2 * torch.pi * 10 * 1000 ** (-torch.arange(n, device=times.device) / max(1, n - 1))
    angles = times.nan_to_num()[..., None] * rates
    return F.pad(torch.cat([angles.sin(), angles.cos()], -1), (0, width - 2 * n))
