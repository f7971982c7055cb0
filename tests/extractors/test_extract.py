"""Extraction gives the same shards whoever makes them, and nothing that was committed is lost."""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from affuse.cache.store import FeatureStore
from affuse.corpora._folder import scan
from affuse.corpora._manifest import Clip, Manifest
from affuse.errors import (
    EncoderError,
    EnvironmentFailure,
    MediaError,
    StoreError,
    UnknownName,
    UnknownOption,
)
from affuse.extractors import _plan
from affuse.extractors._decoder import Decoder, Limits
from affuse.extractors._encoder import Prepared
from affuse.extractors._engine import Extraction, ExtractReport, Settings, extract
from affuse.extractors._forward import Item, batches
from affuse.extractors._media import Source, read
from affuse.extractors._request import Request
from affuse.extractors._wants import Sound

from ..media import garbled, write_clip
from ..small import Steps, single

STEPS = f"{Steps.__module__}.Steps"
PAIR = ("logmel", "hog,fps=5")


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """Nineteen clips, two of them broken: two buckets."""
    folder = tmp_path_factory.mktemp("clips")
    for i in range(17):
        write_clip(folder / f"{i:02d}.mp4", seconds=0.3 + 0.1 * (i % 4), size=(64, 48), seed=i)
    (folder / "17.mp4").write_bytes(b"#EXTM3U\n00.mp4\n")
    (folder / "18.mp4").write_bytes(b"")
    return scan(folder)


def digests(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
            for p in sorted(folder.rglob("*.h5"))}  # fmt: skip


