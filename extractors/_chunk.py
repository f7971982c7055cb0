"""The unit of extraction: a chunk of clips becomes the shards that a store lacks.

`extract_chunk` is a function of its arguments, which can be sent to another process; the bytes of
the shards depend on the chunk and the encoders alone. A `Worker` runs many chunks with the same
loaded encoders and decoding children. A clip that fails is recorded as a row of the shard; a
failure of the machine raises.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from ..cache.store import Features, FeatureStore, Row, Spooled, pieces
from ..errors import EnvironmentFailure, MediaError
from ..media.decoder import Decoder, Limits
from ..media.inputs import Outcome, Source
from ..tensors import select_device
from ._batching import EncoderPass
from ._loading import load_module, torch_threads
from ._plan import Chunk, PendingShard, PlannedEncoder
from ._settings import ExtractionSettings


class ChunkResult(NamedTuple):
    """Number of shards that were written, and id and code of every clip that was decoded."""

    n_shards: int
    clips: tuple[tuple[str, str], ...]


class Stopped(Exception):
    """The run was stopped; the chunk that is not finished is dropped."""


def extract_chunk(
    chunk: Chunk, encoders: Sequence[PlannedEncoder], store: FeatureStore, settings: ExtractionSettings
) -> ChunkResult:
    """Extract one chunk; may be called in any process, in any order.

    Parameters
    ----------
    chunk : Chunk
        Clips and the shards to write.
    encoders : sequence of PlannedEncoder
        Encoders of the shards; they are loaded unless this process uses them already.
    store : FeatureStore
        Store to write to.
    settings : ExtractionSettings
        Settings of the extraction.

    Raises
    ------
    EnvironmentFailure
        A file has disappeared, the disk is full, or memory is short.
    """
    with torch_threads(settings.threads), Worker(encoders, store, settings) as worker:
        return next(worker.run([chunk]), ChunkResult(0, ()))


class Worker:
    """Extracts chunks one after the other, and decodes the next chunk meanwhile.

    Parameters
    ----------
    encoders, store, settings
        As for `extract_chunk`.
    n_decoders : int
        Number of decoding children.
    progress : callable
        Called with id and code of every clip that is done.
    stop : Event or None
        Event that stops the worker before the next clip; `run` then raises `Stopped`.
    """

    def __init__(
        self,
        encoders: Sequence[PlannedEncoder],
        store: FeatureStore,
        settings: ExtractionSettings,
        *,
        n_decoders: int = 1,
        progress: Callable[[str, str], None] = lambda clip, code: None,
        stop: threading.Event | None = None,
    ) -> None:
        self.encoders, self.store, self.settings = encoders, store, settings
        self.device = select_device(settings.device)
        self.modules = [load_module(each.request, self.device) for each in encoders]
        self.progress, self.stop = progress, stop or threading.Event()
        self.decoder = Decoder(
            list(dict.fromkeys(each.inputs for each in encoders)),
            n_children=n_decoders,
            faces=next((each.faces for each in encoders if each.faces is not None), None),
            limits=Limits(settings.decode_memory, settings.decode_seconds),
        )

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *failure: object) -> None:
        self.decoder.close()

    def run(self, chunks: Iterable[Chunk]) -> Iterator[ChunkResult]:
        """Extract chunks in their order; one is taken ahead, so that its clips are being decoded."""
        ahead: deque[Chunk] = deque()
        for chunk in chunks:
            if chunk.is_written(self.store):
                continue  # another process was faster
            self._queue(chunk)
            ahead.append(chunk)
            if len(ahead) > 1:
                yield self._extract(ahead.popleft())
        while ahead:
            yield self._extract(ahead.popleft())

    def _queue(self, chunk: Chunk) -> None:
        sources = [Source.from_clip(chunk.clips[i]) for i in chunk.decoded if chunk.is_there(i)]
        wanted = dict.fromkeys(self.decoder.inputs.index(each.inputs) for each in self._needed(chunk))
        self.decoder.queue(sources, list(wanted))

    def _needed(self, chunk: Chunk) -> list[PlannedEncoder]:
        keys = {shard.specification.key for shard in chunk.shards if shard.source is None}
        return [each for each in self.encoders if any(spec.key in keys for spec in each.specifications)]

    def _extract(self, chunk: Chunk) -> ChunkResult:
        shards = [shard for shard in chunk.shards if shard.source is None]
        n_shards = sum(_derive(chunk, shard, self.store) for shard in chunk.shards if shard.source is not None)
        needed = self._needed(chunk)
        inputs = list(dict.fromkeys(each.inputs for each in needed))
        specs = {shard.specification.key: shard.specification for shard in shards}
        clips = []
        with self.store.spool() as spool:
            passes = [
                EncoderPass(
                    self.modules[self.encoders.index(each)],
                    [spec for spec in each.specifications if spec.key in specs],
                    device=self.device,
                    precision=each.precision,
                    spool=spool,
                    settings=self.settings,
                )
                for each in needed
            ]
            places = [inputs.index(each.inputs) for each in needed]
            outcomes: dict[int, list[Outcome] | MediaError] = {}
            for i in chunk.decoded:
                if self.stop.is_set():
                    raise Stopped
                outcomes[i] = self._decode(chunk, i, passes, places)
                clips.append((chunk.clips[i].id, _code(outcomes[i])))
                self.progress(*clips[-1])
            for encoding, place in zip(passes, places, strict=True):
                encoding.flush()
                for shard in shards:
                    spec = shard.specification
                    if spec in encoding.specifications:
                        rows = [_row(chunk, i, outcomes[i], place, encoding, shard) for i in shard.clips]
                        n_shards += self.store.write(spec.key, shard.name, spec.as_dict(), rows) == "written"
        return ChunkResult(n_shards, tuple(clips))

    def _decode(
        self, chunk: Chunk, clip: int, passes: Sequence[EncoderPass], places: Sequence[int]
    ) -> list[Outcome] | MediaError:
        if not chunk.is_there(clip):
            return MediaError("file_missing", "there is no such file")
        try:
            outcomes: list[Outcome] | None = None
            for segment in self.decoder.clip():
                for encoding, place in zip(passes, places, strict=True):
                    encoding.add(clip, segment.start, segment.media[place])
                outcomes = segment.outcomes
        except MediaError as error:
            if error.code == "file_missing":
                raise EnvironmentFailure(
                    f"The media of clip {chunk.clips[clip].id!r} has disappeared since the run started. Check that "
                    "the disk is still mounted and run the same command again; it resumes where it stopped."
                ) from error
            return error
        assert outcomes is not None
        return outcomes


def _code(outcome: list[Outcome] | MediaError) -> str:
    if isinstance(outcome, MediaError):
        return outcome.code
    return next((each.code for each in outcome if each.code != "ok"), "ok")


def _row(
    chunk: Chunk,
    clip: int,
    outcomes: list[Outcome] | MediaError,
    place: int,
    encoding: EncoderPass,
    shard: PendingShard,
) -> tuple[Row, Spooled | None]:
    name, fingerprint = chunk.clips[clip].id, chunk.fingerprints[clip]
    if isinstance(outcomes, MediaError):
        return Row(name, fingerprint, outcomes.code, outcomes.reason), None
    outcome = outcomes[place]
    code, reason, features = encoding.result(shard.specification, clip, outcome)
    row = Row(
        name,
        fingerprint,
        code,
        reason,
        n_frames=0 if features is None else features.n_frames,
        coverage=outcome.coverage,
        decode_errors=outcome.decode_errors,
        duration=outcome.duration,
        face_share=None if outcome.face_share is None else round(outcome.face_share, 4),
    )
    return row, features


def _derive(chunk: Chunk, shard: PendingShard, store: FeatureStore) -> bool:
    """Write a shard by selecting layers from features that hold them already."""
    assert shard.source is not None
    spec = shard.specification
    held = store.specification(shard.source)["layers"]
    places = [held.index(layer) for layer in spec.layers]
    found = store.rows(shard.source)
    rows: list[tuple[Row, Iterator[Features] | None]] = []
    for i in shard.clips:
        name = chunk.clips[i].id
        features = store.read(shard.source, name)
        rows.append((found[name], None if features is None else _select(features, places, spec.n_layers is not None)))
    return store.write(spec.key, shard.name, spec.as_dict(), rows) == "written"


def _select(features: Features, layers: list[int], apart: bool) -> Iterator[Features]:
    for values, times in pieces(features):
        yield Features(values[:, layers] if apart else values[:, layers[0]], times)
