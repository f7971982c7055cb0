"""Attention over streams, as the MER challenges' baseline has it.

Lian et al. 2023 (arXiv 2304.08981): vectors of the streams' means are summed under weights that a
network decides from all of them; the weights do not go through a softmax there.
"""

from collections.abc import Mapping

import torch

from ..tensors import Fused, Stream, Width
from ._fusion import Fusion
from ._gather import Weigh
from ._layers import complete
from ._vectors import Vectors


class Attention(Fusion):
    """Weighted sum of stream vectors, MERBench's attention (Lian et al. 2023).

    Parameters
    ----------
    dims : dict of str to int
    width, hidden : int
        Of the vectors, and of the layer before them.
    dropout : float
    softmax : bool
        Whether the weights sum to one.
    """

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
        self.vectors = Vectors(dims, (hidden, width), dropout=dropout)
        self.weigh = Weigh(len(dims), width, hidden=(hidden, width), softmax=softmax, dropout=dropout)

    def forward(self, streams: Mapping[str, Stream]) -> Fused:
        vectors, present = self.vectors(complete(streams, self.dims))
        fused, weights = self.weigh(torch.stack(list(vectors.values()), dim=1), present)
        return Fused(fused, None, {"streams": weights}, vectors)


plugin = Attention
