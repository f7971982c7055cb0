"""Concatenation of the mean of each stream over time: the simplest baseline."""

from collections.abc import Mapping

import torch

from ..tensors import Fused, Stream, Width
from ._fusion import Fusion
from ._layers import Dropout, masked_mean, mlp


class Concat(Fusion):
    """Concatenated means over time.

    Parameters
    ----------
    dims : dict of str to int
        Number of features of each stream.
    width, hidden : int
        Width of the fused vector and of the hidden layer before it.
    dropout, input_dropout : float
        Dropout in the network and on the means.
    """

    modalities = None

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
        means = {name: masked_mean(s.values, s.mask) for name, s in self.complete(streams).items()}
        joined = self.drop(torch.cat(list(means.values()), dim=1))
        return Fused(self.project(joined), None, {}, means)


plugin = Concat
