"""One vector per stream: the mean over time, passed through a small network."""

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from ..tensors import Stream
from ._fusion import stream_presence
from ._layers import masked_mean, mlp


class StreamVectors(nn.Module):
    """A small network for each stream, applied to the mean of the stream over time.

    Parameters
    ----------
    dims : dict of str to int
        Number of features of each stream.
    widths : sequence of int
        Widths of the layers; the last is the width of the vectors.
    dropout : float
        Dropout behind every layer.
    """

    def __init__(self, dims: Mapping[str, int], widths: Sequence[int], *, dropout: float) -> None:
        super().__init__()
        self.project = nn.ModuleList(mlp((dim, *widths), dropout) for dim in dims.values())

    def forward(self, streams: Mapping[str, Stream]) -> tuple[dict[str, Tensor], Tensor]:
        """Return the vector of each stream and which streams are present.

        Returns
        -------
        vectors : dict of str to Tensor [shape=(batch, width)]
            Zeros where a clip lacks the stream.
        present : Tensor of bool [shape=(batch, streams)]
        """
        present = stream_presence(streams)
        vectors = {
            name: self.project[k](masked_mean(stream.values, stream.mask)) * present[:, k, None]
            for k, (name, stream) in enumerate(streams.items())
        }
        return vectors, present


def append_one(vector: Tensor) -> Tensor:
    """Append a one to every vector, so that products of vectors keep the terms of lower order too."""
    return nn.functional.pad(vector, (0, 1), value=1.0)
