"""Decoding of clips: each file is opened once and decoded in one pass for all encoders.

A long clip comes in segments, so that memory does not grow with its length. FFmpeg may open only a
fixed list of formats and only the file itself: a playlist that is named ``.mp4`` and refers to
other files is refused.

In H.264 and HEVC, frames that no other frame refers to and no encoder samples are not decoded,
which saves half of the work or more. Whether a frame is sampled follows from the packets; some are
read ahead, because packets come in decoding order and not in display order.
"""

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import av.logging
import numpy as np

from ..errors import MediaError
from .inputs import Frames, Media, MediaSegment, Outcome, Sound, Source
from .samplers import SEGMENT, FrameSampler, SoundSampler

if TYPE_CHECKING:
    from .faces import FaceFinder

FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,wav,w64,flac,mp3,ogg,aac,ac3,eac3,aiff,amr,au,caf,"
    "flv,asf,mpeg,mpegts,mpegvideo,mxf,h264,hevc,m4v,dv,rm"
)
SEEKABLE = {"mov", "matroska", "avi", "wav", "w64", "flac"}
"""Formats whose index or headers let a seek arrive at correct timestamps."""
SKIPPING_CODECS = {"h264", "hevc"}
"""Codecs in which frames without dependants can be skipped."""
AHEAD = 17
"""Maximum reorder depth of H.264 and HEVC in packets, plus one."""
MAX_PIXELS = 7680 * 4320
MAX_SECONDS = 12 * 3600.0
MAX_ERRORS = 200

av.logging.set_level(None)


def read(
    source: Source, inputs: Sequence[Sound | Frames], *, finder: "FaceFinder | None" = None
) -> tuple[list[Media | None], list[Outcome]]:
    """Decode a clip as a whole; return the media (None where there is nothing) and the outcome of each input.

    ``crop="face"`` needs a `finder`. A file that cannot be opened or is too long raises `MediaError`.
    """
    parts = list(stream(source, inputs, finder=finder))
    outcomes = parts[-1].outcomes
    assert outcomes is not None
    return [joined([(p.start, p.media[i]) for p in parts]) for i in range(len(inputs))], outcomes


def joined(parts: Sequence[tuple[float, Media | None]]) -> Media | None:
    """Join the segments of a clip, each given with its start in seconds."""
    present = [(start, media) for start, media in parts if media is not None and len(media.values)]
    if len(present) < 2:
        return present[0][1] if present else parts[0][1]
    return Media(
        np.concatenate([m.values for _, m in present]),
        np.concatenate([m.times + np.float32(start) for start, m in present]),
        sum(m.duration for _, m in present),
    )


def stream(
    source: Source, inputs: Sequence[Sound | Frames], *, finder: "FaceFinder | None" = None
) -> Iterator[MediaSegment]:
    """Decode a clip in segments; see `read`."""
    sounds = {i: each for i, each in enumerate(inputs) if isinstance(each, Sound)}
    pictures = {i: each for i, each in enumerate(inputs) if isinstance(each, Frames)}
    files: list[_File] = []
    with source.on_disk() as source:
        try:
            if sounds and isinstance(source.audio, Path) and source.audio != source.video:
                files.append(_File(source.audio, source, sounds, {}, finder))
                sounds = {}
            path = source.video or source.audio
            if not isinstance(path, Path):
                raise MediaError("no_media", "the manifest names neither a video nor an audio file")
            if sounds or pictures:
                files.append(_File(path, source, sounds, pictures, finder))
            if sounds and pictures and files[-1].is_long:
                # A segment needs both streams, which may be far apart in the file: read it twice.
                files.pop().close()
                files.append(_File(path, source, sounds, {}, finder))
                files.append(_File(path, source, {}, pictures, finder))
            yield from _segments(files, len(inputs))
        finally:
            for file in files:
                file.close()


