"""Sampling of decoded audio and video frames into the sound and pictures that encoders ask for.

Times are seconds from the start of the clip and always come from presentation timestamps. A stream
that starts late begins with silence, or with no picture; a gap is filled with silence, or with the
picture that stays on screen.
"""

import math
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import av
import numpy as np

from .inputs import Frames, Media, MediaSegment, Outcome, Sound
from .resize import cropped, reduced, shaped, upright

if TYPE_CHECKING:
    from .faces import FaceFinder

SEGMENT = 40.0
"""Length in seconds of the segments of a long clip; the last one is up to 1.5 times as long."""
JITTER = 0.05
"""Seconds by which sound may deviate from its timestamps before it is realigned to them."""
LONGEST_GAP = 600.0
"""Longest gap between two frames, in seconds; a larger one is taken for a wrong timestamp."""
LONGEST_LAST = 10.0
"""Longest time in seconds that the last picture is taken to stay on screen."""
FACE_BYTES = 512 << 20
"""Bytes of whole pictures that may wait for face detection; beyond, they are halved in size."""
FACE_STEP = 0.2
"""Seconds between the pictures in which faces are detected."""
LOUDEST = 2.0
"""Largest value of sound in an array of floats; larger ones are not on the scale of -1 to 1."""


class SoundSampler:
    """Mono sound at every requested sampling rate.

    The keys of `inputs` are positions in the list of the caller; `limit` is the end of the clip in seconds. The sound
    is complete up to `position` seconds, of which `covered` seconds were decoded.
    """

    def __init__(self, inputs: Mapping[int, Sound], *, limit: float) -> None:
        self.inputs, self.limit = inputs, limit
        self.buffers = {each.sampling_rate: SampleBuffer() for each in inputs.values()}
        self.position = self.covered = 0.0
        self._resamplers: dict[int, Any] = {}
        self._shape: tuple[str, str, int] | None = None

    def feed(self, frame: Any, time: float | None) -> None:
        """Add a decoded frame that begins at `time`, or where the previous frame ended if None.

        A `ValueError` means that the timestamp is implausible or that the frame cannot be resampled.
        """
        time = self.position if time is None else time
        seconds = frame.samples / frame.sample_rate
        if time + seconds <= 0 or time >= self.limit:
            self.position = max(self.position, time) if time >= self.limit else time + seconds
            return
        if time - self.position > LONGEST_GAP:
            raise ValueError("implausible timestamp")
        shape = (frame.format.name, frame.layout.name, frame.sample_rate)
        if shape != self._shape or abs(time - self.position) > JITTER:
            self.finish()
            self._shape = shape
            # 16-bit, because the stereo downmix of FFmpeg straight to float is too loud by √2.
            self._resamplers = {rate: av.AudioResampler("s16", "mono", rate) for rate in self.buffers}
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
        """Return the sound from `start`, where the last call ended, to `end` or the last sample."""
        samples = {}
        for rate, buffer in self.buffers.items():
            until = self.limit if end is None else end
            samples[rate] = buffer.take(math.inf if until == math.inf else round(until * rate))
        return {
            place: Media(
                samples[each.sampling_rate],
                np.zeros(0, np.float32),
                len(samples[each.sampling_rate]) / each.sampling_rate,
            )
            for place, each in self.inputs.items()
        }


