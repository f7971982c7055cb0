"""Concatenation: the streams' means side by side. The baseline that everything has to beat."""

from collections.abc import Mapping

import torch

from ..tensors import Fused, Stream, Width
from ._fusion import Fusion
from ._layers import Dropout, complete, masked_mean, mlp


class Concat(Fusion):
    """Means over time, concatenated.

    Parameters
    ----------
    dims : dict of str to int
    width, hidden : int
        Of the fused vector, and of the layer before it.
    dropout, input_dropout : float
        In the network; on the means.
    """

    def __init__(
        self,
        dims: Mapping[str, int],
        *,
        width: int = 128,
        hidden: int = 256,
        dropout: float = 0.3,
        input_dropout: float = 0.0,
    ) -> None:
        super().__init__(dims)
        self.width = Width(width, dict(dims))
        self.drop = Dropout(input_dropout)
        self.project = mlp((sum(dims.values()), hidden, width), dropout)

    def forward(self, streams: Mapping[str, Stream]) -> Fused:
        streams = complete(streams, self.dims)
        means = {name: masked_mean(s.values, s.mask) for name, s in streams.items()}
        joined = self.drop(torch.cat(list(means.values()), dim=1))
        return Fused(self.project(joined), None, {}, means)


plugin = Concat
