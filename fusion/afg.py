"""AFG: attention-guided feature gathering in three structures (the MER 2023 system).

Wang et al. 2023, "Hierarchical Audio-Visual Information Fusion with Multi-label Joint Decoding for
MER 2023" (arXiv 2309.07925). The paper's text is not public in full: that there are three
structures built on one gathering block is stated; where the block stands in each is our reading.
"""

from collections.abc import Mapping

import torch
from torch import nn

from ..cache.batch import Fused, Stream, Width
from ..errors import UnknownName
from ._fusion import Fusion, given
from ._gather import Gather, Weigh
from ._layers import complete, mlp


class GatherThenFuse(nn.Module):
    """Structure a: every stream is gathered by itself, then the vectors are weighed.

    ``h_k = MLP(AFG_k(X_k))``, ``a = Linear(MLP([h_1; …; h_K]))``, ``h = sum_k a_k h_k``.
    """

    def __init__(
        self,
        dims: Mapping[str, int],
        *,
        width: int,
        hidden: int,
        att_dim: int,
        scale: float,
        dropout: float,
        gather_dropout: float,
        softmax: bool,
    ) -> None:
        super().__init__()
        self.width = Width(width, {name: width for name in dims})
        self.gather = nn.ModuleList(
            Gather(dim, att_dim=att_dim, scale=scale, dropout=gather_dropout)
            for dim in dims.values()
        )
        self.project = nn.ModuleList(mlp((dim, hidden, width), dropout) for dim in dims.values())
        self.weigh = Weigh(
            len(dims), width, hidden=(hidden, width), softmax=softmax, dropout=dropout
        )

    def forward(self, streams: Mapping[str, Stream]) -> Fused:
        present = given(streams, list(streams))
        attention, vectors = {}, {}
        for k, (name, stream) in enumerate(streams.items()):
            gathered, attention[name] = self.gather[k](stream.values, stream.mask)
            vectors[name] = self.project[k](gathered) * present[:, k, None]
        fused, weights = self.weigh(torch.stack(list(vectors.values()), 1), present)
        return Fused(fused, None, attention | {"streams": weights}, vectors)


STRUCTURES = {"a": GatherThenFuse}


class AFG(Fusion):
    """Attention-guided feature gathering, structures a, b, c (Wang et al. 2023).

    Parameters
    ----------
    dims : dict of str to int
    structure : {"a"}
        a: gather, then fuse.
    width, hidden : int
        Of the vectors that are fused, and of the layers on the way to them.
    att_dim : int
        Hidden width of the attention; the paper's is not public, the laboratory's later code uses
        1024 or the stream's own width, which costs eight times as much and gains nothing here.
    scale : float
        Flattens the attention; 0 is the mean over time.
    dropout, gather_dropout : float
        In the networks; on the sequences and what is gathered from them.
    softmax : bool
        Whether the weights of the streams sum to one.
    """

    def __init__(
        self,
        dims: Mapping[str, int],
        *,
        structure: str = "a",
        width: int = 128,
        hidden: int = 256,
        att_dim: int = 128,
        scale: float = 0.3,
        dropout: float = 0.3,
        gather_dropout: float = 0.5,
        softmax: bool = False,
    ) -> None:
        super().__init__(dims)
        if structure not in STRUCTURES:
            raise UnknownName("AFG structure", structure, STRUCTURES)
        self.structure = STRUCTURES[structure](
            dims,
            width=width,
            hidden=hidden,
            att_dim=att_dim,
            scale=scale,
            dropout=dropout,
            gather_dropout=gather_dropout,
            softmax=softmax,
        )
        self.width = self.structure.width

    def forward(self, streams: Mapping[str, Stream]) -> Fused:
        fused: Fused = self.structure(complete(streams, self.dims))
        return fused


plugin = AFG
