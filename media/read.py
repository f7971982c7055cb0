"""Decoding: one open of a clip, one pass, and every encoder gets what it wants of it.

A long clip comes in stretches, so that memory does not grow with it. What FFmpeg may open is a
list of formats and the file itself: a text that calls itself ``.mp4`` and names other files is
refused.
"""

import math
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import av.logging
import numpy as np

from ..errors import MediaError
from .inputs import Frames, Media, MediaSegment, Outcome, Sound
from .inputs import Source as Source
from .samplers import FrameSampler, SoundSampler
from .skipping import AHEAD, marked

if TYPE_CHECKING:
    from .faces import FaceFinder

FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,wav,w64,flac,mp3,ogg,aac,ac3,eac3,aiff,amr,au,caf,"
    "flv,asf,mpeg,mpegts,mpegvideo,mxf,h264,hevc,m4v,dv,rm"
)
SEEKABLE = {"mov", "matroska", "avi", "wav", "w64", "flac"}
"""Formats whose index or headers make a seek land on true timestamps."""
MAX_PIXELS = 7680 * 4320
MAX_SECONDS = 12 * 3600.0
MAX_ERRORS = 200
STRETCH = 40.0
"""Seconds a long clip is cut into; the last stretch has up to one and a half of it."""

av.logging.set_level(None)


def read(
    source: Source, wants: Sequence[Sound | Frames], *, finder: "FaceFinder | None" = None
) -> tuple[list[Media | None], list[Outcome]]:
    """Decode a clip whole.

    Parameters
    ----------
    source : Source
    wants : sequence of Sound or Frames
    finder : FaceFinder or None
        Needed where a want is ``crop="face"``.

    Raises
    ------
    MediaError
        The file cannot be opened at all.
    """
    parts = list(stream(source, wants, finder=finder))
    outcomes = parts[-1].outcomes
    assert outcomes is not None
    return [joined([(p.start, p.media[i]) for p in parts]) for i in range(len(wants))], outcomes


def joined(parts: Sequence[tuple[float, Media | None]]) -> Media | None:
    """Return the stretches of a clip as one; each comes with its start in seconds."""
    there = [(start, media) for start, media in parts if media is not None and len(media.values)]
    if len(there) < 2:
        return there[0][1] if there else parts[0][1]
    return Media(
        np.concatenate([m.values for _, m in there]),
        np.concatenate([m.times + np.float32(start) for start, m in there]),
        sum(m.duration for _, m in there),
    )


def stream(
    source: Source, wants: Sequence[Sound | Frames], *, finder: "FaceFinder | None" = None
) -> Iterator[MediaSegment]:
    """Decode a clip in stretches; see `read`."""
    sounds = {i: w for i, w in enumerate(wants) if isinstance(w, Sound)}
    pictures = {i: w for i, w in enumerate(wants) if isinstance(w, Frames)}
    files: list[_File] = []
    try:
        if sounds and source.audio is not None and source.audio != source.video:
            files.append(_File(source.audio, source, sounds, {}, finder))
            sounds = {}
        place = source.video or source.audio
        if place is None:
            raise MediaError("no_media", "the manifest names neither a video nor an audio file")
        if sounds or pictures:
            files.append(_File(place, source, sounds, pictures, finder))
        if sounds and pictures and files[-1].is_long:  # stretches need both at hand, however far
            files.pop().close()  # apart they stand in the file
            files.append(_File(place, source, sounds, {}, finder))
            files.append(_File(place, source, {}, pictures, finder))
        yield from _parts(files, len(wants))
    finally:
        for file in files:
            file.close()


def _parts(files: "list[_File]", n_wants: int) -> Iterator[MediaSegment]:
    start = 0.0
    while behind := [file for file in files if not file.done]:
        min(behind, key=lambda file: file.position).advance()
        while start + 1.5 * STRETCH <= min(file.position for file in files) < MAX_SECONDS:
            yield MediaSegment(start, _taken(files, n_wants, start, start + STRETCH), None)
            start += STRETCH
        if MAX_SECONDS <= min(file.position for file in files) < math.inf:
            raise MediaError("too_long", f"longer than {MAX_SECONDS / 3600:.0f} hours")
    media = _taken(files, n_wants, start, None)
    found: dict[int, Outcome] = {}
    for file in files:
        found |= file.outcomes()
    yield MediaSegment(start, media, [found[i] for i in range(n_wants)])


def _taken(files: "list[_File]", n_wants: int, start: float, end: float | None) -> list[Media | None]:
    media: dict[int, Media] = {}
    for file in files:
        for track in file.tracks:
            media |= track.take(start, end)
    return [media.get(i) for i in range(n_wants)]


