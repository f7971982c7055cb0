"""Extraction: plan what a store lacks, let an engine run the chunks, and report.

Only work that is left imports torch: a complete store is recognised by its index files.
"""

import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from .. import plugins
from ..cache.store import FeatureStore
from ..errors import InvalidValue, StoreError
from ..extractors._plan import PlannedEncoder, divide, pending
from ..extractors._request import EncoderInfo, Request
from ..extractors._settings import ExtractionSettings as ExtractionSettings
from ..manifest import Manifest
from ..media.faces import FaceOptions

if TYPE_CHECKING:
    from ._engine import Engine


class Failure(NamedTuple):
    """A clip without features under a key, with the stable code of the failure and one sentence."""

    id: str
    key: str
    code: str
    reason: str


@dataclass(frozen=True)
class ExtractReport:
    """Result of an extraction.

    Attributes
    ----------
    keys : dict of str to str
        Key of the features by request.
    n_clips : int
        Number of clips of the manifest.
    n_decoded : int
        Number of clips that were decoded in this run and have features of at least one encoder.
    n_shards : int
        Number of shards that were written in this run.
    seconds : float
        Wall time.
    failures : list of Failure
        Clips that failed, in this run or an earlier one.
    replaced : list of str
        Clips whose media has changed: the store also holds features of the former media, which
        ``affuse cache gc`` removes.
    """

    keys: dict[str, str]
    n_clips: int
    n_decoded: int
    n_shards: int
    seconds: float
    failures: list[Failure]
    replaced: list[str]


class ExtractionEstimate(NamedTuple):
    """Remaining work: number of clips and shards; bytes and seconds, extrapolated from a sample."""

    clips: int
    shards: int
    bytes: int
    seconds: float


