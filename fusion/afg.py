"""AFG: attention-guided feature gathering in three structures (the MER 2023 system).

Wang et al. 2023, "Hierarchical Audio-Visual Information Fusion with Multi-label Joint Decoding for
MER 2023" (arXiv 2309.07925). The paper's text is not public in full: that three structures are
built on one gathering block is stated; where the block stands in each is our reading.
"""

from collections.abc import Mapping
from functools import partial
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from ..errors import UnknownName
from ..tensors import Fused, Stream, Width
from ._align import Steps, align
from ._fusion import Fusion, given
from ._gather import Gather, GuidedGather, Weigh
from ._layers import complete, masked_mean, mlp


class _Gather(Protocol):
    def __call__(self, dim: int) -> Gather: ...


class _GuidedGather(Protocol):
    def __call__(self, dim: int, query_dim: int) -> GuidedGather: ...


class _MLP(Protocol):
    def __call__(self, widths: tuple[int, ...]) -> nn.Sequential: ...


class _Weigh(Protocol):
    def __call__(self, n_vectors: int, width: int, *, hidden: tuple[int, ...]) -> Weigh: ...


class Blocks(NamedTuple):
    """What the structures are built from: makers that already know scale and dropout."""

    gather: _Gather
    guided: _GuidedGather
    mlp: _MLP
    weigh: _Weigh


class GatherThenFuse(nn.Module):
    """Structure a: every stream is gathered by itself, then the vectors are weighed.

    ``h_k = MLP_k(AFG_k(X_k))``, ``a = Linear(MLP([h_1; …; h_K]))``, ``h = sum_k a_k h_k``.
    """

    def __init__(self, dims: Mapping[str, int], blocks: Blocks, *, hidden: int, width: int, steps: Steps) -> None:
        super().__init__()
        self.width = Width(width, dict.fromkeys(dims, width))
        self.gather = nn.ModuleList(blocks.gather(dim) for dim in dims.values())
        self.project = nn.ModuleList(blocks.mlp((dim, hidden, width)) for dim in dims.values())
        self.weigh = blocks.weigh(len(dims), width, hidden=(hidden, width))

    def forward(self, streams: Mapping[str, Stream]) -> Fused:
        present = given(streams, list(streams))
        attention, vectors = {}, {}
        for k, (name, stream) in enumerate(streams.items()):
            gathered, attention[name] = self.gather[k](stream.values, stream.mask)
            vectors[name] = self.project[k](gathered) * present[:, k, None]
        fused, weights = self.weigh(_stacked(vectors), present)
        return Fused(fused, None, attention | {"streams": weights}, vectors)


class FuseThenGather(nn.Module):
    """Structure b: streams are brought to the same steps and joined, then gathered once.

    ``Y_k = Linear_k(align(X_k))``, ``h = MLP(AFG([Y_1; …; Y_K]))``. Aligning is linear, so its
    place is free: before the layer there are fewer steps to multiply.
    """

    def __init__(self, dims: Mapping[str, int], blocks: Blocks, *, hidden: int, width: int, steps: Steps) -> None:
        super().__init__()
        self.steps = steps
        self.width = Width(width, dict.fromkeys(dims, hidden))
        self.project = nn.ModuleList(nn.Linear(dim, hidden) for dim in dims.values())
        self.gather = blocks.gather(hidden * len(dims))
        self.fuse = blocks.mlp((hidden * len(dims), hidden, width))

    def forward(self, streams: Mapping[str, Stream]) -> Fused:
        aligned = _projected(self.project, align(streams, self.steps))
        joined = torch.cat([s.values * s.mask[..., None] for s in aligned.values()], dim=-1)
        mask = torch.stack([stream.mask for stream in aligned.values()]).any(0)
        gathered, attention = self.gather(joined, mask)
        vectors = {name: masked_mean(s.values, s.mask) for name, s in aligned.items()}
        return Fused(self.fuse(gathered), None, {"steps": attention}, vectors)