class _File:
    """An open container, and the tracks that it feeds."""

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
        self.hearing = _first(self.container.streams.audio) if sounds else None
        self.vision = _first(self.container.streams.video) if pictures else None
        self.streams = [s for s in (self.hearing, self.vision) if s is not None]
        self.extents = _extents(path, self.container, self.streams, self.zero, self.limit)
        for each in self.streams:
            each.codec_context.thread_count = 1
            each.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
        self.sound = (
            SoundSampler(sounds, resampler=lambda rate: av.AudioResampler("s16", "mono", rate), limit=self.limit)
            if self.hearing is not None
            else None
        )
        self.picture = None
        if self.vision is not None:
            begin, end = self.extents[self.vision.index]
            aspect = self.vision.sample_aspect_ratio
            self.picture = FrameSampler(pictures, first=begin, last=end, limit=self.limit, aspect=aspect, finder=finder)
        self.tracks = [t for t in (self.sound, self.picture) if t is not None]
        self._last_seconds = 0.04
        self._packets = marked(self._demuxed(source.start or 0.0), self.vision, self._is_wanted)
        self._spare: deque[int] = deque(maxlen=2 * AHEAD)
        self.done = not self.streams

    @property
    def position(self) -> float:
        """Seconds up to which every track is complete."""
        return math.inf if self.done else min(track.position for track in self.tracks)

    @property
    def is_long(self) -> bool:
        """Whether the clip will come in stretches."""
        return any(end > 1.5 * STRETCH for _, end in self.extents.values())

    def close(self) -> None:
        self.container.close()

    def advance(self) -> None:
        """Decode one packet."""
        packet, spare = next(self._packets, (None, False))
        if packet is None or all(track.position >= self.limit for track in self.tracks):
            self._finish()
            return
        number = packet.stream_index
        if self.vision is not None and number == self.vision.index:
            self.vision.codec_context.skip_frame = "NONREF" if spare else "DEFAULT"
        if spare:
            self._spare.append(packet.pts)
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
            self.picture.feed(frame, time, counts=frame.pts not in self._spare)

    def _is_wanted(self, start: int, end: int) -> bool:
        assert self.picture is not None and self.vision is not None
        begin, stop = (float(pts * self.vision.time_base) - self.zero for pts in (start, end))
        return self.picture.wants_any(begin, stop)

    def _finish(self) -> None:
        self.done = True
        if self.hearing is not None and self.sound is not None:
            with self._counting(self.hearing.index):
                self.sound.finish()
        if self.vision is not None and self.picture is not None:
            with self._counting(self.vision.index):
                self.picture.finish(self._last_seconds)

    @contextmanager
    def _counting(self, number: int) -> Iterator[None]:
        """Count what cannot be decoded against a stream, and go on."""
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

    # -- how it went ------------------------------------------------------------------------

    def outcomes(self) -> dict[int, Outcome]:
        """Return how each want went."""
        found: dict[int, Outcome] = {}
        for kind, wants, each in (("audio", self.sounds, self.hearing), ("video", self.pictures, self.vision)):
            outcome = (
                Outcome(f"no_{kind}_stream", f"the file holds no {kind}", None, 0, None, None)
                if each is None
                else self._outcome(kind, each)
            )
            found |= dict.fromkeys(wants, outcome)
        return found

    def _outcome(self, kind: str, each: Any) -> Outcome:
        errors = self.errors.get(each.index, 0) + self._failures
        begin, end = self.extents[each.index]
        expected = max(end - begin, 1e-9)
        share: float | None = None
        if kind == "audio":
            assert self.sound is not None
            covered, end = self.sound.covered, max(end, self.sound.position)
        else:
            assert self.picture is not None
            reached = min(self.picture.position + self._last_seconds, self.limit)
            n = max(self.n_packets.get(each.index, 0), 1)
            whole = min(1.0, max(0, self.picture.n_frames - self.errors.get(each.index, 0)) / n)
            covered = (reached - begin) * whole if self.picture.n_frames else 0.0
            shares = self.picture.face_shares
            if shares:
                share = sum(s * n for s, n in shares) / sum(n for _, n in shares)
        if covered <= 0:
            beyond = self.limit > 0 and end <= 0
            reason = f"the {kind} ends before the clip starts" if beyond else (f"no {kind} could be decoded")
            return Outcome("undecodable", reason, 0.0, errors, None, None)
        coverage = round(min(1.0, covered / expected), 3)
        duration = round(min(end, self.limit), 3)
        return Outcome("ok", "", coverage, errors, duration, share)


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
    """Return the stream to use: the default one, never a picture on a record's cover."""
    there = [s for s in streams if s.codec_context is not None and not _is_cover(s)]
    marked = [s for s in there if s.disposition & s.disposition.__class__.default]
    return (marked or there or [None])[0]


def _is_cover(each: Any) -> bool:
    return bool(each.disposition & each.disposition.__class__.attached_pic)


def _extents(
    path: Path, container: Any, streams: Sequence[Any], zero: float, limit: float
) -> dict[int, tuple[float, float]]:
    """Return from when to when each stream should last, in seconds of the clip.

    Where the headers do not tell, the packets do; and a stream that ends with the last packet of
    the file should have reached the end that the container claims.
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
    """Return the seconds of a recording, from its headers or, where they are silent, its packets.

    Raises
    ------
    MediaError
        It cannot be opened, or holds neither sound nor picture.
    """
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
            pass  # decoding meets the same place and counts it
    return seen