class Extraction:
    """Plan of an extraction: which encoders have to run on which clips.

    Parameters
    ----------
    manifest : Manifest
        Clips to extract.
    encoders : sequence of str
        Requests, ``FAMILY:CHECKPOINT[@REVISION][,option=value…]``.
    store : FeatureStore
        Store to write to; what it holds already is not extracted again.
    settings : ExtractionSettings
        Settings of the extraction.
    engine : str or Engine
        Engine that runs the chunks; a name, see `affuse.list_engines`, or the path of a class.

    Attributes
    ----------
    specifications : list of Specification
        Specification of the features, one per request.
    chunks : list of Chunk
        Remaining work.
    """

    def __init__(
        self,
        manifest: Manifest | str | Path,
        encoders: Sequence[str] | str,
        store: FeatureStore | str | Path,
        *,
        settings: ExtractionSettings = ExtractionSettings(),
        engine: "str | Engine" = "local",
    ) -> None:
        manifest, store = Manifest.of(manifest), FeatureStore.of(store)
        encoders = [encoders] if isinstance(encoders, str) else encoders
        if not encoders:
            raise InvalidValue("Found no encoder. Expected requests such as 'wav2vec2:facebook/wav2vec2-base-960h'.")
        if store.path.is_file():
            raise StoreError(f"{store.path} is a merged file. Features can only be extracted into a folder.")
        self.manifest, self.store, self.settings, self.engine = manifest, store, settings, engine
        self.texts = list(dict.fromkeys(encoders))
        self.requests = [Request.parse(text) for text in self.texts]
        self._recorded = [request.as_dict(self._faces_of(request)) for request in self.requests]
        self._modules: list[Any] = []  # keeps loaded encoders in memory until they run
        self._infos = [self._info(place) for place in range(len(self.requests))]
        self.specifications = [
            info.specification(request.layers, request.store_dtype)
            for info, request in zip(self._infos, self.requests, strict=True)
        ]
        every_chunk = divide(manifest)
        self.rows = {row for chunk in every_chunk for row in chunk.rows}
        self.chunks = pending(every_chunk, self.specifications, store, part=settings.part)

    @property
    def n_clips(self) -> int:
        """Number of clips that have to be decoded."""
        return sum(len(chunk.decoded) for chunk in self.chunks)

    def describe(self) -> str:
        """Return the device and the precision of the forward passes as a text."""
        from ..tensors import select_device

        precisions = sorted({info.identity["precision"] for info in self._infos})
        return f"device {select_device(self.settings.device)}, {' and '.join(precisions)}"

    @cached_property
    def _faces(self) -> FaceOptions:
        return self.settings.faces.located()

    def _faces_of(self, request: Request) -> FaceOptions | None:
        return self._faces if request.crops_faces else None

    def _info(self, place: int) -> EncoderInfo:
        precision, request = self.settings.precision, self.requests[place]
        if info := EncoderInfo.recall(self.store, self._recorded[place], precision=precision):
            return info
        from ..extractors._loading import describe, load_module
        from ..tensors import select_device

        device = select_device(self.settings.device)
        self._modules.append(load_module(request, device))
        return describe(request, self._modules[-1], device=device, precision=precision, faces=self._faces_of(request))

    def run(self, progress: Callable[[str, str], None] = lambda clip, code: None) -> ExtractReport:
        """Run the remaining work; see `extract`."""
        began = time.monotonic()
        n_shards = self._run_chunks(progress) if self.chunks else 0
        failures = self._failures()
        n_failed = Counter(failure.id for failure in failures)
        n_keys = len({spec.key for spec in self.specifications})
        tried = (chunk.clips[i].id for chunk in self.chunks for i in chunk.decoded)
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
        """Extract a sample of up to `n` of the remaining clips into a temporary store, and extrapolate."""
        left = [chunk.clips[i] for chunk in self.chunks for i in chunk.decoded]
        shards = sum(len(chunk.shards) for chunk in self.chunks)
        if not left:
            return ExtractionEstimate(0, shards, 0, 0.0)
        sample = Manifest(left[:: -(-len(left) // n)])
        with tempfile.TemporaryDirectory() as folder:
            trial = Extraction(sample, self.texts, FeatureStore(folder), settings=self.settings)
            seconds = trial.run().seconds
            size = sum(path.stat().st_size for path in Path(folder).rglob("*.h5"))
        factor = len(left) / len(sample)
        return ExtractionEstimate(len(left), shards, round(size * factor), seconds * factor)

    def _run_chunks(self, progress: Callable[[str, str], None]) -> int:
        engine = plugins.build("engine", self.engine, settings={}) if isinstance(self.engine, str) else self.engine
        for info, spec, recorded in zip(self._infos, self.specifications, self._recorded, strict=True):
            info.record(self.store, spec.key, recorded)
        n_shards: int = engine.run(self.chunks, self.planned_encoders(), self.store, self.settings, progress=progress)
        self._modules.clear()
        return n_shards

    def planned_encoders(self) -> list[PlannedEncoder]:
        """Return the encoders that have to run, each once."""
        needed = {s.specification.key for chunk in self.chunks for s in chunk.shards if s.source is None}
        planned: dict[str, PlannedEncoder] = {}
        for request, recorded, info in zip(self.requests, self._recorded, self._infos, strict=True):
            specs = {s.key: s for s, r in zip(self.specifications, self._recorded, strict=True) if r == recorded}
            if needed & set(specs):
                planned.setdefault(
                    repr(recorded),
                    PlannedEncoder(
                        request, self._faces_of(request), info.inputs, info.identity["precision"], tuple(specs.values())
                    ),
                )
        return list(planned.values())

    def _failures(self) -> list[Failure]:
        found = set()
        for key in {spec.key for spec in self.specifications}:
            for row in self.store.all_rows(key):
                if row["code"] != "ok" and (row["id"], row["fingerprint"]) in self.rows:
                    found.add(Failure(row["id"], key, row["code"], row["reason"]))
        return sorted(found)

    def _replaced(self) -> list[str]:
        current, found = dict(self.rows), set()
        for spec in self.specifications:
            for row in self.store.all_rows(spec.key):
                if row["code"] == "ok" and row["fingerprint"] != current.get(row["id"], row["fingerprint"]):
                    found.add(row["id"])
        return sorted(found)


def extract(
    manifest: Manifest | str | Path,
    encoders: Sequence[str] | str,
    store: FeatureStore | str | Path,
    *,
    settings: ExtractionSettings = ExtractionSettings(),
    engine: "str | Engine" = "local",
    progress: Callable[[str, str], None] = lambda clip, code: None,
) -> ExtractReport:
    """Extract the features that a store does not hold yet.

    Running the same extraction again resumes it. Each clip is decoded once for all encoders.

    Parameters
    ----------
    manifest : Manifest
        Clips to extract.
    encoders : sequence of str
        Requests, ``FAMILY:CHECKPOINT[@REVISION][,option=value…]``; see `affuse.list_encoders`.
    store : FeatureStore
        Store to write to.
    settings : ExtractionSettings
        Device, precision, number of workers, and rules by which a clip counts as failed.
    engine : str or Engine
        Engine that runs the work; a name, see `affuse.list_engines`, or the path of a class.
    progress : callable
        Called with id and code of every clip that is done.

    Returns
    -------
    ExtractReport
        Keys of the features, counts, and the clips that failed.

    Raises
    ------
    EncoderError, UnknownName, UnknownOption
        A request cannot be fulfilled.
    EnvironmentFailure
        The machine failed, not a clip; what was written stays, and running again resumes.

    Examples
    --------
    >>> import affuse
    >>> clips = affuse.Manifest.read("clips.csv")  # doctest: +SKIP
    >>> report = affuse.extract(clips, ["logmel"], affuse.FeatureStore("features"))  # doctest: +SKIP
    """
    return Extraction(manifest, encoders, store, settings=settings, engine=engine).run(progress)
