"""Multi-head attention and the transformer parts that several fusions stand on, with masks."""

import math

import torch
from torch import Tensor, nn

from ..errors import RecipeError
from ..tensors import Stream
from ._layers import Dropout, masked_softmax


class MultiHead(nn.Module):
    """Scaled dot-product attention with several heads (Vaswani et al. 2017).

    A clip without anything to attend to gets zeros, not nan.

    Parameters
    ----------
    width : int
    heads : int
        Divides the width.
    bias : bool
        Of queries, keys and values.
    dropout : float
        On the weights.

    Raises
    ------
    RecipeError
        The heads do not divide the width.
    """

    def __init__(self, width: int, *, heads: int, bias: bool = True, dropout: float = 0.0) -> None:
        super().__init__()
        if heads < 1 or width % heads:
            raise RecipeError(f"{heads} heads do not share a width of {width} evenly")
        self.heads = heads
        self.query = nn.Linear(width, width, bias=bias)
        self.key = nn.Linear(width, width, bias=bias)
        self.value = nn.Linear(width, width, bias=bias)
        self.out = nn.Linear(width, width)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, source: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Attend from x to the source.

        Parameters
        ----------
        x : Tensor [shape=(batch, time, width)]
        source : Tensor [shape=(batch, source_time, width)]
        mask : Tensor of bool [shape=(batch, source_time)]

        Returns
        -------
        Tensor [shape=(batch, time, width)]
        attention : Tensor [shape=(batch, time, source_time)]
            Mean over the heads.
        """
        query, key, value = (
            linear(t).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for linear, t in ((self.query, x), (self.key, source), (self.value, source))
        )
        scores = query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])
        attention = masked_softmax(scores, mask[:, None, None], dim=-1)
        found = (self.dropout(attention) @ value).transpose(1, 2).flatten(2)
        return self.out(found) * mask.any(1)[:, None, None], attention.mean(1)


class FeedForward(nn.Sequential):
    """Linear, activation, Dropout, Linear, around a wider middle."""

    def __init__(self, width: int, *, times: int, dropout: float, activation: nn.Module | None = None) -> None:
        super().__init__(
            nn.Linear(width, times * width), activation or nn.GELU(), Dropout(dropout), nn.Linear(times * width, width)
        )


class TransformerLayer(nn.Module):
    """Attention and a feed-forward network, each behind a norm and beside a residual.

    Attends to another sequence, through the same norm, or to its own.

    Parameters
    ----------
    width, heads : int
    dropout : float
    """

    def __init__(self, width: int, *, heads: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attend = MultiHead(width, heads=heads, dropout=dropout)
        self.norm_forward = nn.LayerNorm(width)
        self.feed_forward = FeedForward(width, times=4, dropout=dropout)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, source: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Shapes as in `MultiHead`."""
        found, attention = self.attend(self.norm(x), self.norm(source), mask)
        x = x + self.dropout(found)
        return x + self.dropout(self.feed_forward(self.norm_forward(x))), attention


class Transformer(nn.Module):
    """Layers that all attend to the same source, or each to what the one before made of x.

    Parameters
    ----------
    width, heads, layers : int
    dropout : float
    """

    def __init__(self, width: int, *, heads: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(TransformerLayer(width, heads=heads, dropout=dropout) for _ in range(layers))

    def forward(self, x: Tensor, source: Tensor | None, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return the sequence and the last layer's attention; shapes as in `MultiHead`."""
        attention = x.new_zeros(())
        for layer in self.layers:
            x, attention = layer(x, x if source is None else source, mask)
        return x, attention


class Positions(nn.Module):
    """Sinusoids of a step's time in seconds, so that streams of any rate share one clock.

    Parameters
    ----------
    width : int
    rate : float
        Steps a second that are one apart in the sinusoids of Vaswani et al. 2017.
    """

    def __init__(self, width: int, *, rate: float = 10.0) -> None:
        super().__init__()
        self.width, self.rate = width, rate

    def forward(self, stream: Stream) -> Tensor:
        """Return the sinusoids, shape (batch, time, width); zeros where masked."""
        n = -(-self.width // 2)
        powers = torch.arange(n, device=stream.times.device) / n
        angles = stream.times[..., None] * self.rate * 10000.0**-powers
        waves = torch.cat([angles.sin(), angles.cos()], dim=-1)[..., : self.width]
        return waves.masked_fill(~stream.mask[..., None], 0).to(stream.values)
