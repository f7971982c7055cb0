"""Decoding of clips ahead of training, by threads that each drive one decoding process.

Training decodes with the same code as extraction, so both see the same samples and frames, and a malicious file can
only end a decoding process. Decoded media is kept in memory up to a limit; the later epochs on a small corpus need
no decoding.
"""

import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from typing import TypeVar

from ..errors import MediaError
from ..manifest import Clip
from ..media.decoder import Decoder
from ..media.faces import FaceOptions
from ..media.inputs import Frames, Media, Sound, Source
from ..media.read import joined

T = TypeVar("T")
R = TypeVar("R")
N_AHEAD = 3
"""Number of batches that are read in advance."""
CACHE_BYTES = 4 << 30
"""Bytes of decoded media that are kept in memory by default."""


class MediaReader:
    """Decodes the inputs of encoders from clips.

    Parameters
    ----------
    inputs : sequence of Sound or Frames
        Inputs to decode from each clip.
    workers : int
        Number of clips that are decoded at the same time.
    faces : FaceOptions or None
        Options of face crops; required for inputs with ``crop="face"``.
    cache_bytes : int
        Bytes of decoded media to keep in memory; 0 keeps none.

    Attributes
    ----------
    failures : dict of str to str
        Failure code by the id of each clip with an input that could not be decoded.
    """

    def __init__(
        self,
        inputs: Sequence[Sound | Frames],
        *,
        workers: int = 2,
        faces: FaceOptions | None = None,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        self.inputs, self.workers, self.faces = list(inputs), workers, faces
        self.free_bytes = cache_bytes
        self.failures: dict[str, str] = {}
        self._cached: dict[Source, list[Media | None]] = {}
        self._lock = threading.Lock()
        self._local = threading.local()
        self._decoders: list[Decoder] = []
        self._pool = ThreadPoolExecutor(workers, "affuse-reader")
        self._close = weakref.finalize(self, _close, self._pool, self._decoders)

    def close(self) -> None:
        """Stop the threads and their decoding processes."""
        self._close()

    def map_batches(self, plan: Sequence[Sequence[T]], read: Callable[[T], R]) -> Iterator[tuple[Sequence[T], list[R]]]:
        """Yield each batch of items with the results of `read`, which is called a few batches ahead."""
        waiting: deque[tuple[Sequence[T], list[Future[R]]]] = deque()
        try:
            for items in plan:
                waiting.append((items, [self._pool.submit(read, item) for item in items]))
                if len(waiting) > N_AHEAD:
                    yield _results(waiting.popleft())
            while waiting:
                yield _results(waiting.popleft())
        finally:
            for _, futures in waiting:
                for future in futures:
                    future.cancel()

    def read(self, clip: Clip) -> list[Media | None]:
        """Return the decoded inputs of a clip; None for an input that is missing or damaged."""
        source = Source.from_clip(clip)
        if source in self._cached:
            return self._cached[source]
        media: list[Media | None]
        decoder = self._decoder()
        decoder.queue([source], range(len(self.inputs)))
        try:
            parts = list(decoder.clip())
            outcomes = parts[-1].outcomes
            assert outcomes is not None
            media = [joined([(p.start, p.media[i]) for p in parts]) for i in range(len(self.inputs))]
            code = next((outcome.code for outcome in outcomes if outcome.code != "ok"), "")
        except MediaError as error:
            media, code = [None] * len(self.inputs), error.code
        with self._lock:
            if code:
                self.failures[clip.id] = code
            n_bytes = sum(each.values.nbytes for each in media if each is not None)
            if n_bytes <= self.free_bytes:
                self.free_bytes -= n_bytes
                self._cached[source] = media
        return media

    def _decoder(self) -> Decoder:
        """Return the decoder of the calling thread."""
        if not hasattr(self._local, "decoder"):
            self._local.decoder = Decoder(self.inputs, faces=self.faces)
            with self._lock:
                self._decoders.append(self._local.decoder)
        found: Decoder = self._local.decoder
        return found


@lru_cache(maxsize=1)
def shared_reader(inputs: tuple[Sound | Frames, ...], workers: int, faces: FaceOptions | None) -> MediaReader:
    """Return one reader for all folds and seeds of a run, which share the media it keeps."""
    return MediaReader(inputs, workers=workers, faces=faces)


def _results(batch: tuple[Sequence[T], list[Future[R]]]) -> tuple[Sequence[T], list[R]]:
    items, futures = batch
    return items, [future.result() for future in futures]


def _close(pool: ThreadPoolExecutor, decoders: Sequence[Decoder]) -> None:
    pool.shutdown(cancel_futures=True)
    for decoder in decoders:
        decoder.close()
