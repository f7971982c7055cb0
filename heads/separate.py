"""Separate decoders for the emotion and for every dimension: the control of the joint decoder."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..tensors import Fused, Targets, Width
from ._head import Decoded, Head
from ._losses import Loss, build_objective
from ._steps import mean_over_steps


class Separate(Head):
    """Independent decoders for the emotion and for every dimension.

    Parameters
    ----------
    width : Width
        Width of the fusion.
    emotions, dimensions : sequence of str
        Targets to decode; either may be empty.
    hidden : int
        Width of a hidden layer in each decoder; 0: the decoders are linear. The regressor of JCA is
        ``hidden = 128, dropout = 0.6``.
    dropout : float
        Dropout behind the hidden layer.
    loss : mapping
        Options of `heads._losses.Objective`.
    """

    def __init__(
        self,
        width: Width,
        emotions: Sequence[str],
        dimensions: Sequence[str],
        *,
        hidden: int = 0,
        dropout: float = 0.0,
        loss: Loss | None = None,
    ) -> None:
        super().__init__(width, emotions, dimensions)
        self.objective = build_objective(emotions, dimensions, loss)
        if self.emotions:
            self.emotion = _decoder(width.vector, hidden, len(self.emotions), dropout)
        self.values = nn.ModuleList(_decoder(width.vector, hidden, 1, dropout) for _ in self.dimensions)

    @torch.no_grad()
    def initialise(self, targets: Targets) -> None:
        self.objective.initialise(targets)
        for d, decoder in enumerate(self.values):
            *_, last = decoder.children()
            assert isinstance(last, nn.Linear)
            last.bias.copy_(targets.dimensions[..., d].nanmean().nan_to_num(0.0))

    def forward(self, fused: Fused) -> Decoded:
        h = fused.vector
        none = h.new_zeros(*h.shape[:-1], 0)
        logits = self.emotion(h) if self.emotions else none
        values = torch.cat([none, *(decode(h) for decode in self.values)], dim=-1)
        return Decoded(mean_over_steps(logits, fused.mask), values, fused.mask, {}, {})

    def loss(self, decoded: Decoded, targets: Targets) -> dict[str, Tensor]:
        losses: dict[str, Tensor] = self.objective(decoded.logits, [decoded.dimensions], targets, decoded.mask)
        return losses


def _decoder(n_in: int, hidden: int, n_out: int, dropout: float) -> nn.Sequential:
    if not hidden:
        return nn.Sequential(nn.Linear(n_in, n_out))
    return nn.Sequential(nn.Linear(n_in, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, n_out))


plugin = Separate
