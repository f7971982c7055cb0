"""Streams as vectors: the mean over time through a small network, one for each stream."""

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from ..tensors import Stream
from ._fusion import given
from ._layers import masked_mean, mlp


class Vectors(nn.Module):
    """One vector a stream.

    Parameters
    ----------
    dims : dict of str to int
    widths : sequence of int
        Of the layers; the last is the vectors'.
    dropout : float
    """

    def __init__(self, dims: Mapping[str, int], widths: Sequence[int], *, dropout: float) -> None:
        super().__init__()
        self.project = nn.ModuleList(mlp((dim, *widths), dropout) for dim in dims.values())

    def forward(self, streams: Mapping[str, Stream]) -> tuple[dict[str, Tensor], Tensor]:
        """Return each stream's vector, zeros where a clip lacks it, and which are there.

        Returns
        -------
        vectors : dict of str to Tensor [shape=(batch, width)]
        present : Tensor of bool [shape=(batch, streams)]
        """
        present = given(streams, list(streams))
        vectors = {
            name: self.project[k](masked_mean(stream.values, stream.mask)) * present[:, k, None]
            for k, (name, stream) in enumerate(streams.items())
        }
        return vectors, present


def with_one(vector: Tensor) -> Tensor:
    """Append a one to every vector, so that products keep lower orders too."""
    return nn.functional.pad(vector, (0, 1), value=1.0)
