"""The unit of extraction: a bucket of clips becomes the shards it owes.

A clip's failure is a row, the environment's stops the run. The bytes depend on the bucket alone,
not on who makes them.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch

from ..cache.store import Features, FeatureStore, Row, Spool, Spooled, pieces
from ..errors import EnvironmentFailure, MediaError
from ..media.decoder import Decoder
from ..media.inputs import Frames, MediaSegment, Outcome, Sound, Source
from ._batching import Forward, Item
from ._encoder import Encoder
from ._features import Specification
from ._plan import MISSING, Chunk, PendingShard


@dataclass(frozen=True)
class LoadedEncoder:
    """A loaded encoder and what is kept of it.

    Attributes
    ----------
    encoder : Encoder
        On its device, in evaluation mode.
    specifications : tuple of Specification
    device : torch.device
    precision : str
    """

    encoder: Encoder
    specifications: tuple[Specification, ...]
    device: torch.device
    precision: str


@dataclass(frozen=True)
class Rules:
    """When a clip that was decoded fails all the same.

    Attributes
    ----------
    min_coverage : float
        Least share of the clip that has to be decoded.
    no_face : str
        ``whole`` takes the whole picture where no face is found, ``fail`` makes it a failure.
    """

    min_coverage: float = 0.5
    no_face: str = "whole"


class Stopped(Exception):
    """The run was asked to stop; what is not committed is dropped."""


def wanted(bucket: Chunk, jobs: Sequence[LoadedEncoder]) -> list[Sound | Frames]:
    """Return what the bucket's clips have to give, each once."""
    found: list[Sound | Frames] = []
    for job in jobs:
        if _owed(bucket, job) and job.encoder.inputs not in found:
            found.append(job.encoder.inputs)
    return found


def _owed(bucket: Chunk, job: LoadedEncoder) -> list[Specification]:
    keys = {shard.specification.key for shard in bucket.shards if shard.source is None}
    return [spec for spec in job.specifications if spec.key in keys]


def queue(bucket: Chunk, jobs: Sequence[LoadedEncoder], decoder: Decoder) -> None:
    """Ask the decoder for the clips that `extract_bucket` will take from it."""
    sources = [Source.of(bucket.clips[i]) for i in bucket.decoded if _is_there(bucket, i)]
    decoder.queue(sources, [decoder.wants.index(want) for want in wanted(bucket, jobs)])


def extract_bucket(
    bucket: Chunk,
    jobs: Sequence[LoadedEncoder],
    decoder: Decoder,
    store: FeatureStore,
    *,
    rules: Rules,
    tell: Callable[[str, str], None],
    stop: threading.Event,
) -> int:
    """Make a bucket's shards from clips that were queued; return how many were written.

    Parameters
    ----------
    bucket : Chunk
    jobs : sequence of LoadedEncoder
    decoder : Decoder
    store : FeatureStore
    rules : Rules
    tell : callable
        Called with id and code of every clip that is done.
    stop : Event
        Once set, `Stopped` is raised.

    Raises
    ------
    EnvironmentFailure
        A file that was there is gone, the disk is full, memory is short.
    """
    n_written = 0
    for shard in bucket.shards:
        if shard.source is not None:
            n_written += _derive(bucket, shard, store)
    outcomes: dict[int, list[Outcome] | MediaError] = {}
    with store.spool() as spool:
        sides = _sides(bucket, jobs, spool)
        for i in bucket.decoded:
            if stop.is_set():
                raise Stopped
            outcomes[i] = _decode(bucket, i, sides, decoder)
            tell(bucket.clips[i].id, _code(outcomes[i]))
        for side in sides:
            side.forward.flush()
            for shard in bucket.shards:
                spec = shard.specification
                if shard.source is None and spec in side.forward.specifications:
                    rows = [side.row(bucket, i, outcomes[i], spec, rules) for i in shard.clips]
                    n_written += store.write(spec.key, shard.name, spec.facts(), rows) == "written"
    return n_written


