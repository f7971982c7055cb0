"""Maps the unit of extraction over a plan: threads that each drive one decoding child.

On a CPU every worker's forward pass has one thread: as many workers as cores keep them all busy,
and the numbers do not depend on how many there are.
"""

import os
import tempfile
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ..cache.store import FeatureStore
from ..errors import StoreError
from ..extractors._plan import Chunk, dealt, owing
from ..extractors._request import EncoderInfo, Request
from ..manifest import Manifest

PATIENCE = 6.0
"""Seconds that workers have to stop after an interruption."""


class Failure(NamedTuple):
    """A clip without features: its id, the key, a stable code, a sentence."""

    id: str
    key: str
    code: str
    reason: str


@dataclass(frozen=True)
class ExtractReport:
    """How an extraction went.

    Attributes
    ----------
    keys : dict of str to str
        By request.
    n_clips : int
        Of the manifest.
    n_decoded, n_shards : int
        Done in this run; a clip that failed for every encoder is not counted.
    seconds : float
    failures : list of Failure
        Of this run and of those before it.
    replaced : list of str
        Clips of which the store holds features of older media too; `cache.care.gc` drops them.
    """

    keys: dict[str, str]
    n_clips: int
    n_decoded: int
    n_shards: int
    seconds: float
    failures: list[Failure]
    replaced: list[str]


class ExtractionEstimate(NamedTuple):
    """What is left to do: clips and shards; bytes and seconds, from a sample."""

    clips: int
    shards: int
    bytes: int
    seconds: float


@dataclass(frozen=True)
class ExtractionSettings:
    """What changes how an extraction runs; precision, faces and coverage change its rows too.

    Attributes
    ----------
    workers : int or None
        Forward passes at a time; None: one a core on a CPU, else one.
    threads : int
        Of a forward pass on a CPU. With more than one its last bits depend on how many there are.
    device : str
        ``auto``, ``cpu``, ``cuda``, ``mps``.
    precision : str or None
        ``float32``, ``float16`` or ``bfloat16``; None: what the store has, else float16 on CUDA and
        float32 elsewhere.
    part : (int, int)
        The i-th of n slices.
    min_coverage : float
    no_face : str
        ``whole`` or ``fail``.
    face : str
        Whose face is cut out: ``largest`` or ``central``.
    face_detector : Path or None
    decode_seconds, decode_memory : int
        Wall time a stretch, and bytes, of a decoding child.
    """

    workers: int | None = None
    threads: int = 1
    device: str = "auto"
    precision: str | None = None
    part: tuple[int, int] = (1, 1)
    min_coverage: float = 0.5
    no_face: str = "whole"
    face: str = "largest"
    face_detector: Path | None = None
    decode_seconds: int = 120
    decode_memory: int = 6 << 30