class GuidedHierarchy(nn.Module):
    """Structure c: what was gathered and fused first says what to gather in a second level.

    Level 1: ``g_k = MLP_k(AFG_k(Y_k))`` with ``Y_k = Linear_k(X_k)``, and ``f = sum_k a_k g_k``.
    Level 2: the K + 1 queries ``[MLP(f), MLP(g_1), …, MLP(g_K)]`` guide the gathering of every
    stream, ``P = sum_k a_k MLP_k(AFG_k(Q, Y_k))``, and the vector is ``h = sum_n b_n P_n``.
    """

    def __init__(self, dims: Mapping[str, int], blocks: Blocks, *, hidden: int, width: int, steps: Steps) -> None:
        super().__init__()
        n_streams = len(dims)
        self.width = Width(width, dict.fromkeys(dims, hidden))
        self.project = nn.ModuleList(nn.Linear(dim, hidden) for dim in dims.values())
        self.gather = nn.ModuleList(blocks.gather(hidden) for _ in dims)
        self.first = nn.ModuleList(blocks.mlp((hidden, hidden, hidden)) for _ in dims)
        self.weigh_streams = blocks.weigh(n_streams, hidden, hidden=(hidden, hidden))
        self.query = nn.ModuleList(blocks.mlp((hidden, hidden)) for _ in range(n_streams + 1))
        self.guided = nn.ModuleList(blocks.guided(hidden, hidden) for _ in dims)
        self.second = nn.ModuleList(blocks.mlp((hidden, hidden, width)) for _ in dims)
        self.weigh_queries = blocks.weigh(n_streams + 1, width, hidden=(hidden, width))

    def forward(self, streams: Mapping[str, Stream]) -> Fused:
        present = given(streams, list(streams))
        projected = _projected(self.project, streams)
        attention, vectors = {}, {}
        for k, (name, stream) in enumerate(projected.items()):
            gathered, attention[name] = self.gather[k](stream.values, stream.mask)
            vectors[name] = self.first[k](gathered) * present[:, k, None]
        first, weights = self.weigh_streams(_stacked(vectors), present)
        sources = [first, *vectors.values()]
        query = torch.stack([make(x) for make, x in zip(self.query, sources, strict=True)], 1)
        found = first.new_zeros(())
        for k, (name, stream) in enumerate(projected.items()):
            gathered, attention[f"{name} guided"] = self.guided[k](stream.values, stream.mask, query)
            found = found + weights[:, k, None, None] * self.second[k](gathered)
        asked = torch.cat([present.any(1, keepdim=True), present], dim=1)
        fused, shares = self.weigh_queries(found * asked[..., None], asked)
        attention |= {"streams": weights, "queries": shares}
        return Fused(fused, None, attention, vectors)


STRUCTURES: dict[str, type[GatherThenFuse | FuseThenGather | GuidedHierarchy]] = {
    "a": GatherThenFuse,
    "b": FuseThenGather,
    "c": GuidedHierarchy,
}


class AFG(Fusion):
    """Attention-guided feature gathering, structures a, b and c (Wang et al. 2023).

    Parameters
    ----------
    dims : dict of str to int
    structure : {"a", "b", "c"}
        a: gather, then fuse; b: align, join, gather; c: two levels, the second guided.
    width, hidden : int
        Of the fused vector, and of the layers on the way to it.
    att_dim : int
        Hidden width of the attention. The paper's is not public; the laboratory's later code has
        1024 or the stream's own width, at eight times the cost.
    scale : float
        Flattens the attention; 0 is the mean over time.
    dropout, gather_dropout : float
        In the networks; on the sequences and on what is gathered from them. The laboratory's later
        code has 0.5 there, too much for narrow streams and for those of a single frame.
    softmax : bool
        Whether the weights of streams and queries sum to one; the laboratory's do not.
    steps : int, "shortest" or "longest"
        To how many steps structure b aligns.
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
        gather_dropout: float = 0.2,
        softmax: bool = False,
        steps: Steps = "shortest",
    ) -> None:
        super().__init__(dims)
        if structure not in STRUCTURES:
            raise UnknownName("AFG structure", structure, STRUCTURES)
        blocks = Blocks(
            partial(Gather, att_dim=att_dim, scale=scale, dropout=gather_dropout),
            partial(GuidedGather, att_dim=att_dim, scale=scale, dropout=gather_dropout),
            partial(mlp, dropout=dropout),
            partial(Weigh, softmax=softmax, dropout=dropout),
        )
        made = STRUCTURES[structure](dims, blocks, hidden=hidden, width=width, steps=steps)
        self.width = made.width
        self.structure = made

    def forward(self, streams: Mapping[str, Stream]) -> Fused:
        fused: Fused = self.structure(complete(streams, self.dims))
        return fused


def _stacked(vectors: Mapping[str, Tensor]) -> Tensor:
    return torch.stack(list(vectors.values()), dim=1)


def _projected(project: nn.ModuleList, streams: Mapping[str, Stream]) -> dict[str, Stream]:
    return {name: stream._replace(values=project[k](stream.values)) for k, (name, stream) in enumerate(streams.items())}


plugin = AFG
