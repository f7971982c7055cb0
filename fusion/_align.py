"""Alignment of streams of different frame rates by their times.

Every frame covers an interval around its centre. An aligned step takes the mean of the frames that it overlaps,
weighted by the overlap: a faster stream is averaged, a slower one is repeated.
"""

from collections.abc import Mapping
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from ..tensors import Stream

Steps = int | Literal["shortest", "longest"]


class _Intervals(NamedTuple):
    """Start and end of each frame or step in seconds, shape (batch, time)."""

    start: Tensor
    end: Tensor


def align(streams: Mapping[str, Stream], steps: Steps) -> dict[str, Stream]:
    """Resample every stream to the same steps, evenly spread over the clip.

    Parameters
    ----------
    streams : mapping of str to Stream
        Streams whose masked values are zeros.
    steps : int, "shortest" or "longest"
        Number of steps of every clip, or as many as the shortest or longest stream of the clip has frames. A stream
        of a single frame counts as covering the whole clip and does not set the number of steps.

    Returns
    -------
    dict of str to Stream
        Values are zero and the mask is False where a stream has no frame.
    """
    frames = {name: _frame_intervals(stream) for name, stream in streams.items()}
    lengths = torch.stack([stream.mask.sum(1) for stream in streams.values()], dim=1)
    start, end = _clip_interval(frames, lengths)
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
    step_start = start[:, None] + index * width
    exists = index < n_steps[:, None]
    grid = _Intervals(step_start, step_start + width)
    return {name: _resample(stream, frames[name], grid, exists) for name, stream in streams.items()}


def concatenate(streams: Mapping[str, Stream]) -> Stream:
    """Return several streams as one: aligned to the longest, their features side by side."""
    if len(streams) == 1:
        return next(iter(streams.values()))
    aligned = list(align(streams, "longest").values())
    return Stream(
        torch.cat([stream.values for stream in aligned], dim=-1),
        torch.stack([stream.mask for stream in aligned]).any(0),
        aligned[0].times,
    )


def _frame_intervals(stream: Stream) -> _Intervals:
    n = stream.mask.sum(1, keepdim=True)
    first = stream.times.masked_fill(~stream.mask, torch.inf).amin(1, keepdim=True)
    last = stream.times.masked_fill(~stream.mask, -torch.inf).amax(1, keepdim=True)
    half = (last - first) / (n - 1).clamp(min=1) / 2
    half = half.masked_fill(n < 2, torch.inf)
    return _Intervals(
        (stream.times - half).masked_fill(~stream.mask, torch.inf),
        (stream.times + half).masked_fill(~stream.mask, -torch.inf),
    )


def _clip_interval(frames: Mapping[str, _Intervals], lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Return start and end of every clip: those of all its frames, or 0 and 1 where no stream has two frames."""
    starts, ends = [], []
    for k, intervals in enumerate(frames.values()):
        unbounded = lengths[:, k] < 2
        starts.append(intervals.start.amin(1).masked_fill(unbounded, torch.inf))
        ends.append(intervals.end.amax(1).masked_fill(unbounded, -torch.inf))
    start, end = torch.stack(starts).amin(0), torch.stack(ends).amax(0)
    unknown = ~(end > start)
    return start.masked_fill(unknown, 0), end.masked_fill(unknown, 1)


def _resample(stream: Stream, frames: _Intervals, grid: _Intervals, exists: Tensor) -> Stream:
    end = torch.minimum(frames.end[:, None], grid.end[:, :, None])
    start = torch.maximum(frames.start[:, None], grid.start[:, :, None])
    overlap = (end - start).clamp(min=0) * exists[:, :, None]
    total = overlap.sum(2, keepdim=True)
    # An overlap this small is a rounding error, not a frame.
    mask = total > 1e-4 * (grid.end - grid.start)[:, :, None]
    weights = overlap / total.masked_fill(~mask, 1) * mask
    times = ((grid.start + grid.end) / 2).masked_fill(~exists, torch.nan)
    return Stream(weights.to(stream.values) @ stream.values, mask.squeeze(2), times)
