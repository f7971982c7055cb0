"""AVT-CA: audio-video transformer with cross-attention.

Venkatraman et al. 2024 (arXiv 2407.18552). The paper and its released code differ, so both are available: ``paper``
ends in self-attention for each stream, cross-attention in both directions, the maximum over time and a sum;
``released`` ends in one self-attention that both streams share and the means over time side by side, without a second
cross-attention.

Our interpretation: on cached features a linear layer and convolutions over time stand for the front ends of the
paper (the encoder `facestem` is the one for raw frames); convolutions keep the length, because features are fewer
than the frames of the code; both streams have the same width; batch norms count existing frames only; the number of
heads is an option (the code always uses 8).
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ..errors import check_known
from ..tensors import Fused, Stream, Width
from ._align import concatenate
from ._attention import FeedForward, MultiHeadAttention
from ._fusion import Fusion
from ._layers import masked_max, masked_mean


class MaskedBatchNorm(nn.Module):
    """Batch norm over the frames that exist, so that padding does not enter the statistics."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(width)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Normalise (batch, time, width) under a mask (batch, time); masked steps become zeros."""
        frames, out = x[mask], torch.zeros_like(x)
        if self.training and len(frames) > 1:
            out[mask] = self.norm(frames)
        elif len(frames):
            # A single frame has no deviation, so the running statistics are used in training too.
            norm = self.norm
            out[mask] = nn.functional.batch_norm(
                frames, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps
            )
        return out


class ConvolutionBlock(nn.Module):
    """Convolution over time, batch norm, ReLU and, with `pool`, the maximum of each step and the next."""

    def __init__(self, n_in: int, n_out: int, *, pool: bool) -> None:
        super().__init__()
        self.convolve = nn.Conv1d(n_in, n_out, 3, padding=1)
        self.norm = MaskedBatchNorm(n_out)
        self.pool = pool

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Apply the block to (batch, time, width) under a mask (batch, time); masked steps stay zeros."""
        x = self.convolve(x.transpose(1, 2)).transpose(1, 2)
        x = torch.relu(self.norm(x, mask))
        if self.pool:
            # After a ReLU the zeros of the padding never exceed an existing value.
            x = torch.maximum(x, nn.functional.pad(x[:, 1:], (0, 0, 0, 1))) * mask[..., None]
        return x


class IntermediateAttention(nn.Module):
    """Attention from one stream to the other between the convolutions, without a residual from the query.

    ``y = MHA(q = LN(x), kv = LN(source))``, then ``y + MLP(LN(y))``.
    """

    def __init__(self, width: int, *, heads: int) -> None:
        super().__init__()
        self.norm_x, self.norm_source = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attend = MultiHeadAttention(width, heads=heads, bias=False)
        self.norm = nn.LayerNorm(width)
        self.feed_forward = FeedForward(width, expansion=2, dropout=0.0)

    def forward(self, x: Tensor, source: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Attend; shapes as in `MultiHeadAttention`, zeros for clips without a source."""
        y, attention = self.attend(self.norm_x(x), self.norm_source(source), mask)
        return (y + self.feed_forward(self.norm(y))) * mask.any(1)[:, None, None], attention


class PaperEnd(nn.Module):
    """Self-attention for each stream, cross-attention in both directions, maximum over time, sum.

    Takes two sequences of shape (batch, time, width) and their masks. Returns the fused vector, the vectors of both
    streams and both attentions.
    """

    def __init__(self, width: int, *, heads: int) -> None:
        super().__init__()
        self.out = width
        self.own = nn.ModuleList(MultiHeadAttention(width, heads=heads) for _ in range(2))
        self.own_norm = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.cross = nn.ModuleList(MultiHeadAttention(width, heads=heads) for _ in range(2))
        self.cross_norm = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))

    def forward(self, sequences: list[Tensor], masks: list[Tensor]) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        own = [
            self.own_norm[k](x + self.own[k](x, x, mask)[0])
            for k, (x, mask) in enumerate(zip(sequences, masks, strict=True))
        ]
        pooled, attention = [], []
        for k in range(2):
            attended, weights = self.cross[k](own[k], own[1 - k], masks[1 - k])
            pooled.append(masked_max(self.cross_norm[k](own[k] + attended), masks[k]))
            attention.append(weights)
        return pooled[0] + pooled[1], pooled, attention


