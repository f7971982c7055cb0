"""AVT-CA: audio-video transformer with cross-attention.

Venkatraman et al. 2024 (arXiv 2407.18552). On cached features the paper's front ends become a
linear layer and convolutions over time; `facestem` is the one for raw frames. The paper and the
released code differ, so both are here: ``paper`` ends in self-attention for each stream, then true
cross-attention both ways, maximum over time and a sum; ``released`` in one self-attention that both
streams share, mean over time, side by side, and no late cross-attention at all.

Ours: convolutions keep the length, since features are fewer than the code's raw frames; both
streams are equally wide; batch norms count frames that exist; heads are an option (the code always
takes 8).
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ..errors import UnknownName
from ..tensors import Fused, Stream, Width
from ._attention import FeedForward, MultiHead
from ._fusion import Fusion
from ._layers import complete, masked_max, masked_mean
from ._sides import side


class FrameNorm(nn.Module):
    """Batch norm over the frames that exist, so that padding counts in no statistic."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(width)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Shapes (batch, time, width) and (batch, time); masked steps become zeros."""
        frames, out = x[mask], torch.zeros_like(x)
        if self.training and len(frames) > 1:
            out[mask] = self.norm(frames)
        elif len(frames):
            # One frame has no deviation: the running one stands in while training, too.
            norm = self.norm
            out[mask] = nn.functional.batch_norm(
                frames, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps
            )
        return out


class Convolution(nn.Module):
    """Convolution over time, norm, ReLU and, for audio, the maximum of each two steps."""

    def __init__(self, n_in: int, n_out: int, *, pool: bool) -> None:
        super().__init__()
        self.convolve = nn.Conv1d(n_in, n_out, 3, padding=1)
        self.norm = FrameNorm(n_out)
        self.pool = pool

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Shapes (batch, time, width) and (batch, time); masked steps stay zeros."""
        x = self.convolve(x.transpose(1, 2)).transpose(1, 2)
        x = torch.relu(self.norm(x, mask))
        if self.pool:
            # Behind a ReLU the zeros of padding never exceed what is there.
            x = torch.maximum(x, nn.functional.pad(x[:, 1:], (0, 0, 0, 1))) * mask[..., None]
        return x


class Intermediate(nn.Module):
    """Attention from one stream to the other between the convolutions; no residual inside.

    ``y = MHA(q = LN(x), kv = LN(source))``, then ``y + MLP(LN(y))``.
    """

    def __init__(self, width: int, *, heads: int) -> None:
        super().__init__()
        self.norm_x, self.norm_source = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attend = MultiHead(width, heads=heads, bias=False)
        self.norm = nn.LayerNorm(width)
        self.feed_forward = FeedForward(width, times=2, dropout=0.0)

    def forward(self, x: Tensor, source: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Shapes as in `MultiHead`; zeros for clips without a source."""
        y, attention = self.attend(self.norm_x(x), self.norm_source(source), mask)
        return (y + self.feed_forward(self.norm(y))) * mask.any(1)[:, None, None], attention


class PaperEnd(nn.Module):
    """Self-attention for each stream, cross-attention both ways, maximum over time, sum."""

    def __init__(self, width: int, *, heads: int) -> None:
        super().__init__()
        self.out = width
        self.own = nn.ModuleList(MultiHead(width, heads=heads) for _ in range(2))
        self.own_norm = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.cross = nn.ModuleList(MultiHead(width, heads=heads) for _ in range(2))
        self.cross_norm = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))

    def forward(self, sides: list[Tensor], masks: list[Tensor]) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        own = [
            self.own_norm[k](x + self.own[k](x, x, mask)[0])
            for k, (x, mask) in enumerate(zip(sides, masks, strict=True))
        ]
        pooled, attention = [], []
        for k in range(2):
            found, weights = self.cross[k](own[k], own[1 - k], masks[1 - k])
            pooled.append(masked_max(self.cross_norm[k](own[k] + found), masks[k]))
            attention.append(weights)
        return pooled[0] + pooled[1], pooled, attention


class ReleasedEnd(nn.Module):
    """One self-attention that both streams share; means over time side by side."""

    def __init__(self, width: int, *, heads: int) -> None:
        super().__init__()
        self.out = 2 * width
        self.attend = MultiHead(width, heads=heads)

    def forward(self, sides: list[Tensor], masks: list[Tensor]) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        pooled, attention = [], []
        for x, mask in zip(sides, masks, strict=True):
            found, weights = self.attend(x, x, mask)
            pooled.append(masked_mean(found, mask))
            attention.append(weights)
        return torch.cat(pooled, dim=-1), pooled, attention


ENDS: dict[str, type[PaperEnd | ReleasedEnd]] = {"paper": PaperEnd, "released": ReleasedEnd}


class AVTCA(Fusion):
    """Audio-video transformer with cross-attention (Venkatraman et al. 2024).

    Parameters
    ----------
    dims : dict of str to int
        At least one audio and one visual stream; several of one modality stand side by side.
    mode : {"paper", "released"}
    width : int
    heads : int
        Divides the width.
    """

    def __init__(self, dims: Mapping[str, int], *, mode: str = "paper", width: int = 128, heads: int = 8) -> None:
        super().__init__(dims)
        if mode not in ENDS:
            raise UnknownName("AVT-CA mode", mode, ENDS)
        self.sides = {kind: self.named(kind) for kind in ("audio", "visual")}
        self.project = nn.ModuleList(
            nn.Linear(sum(dims[name] for name in names), width) for names in self.sides.values()
        )
        self.first = nn.ModuleList(_stage(width, width, pool=k == "audio") for k in self.sides)
        self.second = nn.ModuleList(
            _stage(width, 2 * width if k == "audio" else width, pool=k == "audio") for k in self.sides
        )
        self.meet = nn.ModuleList(Intermediate(width, heads=heads) for _ in self.sides)
        end = ENDS[mode](width, heads=heads)
        self.width = Width(end.out, dict.fromkeys(self.sides, width))
        self.end = end

    def forward(self, streams: Mapping[str, Stream]) -> Fused:
        streams = complete(streams, self.dims)
        both = [side(streams, names) for names in self.sides.values()]
        masks = [stream.mask for stream in both]
        x = [
            self._staged(self.first[k], self.project[k](s.values) * s.mask[..., None], s.mask)
            for k, s in enumerate(both)
        ]
        met = [self.meet[k](x[k], x[1 - k], masks[1 - k]) for k in range(2)]
        x = [self._staged(self.second[k], (x[k] + met[k][0]) * masks[k][..., None], masks[k]) for k in range(2)]
        fused, vectors, late = self.end(x, masks)
        attention = {f"{kind} meets": met[k][1] for k, kind in enumerate(self.sides)}
        attention |= {f"{kind} end": late[k] for k, kind in enumerate(self.sides)}
        return Fused(fused, None, attention, dict(zip(self.sides, vectors, strict=True)))

    @staticmethod
    def _staged(stage: nn.Module, x: Tensor, mask: Tensor) -> Tensor:
        for convolution in stage.children():
            x = convolution(x, mask)
        return x


def _stage(width: int, middle: int, *, pool: bool) -> nn.ModuleList:
    return nn.ModuleList([Convolution(width, middle, pool=pool), Convolution(middle, width, pool=pool)])


plugin = AVTCA
