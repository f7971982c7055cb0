"""The contract of a fusion: streams in, one representation out."""

from abc import abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ..errors import RecipeError
from ..tensors import Fused, Stream, Width, modality


class Fusion(nn.Module):
    """Base of every fusion.

    A subclass takes ``dims`` first and its options as keyword-only arguments, sets `width`, and
    implements `forward`. It accepts any non-empty subset of its streams: a stream may be absent
    from the mapping, or masked throughout for some clips of the batch; what padding and masked
    steps hold never changes its output.

    Parameters
    ----------
    dims : dict of str to int
        Width of each stream, by the stream's name.

    Attributes
    ----------
    width : Width
        Of the output vector, and of the per-stream vectors where there are any.
    """

    width: Width

    def __init__(self, dims: Mapping[str, int]) -> None:
        super().__init__()
        if not dims:
            raise RecipeError("a fusion needs at least one stream, found none")
        self.dims = dict(dims)

    @abstractmethod
    def forward(self, streams: Mapping[str, Stream]) -> Fused:
        """Fuse the streams.

        Parameters
        ----------
        streams : mapping of str to Stream
            Values of shape (batch, time, dim); any non-empty subset of the streams of `dims`.
        """

    def named(self, kind: str) -> list[str]:
        """Return the names of the streams of one modality, in order.

        Raises
        ------
        RecipeError
            There is none.
        """
        found = [name for name in self.dims if modality(name) == kind]
        if not found:
            raise RecipeError(
                f"{type(self).__name__} needs a stream of modality {kind!r}, found "
                f"{', '.join(self.dims)}; name one with --stream {kind}=KEY"
            )
        return found


def given(streams: Mapping[str, Stream], names: list[str]) -> Tensor:
    """Return which clips have which streams: bool, shape (batch, names)."""
    example = next(iter(streams.values())).mask
    absent = example.new_zeros(len(example))
    return torch.stack([streams[n].mask.any(1) if n in streams else absent for n in names], dim=1)
