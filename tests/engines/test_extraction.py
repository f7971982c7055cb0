"""Extraction: the same shards for any workers and order, and nothing is extracted twice."""

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
from affuse.media.inputs import Sound, Source
from affuse.media.read import read

from ..media_files import write_clip
from ..small import Steps, single
from .conftest import PAIR, digests

STEPS = f"{Steps.__module__}.Steps"


def test_shards_do_not_depend_on_workers_order_or_parts(clips: Manifest, whole: dict[str, str], tmp_path: Path) -> None:
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


def test_a_complete_store_decodes_nothing_and_imports_no_torch(
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


def test_features_equal_those_of_each_clip_alone(clips: Manifest, tmp_path: Path) -> None:
    store = FeatureStore(tmp_path)
    requests = [f"{STEPS},layers=all,pool=none,store_dtype=float32,batching={b}" for b in ("mask", "equal", "single")]
    requests.append("wav2vec2:untrained,store_dtype=float32")
    report = extract(clips, requests, store)
    encoder = Steps()
    from affuse.extractors.wav2vec2 import Wav2Vec2

    speech = Wav2Vec2.untrained().eval()
    for clip in clips.clips[:17]:
        media, _ = read(Source.from_clip(clip), [Sound(16_000)])
        layers = single(encoder, media[0])
        expected = torch.stack([layer.values[0] for layer in layers], 1).numpy()
        for request in requests[:3]:
            found = store.read(report.keys[request], clip.id)
            np.testing.assert_allclose(found.values, expected, rtol=1e-4, atol=1e-6)
            np.testing.assert_allclose(found.times, layers[0].times[0], rtol=1e-6)
        last = single(speech, media[0])[-1].values[0].numpy()
        found = store.read(report.keys[requests[3]], clip.id).values
        np.testing.assert_allclose(found, last, rtol=1e-4, atol=1e-4)


def test_layers_are_derived_from_stored_features(clips: Manifest, tmp_path: Path) -> None:
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


def test_only_new_and_changed_media_are_extracted(tmp_path: Path) -> None:
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


def test_a_missing_file_is_extracted_once_it_exists(tmp_path: Path) -> None:
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


def test_invalid_requests_are_refused_with_a_suggestion(clips: Manifest, tmp_path: Path) -> None:
    for request, error, message in [
        ("wav2vec", UnknownName, "did you mean 'wav2vec2'"),
        ("hog,fsp=5", UnknownOption, "did you mean 'fps'"),
        ("wav2vec2", EncoderError, "needs a checkpoint"),
        ("logmel,layers=7", EncoderError, "layers 0 to 0"),
        ("logmel,layers=first", EncoderError, "Found layers=first; expected an index"),
        ("logmel,pool=max", EncoderError, "expected none, mean"),
        ("logmel,deltas", EncoderError, "of the form name=value"),
    ]:
        with pytest.raises(error, match=message):
            extract(clips, [request], FeatureStore(tmp_path))


def test_an_unwritable_folder_is_named(clips: Manifest, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EnvironmentFailure, match=f"{tmp_path}/file/x.*Choose a folder"):
        extract(clips, ["logmel"], FeatureStore(tmp_path / "file" / "x"))


def test_equal_choices_of_layers_have_one_key() -> None:
    texts = ["layers=last", "layers=-1", "layers=2", "layers=2,how=sum"]
    requests = [Request.parse(f"{STEPS},{text}") for text in texts]
    assert {request.layers.indices(3) for request in requests} == {(2,)}
    assert Request.parse("x:/a/b@c,fps=2.5,deltas=true,kind=mfcc").options == {
        "fps": 2.5,
        "deltas": True,
        "kind": "mfcc",
    }


@pytest.mark.parametrize("batching", ["mask", "equal", "single"])
def test_batches_keep_the_limit(batching: str) -> None:
    items = [Item(i, 0.0, Prepared(torch.zeros(n), torch.zeros(n))) for i, n in enumerate([5, 3, 5, 9, 40, 3, 5])]
    found = list(batches(items, batching=batching, limit=16))
    assert sorted(item.clip for batch in found for item in batch) == list(range(7))
    for batch in found:
        lengths = [len(item.prepared.values) for item in batch]
        assert len(batch) == 1 or len(batch) * max(lengths) <= 16
        assert batching == "mask" or len(set(lengths)) == 1
    assert (max(map(len, found)) > 1) == (batching != "single")


def test_the_plan_does_not_depend_on_the_order_of_the_manifest(clips: Manifest, tmp_path: Path) -> None:
    extraction = Extraction(clips, PAIR, FeatureStore(tmp_path))
    again = _plan.pending(_plan.divide(Manifest(reversed(clips))), extraction.specifications, FeatureStore(tmp_path))
    assert again == extraction.chunks
    assert [len(chunk.clips) for chunk in again] == [16, 3]


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("logmel,n_mels=abc", "n_mels=abc for logmel; expected a whole number"),
        ("logmel,n_mels=40.5", "n_mels=40.5 for logmel; expected a whole number"),
        ("logmel,deltas=2", "deltas=2 for logmel; expected true or false"),
        ("hog,fps=fast", "fps=fast for hog; expected a number"),
    ],
)
def test_options_of_the_wrong_type_are_refused(tmp_path: Path, option: str, message: str) -> None:
    clips = Manifest([Clip("a", video=tmp_path / "a.mp4")])
    with pytest.raises(EncoderError, match=message):
        extract(clips, [option], FeatureStore(tmp_path / "store"))


def test_reasons_of_empty_files_and_windows_past_the_end(tmp_path: Path) -> None:
    empty, short = tmp_path / "empty.mp4", write_clip(tmp_path / "short.mp4", seconds=0.4)
    empty.touch()
    clips = Manifest([Clip("empty", video=empty), Clip("past", video=short, start=9.0, end=10.0)])
    report = extract(clips, ["logmel"], FeatureStore(tmp_path / "store"))
    assert {f.id: f.reason for f in report.failures} == {
        "empty": "the file is empty",
        "past": "the audio ends before the clip starts",
    }
    assert report.n_decoded == 0
