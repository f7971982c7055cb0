"""JCA: joint cross-attention and its variants, over a fixed number of steps.

Praveen, Cardinal and Granger 2023, "Audio-Visual Fusion for Emotion Recognition in the Valence-Arousal Space Using
Joint Cross-Attention" (arXiv 2209.09068). The attention relates *feature dimensions* of one stream to those of all
streams concatenated. L x L weights mix the steps, so the number of steps L is fixed. Variants: vanilla
cross-attention (Praveen et al., FG 2021), the dense form of the authors' code, recursion (RJCA, Praveen et al. 2023,
arXiv 2304.07958) and the gate of dynamic cross-attention (DCA, Praveen and Alam 2024, arXiv 2403.19554).

Our interpretation: any number of streams (the papers have two, or three with text), each resampled to L steps by its
times. A stream that a clip lacks is zeros, and stays zeros in the form without biases.
"""

import math
from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor, nn

from ..errors import RecipeError, check_known
from ..tensors import Fused, Stream, Width
from ._align import align
from ._fusion import Fusion
from ._layers import Dropout, masked_mean, masked_softmax


class JointAttention(nn.Module):
    r"""The form of the paper, for each stream :math:`X` and the concatenated streams :math:`J`; no biases.

    .. math::
        C &= \tanh(X^\top W_j J / \sqrt d) \\
        H &= \mathrm{ReLU}(X^\top W + C W_c) \\
        X_{att} &= (H W_h)^\top + X

    Parameters
    ----------
    n_streams, width : int
        Number of streams and their features.
    steps, rank : int
        L and k of the paper: number of steps and width of the hidden layer.
    """

    def __init__(self, n_streams: int, width: int, *, steps: int, rank: int) -> None:
        super().__init__()
        self.joint = _matrices(n_streams, steps, steps)
        self.own = _matrices(n_streams, steps, rank)
        self.other = _matrices(n_streams, n_streams * width, rank)
        self.back = _matrices(n_streams, rank, steps)

    def forward(self, streams: list[Tensor], masks: list[Tensor]) -> list[Tensor]:
        """Attend; every stream of shape (batch, steps, width) before and after, masks (batch, steps)."""
        joined = torch.cat(streams, dim=-1)
        attended = []
        for k, x in enumerate(streams):
            flipped = x.transpose(1, 2)
            relation = torch.tanh(flipped @ self.joint[k] @ joined / math.sqrt(joined.shape[-1]))
            hidden = torch.relu(flipped @ self.own[k] + relation @ self.other[k])
            attended.append((hidden @ self.back[k]).transpose(1, 2) + x)
        return attended


class DenseAttention(nn.Module):
    r"""The form that the authors released with the journal paper, for each stream :math:`V`.

    .. math::
        J &= \mathrm{Linear}([V; A]) \\
        S &= \mathrm{Dropout}(\tanh(\mathrm{Linear}_{L}(V^\top) J / \sqrt d)) \\
        O &= \mathrm{ReLU}(\tanh(\mathrm{Linear}(V) S)) \\
        V &\leftarrow V + \mathrm{Dropout}(\mathrm{ReLU}(\mathrm{Linear}(O)))

    Parameters
    ----------
    n_streams, width, steps : int
        As in `JointAttention`.
    dropout : float
        Both dropouts of the equations.
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
        """Attend; shapes as in `JointAttention`."""
        joined = self.join(torch.cat(streams, dim=-1))
        attended = []
        for k, x in enumerate(streams):
            key = self.key[k](x.transpose(1, 2))
            relation = self.dropout(torch.tanh(key @ joined / math.sqrt(joined.shape[-1])))
            hidden = torch.relu(torch.tanh(self.value[k](x) @ relation))
            attended.append(x + self.dropout(torch.relu(self.out[k](hidden))))
        return attended


class VanillaAttention(nn.Module):
    r"""Cross-attention between every pair of streams (Praveen et al., FG 2021).

    .. math::
        Z &= \bar X_a W \bar X_v^\top, \quad
        \hat X_a = \mathrm{softmax}_0(Z)^\top X_a, \quad
        \hat X_v = \mathrm{softmax}_0(Z^\top)^\top X_v \\
        X_{att} &= \tanh(X + \hat X)

    Rows of :math:`\bar X` have unit length. The softmax runs over the steps of the stream itself, as in the released
    code. The residual connection and the tanh follow our recollection of the paper. With more than two streams, a
    stream takes the mean over its pairs; this is our interpretation.

    Parameters
    ----------
    n_streams, width : int
        Number of streams and their features.
    """

    def __init__(self, n_streams: int, width: int) -> None:
        super().__init__()
        self.pairs = [(i, j) for j in range(n_streams) for i in range(j)]
        self.relate = _matrices(len(self.pairs), width, width)

    def forward(self, streams: list[Tensor], masks: list[Tensor]) -> list[Tensor]:
        """Attend; shapes as in `JointAttention`."""
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
    r"""Gate of dynamic cross-attention: every step weighs its attended against its own features.

    :math:`w = \mathrm{softmax}(\mathrm{Linear}(X_{att}) / T)` and
    :math:`X_{out} = \mathrm{ReLU}(w_0 X + w_1 X_{att})` (Praveen and Alam 2024).

    Parameters
    ----------
    width : int
        Number of features.
    temperature : float
        :math:`T`; the lower, the harder the choice.
    """

    def __init__(self, width: int, *, temperature: float) -> None:
        super().__init__()
        self.choose = nn.Linear(width, 2)
        self.temperature = temperature

    def forward(self, x: Tensor, attended: Tensor) -> tuple[Tensor, Tensor]:
        """Return the output and the weights, shapes (batch, time, width) and (batch, time, 2)."""
        weights = torch.softmax(self.choose(attended) / self.temperature, dim=-1)
        return torch.relu(weights[..., :1] * x + weights[..., 1:] * attended), weights


class BiLSTM(nn.Module):
    """Two-layer bidirectional LSTM; its output and its input are concatenated, projected and scaled to unit length."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        hidden = max(1, width // 4)
        self.lstm = nn.LSTM(width, hidden, 2, batch_first=True, bidirectional=True)
        self.project = nn.Linear(width + 2 * hidden, out)

    def forward(self, x: Tensor) -> Tensor:
        """Return a sequence of shape (batch, time, out) for one of shape (batch, time, width)."""
        joined = torch.cat([x, self.lstm(x)[0]], dim=-1)
        return nn.functional.normalize(self.project(joined), dim=-1)