def _segments(files: "list[_File]", n_inputs: int) -> Iterator[MediaSegment]:
    start = 0.0
    while unfinished := [file for file in files if not file.done]:
        min(unfinished, key=lambda file: file.position).advance()
        while start + 1.5 * SEGMENT <= min(file.position for file in files) < MAX_SECONDS:
            yield MediaSegment(start, _take(files, n_inputs, start, start + SEGMENT), None)
            start += SEGMENT
        if MAX_SECONDS <= min(file.position for file in files) < math.inf:
            raise MediaError("too_long", f"longer than {MAX_SECONDS / 3600:.0f} hours")
    media = _take(files, n_inputs, start, None)
    found: dict[int, Outcome] = {}
    for file in files:
        found |= file.outcomes()
    yield MediaSegment(start, media, [found[i] for i in range(n_inputs)])


def _take(files: "list[_File]", n_inputs: int, start: float, end: float | None) -> list[Media | None]:
    media: dict[int, Media] = {}
    for file in files:
        for sampler in file.samplers:
            media |= sampler.take(start, end)
    return [media.get(i) for i in range(n_inputs)]


class _File:
    """An open container and the samplers that its streams feed."""

    def __init__(
        self,
        path: Path,
        source: Source,
        sounds: dict[int, Sound],
        pictures: dict[int, Frames],
        finder: "FaceFinder | None",
    ) -> None:
        self.container = _opened(path)
        self.sounds, self.pictures = sounds, pictures
        self.done = False
        self.errors: dict[int, int] = {}
        self.n_packets: dict[int, int] = {}
        self._failures = 0
        first = (self.container.start_time or 0) / av.time_base
        self.zero = first + (source.start or 0.0)
        self.limit = math.inf if source.end is None else source.end - (source.start or 0.0)
        self.audio = _first(self.container.streams.audio) if sounds else None
        self.video = _first(self.container.streams.video) if pictures else None
        self.streams = [s for s in (self.audio, self.video) if s is not None]
        self.extents = _extents(path, self.container, self.streams, self.zero, self.limit)
        for each in self.streams:
            each.codec_context.thread_count = 1
            each.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
        self.sound = SoundSampler(sounds, limit=self.limit) if self.audio is not None else None
        self.picture = None
        if self.video is not None:
            begin, end = self.extents[self.video.index]
            aspect = self.video.sample_aspect_ratio
            self.picture = FrameSampler(pictures, first=begin, last=end, limit=self.limit, aspect=aspect, finder=finder)
        self.samplers = [s for s in (self.sound, self.picture) if s is not None]
        self._last_seconds = 0.04
        self._packets = _with_skips(self._demuxed(source.start or 0.0), self.video, self._is_sampled)
        self._skipped: deque[int] = deque(maxlen=2 * AHEAD)
        self.done = not self.streams

    @property
    def position(self) -> float:
        """Seconds up to which every stream is complete."""
        return math.inf if self.done else min(sampler.position for sampler in self.samplers)

    @property
    def is_long(self) -> bool:
        """Whether the clip comes in several segments."""
        return any(end > 1.5 * SEGMENT for _, end in self.extents.values())

    def close(self) -> None:
        self.container.close()

    def advance(self) -> None:
        """Decode one packet."""
        packet, skip = next(self._packets, (None, False))
        if packet is None or all(sampler.position >= self.limit for sampler in self.samplers):
            self._finish()
            return
        number = packet.stream_index
        if self.video is not None and number == self.video.index:
            self.video.codec_context.skip_frame = "NONREF" if skip else "DEFAULT"
        if skip:
            self._skipped.append(packet.pts)
        elif packet.pts is not None and packet.size and not packet.is_discard:
            time = float(packet.pts * packet.time_base) - self.zero
            if 0 <= time < self.limit:
                self.n_packets[number] = self.n_packets.get(number, 0) + 1
        with self._counting(number):
            for frame in packet.decode():
                self._feed(frame, number)

    def _feed(self, frame: Any, number: int) -> None:
        if frame.is_corrupt:
            self.errors[number] = self.errors.get(number, 0) + 1
        time = None if frame.pts is None else float(frame.pts * frame.time_base) - self.zero
        if isinstance(frame, av.AudioFrame):
            assert self.sound is not None
            self.sound.feed(frame, time)
        elif time is not None:
            assert self.picture is not None
            if frame.duration:
                self._last_seconds = float(frame.duration * frame.time_base)
            self.picture.feed(frame, time, counts=frame.pts not in self._skipped)

    def _is_sampled(self, start: int, end: int) -> bool:
        assert self.picture is not None and self.video is not None
        begin, stop = (float(pts * self.video.time_base) - self.zero for pts in (start, end))
        return self.picture.samples_between(begin, stop)

    def _finish(self) -> None:
        self.done = True
        if self.audio is not None and self.sound is not None:
            with self._counting(self.audio.index):
                self.sound.finish()
        if self.video is not None and self.picture is not None:
            with self._counting(self.video.index):
                self.picture.finish(self._last_seconds)

    @contextmanager
    def _counting(self, number: int) -> Iterator[None]:
        """Count a decoding error of a stream and continue."""
        try:
            yield
        except MemoryError:
            raise MediaError("too_large", "decoding needs more memory than is allowed") from None
        except (av.FFmpegError, ValueError):
            self.errors[number] = self.errors.get(number, 0) + 1

    def _demuxed(self, start: float) -> Iterator[Any]:
        if start > 0 and self.container.format.name.partition(",")[0] in SEEKABLE:
            self.container.seek(max(0, int((self.zero - 0.5) * av.time_base)))
        packets = self.container.demux(self.streams)
        while self._failures < MAX_ERRORS:
            try:
                packet = next(packets, None)
            except (av.FFmpegError, ValueError):
                self._failures += 1
                packets = self.container.demux(self.streams)
                continue
            if packet is None:
                return
            yield packet

    def outcomes(self) -> dict[int, Outcome]:
        """Return the result of each input."""
        found: dict[int, Outcome] = {}
        for kind, inputs, each in (("audio", self.sounds, self.audio), ("video", self.pictures, self.video)):
            outcome = (
                Outcome(f"no_{kind}_stream", f"the file holds no {kind}", None, 0, None, None)
                if each is None
                else self._outcome(kind, each)
            )
            found |= dict.fromkeys(inputs, outcome)
        if self.picture is not None:
            for i, share in self.picture.face_shares().items():
                found[i] = found[i]._replace(face_share=share if found[i].code == "ok" else None)
        return found

    def _outcome(self, kind: str, each: Any) -> Outcome:
        errors = self.errors.get(each.index, 0) + self._failures
        begin, end = self.extents[each.index]
        expected = max(end - begin, 1e-9)
        if kind == "audio":
            assert self.sound is not None
            covered, end = self.sound.covered, max(end, self.sound.position)
        else:
            assert self.picture is not None
            reached = min(self.picture.position + self._last_seconds, self.limit)
            n = max(self.n_packets.get(each.index, 0), 1)
            whole = min(1.0, max(0, self.picture.n_frames - self.errors.get(each.index, 0)) / n)
            covered = (reached - begin) * whole if self.picture.n_frames else 0.0
        if covered <= 0:
            beyond = self.limit > 0 and end <= 0
            reason = f"the {kind} ends before the clip starts" if beyond else f"no {kind} could be decoded"
            return Outcome("undecodable", reason, 0.0, errors, None, None)
        coverage = round(min(1.0, covered / expected), 3)
        duration = round(min(end, self.limit), 3)
        return Outcome("ok", "", coverage, errors, duration, None)


