"""Attention over streams, the baseline of the MER challenges.

Lian et al. 2023 (arXiv 2304.08981): the mean of each stream becomes a vector, and the vectors are summed with weights
that a network computes from all of them. The weights do not pass through a softmax there.
"""

from collections.abc import Mapping

import torch

from ..tensors import Fused, Stream, Width
from ._fusion import Fusion
from ._gather import WeightedSum
from ._layers import StreamVectors


class Attention(Fusion):
    """Weighted sum of stream vectors, the attention of MERBench (Lian et al. 2023).

    Parameters
    ----------
    dims : dict of str to int
        Number of features of each stream.
    width, hidden : int
        Width of the vectors and of the hidden layer before them.
    dropout : float
        Dropout in the networks.
    softmax : bool
        Whether the weights pass through a softmax.
    """

    modalities = None

    def __init__(
        self,
        dims: Mapping[str, int],
        *,
        width: int = 128,
        hidden: int = 256,
        dropout: float = 0.3,
        softmax: bool = False,
    ) -> None:
        super().__init__(dims)
        self.width = Width(width, dict.fromkeys(dims, width))
        self.vectors = StreamVectors(dims, (hidden, width), dropout=dropout)
        self.weigh = WeightedSum(len(dims), width, hidden=(hidden, width), softmax=softmax, dropout=dropout)

    def forward(self, streams: Mapping[str, Stream]) -> Fused:
        vectors, present = self.vectors(self.complete(streams))
        fused, weights = self.weigh(torch.stack(list(vectors.values()), dim=1), present)
        return Fused(fused, None, {"streams": weights}, vectors)


plugin = Attention
