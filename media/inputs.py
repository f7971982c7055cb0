"""The media that an encoder asks for and receives: sound, frames, and where they come from.

This module imports neither torch nor a decoding library, so that a run can be planned quickly.
"""

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple

import numpy as np

from ..manifest import Clip


@dataclass(frozen=True)
class Sound:
    """Sound for an audio encoder: mono, float32 in -1..1.

    Attributes
    ----------
    sampling_rate : int
        Sampling rate in hertz.
    """

    sampling_rate: int = 16_000


@dataclass(frozen=True)
class Frames:
    """Frames for a visual encoder: RGB, uint8, all of one size.

    Attributes
    ----------
    fps : float or None
        Frames per second, each taken at the centre of its step. Exclusive with `count`.
    count : int or None
        Number of frames, spread evenly over the clip.
    size : int or None
        Length of the shorter side after resizing; None keeps the decoded size.
    crop_size : int or None
        Side of the square that is cut from the centre; None cuts nothing.
    resample : {"bicubic", "bilinear", "area"}
        Interpolation, antialiased as in Pillow.
    squash : bool
        Resize both sides to `size`, whatever the aspect ratio.
    crop : {"none", "face"}
        Use the whole frame, or the box of the face that is followed through the clip.
    """

    fps: float | None = None
    count: int | None = None
    size: int | None = None
    crop_size: int | None = None
    resample: Literal["bicubic", "bilinear", "area"] = "bicubic"
    squash: bool = False
    crop: Literal["none", "face"] = "none"


def inputs_as_json(inputs: Sequence[Sound | Frames]) -> list[dict[str, Any]]:
    """Return inputs as dictionaries that JSON can hold."""
    return [{"kind": type(each).__name__, **asdict(each)} for each in inputs]


def inputs_from_json(stored: Sequence[Mapping[str, Any]]) -> list[Sound | Frames]:
    """Return the inputs that `inputs_as_json` stored."""
    kinds: dict[str, type[Sound | Frames]] = {"Sound": Sound, "Frames": Frames}
    return [kinds[each["kind"]](**{k: v for k, v in each.items() if k != "kind"}) for each in stored]


class Media(NamedTuple):
    """Decoded media of one clip for one encoder.

    Attributes
    ----------
    values : ndarray
        Samples, float32, shape (samples,); or frames, uint8, shape (frames, height, width, 3).
    times : ndarray [shape=(samples,) or (frames,)]
        Centre of each frame in seconds from the start of the clip. Empty for sound: the time of a
        sample is its index divided by the sampling rate.
    duration : float
        Seconds of the clip that were requested and exist.
    """

    values: np.ndarray
    times: np.ndarray
    duration: float


@dataclass(frozen=True)
class Source:
    """Location of the media of one clip.

    Attributes
    ----------
    video, audio : Path, binary file or None
        Path or open binary file. Where only `video` is given, its sound track is the audio.
    start, end : float or None
        Part of the file that is used, in seconds; None stands for its beginning or end.
    """

    video: Path | BinaryIO | None
    audio: Path | BinaryIO | None = None
    start: float | None = None
    end: float | None = None

    @classmethod
    def from_clip(cls, clip: Clip) -> "Source":
        """Return the source of a clip of a manifest."""
        return cls(clip.video, clip.audio, clip.start, clip.end)

    @contextmanager
    def on_disk(self) -> "Iterator[Source]":
        """Copy open files to temporary files, which a decoder opens as often as it needs to."""
        with ExitStack() as stack:
            paths: dict[int, Path] = {}
            for file in (self.video, self.audio):
                if file is None or isinstance(file, Path):
                    continue
                copy = stack.enter_context(tempfile.NamedTemporaryFile(prefix="affuse-"))
                shutil.copyfileobj(file, copy)
                copy.flush()
                paths.setdefault(id(file), Path(copy.name))
            yield replace(self, video=_path(self.video, paths), audio=_path(self.audio, paths)) if paths else self


def _path(file: Path | BinaryIO | None, paths: dict[int, Path]) -> Path | None:
    return file if file is None or isinstance(file, Path) else paths[id(file)]


class Outcome(NamedTuple):
    """Result of decoding one input of a clip.

    Attributes
    ----------
    code, reason : str
        ``ok`` and an empty text, or a stable failure code and one sentence.
    coverage : float or None
        Fraction of the expected media that was decoded.
    decode_errors : int
        Number of packets or frames that could not be decoded.
    duration : float or None
        Duration in seconds.
    face_share : float or None
        Fraction of the searched frames that show a face.
    """

    code: str
    reason: str
    coverage: float | None
    decode_errors: int
    duration: float | None
    face_share: float | None


class MediaSegment(NamedTuple):
    """Media of a part of a clip, usually of all of it.

    Attributes
    ----------
    start : float
        Seconds from the start of the clip; the times of `media` count from here.
    media : list of Media or None
        One entry per input, in the order of the request; None where there is nothing.
    outcomes : list of Outcome or None
        One per input, with the last segment of the clip only.
    """

    start: float
    media: list[Media | None]
    outcomes: list[Outcome] | None
