"""The contract of a head: one representation in, logits and dimensions out, with its loss."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor, nn

from ..tensors import Fused, Targets, Width


class Decoded(NamedTuple):
    """What a head makes of a batch.

    Attributes
    ----------
    logits : Tensor [shape=(batch, emotions)]
        A clip's; where the fusion keeps time, the mean of its steps' logits. No columns where no
        emotion is asked for.
    dimensions : Tensor [shape=(batch, n) or (batch, time, n)]
    mask : Tensor of bool [shape=(batch, time)] or None
        Steps that count; None for one answer a clip.
    unimodal : dict of str to Tensor [shape=(batch, emotions)]
        Each stream's own logits, where the head has them.
    extras : dict of str to Tensor
        What the loss needs besides, by name (embeddings, partial estimates).
    """

    logits: Tensor
    dimensions: Tensor
    mask: Tensor | None
    unimodal: dict[str, Tensor]
    extras: dict[str, Tensor]


class Head(nn.Module):
    """Base of every head that is trained by gradients.

    Parameters
    ----------
    width : Width
        Of the fusion it stands on.
    emotions, dimensions : sequence of str
        What to decode; either may be empty, not both.
    """

    def __init__(self, width: Width, emotions: Sequence[str], dimensions: Sequence[str]) -> None:
        super().__init__()
        self.width = width
        self.emotions, self.dimensions = tuple(emotions), tuple(dimensions)

    def initialise(self, targets: Targets) -> None:  # noqa: B027
        """Learn from the training fold's labels, once, before the first step: weights, means."""

    @abstractmethod
    def forward(self, fused: Fused) -> Decoded:
        """Decode a representation."""

    @abstractmethod
    def loss(self, decoded: Decoded, targets: Targets) -> dict[str, Tensor]:
        """Return the loss, ``total`` and its parts; what is not annotated does not count."""