class SampleBuffer:
    """Sound of one sampling rate that was not taken yet; positions are samples from the start of the clip."""

    def __init__(self) -> None:
        self.cursor = self.end = self.taken = 0  # the next samples go to `cursor`
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
    """Pictures on screen at the requested moments; other pictures are not converted.

    The keys of `inputs` are positions in the list of the caller. A `Frames.count` is spread between the begin and the
    end of the video, `first` and `last`; `limit` is the end of the clip, all in seconds. `aspect` is the width of a
    stored pixel divided by its height, and ``crop="face"`` requires a `finder`. The pictures are complete up to
    `position` seconds; `n_frames` frames were decoded.
    """

    def __init__(
        self,
        inputs: Mapping[int, Frames],
        *,
        first: float,
        last: float,
        limit: float,
        aspect: Fraction | None,
        finder: "FaceFinder | None",
    ) -> None:
        self.inputs, self.limit, self.aspect, self.finder = inputs, limit, aspect, finder
        self.first, self.last = first, last
        self.position = 0.0
        self.n_frames = 0
        self._face_shares: dict[int, list[tuple[float, int]]] = {}
        self._held: tuple[Any, float] | None = None
        self._reduction = 1
        self._next = dict.fromkeys(inputs, 0)
        self._shown: dict[int, list[tuple[float, np.ndarray]]] = {place: [] for place in inputs}

    def feed(self, frame: Any, time: float, *, counts: bool = True) -> None:
        """Add a decoded frame that comes on screen at `time`, in seconds from the start of the clip.

        It `counts` in the coverage if it had to be decoded. A `ValueError` means that the timestamp is implausible or
        that the frame cannot be converted.
        """
        if self._held is not None and time <= self._held[1]:
            return
        if time - self.position > LONGEST_GAP:
            raise ValueError("implausible timestamp")
        self._show(until=min(time, self.limit))
        self._held, self.position = (frame, time), time
        self.n_frames += counts and 0 <= time < self.limit

    def face_shares(self) -> dict[int, float]:
        """Return the fraction of the searched frames that show a face, for each input with face crops."""
        return {
            place: sum(share * n for share, n in shares) / sum(n for _, n in shares)
            for place, shares in self._face_shares.items()
        }

    def samples_between(self, start: float, end: float) -> bool:
        """Tell whether a requested moment lies in a span of time, with a tolerance of 1 µs."""
        start, end = start - 1e-6, end + 1e-6
        for place, each in self.inputs.items():
            if each.count is None:
                assert each.fps is not None
                nearest = math.ceil(start * each.fps - 0.5)
            else:
                step = (self.last - self.first) / each.count
                nearest = max(0, math.ceil((start - self.first) / step - 0.5)) if step > 0 else 0
            if start <= self._moment(place, nearest) < end:
                return True
        return False

    def finish(self, seconds: float) -> None:
        """Show the last frame for `seconds`, and for all remaining pictures of a `Frames.count`."""
        if self._held is not None:
            self._show(until=min(self._held[1] + min(seconds, LONGEST_LAST), self.limit))
            self._show(until=math.inf, counts_only=True)

    def _moment(self, place: int, k: int) -> float:
        """Return the time of the k-th requested picture, counted from 0."""
        each = self.inputs[place]
        if each.count is not None:
            step = (self.last - self.first) / each.count
            return self.first + (k + 0.5) * step if k < each.count else math.inf
        assert each.fps is not None
        return (k + 0.5) / each.fps

    def _show(self, *, until: float, counts_only: bool = False) -> None:
        if self._held is None:
            return
        frame, since = self._held
        whole: np.ndarray | None = None
        for place, each in self.inputs.items():
            if counts_only and each.count is None:
                continue
            if each.fps is not None:  # nothing was on screen before the first frame
                self._next[place] = max(self._next[place], math.ceil(since * each.fps - 0.5))
            picture: np.ndarray | None = None
            while (moment := self._moment(place, self._next[place])) < until:
                if whole is None:
                    whole = upright(frame.to_ndarray(format="rgb24"), rotation=frame.rotation, aspect=self.aspect)
                if picture is None:
                    picture = shaped(whole, each) if each.crop == "none" else reduced(whole, self._reduction)
                self._shown[place].append((moment, picture))
                self._next[place] += 1
        self._limit_memory()

    def _limit_memory(self) -> None:
        places = [place for place, each in self.inputs.items() if each.crop == "face"]
        if sum(p.nbytes for place in places for _, p in self._shown[place]) > FACE_BYTES:
            self._reduction *= 2
            for place in places:
                self._shown[place] = [(t, reduced(p, 2)) for t, p in self._shown[place]]

    def take(self, start: float, end: float | None) -> dict[int, Media]:
        """Return the pictures from `start`, where the last call ended, to `end`; times count from `start`."""
        media = {}
        stop = math.inf if end is None else end
        for place, each in self.inputs.items():
            taken = [(t, p) for t, p in self._shown[place] if t < stop]
            self._shown[place] = self._shown[place][len(taken) :]
            times = np.array([t - start for t, _ in taken], np.float32)
            pictures = [p for _, p in taken]
            if each.crop == "face" and pictures:
                pictures = self._faces(place, pictures, times)
            values = np.stack(pictures) if pictures else np.zeros((0, 1, 1, 3), np.uint8)
            seconds = (min(self.limit, self.last) if end is None else end) - start
            media[place] = Media(values, times, max(0.0, seconds))
        return media

    def _faces(self, place: int, pictures: list[np.ndarray], times: np.ndarray) -> list[np.ndarray]:
        assert self.finder is not None
        frames = self.inputs[place]
        searched = [0]
        for i, time in enumerate(times):
            if time - times[searched[-1]] >= FACE_STEP:
                searched.append(i)
        track = self.finder.track([pictures[i] for i in searched], times[searched])
        self._face_shares.setdefault(place, []).append((track.share if track else 0.0, len(pictures)))
        if track is None:
            return [shaped(picture, frames) for picture in pictures]
        boxes = track.at(times)
        return [shaped(cropped(p, b), frames) for p, b in zip(pictures, boxes, strict=True)]


