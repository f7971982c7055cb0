"""Tensor fusion: all products of the features of the streams (Zadeh et al. 2017, arXiv 1707.07250)."""

import math
from collections.abc import Mapping

from ..errors import RecipeError
from ..tensors import Fused, Stream, Width
from ._fusion import Fusion
from ._layers import StreamVectors, append_one, mlp

MAX_PRODUCTS = 1 << 17
"""Largest number of products; the layer behind more of them would not fit into memory."""


class TFN(Fusion):
    """Tensor fusion network (Zadeh et al. 2017).

    The outer product of the vectors ``[h_k; 1]`` is flattened and passed through a network. Because of the appended
    ones it contains the features of each stream, all products of pairs, and so on. An absent stream is ``[0; 1]``.

    Parameters
    ----------
    dims : dict of str to int
        Number of features of each stream.
    factor : int
        Width of the vector of each stream in the product.
    width, hidden : int
        Width of the fused vector and of the hidden layer of each stream.
    dropout : float
        Dropout in the networks.

    Raises
    ------
    RecipeError
        If the streams would make more than `MAX_PRODUCTS` products.
    """

    modalities = None

    def __init__(
        self, dims: Mapping[str, int], *, factor: int = 32, width: int = 128, hidden: int = 256, dropout: float = 0.3
    ) -> None:
        super().__init__(dims)
        n_products = math.prod(factor + 1 for _ in dims)
        if n_products > MAX_PRODUCTS:
            raise RecipeError(
                f"Tensor fusion of {len(dims)} streams would make {n_products} products, expected at most "
                f"{MAX_PRODUCTS}. Lower fusion.factor or use fusion.name = 'lmf'."
            )
        self.width = Width(width, dict.fromkeys(dims, factor))
        self.vectors = StreamVectors(dims, (hidden, factor), dropout=dropout)
        self.project = mlp((n_products, width, width), dropout)

    def forward(self, streams: Mapping[str, Stream]) -> Fused:
        vectors, _ = self.vectors(self.complete(streams))
        product, *others = map(append_one, vectors.values())
        for vector in others:
            product = (product[:, :, None] * vector[:, None]).flatten(1)
        return Fused(self.project(product), None, {}, vectors)


plugin = TFN
