"""What an encoder wants of a clip, and what it is given; free of torch, for the decoder."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from ..manifest import Clip


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


@dataclass(frozen=True)
class Source:
    """Where a clip's media is.

    Attributes
    ----------
    video, audio : Path or None
        With a video alone, its own sound track is the audio.
    start, end : float or None
        Seconds in the file.
    """

    video: Path | None
    audio: Path | None
    start: float | None = None
    end: float | None = None

    @classmethod
    def of(cls, clip: Clip) -> "Source":
        """Return where a manifest's clip is."""
        return cls(clip.video, clip.audio, clip.start, clip.end)


class Outcome(NamedTuple):
    """How one want of a clip went.

    Attributes
    ----------
    code, reason : str
        ``ok``, or a stable word and a sentence.
    coverage : float or None
        Share of what should be there that was decoded.
    decode_errors : int
    duration : float or None
        Seconds.
    face_share : float or None
    """

    code: str
    reason: str
    coverage: float | None
    decode_errors: int
    duration: float | None
    face_share: float | None


class MediaSegment(NamedTuple):
    """A stretch of a clip, usually all of it.

    Attributes
    ----------
    start : float
        Seconds from the clip's start; the times of `media` count from here.
    media : list of Media or None
        In the order of the wants; None where there is nothing.
    outcomes : list of Outcome or None
        With the last part.
    """

    start: float
    media: list[Media | None]
    outcomes: list[Outcome] | None
