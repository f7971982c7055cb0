"""Attention-guided feature gathering (AFG): a sequence becomes one vector, or one per query.

Wang et al. 2023, "Hierarchical Audio-Visual Information Fusion with Multi-label Joint Decoding for
MER 2023" (arXiv 2309.07925) name the block; its equations here are our reading, after what the
same laboratory published a year later. Masks are ours.
"""

import torch
from torch import Tensor, nn

from ._layers import Dropout, masked_softmax, mlp


class Gather(nn.Module):
    r"""Self-guided gathering: the sequence is weighted by what it holds.

    .. math:: \alpha = \mathrm{softmax}_t(\lambda \tanh(X W + b) u), \quad z = \sum_t \alpha_t X_t

    The values are not projected. With a scale of zero it is the mean over time.

    Parameters
    ----------
    dim : int
        Width of the sequence.
    att_dim : int
        Width of the attention's hidden layer.
    scale : float
        The :math:`\lambda` that flattens the weights.
    dropout : float
        On the sequence and on what was gathered.
    """

    def __init__(self, dim: int, *, att_dim: int = 128, scale: float = 0.3, dropout: float = 0.5) -> None:
        super().__init__()
        self.scale = scale
        self.key = nn.Linear(dim, att_dim)
        self.context = nn.Parameter(torch.empty(att_dim, 1))
        nn.init.xavier_normal_(self.context)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Gather.

        Parameters
        ----------
        x : Tensor [shape=(batch, time, dim)]
        mask : Tensor of bool [shape=(batch, time)]

        Returns
        -------
        gathered : Tensor [shape=(batch, dim)]
            Zeros where everything is masked.
        attention : Tensor [shape=(batch, time)]
            Sums to one over what is not masked.
        """
        x = self.dropout(x)
        scores = (torch.tanh(self.key(x)) @ self.context).squeeze(-1)
        attention = masked_softmax(self.scale * scores, mask, dim=1)
        return self.dropout((attention[:, None] @ x).squeeze(1)), attention


class GuidedGather(nn.Module):
    r"""Query-guided gathering: queries from elsewhere say what to look for.

    .. math:: \alpha = \mathrm{softmax}_t(\lambda \tanh(X W_x + b_x) (Q W_q + b_q)^\top),
              \quad Z = \alpha^\top X

    Parameters
    ----------
    dim, query_dim : int
        Widths of the sequence and of the queries.
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
        """Gather once for every query.

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


class Weigh(nn.Module):
    """Sum of vectors under weights that all of them decide together.

    Parameters
    ----------
    n_vectors, width : int
    hidden : tuple of int
        Widths of the network that decides.
    softmax : bool
        Weights that are positive and sum to one; the laboratory's own code has none.
    dropout : float
    """

    def __init__(self, n_vectors: int, width: int, *, hidden: tuple[int, ...], softmax: bool, dropout: float) -> None:
        super().__init__()
        self.softmax = softmax
        self.decide = nn.Sequential(mlp((n_vectors * width, *hidden), dropout), nn.Linear(hidden[-1], n_vectors))

    def forward(self, vectors: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """Weigh.

        Parameters
        ----------
        vectors : Tensor [shape=(batch, vectors, width)]
            Zeros where not present.
        present : Tensor of bool [shape=(batch, vectors)]

        Returns
        -------
        Tensor [shape=(batch, width)]
        weights : Tensor [shape=(batch, vectors)]
            Zero where not present.
        """
        weights = self.decide(vectors.flatten(1))
        weights = masked_softmax(weights, present, dim=1) if self.softmax else weights * present
        return (weights[:, None] @ vectors).squeeze(1), weights
