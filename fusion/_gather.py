"""Attention-guided feature gathering (AFG): pooling of a sequence by learned attention weights.

Wang et al. 2023, "Hierarchical Audio-Visual Information Fusion with Multi-label Joint Decoding for MER 2023"
(arXiv 2309.07925) name the block but publish no equations. The equations here are our interpretation, based on what
the same laboratory published a year later. The masks are ours.
"""

import torch
from torch import Tensor, nn

from ._layers import Dropout, masked_softmax, mlp


class Gather(nn.Module):
    r"""Self-guided gathering: the attention weights depend on the sequence alone.

    .. math:: \alpha = \mathrm{softmax}_t(\lambda \tanh(X W + b) u), \quad z = \sum_t \alpha_t X_t

    The values are not projected. A scale :math:`\lambda` of zero gives the mean over time.

    Parameters
    ----------
    dim : int
        Number of features of the sequence.
    att_dim : int
        Width of the hidden layer of the attention.
    scale : float
        Factor :math:`\lambda`; the smaller, the flatter the attention.
    dropout : float
        Dropout on the sequence and on the gathered vector.
    """

    def __init__(self, dim: int, *, att_dim: int = 128, scale: float = 0.3, dropout: float = 0.5) -> None:
        super().__init__()
        self.scale = scale
        self.key = nn.Linear(dim, att_dim)
        self.context = nn.Parameter(torch.empty(att_dim, 1))
        nn.init.xavier_normal_(self.context)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Gather one vector from the sequence.

        Parameters
        ----------
        x : Tensor [shape=(batch, time, dim)]
        mask : Tensor of bool [shape=(batch, time)]

        Returns
        -------
        gathered : Tensor [shape=(batch, dim)]
            Zeros where every step is masked.
        attention : Tensor [shape=(batch, time)]
            Weights that sum to one over the steps that exist.
        """
        x = self.dropout(x)
        scores = (torch.tanh(self.key(x)) @ self.context).squeeze(-1)
        attention = masked_softmax(self.scale * scores, mask, dim=1)
        return self.dropout((attention[:, None] @ x).squeeze(1)), attention


class GuidedGather(nn.Module):
    r"""Query-guided gathering: queries from another source determine the attention weights.

    .. math:: \alpha = \mathrm{softmax}_t(\lambda \tanh(X W_x + b_x) (Q W_q + b_q)^\top),
              \quad Z = \alpha^\top X

    Parameters
    ----------
    dim, query_dim : int
        Number of features of the sequence and of the queries.
    att_dim, scale, dropout
        As in `Gather`.
    """

    def __init__(
        self, dim: int, query_dim: int, *, att_dim: int = 128, scale: float = 0.3, dropout: float = 0.5
    ) -> None:
        super().__init__()
        self.scale = scale
        self.key = nn.Linear(dim, att_dim)
        self.query = nn.Linear(query_dim, att_dim)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor, query: Tensor) -> tuple[Tensor, Tensor]:
        """Gather one vector for every query.

        Parameters
        ----------
        x : Tensor [shape=(batch, time, dim)]
        mask : Tensor of bool [shape=(batch, time)]
        query : Tensor [shape=(batch, queries, query_dim)]

        Returns
        -------
        gathered : Tensor [shape=(batch, queries, dim)]
        attention : Tensor [shape=(batch, queries, time)]
        """
        x = self.dropout(x)
        scores = self.query(query) @ torch.tanh(self.key(x)).transpose(1, 2)
        attention = masked_softmax(self.scale * scores, mask[:, None], dim=2)
        return self.dropout(attention @ x), attention


class WeightedSum(nn.Module):
    """Weighted sum of vectors; a network computes the weights from all vectors together.

    Parameters
    ----------
    n_vectors, width : int
        Number of vectors and their width.
    hidden : tuple of int
        Widths of the hidden layers of the network.
    softmax : bool
        Whether the weights pass through a softmax. The laboratory's own code has none.
    dropout : float
        Dropout in the network.
    """

    def __init__(self, n_vectors: int, width: int, *, hidden: tuple[int, ...], softmax: bool, dropout: float) -> None:
        super().__init__()
        self.softmax = softmax
        self.decide = nn.Sequential(mlp((n_vectors * width, *hidden), dropout), nn.Linear(hidden[-1], n_vectors))

    def forward(self, vectors: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """Return the weighted sum and its weights.

        Parameters
        ----------
        vectors : Tensor [shape=(batch, vectors, width)]
            Zeros where not present.
        present : Tensor of bool [shape=(batch, vectors)]

        Returns
        -------
        Tensor [shape=(batch, width)]
        weights : Tensor [shape=(batch, vectors)]
            Zeros where not present.
        """
        weights = self.decide(vectors.flatten(1))
        weights = masked_softmax(weights, present, dim=1) if self.softmax else weights * present
        return (weights[:, None] @ vectors).squeeze(1), weights