@dataclass
class _Side:
    """One encoder's part in a bucket."""

    forward: Forward
    want: int
    failures: dict[int, MediaError] = field(default_factory=dict)

    def take(self, clip: int, part: MediaSegment) -> None:
        media = part.media[self.want]
        if media is None or clip in self.failures:
            return
        try:
            prepared = self.forward.encoder.prepare(media)
        except MediaError as error:
            if part.start == 0:
                self.failures[clip] = error
            return
        try:
            self.forward.add(Item(clip, part.start, prepared))
        except torch.OutOfMemoryError as error:
            raise EnvironmentFailure(
                "the accelerator has too little memory for a batch; end what else runs on it, or "
                "run again with --device cpu; it goes on where it stopped"
            ) from error

    def row(
        self, bucket: Chunk, clip: int, went: list[Outcome] | MediaError, spec: Specification, rules: Rules
    ) -> tuple[Row, Spooled | None]:
        name, fingerprint = bucket.clips[clip].id, bucket.fingerprints[clip]
        if isinstance(went, MediaError):
            return Row(name, fingerprint, went.code, went.reason), None
        outcome = went[self.want]
        features = self.forward.features(spec, clip, outcome.duration or 0.0)
        code, reason = self._verdict(clip, outcome, features, rules)
        row = Row(
            name,
            fingerprint,
            code,
            reason,
            n_frames=features.n_frames if features is not None and code == "ok" else 0,
            coverage=outcome.coverage,
            decode_errors=outcome.decode_errors,
            duration=outcome.duration,
            face_share=None if outcome.face_share is None else round(outcome.face_share, 4),
        )
        return row, features if code == "ok" else None

    def _verdict(self, clip: int, outcome: Outcome, features: Spooled | None, rules: Rules) -> tuple[str, str]:
        if outcome.code != "ok":
            return outcome.code, outcome.reason
        if outcome.coverage is not None and outcome.coverage < rules.min_coverage:
            return "low_coverage", (f"{outcome.coverage:.0%} of it could be decoded, {rules.min_coverage:.0%} wanted")
        if clip in self.failures:
            return self.failures[clip].code, self.failures[clip].reason
        if outcome.face_share == 0 and rules.no_face == "fail":
            return "no_face", "no face was found in any frame"
        if features is None:
            return "too_short", "there was nothing to encode"
        if not features.finite:
            return "not_finite", f"features that {self.forward.specifications[0].dtype} cannot hold"
        return "ok", ""


def _sides(bucket: Chunk, jobs: Sequence[LoadedEncoder], spool: Spool) -> list[_Side]:
    wants = wanted(bucket, jobs)
    sides = []
    for job in jobs:
        if specs := _owed(bucket, job):
            forward = Forward(job.encoder, specs, device=job.device, precision=job.precision, spool=spool)
            sides.append(_Side(forward, wants.index(job.encoder.inputs)))
    return sides


def _decode(bucket: Chunk, clip: int, sides: Sequence[_Side], decoder: Decoder) -> list[Outcome] | MediaError:
    if not _is_there(bucket, clip):
        return MediaError("file_missing", "there is no such file")
    try:
        outcomes: list[Outcome] | None = None
        for part in decoder.clip():
            for side in sides:
                side.take(clip, part)
            outcomes = part.outcomes
    except MediaError as error:
        if error.code == "file_missing":
            raise EnvironmentFailure(
                f"the media of clip {bucket.clips[clip].id!r} was there and is gone; is the disk "
                "still mounted? Run the same command again, it goes on where it stopped"
            ) from error
        return error
    assert outcomes is not None
    return outcomes


def _is_there(bucket: Chunk, clip: int) -> bool:
    return bucket.fingerprints[clip] != MISSING


def _code(went: list[Outcome] | MediaError) -> str:
    if isinstance(went, MediaError):
        return went.code
    return next((outcome.code for outcome in went if outcome.code != "ok"), "ok")


def _derive(bucket: Chunk, shard: PendingShard, store: FeatureStore) -> int:
    """Cut layers out of features that hold them already."""
    assert shard.source is not None
    spec = shard.specification
    held = store.specification(shard.source)["layers"]
    places = [held.index(layer) for layer in spec.layers]
    found = store.rows(shard.source)
    rows: list[tuple[Row, Iterator[Features] | None]] = []
    for i in shard.clips:
        name = bucket.clips[i].id
        features = store.read(shard.source, name)
        cut = None if features is None else _cut(features, places, apart=spec.n_layers is not None)
        rows.append((found[name], cut))
    return store.write(spec.key, shard.name, spec.facts(), rows) == "written"


def _cut(features: Features, layers: list[int], *, apart: bool) -> Iterator[Features]:
    for values, times in pieces(features):
        yield Features(values[:, layers] if apart else values[:, layers[0]], times)