class Extraction:
    """Requests on a manifest, planned against a store.

    Parameters
    ----------
    manifest : Manifest
    requests : sequence of str
        As after ``-e``.
    store : FeatureStore
    settings : ExtractionSettings

    Attributes
    ----------
    cards : list of EncoderInfo
        One a request.
    buckets : list of Chunk
        What is left to do.
    """

    def __init__(
        self,
        manifest: Manifest,
        requests: Sequence[str],
        store: FeatureStore,
        *,
        settings: ExtractionSettings = ExtractionSettings(),
    ) -> None:
        if store.path.is_file():
            raise StoreError(f"{store.path} is a merged file; wanted a folder to extract into")
        self.manifest, self.store, self.settings = manifest, store, settings
        self.texts = list(dict.fromkeys(requests))
        self.requests = [Request.parse(text) for text in self.texts]
        self.faces = self._faces()
        self.asked = [
            request.asked(self.faces if request.options.get("crop") == "face" else None) for request in self.requests
        ]
        self._loaded: dict[str, Any] = {}
        self.cards = [self._card(place) for place in range(len(self.requests))]
        self.specifications = [
            card.specification(request.layers, request.dtype)
            for card, request in zip(self.cards, self.requests, strict=True)
        ]
        everything = dealt(manifest)
        self.rows = {row for bucket in everything for row in bucket.rows}
        self.buckets = owing(everything, self.specifications, store, part=settings.part)

    @property
    def n_clips(self) -> int:
        """Clips that have to be decoded."""
        return sum(len(bucket.decoded) for bucket in self.buckets)

    def means(self) -> str:
        """Say on what and in which precision the work will be done."""
        from ..extractors import _loading

        precisions = sorted({card.identity["precision"] for card in self.cards})
        return f"device {_loading.chosen(self.settings.device)}, {' and '.join(precisions)}"

    def _faces(self) -> dict[str, str] | None:
        if all(request.options.get("crop") != "face" for request in self.requests):
            return None
        from ..media.faces import detector_weights

        detector = detector_weights(self.settings.face_detector)
        return {"detector": str(detector.resolve()), "pick": self.settings.face, "no_face": self.settings.no_face}

    def _card(self, place: int) -> EncoderInfo:
        asked, request = self.asked[place], self.requests[place]
        card = EncoderInfo.recall(self.store, asked, precision=self.settings.precision)
        return card or self._encoder(place, request, self.settings.precision)[1]

    def _encoder(self, place: int, request: Request, precision: str | None) -> Any:
        from ..extractors import _loading

        name = repr(self.asked[place])
        if name not in self._loaded:
            self._loaded[name] = _loading.load(
                request, self.asked[place], device=self.settings.device, precision=precision
            )
        return self._loaded[name]

    def run(self, tell: Callable[[str, str], None] = lambda clip, code: None) -> ExtractReport:
        """Do what is left; see `extract`."""
        began = time.monotonic()
        n_shards = self._work(tell) if self.buckets else 0
        failures = self._failures()
        n_failed = Counter(failure.id for failure in failures)
        n_keys = len({spec.key for spec in self.specifications})
        tried = (bucket.clips[i].id for bucket in self.buckets for i in bucket.decoded)
        return ExtractReport(
            keys={t: s.key for t, s in zip(self.texts, self.specifications, strict=True)},
            n_clips=len(self.manifest),
            n_decoded=sum(n_failed[clip] < n_keys for clip in tried),
            n_shards=n_shards,
            seconds=time.monotonic() - began,
            failures=failures,
            replaced=self._replaced(),
        )

    def estimate(self, n: int = 20) -> ExtractionEstimate:
        """Extract a sample of what is left into a folder that is thrown away, and extrapolate."""
        left = [bucket.clips[i] for bucket in self.buckets for i in bucket.decoded]
        shards = sum(len(bucket.shards) for bucket in self.buckets)
        if not left:
            return ExtractionEstimate(0, shards, 0, 0.0)
        sample = Manifest(left[:: -(-len(left) // n)])
        with tempfile.TemporaryDirectory() as folder:
            trial = Extraction(sample, self.texts, FeatureStore(folder), settings=self.settings)
            seconds = trial.run().seconds
            size = sum(path.stat().st_size for path in Path(folder).rglob("*.h5"))
        times = len(left) / len(sample)
        return ExtractionEstimate(len(left), shards, round(size * times), seconds * times)

    def _work(self, tell: Callable[[str, str], None]) -> int:
        from ..extractors import _loading
        from ..extractors._chunk import LoadedEncoder, Rules

        jobs: list[LoadedEncoder] = []
        for place in self._needed():
            precision = self.cards[place].identity["precision"]
            encoder, card, device = self._encoder(place, self.requests[place], precision)
            self.cards[place] = card
            same = {s.key: s for s, a in zip(self.specifications, self.asked, strict=True) if a == self.asked[place]}
            jobs.append(LoadedEncoder(encoder, tuple(same.values()), device, precision))
        for card, spec, asked in zip(self.cards, self.specifications, self.asked, strict=True):
            card.record(self.store, spec.key, asked)
        rules = Rules(self.settings.min_coverage, self.settings.no_face)
        with _loading.threaded(self.settings.threads):
            pool = _Pool(self.buckets, jobs, self.store, self.settings, rules, self.faces, tell)
            return pool.run()

    def _needed(self) -> list[int]:
        """Return a request for each encoder that has something to run."""
        owed = {s.specification.key for b in self.buckets for s in b.shards if s.source is None}
        found: dict[str, int] = {}
        for place, spec in enumerate(self.specifications):
            if spec.key in owed:
                found.setdefault(repr(self.asked[place]), place)
        return list(found.values())

    def _failures(self) -> list[Failure]:
        found = []
        for key in {spec.key for spec in self.specifications}:
            for row in self.store.all_rows(key):
                if row["code"] != "ok" and (row["id"], row["fingerprint"]) in self.rows:
                    found.append(Failure(row["id"], key, row["code"], row["reason"]))
        return sorted(set(found))

    def _replaced(self) -> list[str]:
        now, found = dict(self.rows), set()
        for spec in self.specifications:
            for row in self.store.all_rows(spec.key):
                current = now.get(row["id"], row["fingerprint"])
                if row["code"] == "ok" and row["fingerprint"] != current:
                    found.add(row["id"])
        return sorted(found)


class _Pool:
    """Workers on one list of buckets."""

    def __init__(
        self,
        buckets: Sequence[Chunk],
        jobs: Sequence[Any],
        store: FeatureStore,
        settings: ExtractionSettings,
        rules: Any,
        faces: dict[str, str] | None,
        tell: Callable[[str, str], None],
    ) -> None:
        self.left, self.jobs, self.store = deque(buckets), jobs, store
        self.settings, self.rules, self.faces, self.tell = settings, rules, faces, tell
        self.stop = threading.Event()
        self.lock = threading.Lock()
        self.failure: BaseException | None = None
        self.n_written = 0
        on_cpu = all(job.device.type == "cpu" for job in jobs)
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 2
        self.n_workers = min(settings.workers or (cores if on_cpu else 1), len(buckets))
        spare = cores if on_cpu else min(8, cores - 1)
        self.n_children = max(1, spare // self.n_workers)

    def run(self) -> int:
        """Wait for the workers; raise what stopped the first of them."""
        threads = [threading.Thread(target=self._guarded, daemon=True) for _ in range(self.n_workers)]
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                while thread.is_alive():
                    thread.join(0.1)
        except BaseException:
            self.stop.set()
            until = time.monotonic() + PATIENCE
            for thread in threads:
                thread.join(max(0, until - time.monotonic()))
            raise
        if self.failure is not None:
            raise self.failure
        return self.n_written

    def _guarded(self) -> None:
        from ..extractors._chunk import Stopped

        try:
            self._work()
        except Stopped:
            pass
        except BaseException as error:
            with self.lock:
                self.failure = self.failure or error
            self.stop.set()

    def _work(self) -> None:
        from ..extractors import _chunk
        from ..media.decoder import Decoder, Limits

        wants = list(dict.fromkeys(job.encoder.inputs for job in self.jobs))
        detector = None if self.faces is None else Path(self.faces["detector"])
        limits = Limits(self.settings.decode_memory, self.settings.decode_seconds)
        with Decoder(
            wants, n_children=self.n_children, face_detector=detector, face=self.settings.face, limits=limits
        ) as decoder:
            ahead: deque[Chunk] = deque()
            self._take(ahead, decoder)
            while ahead:
                self._take(ahead, decoder)
                written = _chunk.extract_bucket(
                    ahead.popleft(), self.jobs, decoder, self.store, rules=self.rules, tell=self._tell, stop=self.stop
                )
                with self.lock:
                    self.n_written += written

    def _take(self, ahead: deque[Chunk], decoder: Any) -> None:
        """Start on one more bucket, unless another process has finished it."""
        from ..extractors._chunk import queue

        while True:
            with self.lock:
                if not self.left:
                    return
                bucket = self.left.popleft()
            if all(self.store.has_shard(s.specification.key, s.name) for s in bucket.shards):
                continue
            queue(bucket, self.jobs, decoder)
            ahead.append(bucket)
            return

    def _tell(self, clip: str, code: str) -> None:
        with self.lock:
            self.tell(clip, code)


def extract(
    manifest: Manifest,
    requests: Sequence[str],
    store: FeatureStore,
    *,
    settings: ExtractionSettings = ExtractionSettings(),
    tell: Callable[[str, str], None] = lambda clip, code: None,
) -> ExtractReport:
    """Extract what the store does not hold yet.

    Parameters
    ----------
    manifest : Manifest
    requests : sequence of str
        ``FAMILY:CHECKPOINT[@REVISION][,option=value…]``; one decode of a clip serves all.
    store : FeatureStore
    settings : ExtractionSettings
    tell : callable
        Called with id and code of every clip that is done.

    Returns
    -------
    ExtractReport

    Raises
    ------
    EncoderError, UnknownName, UnknownOption
        A request that cannot be met.
    EnvironmentFailure
        Not a clip's fault; what was committed stays, running again goes on.
    """
    return Extraction(manifest, requests, store, settings=settings).run(tell)
