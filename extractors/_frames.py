"""Base of all visual encoders: sampling, normalisation, and a forward pass over the frames that are not padding."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from ..errors import EncoderError, MediaError
from ..tensors import Stream
from ._encoder import EncoderFamily, Frames, Media, Prepared

FRAMES_PER_PASS = {"cpu": 32}
"""Number of frames per forward pass, 256 on other devices, so that long clips need no more memory than short ones."""


@dataclass(frozen=True)
class Pixels:
    """Size of the frames that an encoder needs, and their normalisation.

    A channel value of 0 to 255 becomes ``(value * scale - mean) / std``.

    Attributes
    ----------
    frames : Frames
        Size, crop and interpolation.
    scale : float
    mean, std : tuple of float
        One number per channel (red, green, blue).
    """

    frames: Frames
    scale: float = 1 / 255
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)

    @classmethod
    def unnormalised(cls, frames: Frames) -> "Pixels":
        """Return a preprocessing that only scales the channels to 0..1."""
        return cls(frames, mean=(0, 0, 0), std=(1, 1, 1))

    def prepare(self, media: Media) -> Prepared:
        """Scale and normalise frames (frames, height, width, 3) to float32 of shape (frames, 3, height, width)."""
        if len(media.values) == 0:
            raise MediaError("too_short", "The clip has no video frames.")
        pixels: np.ndarray = media.values.astype(np.float32) * np.float32(self.scale)
        pixels = (pixels - np.asarray(self.mean, np.float32)) / np.asarray(self.std, np.float32)
        values = torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)))
        return Prepared(values, torch.from_numpy(np.asarray(media.times, np.float32)))

    def identity(self) -> list[float]:
        """Return the normalisation as it enters a key. Size and crop enter it as the encoder's inputs."""
        return [self.scale, *self.mean, *self.std]


class FrameEncoder(EncoderFamily):
    """Base of the visual encoders, which sample frames of a clip and encode each of them.

    A subclass defines `encode_frames` and `dim`, and either the class attribute `pixels` or, where they depend on the
    checkpoint, a `load` that calls `set_pixels`.

    Parameters
    ----------
    fps : float, optional
        Sampled frames per second; `default_fps` if neither `fps` nor `frames` is given.
    frames : int, optional
        Number of frames sampled evenly over the clip, instead of `fps`.
    crop : str
        ``none`` for the whole picture, ``face`` for the face box of the clip.

    Raises
    ------
    EncoderError
        Both `fps` and `frames` are given, one of them is not positive, or `crop` is unknown.
    """

    modality = "visual"
    default_fps: ClassVar[float] = 4
    pixels: Pixels

    def __init__(self, *, fps: float | None = None, frames: int | None = None, crop: str = "none") -> None:
        super().__init__()
        if fps is not None and frames is not None:
            raise EncoderError(f"Found both fps={fps} and frames={frames}. Give one of them.")
        if (fps is not None and fps <= 0) or (frames is not None and frames <= 0):
            raise EncoderError(f"Found fps={fps} and frames={frames}. The one that is given must be positive.")
        if crop not in ("none", "face"):
            raise EncoderError(f"Found crop={crop}. Expected crop=none or crop=face.")
        self.fps = None if frames else float(fps or self.default_fps)
        self.n_frames, self.rate = frames, self.fps
        self.crop: Literal["none", "face"] = "face" if crop == "face" else "none"
        if hasattr(type(self), "pixels"):
            self.set_pixels(type(self).pixels)

    def set_pixels(self, pixels: Pixels) -> None:
        """Use this preprocessing, with the sampling and the crop that were given to the constructor."""
        self.pixels = pixels
        self.inputs = replace(pixels.frames, fps=self.fps, count=self.n_frames, crop=self.crop)

    def identity(self) -> Mapping[str, Any]:
        return {**super().identity(), "wants": vars(self.inputs)}

    def prepare(self, media: Media) -> Prepared:
        return self.pixels.prepare(media)

    def forward(self, media: Stream) -> list[Stream]:
        streams = []
        for layer in self._encode_in_chunks(media.values[media.mask]):
            values = layer.new_zeros(*media.mask.shape, layer.shape[-1])
            values[media.mask] = layer
            streams.append(Stream(values, media.mask, media.times))
        return streams

    def _encode_in_chunks(self, frames: Tensor) -> Sequence[Tensor]:
        if not torch.is_inference_mode_enabled():  # training and ONNX export need a single batch
            return self.encode_frames(frames)
        n = FRAMES_PER_PASS.get(frames.device.type, 256)
        chunks = [frames[i : i + n] for i in range(0, max(1, len(frames)), n)]
        return [torch.cat(parts) for parts in zip(*map(self.encode_frames, chunks), strict=True)]

    def encode_frames(self, frames: Tensor) -> Sequence[Tensor]:
        """Encode single frames.

        Parameters
        ----------
        frames : Tensor [shape=(n, 3, height, width)]

        Returns
        -------
        sequence of Tensor [shape=(n, dim)]
            One tensor per layer.
        """
        raise NotImplementedError


def pool_tokens(patches: Tensor, prefix: Tensor | None, output: str) -> Tensor:
    """Return one vector per picture: its class token, or the mean over its patches.

    Parameters
    ----------
    patches : Tensor [shape=(n, patches, dim)]
    prefix : Tensor [shape=(n, tokens, dim)] or None
        Tokens before the patches, the class token first; None or empty for models without a class token.
    output : {"cls", "mean"}
    """
    if output == "mean":
        return patches.mean(1)
    if prefix is None or prefix.shape[1] == 0:
        raise EncoderError("The model has no class token. Use output=mean or output=projected.")
    return prefix[:, 0]
