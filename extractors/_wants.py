"""What an encoder wants of a clip, and what it is given; free of torch, for the decoding child."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np


@dataclass(frozen=True)
class Sound:
    """What an audio encoder wants: the clip's sound, mono, float32 in -1..1.

    Attributes
    ----------
    sampling_rate : int
        Hertz.
    """

    sampling_rate: int = 16_000


@dataclass(frozen=True)
class Frames:
    """What a visual encoder wants: RGB frames, uint8, of one size.

    Attributes
    ----------
    fps : float or None
        Frames a second, each the one on screen at the centre of its step; exclusive with `count`.
    count : int or None
        So many frames, spread evenly over the clip.
    size : int or None
        Shorter side after resizing; None: as decoded.
    crop_size : int or None
        Side of the square cut from the centre; None: none.
    resample : str
        ``bicubic``, ``bilinear`` or ``area``, antialiased as Pillow does it.
    squash : bool
        Both sides become `size` whatever the shape of the picture.
    crop : str
        ``none`` for the whole picture, ``face`` for the clip's face box.
    """

    fps: float | None = None
    count: int | None = None
    size: int | None = None
    crop_size: int | None = None
    resample: Literal["bicubic", "bilinear", "area"] = "bicubic"
    squash: bool = False
    crop: Literal["none", "face"] = "none"


class Media(NamedTuple):
    """What a clip gives one encoder.

    Attributes
    ----------
    values : ndarray
        Samples, float32, shape (samples,); or frames, uint8, shape (frames, height, width, 3).
    times : ndarray [shape=(samples,) or (frames,)]
        Centre of each frame, seconds from the clip's start; empty for sound, whose time is its
        index over the sampling rate.
    duration : float
        Seconds of the clip that were asked for and exist.
    """

    values: np.ndarray
    times: np.ndarray
    duration: float
