"""Tensor fusion: every product of the streams' features (Zadeh et al. 2017, arXiv 1707.07250)."""

import math
from collections.abc import Mapping

from ..errors import RecipeError
from ..tensors import Fused, Stream, Width
from ._fusion import Fusion
from ._layers import complete, mlp
from ._vectors import Vectors, with_one

LARGEST = 1 << 17
"""Most products: beyond, the layer behind them would not fit."""


class TFN(Fusion):
    """Tensor fusion network (Zadeh et al. 2017).

    The outer product of the vectors ``[h_k; 1]``, flattened, through a network: with the ones it
    holds every stream's own features, all pairs, and so on. A stream that is absent is ``[0; 1]``.

    Parameters
    ----------
    dims : dict of str to int
    factor : int
        Width of each stream's vector in the product.
    width, hidden : int
        Of the fused vector, and of each stream's layer before its factor.
    dropout : float
    """

    def __init__(
        self, dims: Mapping[str, int], *, factor: int = 32, width: int = 128, hidden: int = 256, dropout: float = 0.3
    ) -> None:
        super().__init__(dims)
        n_products = math.prod(factor + 1 for _ in dims)
        if n_products > LARGEST:
            raise RecipeError(
                f"tensor fusion of {len(dims)} streams would make {n_products} products of them, "
                f"at most {LARGEST} are sensible; set fusion.factor lower, or take lmf"
            )
        self.width = Width(width, dict.fromkeys(dims, factor))
        self.vectors = Vectors(dims, (hidden, factor), dropout=dropout)
        self.project = mlp((n_products, width, width), dropout)

    def forward(self, streams: Mapping[str, Stream]) -> Fused:
        vectors, _ = self.vectors(complete(streams, self.dims))
        first, *others = map(with_one, vectors.values())
        product = first
        for vector in others:
            product = (product[:, :, None] * vector[:, None]).flatten(1)
        return Fused(self.project(product), None, {}, vectors)


plugin = TFN