def _with_skips(
    packets: Iterator[Any], video: Any, is_sampled: Callable[[Any, Any], bool]
) -> Iterator[tuple[Any, bool]]:
    """Yield each packet in decoding order, and whether decoding of its frame can be skipped.

    `is_sampled` tells whether a frame of `video` that is on screen from one timestamp to another is sampled.
    """
    if video is None or video.codec_context.name not in SKIPPING_CODECS:
        yield from ((packet, False) for packet in packets)
        return
    shown: deque[int] = deque(maxlen=2 * AHEAD + 1)
    waiting: deque[tuple[Any, bool]] = deque()
    n_waiting = 0

    def next_one() -> tuple[Any, bool]:
        packet, is_frame = waiting.popleft()
        if not is_frame or packet.pts == min(shown):
            return packet, False
        later = [pts for pts in shown if pts > packet.pts]
        return packet, bool(later) and not is_sampled(packet.pts, min(later))

    for packet in packets:
        is_frame = (
            packet.stream_index == video.index and packet.pts is not None and packet.size > 0 and not packet.is_discard
        )
        waiting.append((packet, is_frame))
        if is_frame:
            shown.append(packet.pts)
            n_waiting += 1
        while n_waiting > AHEAD:
            n_waiting -= waiting[0][1]
            yield next_one()
    while waiting:
        yield next_one()


