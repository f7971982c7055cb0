"""Engines: any way to run the chunks of an extraction gives the same shards."""

import pickle
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from affuse import plugins
from affuse.cache.store import FeatureStore
from affuse.engines._engine import Chunk, Engine, ExtractionSettings, PlannedEncoder
from affuse.engines._extraction import Extraction, extract
from affuse.errors import UnknownName
from affuse.extractors._chunk import extract_chunk
from affuse.manifest import Manifest

from .conftest import PAIR, digests


class Backwards(Engine):
    """Runs the chunks in this process, the last one first, and sends every argument through pickle."""

    def run(
        self,
        chunks: Sequence[Chunk],
        encoders: Sequence[PlannedEncoder],
        store: FeatureStore,
        settings: ExtractionSettings,
        *,
        progress: Callable[[str, str], None],
    ) -> int:
        n_shards = 0
        for chunk in reversed(chunks):
            function, *arguments = pickle.loads(  # noqa: S301
                pickle.dumps((extract_chunk, chunk, encoders, store, settings))
            )
            result = function(*arguments)
            n_shards += result.n_shards
            for clip, code in result.clips:
                progress(clip, code)
        return n_shards


def test_a_plug_in_engine_in_another_order_writes_equal_shards(
    clips: Manifest, whole: dict[str, str], tmp_path: Path
) -> None:
    done: list[tuple[str, str]] = []
    report = extract(
        clips,
        PAIR,
        FeatureStore(tmp_path),
        engine=f"{Backwards.__module__}.Backwards",
        progress=lambda clip, code: done.append((clip, code)),
    )
    assert digests(tmp_path) == whole
    assert report.n_shards == len(whole) and report.n_decoded == 17
    assert [clip for clip, _ in done][:3] == ["16", "17", "18"] and len(done) == len(clips)
    assert extract(clips, PAIR, FeatureStore(tmp_path), engine=Backwards()).n_shards == 0


def test_chunks_can_be_extracted_in_other_processes(clips: Manifest, whole: dict[str, str], tmp_path: Path) -> None:
    extraction = Extraction(clips, PAIR, FeatureStore(tmp_path))
    encoders = extraction.planned_encoders()
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        jobs = [
            pool.submit(extract_chunk, chunk, encoders, extraction.store, extraction.settings)
            for chunk in extraction.chunks
        ]
        results = [job.result() for job in jobs]
    assert digests(tmp_path) == whole
    assert [result.n_shards for result in results] == [2, 2]
    again = extract_chunk(extraction.chunks[0], encoders, extraction.store, extraction.settings)
    assert again == (0, ())  # shards that exist are not extracted again


def test_engines_are_listed_and_unknown_ones_refused(clips: Manifest, tmp_path: Path) -> None:
    assert [row["name"] for row in plugins.list_engines()] == plugins.names("engine")
    assert "local" in plugins.names("engine")
    with pytest.raises(UnknownName, match="did you mean 'local'"):
        extract(clips, PAIR, FeatureStore(tmp_path), engine="lokal")
