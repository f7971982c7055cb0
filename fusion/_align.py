"""Streams of different rates brought to the same steps, by their times.

Every frame stands for a stretch of time around its centre; a step takes the mean of the frames
that it overlaps, each by its share. So a faster stream is averaged, a slower one repeated.
"""

from collections.abc import Mapping
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from ..tensors import Stream

Steps = int | Literal["shortest", "longest"]


class _Stretches(NamedTuple):
    """From when to when each frame or step lasts, seconds, shape (batch, time)."""

    low: Tensor
    high: Tensor


def align(streams: Mapping[str, Stream], steps: Steps) -> dict[str, Stream]:
    """Resample every stream to the same steps, evenly spread over the clip.

    Parameters
    ----------
    streams : mapping of str to Stream
        Masked values hold zeros.
    steps : int, "shortest" or "longest"
        So many steps for every clip, or as many as the clip's shortest or longest stream has
        frames; a stream of one frame holds for the whole clip and is not asked.

    Returns
    -------
    dict of str to Stream
        Masked, with zeros, where a stream has nothing to say.
    """
    spans = {name: _stretches(stream) for name, stream in streams.items()}
    lengths = torch.stack([stream.mask.sum(1) for stream in streams.values()], dim=1)
    start, end = _extent(spans, lengths)
    if isinstance(steps, int):
        n_steps = torch.full_like(lengths[:, 0], steps)
    elif steps == "longest":
        n_steps = lengths.amax(1).clamp(min=1)
    else:
        longest = torch.iinfo(lengths.dtype).max
        n_steps = lengths.masked_fill(lengths < 2, longest).amin(1)
        n_steps = n_steps.masked_fill(n_steps == longest, 1)
    index = torch.arange(int(n_steps.max()), device=start.device)
    width = ((end - start) / n_steps)[:, None]
    low = start[:, None] + index * width
    there = index < n_steps[:, None]
    grid = _Stretches(low, low + width)
    return {name: _resampled(stream, spans[name], grid, there) for name, stream in streams.items()}


def _stretches(stream: Stream) -> _Stretches:
    n = stream.mask.sum(1, keepdim=True)
    first = stream.times.masked_fill(~stream.mask, torch.inf).amin(1, keepdim=True)
    last = stream.times.masked_fill(~stream.mask, -torch.inf).amax(1, keepdim=True)
    half = (last - first) / (n - 1).clamp(min=1) / 2
    half = half.masked_fill(n < 2, torch.inf)
    return _Stretches(
        (stream.times - half).masked_fill(~stream.mask, torch.inf),
        (stream.times + half).masked_fill(~stream.mask, -torch.inf),
    )


def _extent(spans: Mapping[str, _Stretches], lengths: Tensor) -> tuple[Tensor, Tensor]:
    starts, ends = [], []
    for k, span in enumerate(spans.values()):
        timeless = lengths[:, k] < 2
        starts.append(span.low.amin(1).masked_fill(timeless, torch.inf))
        ends.append(span.high.amax(1).masked_fill(timeless, -torch.inf))
    start, end = torch.stack(starts).amin(0), torch.stack(ends).amax(0)
    unknown = ~(end > start)
    return start.masked_fill(unknown, 0), end.masked_fill(unknown, 1)


def _resampled(stream: Stream, frames: _Stretches, grid: _Stretches, there: Tensor) -> Stream:
    high = torch.minimum(frames.high[:, None], grid.high[:, :, None])
    low = torch.maximum(frames.low[:, None], grid.low[:, :, None])
    overlap = (high - low).clamp(min=0) * there[:, :, None]
    # A step that only grazes a frame by rounding has nothing to say.
    total = overlap.sum(2, keepdim=True)
    mask = total > 1e-4 * (grid.high - grid.low)[:, :, None]
    share = overlap / total.masked_fill(~mask, 1) * mask
    times = ((grid.low + grid.high) / 2).masked_fill(~there, torch.nan)
    return Stream(share.to(stream.values) @ stream.values, mask.squeeze(2), times)
