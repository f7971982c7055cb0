"""Decodes clips ahead of who trains: threads that each drive one decoding child.

The same decoder as extraction's, so a clip looks the same to both, and a hostile file ends a child
and nothing else. What was decoded once is kept in memory as far as that goes: from the second epoch
on a small corpus costs no decoding.
"""

import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

from ..errors import MediaError
from ..manifest import Clip
from ..media.decoder import Decoder
from ..media.inputs import Frames, Media, Sound
from ..media.read import Source, joined

T = TypeVar("T")
R = TypeVar("R")
AHEAD = 3
"""Batches that are read before they are asked for."""
KEPT = 4 << 30
"""Bytes of decoded media that stay in memory."""


class Reader:
    """Decodes what encoders want of clips.

    Parameters
    ----------
    wants : sequence of Sound or Frames
    workers : int
        Clips that are decoded at a time.
    face_detector : Path or None
        Needed where a want is ``crop="face"``.
    kept : int
        Bytes of decoded media to keep; 0: none.

    Attributes
    ----------
    failures : dict of str to str
        Code by the id of every clip of which something could not be decoded.
    """

    def __init__(
        self, wants: Sequence[Sound | Frames], *, workers: int = 2, face_detector: Path | None = None, kept: int = KEPT
    ) -> None:
        self.wants, self.workers, self.face_detector = list(wants), workers, face_detector
        self.room = kept
        self.failures: dict[str, str] = {}
        self._kept: dict[Source, list[Media | None]] = {}
        self._lock = threading.Lock()
        self._own = threading.local()
        self._decoders: list[Decoder] = []
        self._pool = ThreadPoolExecutor(workers, "affuse-reader")
        self._end = weakref.finalize(self, _end, self._pool, self._decoders)

    def close(self) -> None:
        """End the threads and their children."""
        self._end()

    def over(self, plan: Sequence[Sequence[T]], read: Callable[[T], R]) -> Iterator[tuple[Sequence[T], list[R]]]:
        """Yield each part of a plan with what `read` makes of its items, a few parts ahead."""
        waiting: deque[tuple[Sequence[T], list[Future[R]]]] = deque()
        try:
            for items in plan:
                waiting.append((items, [self._pool.submit(read, item) for item in items]))
                if len(waiting) > AHEAD:
                    yield _collected(waiting.popleft())
            while waiting:
                yield _collected(waiting.popleft())
        finally:
            for _, futures in waiting:
                for future in futures:
                    future.cancel()

    def read(self, clip: Clip) -> list[Media | None]:
        """Return what the clip has of each want; None where it lacks it or it is damaged."""
        source = Source.of(clip)
        if source in self._kept:
            return self._kept[source]
        media: list[Media | None]
        decoder = self._decoder()
        decoder.queue([source], range(len(self.wants)))
        try:
            parts = list(decoder.clip())
            outcomes = parts[-1].outcomes
            assert outcomes is not None
            media = [joined([(p.start, p.media[i]) for p in parts]) for i in range(len(self.wants))]
            code = next((outcome.code for outcome in outcomes if outcome.code != "ok"), "")
        except MediaError as error:
            media, code = [None] * len(self.wants), error.code
        with self._lock:
            if code:
                self.failures[clip.id] = code
            n_bytes = sum(each.values.nbytes for each in media if each is not None)
            if n_bytes <= self.room:
                self.room -= n_bytes
                self._kept[source] = media
        return media

    def _decoder(self) -> Decoder:
        if not hasattr(self._own, "decoder"):
            self._own.decoder = Decoder(self.wants, face_detector=self.face_detector)
            with self._lock:
                self._decoders.append(self._own.decoder)
        found: Decoder = self._own.decoder
        return found


@lru_cache(maxsize=1)
def shared(wants: tuple[Sound | Frames, ...], workers: int, face_detector: Path | None) -> Reader:
    """Return one reader for all folds and seeds of a run: what it keeps serves them all."""
    return Reader(wants, workers=workers, face_detector=face_detector)


def _collected(part: tuple[Sequence[T], list[Future[R]]]) -> tuple[Sequence[T], list[R]]:
    items, futures = part
    return items, [future.result() for future in futures]


def _end(pool: ThreadPoolExecutor, decoders: Sequence[Decoder]) -> None:
    pool.shutdown(cancel_futures=True)
    for decoder in decoders:
        decoder.close()
