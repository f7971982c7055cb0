"""Joint decoding of the emotion and the dimensions.

Wang et al. 2023 (arXiv 2309.07925) decode the discrete emotion and the valence jointly. The equations of the paper are
not public. Ours are an interpretation, based on the layers that the laboratory's later code declares.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..errors import check_known
from ..tensors import Fused, Targets, Width
from ._head import Decoded, Head
from ._losses import Loss, build_objective
from ._steps import mean_over_steps


class Joint(Head):
    r"""Joint decoder of the emotion and the dimensions (Wang et al. 2023).

    .. math::
        e &= W_e h + b_e &\text{emotion logits} \\
        v_d &= W_v h + b_v &\text{direct estimate} \\
        v_e &= W_{ev}\,\mathrm{act}(e) + b_{ev} &\text{estimate implied by the emotion} \\
        v &= w_c^\top [v_e; v_d] + b_c &\text{joint estimate}

    After `initialise`, a certain emotion implies its mean valence in the training fold: negative for anger and
    sadness, positive for happiness.

    Parameters
    ----------
    width : Width
        Width of the fusion.
    emotions, dimensions : sequence of str
        Targets to decode; either may be empty. Without emotions only the direct estimate remains.
    activation : {"softmax", "prelu", "identity"}
        Activation of the logits. The laboratory's later code declares a PReLU; under softmax, our default, the class
        means are exact.
    bound : float, optional
        Bound of the implied estimate, ``bound * tanh(. / bound)``; the range of MER 2023 is 5.
    combine : {"linear", "mean", "gate"}
        Combination of both estimates: trained weights that start at the mean, the mean, or a weight that depends on
        the representation.
    detach : bool
        Whether to keep the gradient of the dimensions out of the emotion logits.
    supervise_parts : bool
        Whether the loss also compares both estimates with the targets.
    loss : mapping
        Options of `heads._losses.Objective`.
    """

    def __init__(
        self,
        width: Width,
        emotions: Sequence[str],
        dimensions: Sequence[str],
        *,
        activation: str = "softmax",
        bound: float | None = None,
        combine: str = "linear",
        detach: bool = False,
        supervise_parts: bool = False,
        loss: Loss | None = None,
    ) -> None:
        super().__init__(width, emotions, dimensions)
        check_known("activation", activation, ("softmax", "prelu", "identity"))
        check_known("combine", combine, ("linear", "mean", "gate"))
        self.activation, self.combine, self.bound = activation, combine, bound
        self.detach, self.supervise_parts = detach, supervise_parts
        self.objective = build_objective(emotions, dimensions, loss)
        n_emotions, n_dimensions = len(self.emotions), len(self.dimensions)
        if n_emotions:
            self.emotion = nn.Linear(width.vector, n_emotions)
        if n_dimensions:
            self.direct = nn.Linear(width.vector, n_dimensions)
        if n_emotions and n_dimensions:
            self.implied = nn.Linear(n_emotions, n_dimensions)
            if activation == "prelu":
                self.act = nn.PReLU(n_emotions)
            if combine == "linear":
                self.mix = nn.Parameter(torch.full((n_dimensions, 2), 0.5))
                self.offset = nn.Parameter(torch.zeros(n_dimensions))
            elif combine == "gate":
                self.gate = nn.Linear(width.vector, n_dimensions)

    @torch.no_grad()
    def initialise(self, targets: Targets) -> None:
        self.objective.initialise(targets)
        if not self.dimensions:
            return
        labels = targets.dimensions
        labels = labels.nanmean(1) if labels.ndim == 3 else labels
        overall = labels.nanmean(0).nan_to_num(0.0)
        self.direct.bias.copy_(overall)
        if not self.emotions:
            return
        means = torch.stack([labels[targets.emotion == c].nanmean(0) for c in range(len(self.emotions))], dim=1)
        means = torch.where(means.isnan(), overall[:, None], means)
        if self.bound is not None:
            means = self.bound * torch.atanh((means / self.bound).clamp(-0.99, 0.99))
        self.implied.weight.copy_(means)
        self.implied.bias.zero_()

    def forward(self, fused: Fused) -> Decoded:
        h = fused.vector
        steps = self.emotion(h) if self.emotions else h.new_zeros(*h.shape[:-1], 0)
        extras: dict[str, Tensor] = {}
        if self.dimensions:
            dimensions = direct = self.direct(h)
            if self.emotions:
                implied = self._implied(steps.detach() if self.detach else steps)
                dimensions = self._combined(h, implied, direct)
                extras = {"direct": direct, "implied": implied}
        else:
            dimensions = h.new_zeros(*h.shape[:-1], 0)
        return Decoded(mean_over_steps(steps, fused.mask), dimensions, fused.mask, {}, extras)

    def _implied(self, logits: Tensor) -> Tensor:
        if self.activation == "softmax":
            logits = logits.softmax(-1)
        elif self.activation == "prelu":
            logits = self.act(logits.flatten(0, -2)).view_as(logits)
        implied: Tensor = self.implied(logits)
        return implied if self.bound is None else self.bound * torch.tanh(implied / self.bound)

    def _combined(self, h: Tensor, implied: Tensor, direct: Tensor) -> Tensor:
        if self.combine == "mean":
            return (implied + direct) / 2
        if self.combine == "gate":
            return torch.lerp(direct, implied, torch.sigmoid(self.gate(h)))
        return self.mix[:, 0] * implied + self.mix[:, 1] * direct + self.offset

    def loss(self, decoded: Decoded, targets: Targets) -> dict[str, Tensor]:
        parts = list(decoded.extras.values()) if self.supervise_parts else []
        losses: dict[str, Tensor] = self.objective(decoded.logits, [decoded.dimensions, *parts], targets, decoded.mask)
        return losses


plugin = Joint
