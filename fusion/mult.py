"""MulT: each stream attends to every other stream (Tsai et al. 2019, arXiv 1906.00295).

As in the paper: a temporal convolution to a common width, positional encodings, a crossmodal transformer for every
ordered pair of streams, a self-attention transformer over the concatenated results for each stream, and a residual
block. Ours: positions are seconds, because streams differ in rate; a sequence is summarised by its mean, where the
paper takes the last step; a single stream attends to itself.
"""

from collections.abc import Mapping
from itertools import permutations

import torch
from torch import Tensor, nn

from ..tensors import Fused, Stream, Width
from ._attention import PositionalEncoding, Transformer
from ._fusion import Fusion
from ._layers import Dropout, masked_mean


class MulT(Fusion):
    """Crossmodal transformer for one or more streams (Tsai et al. 2019).

    Parameters
    ----------
    dims : dict of str to int
        Number of features of each stream.
    width : int
        Width of every stream after its convolution.
    heads, layers : int
        Number of heads and layers of the crossmodal transformers.
    memory_layers : int
        Number of layers of the transformer over the concatenated results for each stream.
    kernel : int
        Kernel size of the convolution in steps, an odd number.
    dropout, input_dropout : float
        Dropout in the transformers and on the features.
    """

    modalities = None

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
        self.positions = PositionalEncoding(width)
        self.pairs = list(permutations(dims, 2)) or [(name, name) for name in dims]
        self.cross = nn.ModuleList(Transformer(width, heads=heads, layers=layers, dropout=dropout) for _ in self.pairs)
        self.memory = nn.ModuleList(
            Transformer(n_sources * width, heads=heads, layers=memory_layers, dropout=dropout) for _ in dims
        )
        self.residual = nn.Sequential(nn.Linear(total, total), nn.ReLU(), Dropout(dropout), nn.Linear(total, total))

    def forward(self, streams: Mapping[str, Stream]) -> Fused:
        streams = self.complete(streams)
        tokens = {
            name: self._tokens(project, stream)
            for project, (name, stream) in zip(self.project, streams.items(), strict=True)
        }
        attended: dict[str, list[Tensor]] = {name: [] for name in streams}
        attention = {}
        for (target, source), cross in zip(self.pairs, self.cross, strict=True):
            x, weights = cross(tokens[target], tokens[source], streams[source].mask)
            attended[target].append(x)
            attention[f"{target} from {source}"] = weights
        means = []
        for (name, parts), memory in zip(attended.items(), self.memory, strict=True):
            x, _ = memory(torch.cat(parts, dim=-1), None, streams[name].mask)
            means.append(masked_mean(x, streams[name].mask))
        joined = torch.cat(means, dim=-1)
        vectors = {name: masked_mean(x, streams[name].mask) for name, x in tokens.items()}
        return Fused(joined + self.residual(joined), None, attention, vectors)

    def _tokens(self, project: nn.Module, stream: Stream) -> Tensor:
        values = self.drop(stream.values).transpose(1, 2)
        tokens: Tensor = project(values).transpose(1, 2) + self.positions(stream)
        return tokens


plugin = MulT
