"""JCA: joint cross-attention and its relatives, over a fixed number of steps.

Praveen, Cardinal and Granger 2023, "Audio-Visual Fusion for Emotion Recognition in the Valence-
Arousal Space Using Joint Cross-Attention" (arXiv 2209.09068): attention stands between *feature
dimensions* of a stream and of all streams joined; time is mixed by L x L weights, so L is fixed.
Relatives: vanilla cross-attention (FG 2021), the dense form that the authors released, recursion
(RJCA, arXiv 2304.07958), the gate of dynamic cross-attention (DCA, arXiv 2403.19554).

Ours: any number of streams (the papers have two, or three with text), each brought to L steps by
its times; a stream that a clip lacks is zeros, and stays zeros in the form without biases.
"""

import math
from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor, nn

from ..errors import RecipeError, UnknownName
from ..tensors import Fused, Stream, Width
from ._align import align
from ._fusion import Fusion
from ._layers import Dropout, complete, masked_mean, masked_softmax


class JointAttention(nn.Module):
    r"""The paper's form, for each stream :math:`X` beside the joined :math:`J`; no biases.

    .. math::
        C &= \tanh(X^\top W_j J / \sqrt d) \\
        H &= \mathrm{ReLU}(X^\top W + C W_c) \\
        X_{att} &= (H W_h)^\top + X
    """

    def __init__(self, n_streams: int, width: int, *, steps: int, rank: int) -> None:
        super().__init__()
        self.joint = _matrices(n_streams, steps, steps)
        self.own = _matrices(n_streams, steps, rank)
        self.other = _matrices(n_streams, n_streams * width, rank)
        self.back = _matrices(n_streams, rank, steps)

    def forward(self, streams: list[Tensor], masks: list[Tensor]) -> list[Tensor]:
        joined = torch.cat(streams, dim=-1)
        attended = []
        for k, x in enumerate(streams):
            flipped = x.transpose(1, 2)
            relation = torch.tanh(flipped @ self.joint[k] @ joined / math.sqrt(joined.shape[-1]))
            hidden = torch.relu(flipped @ self.own[k] + relation @ self.other[k])
            attended.append((hidden @ self.back[k]).transpose(1, 2) + x)
        return attended


class DenseAttention(nn.Module):
    r"""The form the authors released with the journal paper, for each stream :math:`V`.

    .. math::
        J &= \mathrm{Linear}([V; A]) \\
        S &= \mathrm{Dropout}(\tanh(\mathrm{Linear}_{L}(V^\top) J / \sqrt d)) \\
        O &= \mathrm{ReLU}(\tanh(\mathrm{Linear}(V) S)) \\
        V &\leftarrow V + \mathrm{Dropout}(\mathrm{ReLU}(\mathrm{Linear}(O)))
    """

    def __init__(self, n_streams: int, width: int, *, steps: int, dropout: float) -> None:
        super().__init__()
        total = n_streams * width
        self.join = nn.Linear(total, total)
        self.key = nn.ModuleList(nn.Linear(steps, steps) for _ in range(n_streams))
        self.value = nn.ModuleList(nn.Linear(width, width) for _ in range(n_streams))
        self.out = nn.ModuleList(nn.Linear(total, width) for _ in range(n_streams))
        self.dropout = Dropout(dropout)

    def forward(self, streams: list[Tensor], masks: list[Tensor]) -> list[Tensor]:
        joined = self.join(torch.cat(streams, dim=-1))
        attended = []
        for k, x in enumerate(streams):
            key = self.key[k](x.transpose(1, 2))
            relation = self.dropout(torch.tanh(key @ joined / math.sqrt(joined.shape[-1])))
            found = torch.relu(torch.tanh(self.value[k](x) @ relation))
            attended.append(x + self.dropout(torch.relu(self.out[k](found))))
        return attended


