"""What gathers decoded frames into the sound and the pictures that encoders want.

Time is seconds from the clip's start, always from presentation timestamps: a stream that starts
late begins with silence, or has no picture yet; a hole is silent, or keeps the picture on screen.
"""

import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from .inputs import Frames, Media, Sound
from .resize import cut, reduced, shaped, upright

if TYPE_CHECKING:
    from .faces import FaceFinder

JITTER = 0.05
"""Seconds that sound may stray from its timestamps before a hole is filled or a part dropped."""
LONGEST_HOLE = 600.0
LONGEST_LAST = 10.0
"""Seconds that the last picture may claim to stay."""
FACE_BYTES = 512 << 20
"""Whole pictures that may wait for their faces to be found; beyond, they are halved."""
FACE_STEP = 0.2
"""Seconds between the pictures in which a face is looked for."""


class SoundSampler:
    """Mono sound at every sampling rate that is wanted.

    Parameters
    ----------
    wants : mapping of int to Sound
        By place in the caller's list.
    resampler : callable
        Makes a resampler to 16-bit mono at a sampling rate. 16-bit, because FFmpeg's mix of stereo
        straight to float is √2 too loud.
    limit : float
        Seconds at which the clip ends.
    """

    def __init__(self, wants: Mapping[int, Sound], *, resampler: Callable[[int], Any], limit: float) -> None:
        self.wants, self.resampler, self.limit = wants, resampler, limit
        self.buffers = {want.sampling_rate: SampleBuffer() for want in wants.values()}
        self.position = self.covered = 0.0
        self._resamplers: dict[int, Any] = {}
        self._shape: tuple[str, str, int] | None = None

    def feed(self, frame: Any, time: float | None) -> None:
        """Take a decoded frame that begins at `time`; None: where the last one ended.

        Raises
        ------
        ValueError
            A timestamp beyond reason, or a frame that the resampler refuses.
        """
        time = self.position if time is None else time
        seconds = frame.samples / frame.sample_rate
        if time + seconds <= 0 or time >= self.limit:
            self.position = max(self.position, time) if time >= self.limit else time + seconds
            return
        if time - self.position > LONGEST_HOLE:
            raise ValueError("a timestamp beyond reason")
        shape = (frame.format.name, frame.layout.name, frame.sample_rate)
        if shape != self._shape or abs(time - self.position) > JITTER:
            self.finish()
            self._shape = shape
            self._resamplers = {rate: self.resampler(rate) for rate in self.buffers}
            for rate, buffer in self.buffers.items():
                buffer.cursor = round(time * rate)
            self.position = time
        self._put(frame)
        self.covered += min(time + seconds, self.limit) - max(time, 0)
        self.position += seconds

    def finish(self) -> None:
        """Flush the resamplers."""
        if self._resamplers:
            self._put(None)
        self._resamplers, self._shape = {}, None

    def _put(self, frame: Any) -> None:
        for rate, resampler in self._resamplers.items():
            for piece in resampler.resample(frame):
                self.buffers[rate].put(piece.to_ndarray()[0])

    def take(self, start: float, end: float | None) -> dict[int, Media]:
        """Return the sound from `start` on, until `end` or the last sample."""
        media = {}
        until = {}
        for rate, buffer in self.buffers.items():
            stop = math.inf if self.limit == math.inf else round(self.limit * rate)
            until[rate] = buffer.take(stop if end is None else round(end * rate))
        for place, want in self.wants.items():
            samples = until[want.sampling_rate]
            seconds = len(samples) / want.sampling_rate
            media[place] = Media(samples, np.zeros(0, np.float32), seconds)
        return media


class SampleBuffer:
    """Sound gathered so far at one sampling rate: what was not taken yet.

    Attributes
    ----------
    cursor : int
        Where the next samples belong, counted from the clip's start.
    """

    def __init__(self) -> None:
        self.cursor = self.end = self.taken = 0
        self.pieces: list[np.ndarray] = []

    def put(self, samples: np.ndarray) -> None:
        start, self.cursor = self.cursor, self.cursor + len(samples)
        if start > self.end:
            self.pieces.append(np.zeros(start - self.end, np.int16))
        self.pieces.append(samples[max(0, self.end - start) :])
        self.end = max(self.end, self.cursor)

    def take(self, until: float) -> np.ndarray:
        samples = np.concatenate(self.pieces) if self.pieces else np.zeros(0, np.int16)
        n = int(min(len(samples), max(0, until - self.taken)))
        self.pieces, self.taken = [samples[n:]], self.taken + n
        return samples[:n].astype(np.float32) / 32768


