"""The contract of a head: one representation in, logits and dimensions out, with its loss."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor, nn

from ..tensors import Fused, Targets, Width


class Decoded(NamedTuple):
    """Output of a head for a batch.

    Attributes
    ----------
    logits : Tensor [shape=(batch, emotions)]
        Emotion logits of each clip; where the fusion keeps time, the mean over the steps. No columns where no emotion
        is decoded.
    dimensions : Tensor [shape=(batch, n) or (batch, time, n)]
        Estimates of the dimensions.
    mask : Tensor of bool [shape=(batch, time)] or None
        Steps that exist; None for one estimate per clip.
    unimodal : dict of str to Tensor [shape=(batch, emotions)]
        Logits of each stream, where the head computes them.
    extras : dict of str to Tensor
        Further inputs of the loss, by name (embeddings, partial estimates).
    """

    logits: Tensor
    dimensions: Tensor
    mask: Tensor | None
    unimodal: dict[str, Tensor]
    extras: dict[str, Tensor]


class Head(nn.Module):
    """Base class of every head that is trained by gradients.

    Parameters
    ----------
    width : Width
        Width of the fusion that the head decodes.
    emotions, dimensions : sequence of str
        Targets to decode; either may be empty, not both.
    """

    def __init__(self, width: Width, emotions: Sequence[str], dimensions: Sequence[str]) -> None:
        super().__init__()
        self.width = width
        self.emotions, self.dimensions = tuple(emotions), tuple(dimensions)

    def initialise(self, targets: Targets) -> None:  # noqa: B027
        """Set weights and means from the labels of the training fold, once, before the first step."""

    @abstractmethod
    def forward(self, fused: Fused) -> Decoded:
        """Decode a fused representation."""

    @abstractmethod
    def loss(self, decoded: Decoded, targets: Targets) -> dict[str, Tensor]:
        """Return the loss ``total`` and its parts by name; targets that are not annotated do not count."""