class ReleasedEnd(nn.Module):
    """One self-attention that both streams share, then the means over time side by side.

    Arguments and results as in `PaperEnd`.
    """

    def __init__(self, width: int, *, heads: int) -> None:
        super().__init__()
        self.out = 2 * width
        self.attend = MultiHeadAttention(width, heads=heads)

    def forward(self, sequences: list[Tensor], masks: list[Tensor]) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        pooled, attention = [], []
        for x, mask in zip(sequences, masks, strict=True):
            attended, weights = self.attend(x, x, mask)
            pooled.append(masked_mean(attended, mask))
            attention.append(weights)
        return torch.cat(pooled, dim=-1), pooled, attention


ENDS: dict[str, type[PaperEnd | ReleasedEnd]] = {"paper": PaperEnd, "released": ReleasedEnd}


class AVTCA(Fusion):
    """Audio-video transformer with cross-attention (Venkatraman et al. 2024).

    Parameters
    ----------
    dims : dict of str to int
        Number of features of each stream: at least one audio and one visual stream. Several streams of one modality
        are aligned and concatenated.
    mode : {"paper", "released"}
        The end of the network: as in the paper, or as in the released code.
    width : int
        Width of both streams.
    heads : int
        Number of attention heads; must divide the width.
    """

    modalities = ("audio", "visual")

    def __init__(self, dims: Mapping[str, int], *, mode: str = "paper", width: int = 128, heads: int = 8) -> None:
        super().__init__(dims)
        check_known("AVT-CA mode", mode, ENDS)
        self.names = [self.stream_names(kind) for kind in self.modalities]
        self.project = nn.ModuleList(nn.Linear(sum(dims[name] for name in names), width) for names in self.names)
        # The audio branch pools, and is twice as wide between the convolutions of its second stage.
        self.first = nn.ModuleList([_stage(width, width, pool=True), _stage(width, width, pool=False)])
        self.second = nn.ModuleList([_stage(width, 2 * width, pool=True), _stage(width, width, pool=False)])
        self.meet = nn.ModuleList(IntermediateAttention(width, heads=heads) for _ in range(2))
        self.end = ENDS[mode](width, heads=heads)
        self.width = Width(self.end.out, dict.fromkeys(self.modalities, width))

    def forward(self, streams: Mapping[str, Stream]) -> Fused:
        streams = self.complete(streams)
        both = [concatenate({name: streams[name] for name in names}) for names in self.names]
        masks = [stream.mask for stream in both]
        x = [
            _convolve(self.first[k], self.project[k](s.values) * s.mask[..., None], s.mask) for k, s in enumerate(both)
        ]
        met = [self.meet[k](x[k], x[1 - k], masks[1 - k]) for k in range(2)]
        x = [_convolve(self.second[k], (x[k] + met[k][0]) * masks[k][..., None], masks[k]) for k in range(2)]
        fused, vectors, end_attention = self.end(x, masks)
        attention = {"audio from visual": met[0][1], "visual from audio": met[1][1]}
        attention |= {"audio end": end_attention[0], "visual end": end_attention[1]}
        return Fused(fused, None, attention, dict(zip(self.modalities, vectors, strict=True)))


def _stage(width: int, middle: int, *, pool: bool) -> nn.ModuleList:
    return nn.ModuleList([ConvolutionBlock(width, middle, pool=pool), ConvolutionBlock(middle, width, pool=pool)])


def _convolve(stage: nn.Module, x: Tensor, mask: Tensor) -> Tensor:
    for block in stage.children():
        x = block(x, mask)
    return x


plugin = AVTCA
