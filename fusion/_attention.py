"""Multi-head attention and transformer layers with masks, shared by several fusions."""

import math

import torch
from torch import Tensor, nn

from ..errors import RecipeError
from ..tensors import Stream
from ._layers import Dropout, masked_softmax


class MultiHeadAttention(nn.Module):
    """Scaled dot-product attention with several heads (Vaswani et al. 2017, section 3.2).

    A clip whose source is masked throughout gets zeros instead of nan.

    Parameters
    ----------
    width : int
        Number of features of queries, keys, values and output.
    heads : int
        Number of heads; must divide the width.
    bias : bool
        Whether the layers of queries, keys and values have a bias.
    dropout : float
        Dropout on the attention weights.

    Raises
    ------
    RecipeError
        If `heads` does not divide `width`.
    """

    def __init__(self, width: int, *, heads: int, bias: bool = True, dropout: float = 0.0) -> None:
        super().__init__()
        if heads < 1 or width % heads:
            raise RecipeError(
                f"A width of {width} cannot be divided into {heads} heads. Set the width to a multiple of the heads."
            )
        self.heads = heads
        self.query = nn.Linear(width, width, bias=bias)
        self.key = nn.Linear(width, width, bias=bias)
        self.value = nn.Linear(width, width, bias=bias)
        self.out = nn.Linear(width, width)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, source: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Attend from `x` to `source`.

        Parameters
        ----------
        x : Tensor [shape=(batch, time, width)]
        source : Tensor [shape=(batch, source_time, width)]
        mask : Tensor of bool [shape=(batch, source_time)]
            Steps of the source that exist.

        Returns
        -------
        Tensor [shape=(batch, time, width)]
        attention : Tensor [shape=(batch, time, source_time)]
            Attention weights, averaged over the heads.
        """
        query, key, value = (
            linear(t).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for linear, t in ((self.query, x), (self.key, source), (self.value, source))
        )
        scores = query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])
        attention = masked_softmax(scores, mask[:, None, None], dim=-1)
        attended = (self.dropout(attention) @ value).transpose(1, 2).flatten(2)
        return self.out(attended) * mask.any(1)[:, None, None], attention.mean(1)


class FeedForward(nn.Sequential):
    """Linear, GELU, Dropout, Linear; the hidden layer is `expansion` times as wide."""

    def __init__(self, width: int, *, expansion: int, dropout: float) -> None:
        super().__init__(
            nn.Linear(width, expansion * width), nn.GELU(), Dropout(dropout), nn.Linear(expansion * width, width)
        )


class TransformerLayer(nn.Module):
    """Pre-norm transformer layer: attention and a feed-forward network, each with a residual connection.

    The layer attends to another sequence or, where `source` is `x`, to its own; both pass through the same norm.

    Parameters
    ----------
    width, heads : int
        Number of features and of attention heads.
    dropout : float
        Dropout on the attention weights and on both residual branches.
    """

    def __init__(self, width: int, *, heads: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attend = MultiHeadAttention(width, heads=heads, dropout=dropout)
        self.norm_forward = nn.LayerNorm(width)
        self.feed_forward = FeedForward(width, expansion=4, dropout=dropout)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, source: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Apply the layer; shapes as in `MultiHeadAttention`."""
        attended, attention = self.attend(self.norm(x), self.norm(source), mask)
        x = x + self.dropout(attended)
        return x + self.dropout(self.feed_forward(self.norm_forward(x))), attention


class Transformer(nn.Module):
    """A stack of transformer layers.

    Parameters
    ----------
    width, heads, layers : int
        Number of features, of attention heads and of layers.
    dropout : float
        Dropout within each layer.
    """

    def __init__(self, width: int, *, heads: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(TransformerLayer(width, heads=heads, dropout=dropout) for _ in range(layers))

    def forward(self, x: Tensor, source: Tensor | None, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return the sequence and the attention of the last layer; shapes as in `MultiHeadAttention`.

        All layers attend to `source`. Where it is None, each layer attends to the output of the one before.
        """
        attention = x.new_zeros(())
        for layer in self.layers:
            x, attention = layer(x, x if source is None else source, mask)
        return x, attention


class PositionalEncoding(nn.Module):
    """Sinusoids of the time of a step in seconds, so that streams of different rates share one clock.

    Parameters
    ----------
    width : int
        Number of features.
    rate : float
        Steps per second that correspond to consecutive positions in the sinusoids of Vaswani et al. (2017).
    """

    def __init__(self, width: int, *, rate: float = 10.0) -> None:
        super().__init__()
        self.width, self.rate = width, rate

    def forward(self, stream: Stream) -> Tensor:
        """Return the sinusoids, shape (batch, time, width); zeros where the stream is masked."""
        n = -(-self.width // 2)
        powers = torch.arange(n, device=stream.times.device) / n
        angles = stream.times[..., None] * self.rate * 10000.0**-powers
        waves = torch.cat([angles.sin(), angles.cos()], dim=-1)[..., : self.width]
        return waves.masked_fill(~stream.mask[..., None], 0).to(stream.values)