class VanillaAttention(nn.Module):
    r"""Cross-attention of FG 2021, for every pair of streams.

    .. math::
        Z &= \bar X_a W \bar X_v^\top, \quad
        \hat X_a = \mathrm{softmax}_0(Z)^\top X_a, \quad
        \hat X_v = \mathrm{softmax}_0(Z^\top)^\top X_v \\
        X_{att} &= \tanh(X + \hat X)

    Rows of :math:`\bar X` have unit length. That the softmax runs over a stream's own steps is as
    released; residual and tanh are as the paper is recalled. Of several partners, ours: the mean.
    """

    def __init__(self, n_streams: int, width: int) -> None:
        super().__init__()
        self.pairs = [(i, j) for j in range(n_streams) for i in range(j)]
        self.relate = _matrices(len(self.pairs), width, width)

    def forward(self, streams: list[Tensor], masks: list[Tensor]) -> list[Tensor]:
        found: list[list[Tensor]] = [[] for _ in streams]
        unit = [nn.functional.normalize(x, dim=-1) for x in streams]
        for (i, j), relate in zip(self.pairs, self.relate, strict=True):
            scores = unit[i] @ relate @ unit[j].transpose(1, 2)
            for at, other, z in ((i, j, scores), (j, i, scores.transpose(1, 2))):
                weights = masked_softmax(z, masks[at][:, :, None], dim=1)
                found[at].append((weights.transpose(1, 2) @ streams[at]) * masks[other][..., None])
        return [
            torch.tanh(x + torch.stack(parts).mean(0)) if parts else x for x, parts in zip(streams, found, strict=True)
        ]


class Gate(nn.Module):
    r"""Dynamic cross-attention: every step chooses between its attended and its own features.

    :math:`w = \mathrm{softmax}(\mathrm{Linear}(X_{att}) / T)` and
    :math:`X_{out} = \mathrm{ReLU}(w_0 X + w_1 X_{att})`.
    """

    def __init__(self, width: int, *, temperature: float) -> None:
        super().__init__()
        self.choose = nn.Linear(width, 2)
        self.temperature = temperature

    def forward(self, x: Tensor, attended: Tensor) -> tuple[Tensor, Tensor]:
        """Return the output and the weights, shape (batch, time, 2)."""
        weights = torch.softmax(self.choose(attended) / self.temperature, dim=-1)
        return torch.relu(weights[..., :1] * x + weights[..., 1:] * attended), weights


