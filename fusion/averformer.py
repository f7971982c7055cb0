"""AVERFormer: two audio branches, guided attention between audio and video.

Sun et al. 2025 (Digital Signal Processing 161, 105081). Only the abstract is public. It states two audio branches
fed by waveform, spectrogram and MFCC with an interaction of global and local features, guided cross-modal attention,
and a hybrid loss (implemented in `heads.hybrid`). Every equation is our interpretation.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ..errors import check_known
from ..tensors import Fused, Stream, Width
from ._align import concatenate
from ._attention import MultiHeadAttention, PositionalEncoding
from ._fusion import Fusion
from ._layers import Dropout, masked_mean


class BranchInteraction(nn.Module):
    """One exchange between global and local audio tokens by cross-attention.

    ``G' = G + CA(q = G, kv = L)``, ``L' = L + CA(q = L, kv = G)``; the output tokens are ``[G'; L']``.
    """

    def __init__(self, width: int, *, heads: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.attend = nn.ModuleList(MultiHeadAttention(width, heads=heads, dropout=dropout) for _ in range(2))

    def forward(self, tokens: tuple[Tensor, Tensor], masks: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Return the tokens (batch, time, width) of both branches, concatenated over time, and their mask."""
        normed = [norm(x) for norm, x in zip(self.norm, tokens, strict=True)]
        attended = [tokens[k] + self.attend[k](normed[k], normed[1 - k], masks[1 - k])[0] for k in range(2)]
        return torch.cat(attended, dim=1), torch.cat(masks, dim=1)


class GuidedLayer(nn.Module):
    r"""Cross-attention in both directions under a guide that both modalities compute.

    .. math::
        g &= \mathrm{LN}(W_g [\bar A; \bar V]) \\
        A' &= A + \sigma(W_a g) \odot \mathrm{MHA}(q = A, kv = V)

    and likewise :math:`V'`. With the guide as ``token``, g is an additional key instead of a gate.

    Parameters
    ----------
    width, heads : int
        Number of features and of attention heads.
    guide : {"gate", "token", "none"}
        Use of the guide.
    dropout : float
        Dropout on the attention weights.
    """

    def __init__(self, width: int, *, heads: int, guide: str, dropout: float) -> None:
        super().__init__()
        self.guide = guide
        self.norm = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.attend = nn.ModuleList(MultiHeadAttention(width, heads=heads, dropout=dropout) for _ in range(2))
        if guide != "none":
            self.make = nn.Sequential(nn.Linear(2 * width, width), nn.LayerNorm(width))
        if guide == "gate":
            self.gates = nn.ModuleList(nn.Linear(width, width) for _ in range(2))

    def forward(self, sequences: list[Tensor], masks: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Return both sequences (batch, time, width) and both attentions, these without the key of the guide."""
        normed = [norm(x) for norm, x in zip(self.norm, sequences, strict=True)]
        guide = None
        if self.guide != "none":
            means = [masked_mean(x, mask) for x, mask in zip(sequences, masks, strict=True)]
            guide = self.make(torch.cat(means, dim=-1))
        guided, attention = [], []
        for k in range(2):
            source, mask = normed[1 - k], masks[1 - k]
            if guide is not None and self.guide == "token":
                source = torch.cat([guide[:, None], source], dim=1)
                mask = nn.functional.pad(mask, (1, 0), value=True)
            attended, weights = self.attend[k](normed[k], source, mask)
            if guide is not None and self.guide == "gate":
                attended = torch.sigmoid(self.gates[k](guide))[:, None] * attended
            guided.append(sequences[k] + attended)
            attention.append(weights[..., -masks[1 - k].shape[1] :])
        return guided, attention


class AVERFormer(Fusion):
    """Dual audio branches and guided cross-modal attention (Sun et al. 2025).

    Parameters
    ----------
    dims : dict of str to int
        Number of features of each stream: at least one audio and one visual stream. One audio stream is the global
        branch, such as that of a waveform encoder; the others (log-mel, MFCC) are local, with a convolution each.
        Several visual streams are aligned and concatenated.
    global_stream : str, optional
        Name of the audio stream of the global branch; None takes the first.
    width, heads, layers : int
        Width, number of heads and number of layers of the guided attention.
    guide : {"gate", "token", "none"}
        Use of the guide: a gate on the attended features, an additional key, or none.
    dropout : float
        Dropout on tokens and attention weights.
    """

    modalities = ("audio", "visual")

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
        check_known("guide", guide, ("gate", "token", "none"))
        audio, self.visual_streams = (self.stream_names(kind) for kind in self.modalities)
        self.global_stream = global_stream or audio[0]
        check_known("audio stream in fusion.global_stream:", self.global_stream, audio)
        self.local_streams = [name for name in audio if name != self.global_stream]
        self.project = nn.ModuleDict(
            {
                "global": nn.Linear(dims[self.global_stream], width),
                "visual": nn.Linear(sum(dims[name] for name in self.visual_streams), width),
            }
        )
        self.local = nn.ModuleList(nn.Conv1d(dims[name], width, 3, padding=1) for name in self.local_streams)
        self.positions = PositionalEncoding(width)
        self.drop = Dropout(dropout)
        if self.local_streams:
            self.branches = BranchInteraction(width, heads=heads, dropout=dropout)
        self.layers = nn.ModuleList(
            GuidedLayer(width, heads=heads, guide=guide, dropout=dropout) for _ in range(layers)
        )
        self.out = nn.Sequential(nn.LayerNorm(2 * width), nn.Linear(2 * width, width), nn.GELU(), Dropout(dropout))
        self.width = Width(width, dict.fromkeys(self.modalities, width))

    def forward(self, streams: Mapping[str, Stream]) -> Fused:
        streams = self.complete(streams)
        visual = concatenate({name: streams[name] for name in self.visual_streams})
        audio, audio_mask = self._audio(streams)
        sequences = [audio, self._tokens(self.project["visual"](visual.values), visual)]
        masks = [audio_mask, visual.mask]
        vectors = {k: masked_mean(x, m) for k, x, m in zip(self.modalities, sequences, masks, strict=True)}
        attention: list[Tensor] = []
        for layer in self.layers:
            sequences, attention = layer(sequences, masks)
        means = [masked_mean(x, mask) for x, mask in zip(sequences, masks, strict=True)]
        fused = self.out(torch.cat(means, dim=-1))
        return Fused(fused, None, dict(zip(self.modalities, attention, strict=False)), vectors)

    def _audio(self, streams: Mapping[str, Stream]) -> tuple[Tensor, Tensor]:
        """Return the tokens of both audio branches, shape (batch, time, width), and their mask (batch, time)."""
        whole = streams[self.global_stream]
        tokens = self._tokens(self.project["global"](whole.values), whole)
        if not self.local_streams:
            return tokens, whole.mask
        local = [streams[name] for name in self.local_streams]
        local_tokens = [
            self._tokens(convolve(s.values.transpose(1, 2)).transpose(1, 2), s)
            for convolve, s in zip(self.local, local, strict=True)
        ]
        both: tuple[Tensor, Tensor] = self.branches(
            (tokens, torch.cat(local_tokens, dim=1)), (whole.mask, torch.cat([s.mask for s in local], dim=1))
        )
        return both

    def _tokens(self, projected: Tensor, stream: Stream) -> Tensor:
        tokens: Tensor = self.drop(projected + self.positions(stream))
        return tokens


plugin = AVERFormer