def _opened(path: Path) -> Any:
    options = {"format_whitelist": FORMATS, "protocol_whitelist": "file"}
    try:
        return av.open(str(path.absolute()), options=options, metadata_errors="replace")
    except FileNotFoundError:
        raise MediaError("file_missing", "there is no such file") from None
    except PermissionError:
        raise MediaError("unreadable", "the file may not be read") from None
    except MemoryError:
        raise MediaError("too_large", "opening needs more memory than is allowed") from None
    except (av.FFmpegError, OSError, ValueError, UnicodeError):
        if path.is_file() and path.stat().st_size == 0:
            raise MediaError("unreadable", "the file is empty") from None
        raise MediaError("unreadable", "not media of a format that affuse opens") from None


def _first(streams: Sequence[Any]) -> Any:
    """Return the default stream, or the first; cover pictures of music files do not count."""
    usable = [s for s in streams if s.codec_context is not None and not _is_cover(s)]
    default = [s for s in usable if s.disposition & s.disposition.__class__.default]
    return (default or usable or [None])[0]


def _is_cover(each: Any) -> bool:
    return bool(each.disposition & each.disposition.__class__.attached_pic)


def _extents(
    path: Path, container: Any, streams: Sequence[Any], zero: float, limit: float
) -> dict[int, tuple[float, float]]:
    """Return the expected begin and end of each stream by its index, in seconds of the clip.

    Packets are scanned where the headers give no duration. A stream that ends with the last packet
    of the file is expected to last as long as the container claims, so that a truncated file is
    noticed.
    """
    claimed = (container.duration or 0) / av.time_base + (container.start_time or 0) / av.time_base
    ends: dict[int, tuple[float, float]] = {}
    unknown = [s for s in streams if s.duration is None]
    for each in streams:
        begin = float((each.start_time or 0) * each.time_base)
        length = claimed - begin if each.duration is None else float(each.duration * each.time_base)
        ends[each.index] = (begin, begin + length)
    if unknown and limit == math.inf:
        seen = _scanned(path, [s.index for s in unknown])
        longest = max((end for _, end in seen.values()), default=0.0)
        for index, (begin, end) in seen.items():
            cut_short = end >= longest - 0.3 and claimed > end
            ends[index] = (begin, claimed if cut_short else end)
    return {i: (max(0.0, b - zero), max(0.0, min(e - zero, limit))) for i, (b, e) in ends.items()}


def length(path: Path) -> float:
    """Return the duration of a recording in seconds, from its headers or else from its packets."""
    with _opened(path) as container:
        streams = [s for s in (*container.streams.video, *container.streams.audio) if not _is_cover(s)]
        extents = _extents(path, container, streams, 0.0, math.inf)
    seconds = max((end for _, end in extents.values()), default=0.0)
    if seconds <= 0:
        raise MediaError("no_stream", "the file holds neither sound nor picture of any length")
    return seconds


def _scanned(path: Path, indices: Sequence[int]) -> dict[int, tuple[float, float]]:
    seen: dict[int, tuple[float, float]] = {}
    with _opened(path) as container:
        streams = [container.streams[i] for i in indices]
        try:
            for packet in container.demux(streams):
                if packet.pts is not None and packet.size:
                    begin = float(packet.pts * packet.time_base)
                    end = begin + float((packet.duration or 0) * packet.time_base)
                    held = seen.get(packet.stream_index, (begin, end))
                    seen[packet.stream_index] = (min(held[0], begin), max(held[1], end))
        except (av.FFmpegError, ValueError):
            pass  # decoding counts the same error again
    return seen