class Recurrent(nn.Module):
    """Two-layer BiLSTM beside its input, projected and brought to unit length."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(width, max(1, width // 4), 2, batch_first=True, bidirectional=True)
        self.project = nn.Linear(width + 2 * max(1, width // 4), out)

    def forward(self, x: Tensor) -> Tensor:
        joined = torch.cat([x, self.lstm(x)[0]], dim=-1)
        return nn.functional.normalize(self.project(joined), dim=-1)


VARIANTS = ("paper", "dense", "vanilla")


class JCA(Fusion):
    """Joint cross-attention, its recursive, dense, gated and vanilla relatives (Praveen et al.).

    Parameters
    ----------
    dims : dict of str to int
    variant : {"paper", "dense", "vanilla"}
    width : int
        To which every stream is projected first.
    steps : int
        To which every stream is resampled; the L of the paper.
    resample : bool
        False where the streams stand on these steps already: a recipe's ``[windows]`` puts them
        there, and what is masked at a window's edge must not move the rest.
    rank : int
        Hidden width of the paper's form; its k.
    recursion : int
        How often attended features are attended again.
    share : bool
        One set of weights for all rounds; the authors' code has a set for each.
    gate : bool
        DCA's choice between attended and own features.
    temperature : float
        Of the gate.
    lstm : {"none", "before", "after", "both"}
        BiLSTMs on each stream before, and on the joined streams after, as RJCA has them.
    dropout : float
        Within the dense form.
    output : {"steps", "clip"}
        One vector a step, or their mean.
    """

    def __init__(
        self,
        dims: Mapping[str, int],
        *,
        variant: str = "paper",
        width: int = 128,
        steps: int = 16,
        resample: bool = True,
        rank: int = 32,
        recursion: int = 1,
        share: bool = False,
        gate: bool = False,
        temperature: float = 0.1,
        lstm: str = "none",
        dropout: float = 0.6,
        output: str = "clip",
    ) -> None:
        super().__init__(dims)
        if variant not in VARIANTS:
            raise UnknownName("JCA variant", variant, VARIANTS)
        if lstm not in ("none", "before", "after", "both"):
            raise UnknownName("place of the LSTM", lstm, ("none", "before", "after", "both"))
        if output not in ("steps", "clip"):
            raise UnknownName("output", output, ("steps", "clip"))
        if steps < 1 or recursion < 1:
            raise RecipeError(f"jca: steps = {steps}, recursion = {recursion}; wanted 1 or more")
        self.steps, self.recursion, self.output = steps, recursion, output
        self.resample = resample
        total = len(dims) * width
        self.project = nn.ModuleList(nn.Linear(dim, width) for dim in dims.values())
        self.before = nn.ModuleList(Recurrent(width, width) for _ in dims if lstm in ("before", "both"))
        makers: dict[str, Callable[[int, int], nn.Module]] = {
            "paper": partial(JointAttention, steps=steps, rank=rank),
            "dense": partial(DenseAttention, steps=steps, dropout=dropout),
            "vanilla": VanillaAttention,
        }
        make = makers[variant]
        self.attend = nn.ModuleList(make(len(dims), width) for _ in range(1 if share else recursion))
        self.gates = nn.ModuleList(Gate(width, temperature=temperature) for _ in dims if gate)
        self.after = Recurrent(total, total // 2) if lstm in ("after", "both") else nn.Identity()
        out = total // 2 if lstm in ("after", "both") else total
        self.width = Width(out, dict.fromkeys(dims, width))

    def forward(self, streams: Mapping[str, Stream]) -> Fused:
        streams = complete(streams, self.dims)
        if self.resample:
            aligned = align(streams, self.steps)
        else:
            aligned = {name: standing(stream, self.steps) for name, stream in streams.items()}
        masks = [stream.mask for stream in aligned.values()]
        own = [
            project(stream.values) * stream.mask[..., None]
            for project, stream in zip(self.project, aligned.values(), strict=True)
        ]
        if self.before:
            told = [lstm(x) for lstm, x in zip(self.before, own, strict=True)]
            own = [x * mask[..., None] for x, mask in zip(told, masks, strict=True)]
        attended = own
        for k in range(self.recursion):
            attended = self.attend[k % len(self.attend)](attended, masks)
        attention = {}
        for k, (name, gate) in enumerate(zip(aligned, self.gates, strict=False)):
            attended[k], weights = gate(own[k], attended[k])
            attention[f"{name} gate"] = weights.transpose(1, 2)
        fused = self.after(torch.cat(attended, dim=-1))
        mask = torch.stack(masks).any(0)
        vectors = {name: masked_mean(x, m) for name, x, m in zip(aligned, own, masks, strict=True)}
        if self.output == "clip":
            return Fused(masked_mean(fused, mask), None, attention, vectors)
        return Fused(fused * mask[..., None], mask, attention, vectors)


def standing(stream: Stream, steps: int) -> Stream:
    """Return a stream that has so many steps already, zeros where masked.

    Raises
    ------
    RecipeError
        It has another number of steps.
    """
    values, mask, times = stream
    if not mask.any():
        values, mask, times = (x[:, :1].expand(len(x), steps, *x.shape[2:]) for x in stream)
    if mask.shape[1] != steps:
        raise RecipeError(
            f"jca has {steps} steps and no resampling, a stream has {mask.shape[1]}; set "
            "fusion.steps and windows.length to the same number"
        )
    return Stream(values.masked_fill(~mask[..., None], 0), mask, times)


def _matrices(n: int, rows: int, columns: int) -> nn.ParameterList:
    matrices = nn.ParameterList(torch.empty(rows, columns) for _ in range(n))
    for matrix in matrices:
        nn.init.xavier_uniform_(matrix)
    return matrices


plugin = JCA
