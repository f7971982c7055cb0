"""`load_encoder` encodes files and arrays with the same result as an extraction into a store."""

import logging
from pathlib import Path

import av
import numpy as np
import pytest

from affuse.cache.store import FeatureStore
from affuse.engines._extraction import extract
from affuse.errors import EncoderError, MediaError
from affuse.extractors._loading import load_encoder
from affuse.extractors._request import Request
from affuse.manifest import Clip, Manifest
from affuse.media.inputs import Frames, Sound, Source
from affuse.media.read import read

from ..media_files import write_clip
from ..small import Steps

STEPS = f"{Steps.__module__}.Steps"
REQUESTS = ["wav2vec2:untrained", "logmel,pool=mean", f"{STEPS},layers=-2:-1", "hog,fps=5", f"{STEPS},layers=all"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    write_clip(folder / "a.mp4", seconds=1.3, size=(64, 48))
    write_clip(folder / "b.mp4", seconds=0.8, size=(64, 48), seed=1)
    write_clip(folder / "long.mkv", seconds=70, fps=5, size=(64, 48), sampling_rate=16_000, layout="mono")
    (folder / "broken.mp4").write_text("not a video")
    return folder


@pytest.mark.parametrize("request_", REQUESTS)
def test_encode_equals_extraction(folder: Path, tmp_path: Path, request_: str) -> None:
    paths = [folder / name for name in ("a.mp4", "b.mp4", "long.mkv")]
    store = FeatureStore(tmp_path)
    report = extract(Manifest([Clip(path.stem, video=path) for path in paths]), [request_], store)
    stream = load_encoder(request_, device="cpu").encode(paths)
    for row, path in enumerate(paths):
        stored = store.read(report.keys[request_], path.stem)
        values = stream.values[row][stream.mask[row]].numpy()
        assert values.dtype == np.float32 and values.shape == stored.values.shape
        np.testing.assert_allclose(values, stored.values.astype(np.float32), rtol=2e-3, atol=2e-3)
        np.testing.assert_allclose(stream.times[row][stream.mask[row]], stored.times, rtol=1e-6)


def test_a_path_a_text_and_an_open_file_are_equal(folder: Path) -> None:
    encoder = load_encoder("logmel")
    path = folder / "a.mp4"
    expected = encoder.encode(path)
    assert expected.values.shape[0] == 1 and expected.mask.all()
    with path.open("rb") as file:
        for found in (encoder.encode(str(path)), encoder.encode(file)):
            np.testing.assert_array_equal(found.values, expected.values)


@pytest.mark.parametrize("name", ["a.mp4", "long.mkv"])
def test_arrays_equal_the_files_they_come_from(folder: Path, name: str) -> None:
    path = folder / name
    (sound,), _ = read(Source(path), [Sound(16_000)])
    encoder = load_encoder("logmel")
    expected = encoder.encode(path)
    found = encoder.encode(sound.values, rate=16_000)
    np.testing.assert_allclose(found.values, expected.values, atol=1e-5)
    np.testing.assert_allclose(found.times, expected.times)
    with av.open(str(path)) as container:
        frames = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
        fps = float(container.streams.video[0].average_rate)
    encoder = load_encoder("hog,fps=5")
    found, expected = encoder.encode(frames, rate=fps), encoder.encode(path)
    np.testing.assert_allclose(found.values, expected.values, atol=1e-6)
    np.testing.assert_allclose(found.times, expected.times, atol=1e-6)


def test_sound_of_another_rate_is_resampled() -> None:
    encoder = load_encoder("logmel")
    assert encoder.encode(np.zeros(44_100, np.float32), rate=44_100).values.shape == (1, 101, 80)


def test_errors_name_the_file_or_the_array(folder: Path) -> None:
    encoder = load_encoder("logmel")
    with pytest.raises(MediaError, match="unreadable: .*broken.mp4") as caught:
        encoder.encode([folder / "a.mp4", folder / "broken.mp4"])
    assert caught.value.code == "unreadable"
    with pytest.raises(MediaError, match="file_missing: .*gone.wav"):
        encoder.encode(folder / "gone.wav")
    with (folder / "broken.mp4").open("rb") as file, pytest.raises(MediaError, match="broken.mp4"):
        encoder.encode(file)
    with pytest.raises(EncoderError, match="type ndarray; expected paths"):
        encoder.encode([np.zeros(16_000)])
    with pytest.raises(EncoderError, match="without its rate"):
        encoder.encode(np.zeros(16_000, np.float32))
    with pytest.raises(EncoderError, match=r"shape \(2, 16000\).*expected mono sound"):
        encoder.encode(np.zeros((2, 16_000), np.float32), rate=16_000)
    with pytest.raises(MediaError, match="too_short"):
        encoder.encode(np.zeros(0, np.float32), rate=16_000)
    with pytest.raises(EncoderError, match="expected RGB frames"):
        load_encoder("hog").encode(np.zeros((4, 32, 32), np.uint8), rate=5)


def test_the_former_name_of_store_dtype_is_understood(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="affuse"):
        assert Request.parse("logmel,dtype=float32") == Request.parse("logmel,store_dtype=float32")
    assert [record.getMessage() for record in caplog.records] == [
        "The encoder option dtype= is now called store_dtype=; the old name still works."
    ]
    with pytest.raises(EncoderError, match="Found store_dtype=float8"):
        Request.parse("logmel,store_dtype=float8")


def test_an_open_file_is_a_source_of_media(folder: Path) -> None:
    inputs = [Sound(16_000), Frames(fps=5, size=32)]
    expected, _ = read(Source(folder / "a.mp4", start=0.2, end=1.0), inputs)
    with (folder / "a.mp4").open("rb") as file:
        found, outcomes = read(Source(file, start=0.2, end=1.0), inputs)
    assert [outcome.code for outcome in outcomes] == ["ok", "ok"]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one.values, other.values)
