"""AFG: attention-guided feature gathering in three structures, the fusion of a MER 2023 system.

Wang et al. 2023, "Hierarchical Audio-Visual Information Fusion with Multi-label Joint Decoding for MER 2023"
(arXiv 2309.07925). The full text of the paper is not public. It states that three structures are built on one
gathering block; the place of the block in each structure is our interpretation.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from ..errors import check_known
from ..tensors import Fused, Stream, Width
from ._align import Steps, align
from ._fusion import Fusion
from ._gather import Gather, GuidedGather, WeightedSum
from ._layers import masked_mean, mlp, stream_presence


@dataclass(frozen=True)
class _Options:
    """Options of `AFG` that its structures share, and the building blocks that follow from them."""

    width: int
    hidden: int
    att_dim: int
    scale: float
    dropout: float
    gather_dropout: float
    softmax: bool
    steps: Steps

    def gather(self, dim: int) -> Gather:
        return Gather(dim, att_dim=self.att_dim, scale=self.scale, dropout=self.gather_dropout)

    def guided_gather(self, dim: int) -> GuidedGather:
        return GuidedGather(dim, dim, att_dim=self.att_dim, scale=self.scale, dropout=self.gather_dropout)

    def mlp(self, *widths: int) -> nn.Sequential:
        return mlp(widths, self.dropout)

    def weighted_sum(self, n_vectors: int, width: int) -> WeightedSum:
        return WeightedSum(n_vectors, width, hidden=(self.hidden, width), softmax=self.softmax, dropout=self.dropout)


class GatherThenFuse(nn.Module):
    """Structure a: each stream is gathered on its own, then the vectors are summed with learned weights.

    ``h_k = MLP_k(AFG_k(X_k))``, ``a = Linear(MLP([h_1; …; h_K]))``, ``h = sum_k a_k h_k``.
    """

    def __init__(self, dims: Mapping[str, int], options: _Options) -> None:
        super().__init__()
        hidden, width = options.hidden, options.width
        self.width = Width(width, dict.fromkeys(dims, width))
        self.gather = nn.ModuleList(options.gather(dim) for dim in dims.values())
        self.project = nn.ModuleList(options.mlp(dim, hidden, width) for dim in dims.values())
        self.weigh = options.weighted_sum(len(dims), width)

    def forward(self, streams: Mapping[str, Stream]) -> Fused:
        present = stream_presence(streams)
        attention, vectors = {}, {}
        for k, (name, stream) in enumerate(streams.items()):
            gathered, attention[name] = self.gather[k](stream.values, stream.mask)
            vectors[name] = self.project[k](gathered) * present[:, k, None]
        fused, weights = self.weigh(torch.stack(list(vectors.values()), dim=1), present)
        return Fused(fused, None, attention | {"streams": weights}, vectors)


class FuseThenGather(nn.Module):
    """Structure b: the streams are aligned and concatenated, then gathered once.

    ``Y_k = Linear_k(align(X_k))``, ``h = MLP(AFG([Y_1; …; Y_K]))``. Alignment and projection are both linear, so
    their order is free; aligning first leaves fewer steps to project.
    """

    def __init__(self, dims: Mapping[str, int], options: _Options) -> None:
        super().__init__()
        hidden, total = options.hidden, options.hidden * len(dims)
        self.steps = options.steps
        self.width = Width(options.width, dict.fromkeys(dims, hidden))
        self.project = nn.ModuleList(nn.Linear(dim, hidden) for dim in dims.values())
        self.gather = options.gather(total)
        self.fuse = options.mlp(total, hidden, options.width)

    def forward(self, streams: Mapping[str, Stream]) -> Fused:
        aligned = _project(self.project, align(streams, self.steps))
        joined = torch.cat([s.values * s.mask[..., None] for s in aligned.values()], dim=-1)
        mask = torch.stack([stream.mask for stream in aligned.values()]).any(0)
        gathered, attention = self.gather(joined, mask)
        vectors = {name: masked_mean(s.values, s.mask) for name, s in aligned.items()}
        return Fused(self.fuse(gathered), None, {"steps": attention}, vectors)


class GuidedHierarchy(nn.Module):
    """Structure c: two levels; the result of the first guides the gathering of the second.

    Level 1: ``g_k = MLP_k(AFG_k(Y_k))`` with ``Y_k = Linear_k(X_k)``, and ``f = sum_k a_k g_k``.
    Level 2: the K + 1 queries ``Q = [MLP(f), MLP(g_1), …, MLP(g_K)]`` guide the gathering of every stream,
    ``P = sum_k a_k MLP_k(AFG_k(Q, Y_k))``, and the fused vector is ``h = sum_n b_n P_n``.
    """

    def __init__(self, dims: Mapping[str, int], options: _Options) -> None:
        super().__init__()
        n_streams, hidden, width = len(dims), options.hidden, options.width
        self.width = Width(width, dict.fromkeys(dims, hidden))
        self.project = nn.ModuleList(nn.Linear(dim, hidden) for dim in dims.values())
        self.gather = nn.ModuleList(options.gather(hidden) for _ in dims)
        self.first = nn.ModuleList(options.mlp(hidden, hidden, hidden) for _ in dims)
        self.weigh_streams = options.weighted_sum(n_streams, hidden)
        self.query = nn.ModuleList(options.mlp(hidden, hidden) for _ in range(n_streams + 1))
        self.guided = nn.ModuleList(options.guided_gather(hidden) for _ in dims)
        self.second = nn.ModuleList(options.mlp(hidden, hidden, width) for _ in dims)
        self.weigh_queries = options.weighted_sum(n_streams + 1, width)

    def forward(self, streams: Mapping[str, Stream]) -> Fused:
        present = stream_presence(streams)
        projected = _project(self.project, streams)
        attention, vectors = {}, {}
        for k, (name, stream) in enumerate(projected.items()):
            gathered, attention[name] = self.gather[k](stream.values, stream.mask)
            vectors[name] = self.first[k](gathered) * present[:, k, None]
        first, weights = self.weigh_streams(torch.stack(list(vectors.values()), dim=1), present)
        sources = [first, *vectors.values()]
        query = torch.stack([network(x) for network, x in zip(self.query, sources, strict=True)], 1)
        second = first.new_zeros(())
        for k, (name, stream) in enumerate(projected.items()):
            gathered, attention[f"{name} guided"] = self.guided[k](stream.values, stream.mask, query)
            second = second + weights[:, k, None, None] * self.second[k](gathered)
        has_query = torch.cat([present.any(1, keepdim=True), present], dim=1)
        fused, query_weights = self.weigh_queries(second * has_query[..., None], has_query)
        attention |= {"streams": weights, "queries": query_weights}
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
        Number of features of each stream.
    structure : {"a", "b", "c"}
        a: gather, then fuse. b: align, concatenate, gather. c: two levels, the second guided by the first.
    width, hidden : int
        Width of the fused vector and of the hidden layers.
    att_dim : int
        Width of the hidden layer of the attention. The value of the paper is not public; the laboratory's later code
        uses 1024 or the width of the stream, at eight times the cost.
    scale : float
        Factor of the attention scores; 0 gives the mean over time.
    dropout : float
        Dropout in the networks.
    gather_dropout : float
        Dropout on the sequences and on the gathered vectors. The laboratory's later code uses 0.5, which is too much
        for streams with few features or a single frame.
    softmax : bool
        Whether the weights of streams and queries pass through a softmax; those of the laboratory do not.
    steps : int, "shortest" or "longest"
        Number of steps to which structure b aligns, or the stream whose number it takes.
    """

    modalities = None

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
        check_known("AFG structure", structure, STRUCTURES)
        options = _Options(width, hidden, att_dim, scale, dropout, gather_dropout, softmax, steps)
        self.structure = STRUCTURES[structure](dims, options)
        self.width = self.structure.width

    def forward(self, streams: Mapping[str, Stream]) -> Fused:
        fused: Fused = self.structure(self.complete(streams))
        return fused


def _project(project: nn.ModuleList, streams: Mapping[str, Stream]) -> dict[str, Stream]:
    return {name: stream._replace(values=project[k](stream.values)) for k, (name, stream) in enumerate(streams.items())}


plugin = AFG
