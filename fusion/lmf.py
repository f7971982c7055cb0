"""Low-rank multimodal fusion: tensor fusion without forming the tensor (Liu et al. 2018, arXiv 1806.00064)."""

from collections.abc import Mapping

import torch
from torch import nn

from ..tensors import Fused, Stream, Width
from ._fusion import Fusion
from ._layers import StreamVectors, append_one


class LMF(Fusion):
    r"""Low-rank multimodal fusion (Liu et al. 2018).

    .. math:: h = \sum_r w_r \prod_k [h_k; 1] W_k^{(r)} + b

    Parameters
    ----------
    dims : dict of str to int
        Number of features of each stream.
    rank : int
        Number of terms of the sum.
    factor : int
        Width of the vector of each stream.
    width, hidden : int
        Width of the fused vector and of the hidden layer of each stream.
    dropout : float
        Dropout in the networks of the streams.
    """

    modalities = None

    def __init__(
        self,
        dims: Mapping[str, int],
        *,
        rank: int = 4,
        factor: int = 64,
        width: int = 128,
        hidden: int = 256,
        dropout: float = 0.3,
    ) -> None:
        super().__init__(dims)
        self.width = Width(width, dict.fromkeys(dims, factor))
        self.vectors = StreamVectors(dims, (hidden, factor), dropout=dropout)
        self.factors = nn.ParameterList(torch.empty(rank, factor + 1, width) for _ in dims)
        for weights in self.factors:
            nn.init.xavier_normal_(weights)
            # A product of small numbers vanishes, so each factor starts near one.
            nn.init.ones_(weights.data[:, -1])
        self.weights = nn.Parameter(torch.full((rank,), 1 / rank))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, streams: Mapping[str, Stream]) -> Fused:
        vectors, _ = self.vectors(self.complete(streams))
        product = torch.ones(())
        for vector, weights in zip(vectors.values(), self.factors, strict=True):
            product = product.to(vector) * torch.einsum("bi,rio->bro", append_one(vector), weights)
        fused = torch.einsum("r,bro->bo", self.weights, product) + self.bias
        return Fused(fused, None, {}, vectors)


plugin = LMF
