"""MulT: every stream attends to every other (Tsai et al. 2019, arXiv 1906.00295).

As in the paper: a temporal convolution to a common width, positions, a crossmodal transformer for
every ordered pair, a transformer over what a stream collected, a residual block behind. Ours:
positions are seconds, since streams differ in rate; a sequence is summed up by its mean, where the
paper takes the last step; one stream alone attends to itself.
"""

from collections.abc import Mapping
from itertools import permutations

import torch
from torch import Tensor, nn

from ..tensors import Fused, Stream, Width
from ._attention import Positions, Transformer
from ._fusion import Fusion
from ._layers import Dropout, complete, masked_mean


class MulT(Fusion):
    """Crossmodal transformer for one or more streams (Tsai et al. 2019).

    Parameters
    ----------
    dims : dict of str to int
    width : int
        Of every stream after its convolution.
    heads, layers : int
        Of the crossmodal transformers.
    memory_layers : int
        Of the transformer over what a stream collected.
    kernel : int
        Steps that the convolution sees, odd.
    dropout, input_dropout : float
        In the transformers; on the features.
    """

    def __init__(
        self,
        dims: Mapping[str, int],
        *,
        width: int = 40,
        heads: int = 8,
        layers: int = 2,
        memory_layers: int = 1,
        kernel: int = 1,
        dropout: float = 0.1,
        input_dropout: float = 0.25,
    ) -> None:
        super().__init__(dims)
        n_sources = max(1, len(dims) - 1)
        total = len(dims) * n_sources * width
        self.width = Width(total, dict.fromkeys(dims, width))
        self.drop = Dropout(input_dropout)
        self.project = nn.ModuleList(
            nn.Conv1d(dim, width, kernel, padding=kernel // 2, bias=False) for dim in dims.values()
        )
        self.positions = Positions(width)
        self.pairs = list(permutations(dims, 2)) or [(name, name) for name in dims]
        self.cross = nn.ModuleList(Transformer(width, heads=heads, layers=layers, dropout=dropout) for _ in self.pairs)
        self.memory = nn.ModuleList(
            Transformer(n_sources * width, heads=heads, layers=memory_layers, dropout=dropout) for _ in dims
        )
        self.residual = nn.Sequential(nn.Linear(total, total), nn.ReLU(), Dropout(dropout), nn.Linear(total, total))

    def forward(self, streams: Mapping[str, Stream]) -> Fused:
        streams = complete(streams, self.dims)
        tokens = {
            name: self._tokens(project, stream)
            for project, (name, stream) in zip(self.project, streams.items(), strict=True)
        }
        collected: dict[str, list[Tensor]] = {name: [] for name in streams}
        attention = {}
        for (target, source), cross in zip(self.pairs, self.cross, strict=True):
            x, weights = cross(tokens[target], tokens[source], streams[source].mask)
            collected[target].append(x)
            attention[f"{target} from {source}"] = weights
        ends = []
        for (name, parts), memory in zip(collected.items(), self.memory, strict=True):
            x, _ = memory(torch.cat(parts, dim=-1), None, streams[name].mask)
            ends.append(masked_mean(x, streams[name].mask))
        end = torch.cat(ends, dim=-1)
        vectors = {name: masked_mean(x, streams[name].mask) for name, x in tokens.items()}
        return Fused(end + self.residual(end), None, attention, vectors)

    def _tokens(self, project: nn.Module, stream: Stream) -> Tensor:
        values = self.drop(stream.values).transpose(1, 2)
        tokens: Tensor = project(values).transpose(1, 2) + self.positions(stream)
        return tokens


plugin = MulT
