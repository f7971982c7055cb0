"""Low-rank fusion: tensor fusion without the tensor (Liu et al. 2018, arXiv 1806.00064)."""

from collections.abc import Mapping

import torch
from torch import nn

from ..tensors import Fused, Stream, Width
from ._fusion import Fusion
from ._layers import complete
from ._vectors import Vectors, with_one


class LMF(Fusion):
    r"""Low-rank multimodal fusion (Liu et al. 2018).

    .. math:: h = \sum_r w_r \prod_k [h_k; 1] W_k^{(r)} + b

    Parameters
    ----------
    dims : dict of str to int
    rank : int
        Terms of the sum.
    factor : int
        Width of each stream's vector.
    width, hidden : int
        Of the fused vector, and of each stream's layer before its factor.
    dropout : float
    """

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
        self.vectors = Vectors(dims, (hidden, factor), dropout=dropout)
        self.factors = nn.ParameterList(torch.empty(rank, factor + 1, width) for _ in dims)
        for weights in self.factors:
            nn.init.xavier_normal_(weights)
            # Products of small numbers vanish: each factor starts near one instead.
            nn.init.ones_(weights.data[:, -1])
        self.weights = nn.Parameter(torch.full((rank,), 1 / rank))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, streams: Mapping[str, Stream]) -> Fused:
        vectors, _ = self.vectors(complete(streams, self.dims))
        product = torch.ones(())
        for vector, weights in zip(vectors.values(), self.factors, strict=True):
            product = product.to(vector) * torch.einsum("bi,rio->bro", with_one(vector), weights)
        fused = torch.einsum("r,bro->bo", self.weights, product) + self.bias
        return Fused(fused, None, {}, vectors)


plugin = LMF