class JCA(Fusion):
    """Joint cross-attention with its recursive, dense, gated and vanilla variants (Praveen et al. 2021 to 2024).

    Parameters
    ----------
    dims : dict of str to int
        Number of features of each stream.
    variant : {"paper", "dense", "vanilla"}
        Form of the attention.
    width : int
        Width to which every stream is projected first.
    steps : int
        Number of steps to which every stream is resampled; the L of the paper.
    resample : bool
        Whether to resample. Set it to False where the streams have these steps already: the ``[windows]`` of a recipe
        put them there, and a step that is masked at the edge of a window must not move the others.
    rank : int
        Width of the hidden layer of the paper's form; its k.
    recursion : int
        Number of rounds; each round attends to the result of the one before.
    share : bool
        Whether all rounds share one set of weights; the authors' code has a set for each.
    gate : bool
        Whether the gate of DCA weighs attended against own features.
    temperature : float
        Temperature of the gate.
    lstm : {"none", "before", "after", "both"}
        Place of the BiLSTMs of RJCA: on each stream before the attention, on the concatenated streams after it.
    dropout : float
        Dropout within the dense form.
    output : {"steps", "clip"}
        One vector per step, or their mean.
    """

    modalities = None

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
        check_known("JCA variant", variant, ("paper", "dense", "vanilla"))
        check_known("place of the LSTM", lstm, ("none", "before", "after", "both"))
        check_known("output", output, ("steps", "clip"))
        if steps < 1 or recursion < 1:
            raise RecipeError(f"Found fusion.steps = {steps} and fusion.recursion = {recursion}, expected at least 1.")
        self.steps, self.recursion, self.output = steps, recursion, output
        self.resample = resample
        total = len(dims) * width
        self.project = nn.ModuleList(nn.Linear(dim, width) for dim in dims.values())
        self.before = nn.ModuleList(BiLSTM(width, width) for _ in dims if lstm in ("before", "both"))
        forms: dict[str, Callable[[int, int], nn.Module]] = {
            "paper": partial(JointAttention, steps=steps, rank=rank),
            "dense": partial(DenseAttention, steps=steps, dropout=dropout),
            "vanilla": VanillaAttention,
        }
        self.attend = nn.ModuleList(forms[variant](len(dims), width) for _ in range(1 if share else recursion))
        self.gates = nn.ModuleList(Gate(width, temperature=temperature) for _ in dims if gate)
        out = total // 2 if lstm in ("after", "both") else total
        self.after = BiLSTM(total, out) if lstm in ("after", "both") else nn.Identity()
        self.width = Width(out, dict.fromkeys(dims, width))

    def forward(self, streams: Mapping[str, Stream]) -> Fused:
        streams = self.complete(streams)
        if self.resample:
            aligned = align(streams, self.steps)
        else:
            aligned = {name: with_steps(stream, self.steps) for name, stream in streams.items()}
        masks = [stream.mask for stream in aligned.values()]
        own = [
            project(stream.values) * stream.mask[..., None]
            for project, stream in zip(self.project, aligned.values(), strict=True)
        ]
        if self.before:
            own = [lstm(x) * mask[..., None] for lstm, x, mask in zip(self.before, own, masks, strict=True)]
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


def with_steps(stream: Stream, steps: int) -> Stream:
    """Return a stream that has this number of steps already, with zeros where it is masked.

    Raises
    ------
    RecipeError
        If the stream has another number of steps.
    """
    values, mask, times = stream
    if not mask.any():
        values, mask, times = (x[:, :1].expand(len(x), steps, *x.shape[2:]) for x in stream)
    if mask.shape[1] != steps:
        raise RecipeError(
            f"A stream has {mask.shape[1]} steps, but fusion.steps = {steps} and fusion.resample = false. Set "
            "fusion.steps and windows.length to the same number."
        )
    return Stream(values.masked_fill(~mask[..., None], 0), mask, times)


def _matrices(n: int, rows: int, columns: int) -> nn.ParameterList:
    matrices = nn.ParameterList(torch.empty(rows, columns) for _ in range(n))
    for matrix in matrices:
        nn.init.xavier_uniform_(matrix)
    return matrices


plugin = JCA
