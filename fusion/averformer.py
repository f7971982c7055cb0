"""AVERFormer: dual audio branches, guided attention between audio and video.

Sun et al. 2025 (Digital Signal Processing 161, 105081). Only the abstract is public: two audio
branches fed by waveform, spectrogram and MFCC with an interaction of global and local features,
guided cross-modal attention, a hybrid loss (that one is `heads.hybrid`). Every equation is ours.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ..errors import UnknownName, UnknownOption
from ..tensors import Fused, Stream, Width
from ._attention import MultiHead, Positions
from ._fusion import Fusion
from ._layers import Dropout, complete, masked_mean
from ._sides import side

GUIDES = ("gate", "token", "none")


class Branches(nn.Module):
    """Global and local audio tokens tell each other, once, what they miss.

    ``G' = G + CA(q = G, kv = L)``, ``L' = L + CA(q = L, kv = G)``; the tokens are ``[G'; L']``.
    """

    def __init__(self, width: int, *, heads: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.attend = nn.ModuleList(MultiHead(width, heads=heads, dropout=dropout) for _ in range(2))

    def forward(self, tokens: tuple[Tensor, Tensor], masks: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Return the tokens of both branches behind each other, and their mask."""
        normed = [norm(x) for norm, x in zip(self.norm, tokens, strict=True)]
        told = [tokens[k] + self.attend[k](normed[k], normed[1 - k], masks[1 - k])[0] for k in range(2)]
        return torch.cat(told, dim=1), torch.cat(masks, dim=1)


class GuidedLayer(nn.Module):
    r"""Cross-attention both ways under a guide that both modalities make.

    .. math::
        g &= \mathrm{LN}(W_g [\bar A; \bar V]) \\
        A' &= A + \sigma(W_a g) \odot \mathrm{MHA}(q = A, kv = V)

    and likewise :math:`V'`. With the guide as ``token``, g is one more key instead.
    """

    def __init__(self, width: int, *, heads: int, guide: str, dropout: float) -> None:
        super().__init__()
        self.guide = guide
        self.norm = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.attend = nn.ModuleList(MultiHead(width, heads=heads, dropout=dropout) for _ in range(2))
        if guide != "none":
            self.make = nn.Sequential(nn.Linear(2 * width, width), nn.LayerNorm(width))
        if guide == "gate":
            self.gates = nn.ModuleList(nn.Linear(width, width) for _ in range(2))

    def forward(self, sides: list[Tensor], masks: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Return both sides and both attentions; the guide's own key is left out of the latter."""
        normed = [norm(x) for norm, x in zip(self.norm, sides, strict=True)]
        guide = None
        if self.guide != "none":
            means = [masked_mean(x, mask) for x, mask in zip(sides, masks, strict=True)]
            guide = self.make(torch.cat(means, dim=-1))
        told, attention = [], []
        for k in range(2):
            source, mask = normed[1 - k], masks[1 - k]
            if guide is not None and self.guide == "token":
                source = torch.cat([guide[:, None], source], dim=1)
                mask = nn.functional.pad(mask, (1, 0), value=True)
            found, weights = self.attend[k](normed[k], source, mask)
            if guide is not None and self.guide == "gate":
                found = torch.sigmoid(self.gates[k](guide))[:, None] * found
            told.append(sides[k] + found)
            attention.append(weights[..., -masks[1 - k].shape[1] :])
        return told, attention


class AVERFormer(Fusion):
    """Dual audio branches and guided cross-modal attention (Sun et al. 2025).

    Parameters
    ----------
    dims : dict of str to int
        At least one audio and one visual stream. One audio stream is the global branch, such as a
        waveform encoder's; the others (log-mel, MFCC) are local, with a convolution each.
    global_stream : str, optional
        Which one; None: the first.
    width, heads, layers : int
        Of the guided attention.
    guide : {"gate", "token", "none"}
    dropout : float
    """

    def __init__(
        self,
        dims: Mapping[str, int],
        *,
        global_stream: str | None = None,
        width: int = 256,
        heads: int = 8,
        layers: int = 2,
        guide: str = "gate",
        dropout: float = 0.1,
    ) -> None:
        super().__init__(dims)
        if guide not in GUIDES:
            raise UnknownName("guide", guide, GUIDES)
        audio, self.visual = self.named("audio"), self.named("visual")
        self.far = global_stream or audio[0]
        if self.far not in audio:
            raise UnknownOption("averformer's global_stream", [self.far], audio)
        self.near = [name for name in audio if name != self.far]
        self.project = nn.ModuleDict(
            {
                "global": nn.Linear(dims[self.far], width),
                "visual": nn.Linear(sum(dims[name] for name in self.visual), width),
            }
        )
        self.local = nn.ModuleList(nn.Conv1d(dims[name], width, 3, padding=1) for name in self.near)
        self.positions = Positions(width)
        self.drop = Dropout(dropout)
        if self.near:
            self.branches = Branches(width, heads=heads, dropout=dropout)
        self.layers = nn.ModuleList(
            GuidedLayer(width, heads=heads, guide=guide, dropout=dropout) for _ in range(layers)
        )
        self.out = nn.Sequential(nn.LayerNorm(2 * width), nn.Linear(2 * width, width), nn.GELU(), Dropout(dropout))
        self.width = Width(width, {"audio": width, "visual": width})

    def forward(self, streams: Mapping[str, Stream]) -> Fused:
        streams = complete(streams, self.dims)
        visual = side(streams, self.visual)
        audio, audio_mask = self._audio(streams)
        sides = [audio, self._tokens(self.project["visual"](visual.values), visual)]
        masks = [audio_mask, visual.mask]
        kinds = ("audio", "visual")
        vectors = {k: masked_mean(x, m) for k, x, m in zip(kinds, sides, masks, strict=True)}
        attention: list[Tensor] = []
        for layer in self.layers:
            sides, attention = layer(sides, masks)
        pooled = [masked_mean(x, mask) for x, mask in zip(sides, masks, strict=True)]
        fused = self.out(torch.cat(pooled, dim=-1))
        return Fused(fused, None, dict(zip(kinds, attention, strict=False)), vectors)

    def _audio(self, streams: Mapping[str, Stream]) -> tuple[Tensor, Tensor]:
        far = streams[self.far]
        tokens = self._tokens(self.project["global"](far.values), far)
        if not self.near:
            return tokens, far.mask
        near = [
            self._tokens(local(s.values.transpose(1, 2)).transpose(1, 2), s)
            for local, s in zip(self.local, (streams[name] for name in self.near), strict=True)
        ]
        masks = [streams[name].mask for name in self.near]
        told: tuple[Tensor, Tensor] = self.branches(
            (tokens, torch.cat(near, dim=1)), (far.mask, torch.cat(masks, dim=1))
        )
        return told

    def _tokens(self, projected: Tensor, stream: Stream) -> Tensor:
        tokens: Tensor = self.drop(projected + self.positions(stream))
        return tokens


plugin = AVERFormer