@pytest.fixture(scope="module")
def whole(clips: Manifest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Digests of an uninterrupted run with one worker."""
    folder = tmp_path_factory.mktemp("whole")
    extract(clips, PAIR, FeatureStore(folder), settings=Settings(workers=1))
    return digests(folder)


def test_bytes_are_the_same_whoever_extracts(
    clips: Manifest, whole: dict[str, str], tmp_path: Path
) -> None:
    assert len(whole) == 4
    backwards = Manifest(reversed(clips))
    extract(backwards, PAIR, FeatureStore(tmp_path / "a"), settings=Settings(workers=3))
    assert digests(tmp_path / "a") == whole
    for i in (2, 1):
        extract(clips, PAIR, FeatureStore(tmp_path / "b"), settings=Settings(part=(i, 2)))
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
        "from affuse.extractors._engine import extract\n"
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
    requests = [f"{STEPS},layers=all,pool=none,dtype=float32,batching={b}"
                for b in ("mask", "equal", "single")]  # fmt: skip
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
    np.testing.assert_array_equal(
        store.read(key, "03").values, store.read(apart, "03").values[:, 0]
    )
    assert store.rows(key)["17"].code == "unreadable"
    fresh = FeatureStore(tmp_path / "fresh")
    asked = [f"{STEPS},layers=1", f"{STEPS},layers=-2:-1,how=sum", f"{STEPS},layers=0+2,how=mean",
             f"{STEPS},layers=all"]  # fmt: skip
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
    assert {(f.id, f.code) for f in report.failures} == {
        ("a", "no_video_stream"), ("gone", "file_missing")}  # fmt: skip
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
        "fps": 2.5, "deltas": True, "kind": "mfcc"}  # fmt: skip


@pytest.mark.parametrize("batching", ["mask", "equal", "single"])
def test_batches_hold_their_room(batching: str) -> None:
    items = [Item(i, 0.0, Prepared(torch.zeros(n), torch.zeros(n)))
             for i, n in enumerate([5, 3, 5, 9, 40, 3, 5])]  # fmt: skip
    dealt = list(batches(items, batching=batching, room=16))
    assert sorted(item.clip for batch in dealt for item in batch) == list(range(7))
    for batch in dealt:
        lengths = [len(item.prepared.values) for item in batch]
        assert len(batch) == 1 or len(batch) * max(lengths) <= 16
        assert batching == "mask" or len(set(lengths)) == 1
    assert (max(map(len, dealt)) > 1) == (batching != "single")


# -- what happens to a run ------------------------------------------------------------------


def forked(work: Callable[[], object]) -> int:
    """Run in a child that has everything imported; return its process id."""
    pid = os.fork()
    if pid:
        return pid
    try:
        os.setpgid(0, 0)
        work()
        os._exit(0)
    except BaseException as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        os._exit(1)


def children(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for path in listed for child in path.read_text().split()]


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finds children in /proc")
def test_kill_at_any_point_then_resume(
    clips: Manifest, whole: dict[str, str], tmp_path: Path
) -> None:
    choose = random.Random(5)

    def run() -> ExtractReport:
        return extract(clips, PAIR, FeatureStore(tmp_path), settings=Settings(workers=1))

    n_killed = 0
    for _ in range(60):
        pid = forked(run)
        time.sleep(choose.uniform(0.05, 0.7))
        try:
            victims = [pid, *children(pid)]
            victim = choose.choice(victims)
            os.kill(victim, signal.SIGKILL)
            n_killed += 1
        except (ProcessLookupError, FileNotFoundError):
            victim = pid
        if victim == pid:
            os.waitpid(pid, 0)
        else:
            assert os.waitpid(pid, 0)[1] == 0  # a decoder's death is nobody's business
        if n_killed == 20:
            break
        if len(digests(tmp_path)) == len(whole):
            assert digests(tmp_path) == whole
            for path in tmp_path.rglob("*.h5"):
                path.unlink()
    assert n_killed == 20
    report = run()
    assert digests(tmp_path) == whole
    assert not [f for f in report.failures if f.code not in ("unreadable",)]


def test_ctrl_c_keeps_what_is_committed(clips: Manifest, tmp_path: Path) -> None:
    rows = [Clip(f"{i:03d}", video=clips[i % 17].video, start=0.0, end=0.3) for i in range(400)]
    Manifest(rows).write(tmp_path / "clips.csv")
    command = [sys.executable, "-m", "affuse", "extract", str(tmp_path / "clips.csv"), "-e",
               "logmel", "-o", str(tmp_path / "out"), "--workers", "1"]  # fmt: skip
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while not list(tmp_path.rglob("*.h5")):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    began = time.monotonic()
    said = process.communicate(timeout=30)[1]
    assert process.returncode == 130 and time.monotonic() - began < 10
    assert "Run the same command again to go on" in said
    committed = digests(tmp_path / "out")
    report = extract(Manifest(rows), ["logmel"], FeatureStore(tmp_path / "out"))
    assert 0 < report.n_decoded < 400
    assert committed.items() <= digests(tmp_path / "out").items()


def test_disk_full_then_freed(clips: Manifest, whole: dict[str, str], small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(200_000))
    with pytest.raises(EnvironmentFailure, match="No space left.*goes on where it stopped"):
        extract(clips, PAIR, FeatureStore(small_disk / "store"), settings=Settings(workers=1))
    assert not list(small_disk.rglob("*.tmp"))
    left = digests(small_disk / "store")
    assert left.items() <= whole.items()
    ballast.unlink()
    subprocess.run(["mount", "-o", "remount,size=8m", str(small_disk)], check=True)
    extract(clips, PAIR, FeatureStore(small_disk / "store"))
    assert digests(small_disk / "store") == whole


def test_three_hundred_mutated_files(tmp_path: Path) -> None:
    folder = tmp_path / "clips"
    sources = [
        write_clip(tmp_path / "a.mp4", seconds=0.4, size=(64, 48)),
        write_clip(tmp_path / "b.mkv", seconds=0.4, size=(64, 48)),
        write_clip(tmp_path / "c.flac", seconds=0.4, video=False, audio_codec="flac"),
        write_clip(tmp_path / "d.avi", seconds=0.4, size=(64, 48), video_codec="mpeg4",
                   audio_codec="pcm_s16le"),
    ]  # fmt: skip
    folder.mkdir()
    for i in range(300):
        source = sources[i % len(sources)]
        (folder / f"{i:03d}{source.suffix}").write_bytes(garbled(source.read_bytes(), i))
    clips, store = scan(folder), FeatureStore(tmp_path / "store")
    report = extract(clips, PAIR, store, settings=Settings(decode_seconds=20))
    for key in report.keys.values():
        rows = store.rows(key)
        assert len(rows) == 300
        assert all((row.code == "ok") == (row.reason == "") for row in rows.values())
        for name, row in rows.items():
            features = store.read(key, name)
            assert (features is not None) == (row.code == "ok")
            assert features is None or np.isfinite(features.values).all()
    codes = {f.code for f in report.failures}
    assert "unreadable" in codes and "decoder_crashed" not in codes


def test_what_never_ends_is_ended(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    write_clip(tmp_path / "a.wav", seconds=0.4, video=False, audio_codec="pcm_s16le")
    sources = [Source(None, tmp_path / name) for name in ("pipe.wav", "a.wav")]
    with Decoder([Sound()], limits=Limits(seconds=1)) as decoder:
        decoder.queue(sources, [0])
        with pytest.raises(MediaError, match="timeout: decoding took longer than 1 seconds"):
            list(decoder.clip())
        (part,) = decoder.clip()
        assert part.media[0].values.shape == (6400,)
    clips = Manifest([Clip("pipe", audio=tmp_path / "pipe.wav")])
    report = extract(clips, ["logmel"], FeatureStore(tmp_path / "o"))
    assert [f.code for f in report.failures] == ["file_missing"]


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
        "empty": "the file is empty", "past": "the audio ends before the clip starts"}  # fmt: skip
    assert report.n_decoded == 0
