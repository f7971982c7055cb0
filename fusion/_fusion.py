"""The contract of a fusion: streams in, one representation out."""

import inspect
from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import nn

from ..errors import RecipeError
from ..plugins import modality_of
from ..tensors import Fused, Stream, Width


class Fusion(nn.Module):
    """Base class of every fusion.

    A subclass takes ``dims`` first and its options as keyword-only arguments. It declares `modalities`, sets `width`
    and implements `forward`. It accepts any non-empty subset of its streams: a stream may be absent from the mapping,
    or masked throughout for some clips of the batch. The values of padded and masked steps never change its output.

    Parameters
    ----------
    dims : dict of str to int
        Number of features of each stream, by the name of the stream.

    Attributes
    ----------
    modalities : tuple of str or None
        Class attribute: the modalities that the fusion reads. A model needs at least one stream of each of them and
        may have no other stream. None means that the fusion reads streams of any modality.
    width : Width
        Width of the fused vector and of the vector of each stream.

    Raises
    ------
    RecipeError
        If there is no stream, or none of a modality that the fusion reads.
    """

    modalities: ClassVar[tuple[str, ...] | None] = None
    width: Width

    def __init__(self, dims: Mapping[str, int]) -> None:
        super().__init__()
        if not dims:
            raise RecipeError(f"{type(self).__name__} needs at least one stream, but found none.")
        self.dims = dict(dims)
        missing = [kind for kind in self.modalities or () if not self.stream_names(kind)]
        if missing:
            raise RecipeError(
                f"{type(self).__name__} reads streams of the modalities {', '.join(self.modalities or ())}, but "
                f"found only {', '.join(dims)}. Add the missing one with --stream {missing[0]}=KEY."
            )

    @abstractmethod
    def forward(self, streams: Mapping[str, Stream]) -> Fused:
        """Fuse the streams of a batch.

        Parameters
        ----------
        streams : mapping of str to Stream
            Values of shape (batch, time, dim); any non-empty subset of the streams in `dims`.
        """

    @classmethod
    def catalogue(cls) -> list[dict[str, str]]:
        """Return the row of `affuse list fusions`."""
        return [
            {
                "modalities": ", ".join(cls.modalities or ("any",)),
                "about": (inspect.getdoc(cls) or "").partition("\n")[0],
            }
        ]

    def stream_names(self, kind: str) -> list[str]:
        """Return the names of the streams of one modality, in the order of `dims`."""
        return [name for name in self.dims if modality_of(name) == kind]

    def check_streams(self) -> None:
        """Check that the fusion reads all of its streams.

        Called when a model is built for training. Loading a saved model skips this check, because version 0.1.0
        trained models with streams that the fusion ignored.

        Raises
        ------
        RecipeError
            If the fusion would ignore a stream.
        """
        if self.modalities is None:
            return
        unread = [name for name in self.dims if modality_of(name) not in self.modalities]
        if unread:
            raise RecipeError(
                f"{type(self).__name__} reads streams of the modalities {', '.join(self.modalities)} and would ignore "
                f"{', '.join(unread)}. The given streams are {', '.join(self.dims)}. Name only the streams to use with "
                f"--stream KEY, or set streams.modalities = {list(self.modalities)} in the recipe."
            )

    def complete(self, streams: Mapping[str, Stream]) -> dict[str, Stream]:
        """Return every stream in `dims`; an absent one becomes a single masked step.

        `forward` then has to handle one kind of absence only: a mask that is False throughout. Values of masked steps
        are set to zero, because a nan remains nan when it is multiplied by a weight of zero.

        Raises
        ------
        RecipeError
            If `streams` holds none of the streams in `dims`.
        """
        present = [streams[name] for name in self.dims if name in streams]
        if not present:
            raise RecipeError(
                f"The batch has the streams {', '.join(streams) or '(none)'}, but the fusion was built for "
                f"{', '.join(self.dims)} and needs at least one of them."
            )
        values, mask, times = present[0]
        completed = {}
        for name, dim in self.dims.items():
            if name in streams:
                stream = streams[name]
                completed[name] = stream._replace(values=stream.values.masked_fill(~stream.mask[..., None], 0))
            else:
                n_clips = len(mask)
                completed[name] = Stream(
                    values.new_zeros(n_clips, 1, dim),
                    mask.new_zeros(n_clips, 1),
                    times.new_full((n_clips, 1), torch.nan),
                )
        return completed