def sample_array(
    values: np.ndarray, rate: float, wanted: Sound | Frames, *, finder: "FaceFinder | None"
) -> Iterator[MediaSegment]:
    """Sample sound or frames that are already in memory, exactly as decoded ones are sampled.

    `values` are sound of shape (samples,), float in -1..1 or int16, at `rate` hertz; or frames of uint8, shape (frames,
    height, width, 3), at `rate` per second. A `ValueError` says where they do not fit the input of the encoder.
    """
    last = len(values) / rate if rate > 0 else math.nan
    sampler: SoundSampler | FrameSampler
    if isinstance(wanted, Sound):
        known = values.dtype.kind == "f" or values.dtype == np.int16
        if values.ndim != 1 or not known or not rate > 0 or rate != round(rate):
            raise ValueError(
                f"Found an array of {values.dtype} with shape {values.shape} at {rate:g} Hz; "
                "expected mono sound of shape (samples,), float in -1..1 or int16, at a whole number of hertz."
            )
        peak = np.abs(values).max(initial=0) if values.dtype.kind == "f" else 0
        if not peak <= LOUDEST:
            raise ValueError(
                f"Found sound whose largest value is {peak:g}; expected -1..1. Divide 16-bit integers by 32768, and "
                "replace missing samples by 0."
            )
        samples = values if values.dtype == np.int16 else (values * 32768.0).round().clip(-32768, 32767)
        sampler = SoundSampler({0: wanted}, limit=math.inf)
        for first in range(0, len(values), int(rate)):
            piece = np.ascontiguousarray(samples[None, first : first + int(rate)], dtype=np.int16)
            frame = av.AudioFrame.from_ndarray(piece, format="s16", layout="mono")
            frame.sample_rate = int(rate)
            sampler.feed(frame, first / rate)
        sampler.finish()
    else:
        if values.dtype != np.uint8 or values.ndim != 4 or values.shape[-1] != 3 or not rate > 0:
            raise ValueError(
                f"Found an array of {values.dtype} with shape {values.shape} at {rate:g} frames per second; "
                "expected RGB frames of uint8, shape (frames, height, width, 3), and a rate above 0."
            )
        sampler = FrameSampler({0: wanted}, first=0.0, last=last, limit=last, aspect=None, finder=finder)
        for i, picture in enumerate(values):
            sampler.feed(av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24"), i / rate)
        sampler.finish(1 / rate)
    start, end = 0.0, 0.0 if not len(values) else last
    while start + 1.5 * SEGMENT <= end:
        yield MediaSegment(start, [sampler.take(start, start + SEGMENT)[0]], None)
        start += SEGMENT
    media = sampler.take(start, None)[0]
    share = sampler.face_shares().get(0) if isinstance(sampler, FrameSampler) else None
    yield MediaSegment(start, [media], [Outcome("ok", "", 1.0, 0, round(end, 3), share)])
