"""Extraction gives the same shards whoever makes them, and nothing that was committed is lost."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from affuse.cache.store import FeatureStore
from affuse.corpora._folder import scan
from affuse.engines._extraction import Extraction, ExtractionSettings, extract
from affuse.errors import EncoderError, EnvironmentFailure, StoreError, UnknownName, UnknownOption
from affuse.extractors import _plan
from affuse.extractors._batching import Item, batches
from affuse.extractors._encoder import Prepared
from affuse.extractors._request import Request
from affuse.manifest import Clip, Manifest
from affuse.media.inputs import Sound
from affuse.media.read import Source, read

from ..media import write_clip
from ..small import Steps, single
from .conftest import PAIR, digests

STEPS = f"{Steps.__module__}.Steps"


def test_bytes_are_the_same_whoever_extracts(clips: Manifest, whole: dict[str, str], tmp_path: Path) -> None:
    assert len(whole) == 4
    backwards = Manifest(reversed(clips))
    extract(backwards, PAIR, FeatureStore(tmp_path / "a"), settings=ExtractionSettings(workers=3))
    assert digests(tmp_path / "a") == whole
    for i in (2, 1):
        extract(clips, PAIR, FeatureStore(tmp_path / "b"), settings=ExtractionSettings(part=(i, 2)))
    assert digests(tmp_path / "b") == whole
    for request in PAIR:  # one at a time
        extract(clips, [request], FeatureStore(tmp_path / "c"))
    assert digests(tmp_path / "c") == whole


def test_a_complete_cache_decodes_nothing_and_loads_nothing(
    clips: Manifest, whole: dict[str, str], tmp_path: Path
) -> None:
    extract(clips, PAIR, FeatureStore(tmp_path))
    script = (
        "import sys, json\n"
        "from pathlib import Path\n"
        "from affuse.corpora._folder import scan\n"
        "from affuse.cache.store import FeatureStore\n"
        "from affuse.engines._extraction import extract\n"
        f"report = extract(scan(Path({str(clips[0].video.parent)!r})), {PAIR!r}, "
        f"FeatureStore({str(tmp_path)!r}))\n"
        "print(json.dumps([report.n_decoded, report.n_shards, len(report.failures), "
        "'torch' in sys.modules, 'av' in sys.modules]))\n"
    )
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert json.loads(said.stdout) == [0, 0, 4, False, False]
    assert digests(tmp_path) == whole


def test_features_equal_the_encoder_on_each_clip_alone(clips: Manifest, tmp_path: Path) -> None:
    store = FeatureStore(tmp_path)
    requests = [f"{STEPS},layers=all,pool=none,dtype=float32,batching={b}" for b in ("mask", "equal", "single")]
    requests.append("wav2vec2:untrained,dtype=float32")
    report = extract(clips, requests, store)
    encoder = Steps()
    from affuse.extractors.wav2vec2 import Wav2Vec2

    speech = Wav2Vec2.untrained().eval()
    for clip in clips.clips[:17]:
        media, _ = read(Source.of(clip), [Sound(16_000)])
        layers = single(encoder, media[0])
        expected = torch.stack([layer.values[0] for layer in layers], 1).numpy()
        for request in requests[:3]:
            found = store.read(report.keys[request], clip.id)
            np.testing.assert_allclose(found.values, expected, rtol=1e-4, atol=1e-6)
            np.testing.assert_allclose(found.times, layers[0].times[0], rtol=1e-6)
        last = single(speech, media[0])[-1].values[0].numpy()
        found = store.read(report.keys[requests[3]], clip.id).values
        np.testing.assert_allclose(found, last, rtol=1e-4, atol=1e-4)


def test_layers_pools_and_what_is_derived(clips: Manifest, tmp_path: Path) -> None:
    store = FeatureStore(tmp_path)
    report = extract(clips, [f"{STEPS},layers=-2:-1"], store)
    apart = report.keys[f"{STEPS},layers=-2:-1"]
    assert store.read(apart, "00").values.shape[1:] == (2, 2)
    derived = extract(clips, [f"{STEPS},layers=-2"], store)
    assert (derived.n_decoded, derived.n_shards) == (0, 2)
    key = derived.keys[f"{STEPS},layers=-2"]
    np.testing.assert_array_equal(store.read(key, "03").values, store.read(apart, "03").values[:, 0])
    assert store.rows(key)["17"].code == "unreadable"
    fresh = FeatureStore(tmp_path / "fresh")
    asked = [
        f"{STEPS},layers=1",
        f"{STEPS},layers=-2:-1,how=sum",
        f"{STEPS},layers=0+2,how=mean",
        f"{STEPS},layers=all",
    ]
    one, total, mean, pooled = extract(clips, asked, fresh).keys.values()
    assert one == key and digests(tmp_path / "fresh" / one) == digests(tmp_path / key)
    both = store.read(apart, "05").values.astype(np.float32)
    np.testing.assert_allclose(fresh.read(total, "05").values, both.sum(1), rtol=2e-3)
    np.testing.assert_allclose(fresh.read(mean, "05").values[:, 0], both[:, 1, 0], rtol=2e-3)
    assert fresh.read(pooled, "05").values.shape == (1, 3, 2)
    np.testing.assert_allclose(fresh.read(pooled, "05").values[0, 1:], both.mean(0), rtol=2e-3)


def test_what_changed_is_extracted_again_and_nothing_else(tmp_path: Path) -> None:
    folder, store = tmp_path / "clips", tmp_path / "store"
    for name in "abc":
        write_clip(folder / f"{name}.mp4", seconds=0.4, video=False, seed=ord(name))
    assert extract(scan(folder), ["logmel"], FeatureStore(store)).n_decoded == 3
    write_clip(folder / "d.mp4", seconds=0.4, video=False, seed=9)
    assert extract(scan(folder), ["logmel"], FeatureStore(store)).n_decoded == 1
    (folder / "a.mp4").unlink()
    assert extract(scan(folder), ["logmel"], FeatureStore(store)).n_decoded == 0
    write_clip(folder / "b.mp4", seconds=0.5, video=False, seed=11)
    report = extract(scan(folder), ["logmel"], FeatureStore(store))
    assert (report.n_decoded, report.replaced) == (1, ["b"])
    with pytest.raises(StoreError, match="two different media for clip 'b'.*cache gc"):
        FeatureStore(store).read(report.keys["logmel"], "c")
    assert extract(scan(folder), ["logmel,n_mels=40"], FeatureStore(store)).n_decoded == 3
    window = [Clip("c", video=folder / "c.mp4", start=0.1, end=0.3)]
    report = extract(Manifest(window), ["logmel"], FeatureStore(tmp_path / "window"))
    found = FeatureStore(tmp_path / "window").read(report.keys["logmel"], "c")
    assert len(found.values) == 21  # a frame every 10 ms of the 0.2 s, both ends


def test_failures_are_rows_and_a_file_that_comes_back_is_extracted(tmp_path: Path) -> None:
    there, store = write_clip(tmp_path / "a.mp4", seconds=0.4, video=False), tmp_path / "store"
    clips = Manifest([Clip("a", video=there), Clip("gone", video=tmp_path / "gone.mp4")])
    report = extract(clips, PAIR, FeatureStore(store))
    assert {(f.id, f.code) for f in report.failures} == {("a", "no_video_stream"), ("gone", "file_missing")}
    assert report.n_decoded == 1
    write_clip(tmp_path / "gone.mp4", seconds=0.4)
    report = extract(clips, PAIR, FeatureStore(store))
    assert report.n_decoded == 1
    assert {(f.id, f.code) for f in report.failures} == {("a", "no_video_stream")}
    assert FeatureStore(store).read(report.keys["logmel"], "gone") is not None


def test_a_request_that_cannot_be_met_says_what_can(clips: Manifest, tmp_path: Path) -> None:
    for request, error, message in [
        ("wav2vec", UnknownName, "did you mean 'wav2vec2'"),
        ("hog,fsp=5", UnknownOption, "did you mean 'fps'"),
        ("wav2vec2", EncoderError, "needs a checkpoint"),
        ("logmel,layers=7", EncoderError, "layers 0 to 0"),
        ("logmel,layers=first", EncoderError, "no choice of layers"),
        ("logmel,pool=max", EncoderError, "wanted none, mean"),
        ("logmel,deltas", EncoderError, "wanted name=value"),
    ]:
        with pytest.raises(error, match=message):
            extract(clips, [request], FeatureStore(tmp_path))


def test_a_place_that_cannot_be_written_is_named(clips: Manifest, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EnvironmentFailure, match=f"{tmp_path}/file/x.*choose a folder"):
        extract(clips, ["logmel"], FeatureStore(tmp_path / "file" / "x"))


def test_same_numbers_have_one_key() -> None:
    texts = ["layers=last", "layers=-1", "layers=2", "layers=2,how=sum"]
    requests = [Request.parse(f"{STEPS},{text}") for text in texts]
    assert {request.layers.indices(3) for request in requests} == {(2,)}
    assert Request.parse("x:/a/b@c,fps=2.5,deltas=true,kind=mfcc").options == {
        "fps": 2.5,
        "deltas": True,
        "kind": "mfcc",
    }


@pytest.mark.parametrize("batching", ["mask", "equal", "single"])
def test_batches_hold_their_room(batching: str) -> None:
    items = [Item(i, 0.0, Prepared(torch.zeros(n), torch.zeros(n))) for i, n in enumerate([5, 3, 5, 9, 40, 3, 5])]
    dealt = list(batches(items, batching=batching, room=16))
    assert sorted(item.clip for batch in dealt for item in batch) == list(range(7))
    for batch in dealt:
        lengths = [len(item.prepared.values) for item in batch]
        assert len(batch) == 1 or len(batch) * max(lengths) <= 16
        assert batching == "mask" or len(set(lengths)) == 1
    assert (max(map(len, dealt)) > 1) == (batching != "single")


# -- what happens to a run ------------------------------------------------------------------


def test_the_plan_is_pure(clips: Manifest, tmp_path: Path) -> None:
    extraction = Extraction(clips, PAIR, FeatureStore(tmp_path))
    again = _plan.plan(Manifest(reversed(clips)), extraction.specifications, FeatureStore(tmp_path))
    assert again == extraction.buckets
    assert [len(bucket.clips) for bucket in again] == [16, 3]


@pytest.mark.parametrize(
    ("option", "wanted"),
    [
        ("logmel,n_mels=abc", "n_mels=abc; wanted a whole number"),
        ("logmel,n_mels=40.5", "n_mels=40.5; wanted a whole number"),
        ("logmel,deltas=2", "deltas=2; wanted true or false"),
        ("hog,fps=fast", "fps=fast; wanted a number"),
    ],
)
def test_options_of_another_kind_are_refused(tmp_path: Path, option: str, wanted: str) -> None:
    clips = Manifest([Clip("a", video=tmp_path / "a.mp4")])
    with pytest.raises(EncoderError, match=wanted):
        extract(clips, [option], FeatureStore(tmp_path / "store"))


def test_empty_files_and_stretches_past_the_end_say_so(tmp_path: Path) -> None:
    empty, short = tmp_path / "empty.mp4", write_clip(tmp_path / "short.mp4", seconds=0.4)
    empty.touch()
    clips = Manifest([Clip("empty", video=empty), Clip("past", video=short, start=9.0, end=10.0)])
    report = extract(clips, ["logmel"], FeatureStore(tmp_path / "store"))
    assert {f.id: f.reason for f in report.failures} == {
        "empty": "the file is empty",
        "past": "the audio ends before the clip starts",
    }
    assert report.n_decoded == 0
