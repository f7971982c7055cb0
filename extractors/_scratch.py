"""What encoders without published weights share: they start at random and learn with the fusion.

A stem is an encoder like any other, so a recipe puts one where it would put wav2vec 2.0; what it
makes before it has learnt anything is of no use to extraction.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import EncoderError


def unpublished(stem: str, checkpoint: str) -> EncoderError:
    """Return what a stem answers to a checkpoint."""
    return EncoderError(
        f"{stem} has no published weights, found {checkpoint!r}; say 'untrained' and train it in a recipe's [encoders]"
    )


class Block(nn.Module):
    """A transformer layer, normalised before each half (Xiong et al. 2020)."""

    def __init__(self, width: int, *, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.project = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.widen, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Shapes (batch, time, width) and (batch, time); masked steps are seen by none."""
        q, k, v = self.project(self.norms[0](x)).unflatten(-1, (3, self.heads, -1)).unbind(2)
        q, k, v = (each.transpose(1, 2) for each in (q, k, v))
        # Where a clip has no step at all every step may be seen: a softmax over nothing is nan.
        seen = (mask | ~mask.any(1, keepdim=True))[:, None, None]
        told = F.scaled_dot_product_attention(q, k, v, attn_mask=seen)
        x = x + self.out(told.transpose(1, 2).flatten(2))
        out: Tensor = x + self.narrow(F.gelu(self.widen(self.norms[1](x))))
        return out


def sinusoids(times: Tensor, width: int) -> Tensor:
    """Return positions by time (Vaswani et al. 2017), periods from 0.1 s to 100 s; nan becomes 0.

    Parameters
    ----------
    times : Tensor [shape=(batch, time)]
        Seconds.
    """
    n = width // 2
    rates = 2 * torch.pi * 10 * 1000 ** (-torch.arange(n, device=times.device) / max(1, n - 1))
    angles = times.nan_to_num()[..., None] * rates
    found: Tensor = F.pad(torch.cat([angles.sin(), angles.cos()], -1), (0, width - 2 * n))
    return found
