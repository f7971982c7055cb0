"""Two sides, audio and visual, for fusions that know no third."""

from collections.abc import Mapping, Sequence

import torch

from ..tensors import Stream
from ._align import align


def side(streams: Mapping[str, Stream], names: Sequence[str]) -> Stream:
    """Return one modality's streams as one: several stand side by side at the longest's steps."""
    if len(names) == 1:
        return streams[names[0]]
    aligned = list(align({name: streams[name] for name in names}, "longest").values())
    return Stream(
        torch.cat([stream.values for stream in aligned], dim=-1),
        torch.stack([stream.mask for stream in aligned]).any(0),
        aligned[0].times,
    )