class FrameSampler:
    """The pictures on screen at the wanted moments; no other picture is converted.

    Parameters
    ----------
    wants : mapping of int to Frames
    first, last : float
        Seconds between which there should be pictures: `count` of them are spread there.
    limit : float
        Seconds at which the clip ends.
    aspect : Fraction or None
        Width of a stored pixel over its height.
    finder : FaceFinder or None
        Needed where faces are to be cut out.
    """

    def __init__(
        self,
        wants: Mapping[int, Frames],
        *,
        first: float,
        last: float,
        limit: float,
        aspect: Fraction | None,
        finder: "FaceFinder | None",
    ) -> None:
        self.wants, self.limit, self.aspect, self.finder = wants, limit, aspect, finder
        self.first, self.last = first, last
        self.position = 0.0
        self.n_frames = 0
        self.face_shares: list[tuple[float, int]] = []
        self._held: tuple[Any, float] | None = None
        self._shrunk = 1
        self._next = dict.fromkeys(wants, 0)
        self._shown: dict[int, list[tuple[float, np.ndarray]]] = {place: [] for place in wants}

    def feed(self, frame: Any, time: float, *, counts: bool = True) -> None:
        """Take a decoded frame that comes on screen at `time`.

        Parameters
        ----------
        frame : VideoFrame
        time : float
        counts : bool
            Whether the frame had to be decoded, and so counts in what was.

        Raises
        ------
        ValueError
            A timestamp beyond reason, or a frame that cannot be converted.
        """
        if self._held is not None and time <= self._held[1]:
            return
        if time - self.position > LONGEST_HOLE:
            raise ValueError("a timestamp beyond reason")
        self._show(until=min(time, self.limit))
        self._held, self.position = (frame, time), time
        self.n_frames += counts and 0 <= time < self.limit

    def wants_any(self, start: float, end: float) -> bool:
        """Tell whether what is on screen in that time is wanted, to a microsecond."""
        start, end = start - 1e-6, end + 1e-6
        for place, want in self.wants.items():
            if want.count is None:
                assert want.fps is not None
                nearest = math.ceil(start * want.fps - 0.5)
            else:
                step = (self.last - self.first) / want.count
                nearest = max(0, math.ceil((start - self.first) / step - 0.5)) if step > 0 else 0
            if start <= self._moment(place, nearest) < end:
                return True
        return False

    def finish(self, seconds: float) -> None:
        """Show the last frame for `seconds`, and for what is left where a count is wanted."""
        if self._held is not None:
            self._show(until=min(self._held[1] + min(seconds, LONGEST_LAST), self.limit))
            self._show(until=math.inf, counts_only=True)

    def _moment(self, place: int, k: int) -> float:
        """Return when the k-th picture is wanted, counted from 0."""
        want = self.wants[place]
        if want.count is not None:
            step = (self.last - self.first) / want.count
            return self.first + (k + 0.5) * step if k < want.count else math.inf
        assert want.fps is not None
        return (k + 0.5) / want.fps

    def _show(self, *, until: float, counts_only: bool = False) -> None:
        if self._held is None:
            return
        frame, since = self._held
        whole: np.ndarray | None = None
        for place, want in self.wants.items():
            if counts_only and want.count is None:
                continue
            if want.fps is not None:  # nothing was on screen before the first frame
                self._next[place] = max(self._next[place], math.ceil(since * want.fps - 0.5))
            picture: np.ndarray | None = None
            while (moment := self._moment(place, self._next[place])) < until:
                if whole is None:
                    whole = upright(frame.to_ndarray(format="rgb24"), rotation=frame.rotation, aspect=self.aspect)
                if picture is None:
                    picture = shaped(whole, want) if want.crop == "none" else (reduced(whole, self._shrunk))
                self._shown[place].append((moment, picture))
                self._next[place] += 1
        self._make_room()

    def _make_room(self) -> None:
        places = [place for place, want in self.wants.items() if want.crop == "face"]
        if sum(p.nbytes for place in places for _, p in self._shown[place]) > FACE_BYTES:
            self._shrunk *= 2
            for place in places:
                self._shown[place] = [(t, reduced(p, 2)) for t, p in self._shown[place]]

    def take(self, start: float, end: float | None) -> dict[int, Media]:
        """Return the pictures from `start` on, until `end`; times count from `start`."""
        media = {}
        stop = math.inf if end is None else end
        for place, want in self.wants.items():
            chosen = [(t, p) for t, p in self._shown[place] if t < stop]
            self._shown[place] = self._shown[place][len(chosen) :]
            times = np.array([t - start for t, _ in chosen], np.float32)
            pictures = [p for _, p in chosen]
            if want.crop == "face" and pictures:
                pictures = self._faces(pictures, times, want)
            values = np.stack(pictures) if pictures else np.zeros((0, 1, 1, 3), np.uint8)
            seconds = (min(self.limit, self.last) if end is None else end) - start
            media[place] = Media(values, times, max(0.0, seconds))
        return media

    def _faces(self, pictures: list[np.ndarray], times: np.ndarray, want: Frames) -> list[np.ndarray]:
        assert self.finder is not None
        looked = [0]
        for i, time in enumerate(times):
            if time - times[looked[-1]] >= FACE_STEP:
                looked.append(i)
        track = self.finder.track([pictures[i] for i in looked], times[looked])
        self.face_shares.append((track.share if track else 0.0, len(pictures)))
        if track is None:
            return [shaped(picture, want) for picture in pictures]
        boxes = track.at(times)
        return [shaped(cut(p, b), want) for p, b in zip(pictures, boxes, strict=True)]
