"""What every visual encoder does with frames: sample, normalise, run on what is not padding."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ..errors import EncoderError, MediaError
from ..tensors import Stream
from ._encoder import Frames, Media, Prepared

AT_ONCE = {"cpu": 32}
"""Frames that are encoded together, so that a long clip needs no more memory than a short one."""


def sampled(frames_wanted: Frames, *, fps: float | None, frames: int | None, crop: str, default: float) -> Frames:
    """Return what is wanted, with the caller's sampling and crop.

    Raises
    ------
    EncoderError
        Both `fps` and `frames` are given, or `crop` is unknown.
    """
    if fps is not None and frames is not None:
        raise EncoderError(f"found fps={fps} and frames={frames}; give one of them")
    if (fps is not None and fps <= 0) or (frames is not None and frames <= 0):
        raise EncoderError(f"found fps={fps}, frames={frames}; they have to be above zero")
    if crop not in ("none", "face"):
        raise EncoderError(f"found crop={crop}; there is crop=none and crop=face")
    return replace(
        frames_wanted,
        fps=None if frames else float(fps or default),
        count=frames,
        crop="face" if crop == "face" else "none",
    )


def to_channels(
    media: Media, *, scale: float, mean: Sequence[float] = (0, 0, 0), std: Sequence[float] = (1, 1, 1)
) -> Prepared:
    """Scale, normalise and put channels first.

    Parameters
    ----------
    media : Media
        Frames, uint8, shape (frames, height, width, 3).

    Returns
    -------
    Prepared
        Values of shape (frames, 3, height, width), float32.

    Raises
    ------
    MediaError
        There are no frames.
    """
    if len(media.values) == 0:
        raise MediaError("too_short", "the clip has no frame at all")
    pixels: np.ndarray = media.values.astype(np.float32) * np.float32(scale)
    pixels = (pixels - np.asarray(mean, np.float32)) / np.asarray(std, np.float32)
    values = torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)))
    return Prepared(values, torch.from_numpy(np.asarray(media.times, np.float32)))


def over_frames(media: Stream, encode: Callable[[Tensor], Sequence[Tensor]]) -> list[Stream]:
    """Encode the frames that are not padding, and put each back in its place.

    Parameters
    ----------
    media : Stream
        Values of shape (batch, frames, 3, height, width).
    encode : callable
        Frames, shape (n, 3, height, width), to one tensor a layer, shape (n, dim).
    """
    streams = []
    for layer in _some_at_a_time(encode, media.values[media.mask]):
        values = layer.new_zeros(*media.mask.shape, layer.shape[-1])
        values[media.mask] = layer
        streams.append(Stream(values, media.mask, media.times))
    return streams


def _some_at_a_time(encode: Callable[[Tensor], Sequence[Tensor]], frames: Tensor) -> Sequence[Tensor]:
    if not torch.is_inference_mode_enabled():  # learning and exporting want one batch
        return encode(frames)
    n = AT_ONCE.get(frames.device.type, 256)
    chunks = [frames[i : i + n] for i in range(0, max(1, len(frames)), n)]
    return [torch.cat(parts) for parts in zip(*map(encode, chunks), strict=True)]


def pooled(patches: Tensor, prefix: Tensor | None, how: str) -> Tensor:
    """Return one vector a picture: its class token, or the mean over its patches.

    Parameters
    ----------
    patches : Tensor [shape=(n, patches, dim)]
    prefix : Tensor [shape=(n, tokens, dim)] or None
        Class token first; None or empty where the model has none.
    how : str
        ``cls`` or ``mean``.

    Raises
    ------
    EncoderError
        A class token is asked for and there is none.
    """
    if how == "mean":
        return patches.mean(1)
    if prefix is None or prefix.shape[1] == 0:
        raise EncoderError("the model has no class token; say output=mean or output=projected")
    return prefix[:, 0]
