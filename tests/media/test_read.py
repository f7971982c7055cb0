"""Decoding: times, pixels and loudness are right, and damaged files give a failure code."""

import subprocess
import sys
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from affuse.errors import MediaError
from affuse.media.faces import FaceFinder
from affuse.media.inputs import Frames, Media, Outcome, Sound, Source
from affuse.media.read import read, stream
from affuse.media.samplers import SEGMENT, FrameSampler

from ..media_files import grey_level, picture, tone, write_clip

RATE = 16_000
INPUTS = [Sound(RATE), Frames(fps=10, size=48)]


def both(path: Path, **window: float) -> tuple[list[Media | None], list[Outcome]]:
    return read(Source(path, None, **window), INPUTS)


# -- time -----------------------------------------------------------------------------------


def flash_and_click(path: Path, *, video_start: float, audio_start: float) -> Path:
    """Write a clip that flashes white and clicks 1.0 s after the beginning of each stream."""

    def draw(time: float, size: tuple[int, int], seed: int) -> np.ndarray:
        return np.full((size[1], size[0], 3), 255 if 1.0 <= time < 1.2 else 0, np.uint8)

    click = np.zeros((1, 2 * 44_100), np.float32)
    click[0, 44_100 : 44_100 + 441] = 0.8
    return write_clip(
        path,
        seconds=2,
        draw=draw,
        sound=click,
        layout="mono",
        size=(64, 48),
        video_start=video_start,
        audio_start=audio_start,
    )


@pytest.mark.parametrize(("video_start", "audio_start"), [(0, 0), (0.743, 0), (0, 0.5), (0.743, 0.743)])
@pytest.mark.parametrize("ending", ["mkv", "mp4"])
def test_sound_and_pictures_are_synchronous(
    tmp_path: Path, ending: str, video_start: float, audio_start: float
) -> None:
    path = flash_and_click(tmp_path / f"a.{ending}", video_start=video_start, audio_start=audio_start)
    inputs = [Sound(RATE), Frames(fps=100, size=48)]
    (sound, frames), _ = read(Source(path, None), inputs)
    clicked = int(np.abs(sound.values).argmax()) / RATE
    flashed = float(frames.times[frames.values.mean((1, 2, 3)) > 128][0])
    assert abs((flashed - clicked) - (video_start - audio_start)) < 0.04
    assert abs(clicked - 1 - audio_start + min(video_start, audio_start)) < 0.04


def test_variable_frame_rate_follows_the_timestamps(tmp_path: Path) -> None:
    times = [0, 0.04, 0.08, 1.0, 1.9, 1.94, 5.0, 5.67]
    path = write_clip(tmp_path / "a.mp4", times=times, draw=grey_level, audio=False)
    (frames,), (outcome,) = read(Source(path, None), [Frames(fps=4)])
    on_screen = [max(t for t in times if t <= moment) for moment in frames.times]
    level = frames.values.mean((1, 2, 3))
    np.testing.assert_allclose(level, [20 + 20 * t for t in on_screen], atol=4)
    assert outcome.duration == pytest.approx(5.71, abs=0.01)


def test_frame_count_is_spread_over_the_clip(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", seconds=4, draw=grey_level, audio=False)
    (frames,), _ = read(Source(path, None), [Frames(count=8)])
    np.testing.assert_allclose(frames.times, np.arange(8) / 2 + 0.25, atol=1e-3)
    np.testing.assert_allclose(frames.values.mean((1, 2, 3)), 20 + 20 * frames.times, atol=3)
    (short,), _ = read(Source(path, None, start=1, end=1.1), [Frames(count=16)])
    assert len(short.values) == 16


INTERLACED = {"x264-params": "interlaced=1"}


@pytest.mark.parametrize("wanted", [Frames(fps=3, size=48), Frames(fps=7.3, size=48), Frames(count=8, size=48)])
@pytest.mark.parametrize("window", [{}, {"start": 1.01, "end": 2.6}])
@pytest.mark.parametrize(("ending", "options"), [("mp4", {"bf": "3"}), ("ts", {"bf": "8"}), ("mkv", INTERLACED)])
def test_skipping_frames_that_are_not_sampled_changes_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    wanted: Frames,
    window: dict[str, float],
    ending: str,
    options: dict[str, str],
) -> None:
    path = write_clip(tmp_path / f"a.{ending}", seconds=3, fps=30, size=(64, 48), options=options)
    decoded = []
    feed = FrameSampler.feed
    monkeypatch.setattr(
        FrameSampler,
        "feed",
        lambda sampler, frame, time, **about: (decoded.append(time), feed(sampler, frame, time, **about)),
    )
    (few,), how = read(Source(path, None, **window), [wanted])
    n_few = len(decoded)
    monkeypatch.setattr("affuse.media.read.SKIPPING_CODECS", set())
    (every,), how_every = read(Source(path, None, **window), [wanted])
    np.testing.assert_array_equal(few.values, every.values)
    np.testing.assert_array_equal(few.times, every.times)
    n_every = len(decoded) - n_few
    assert how == how_every
    assert n_few < 0.8 * n_every or options is INTERLACED  # interlaced pictures refer to each other


def test_a_window_equals_that_part_of_the_whole_clip(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", seconds=4, draw=grey_level)
    whole, _ = both(path)
    part, (sound, frames) = both(path, start=1.5, end=3.0)
    assert len(part[0].values) == 1.5 * RATE and len(part[1].values) == 15
    alike = np.corrcoef(part[0].values, whole[0].values[24_000:48_000])[0, 1]
    assert alike > 0.995  # resampling begins elsewhere, by a part of a sample
    np.testing.assert_array_equal(part[1].values, whole[1].values[15:30])
    assert sound.coverage == frames.coverage == 1.0


def test_long_clips_come_in_segments_that_fit_together(tmp_path: Path) -> None:
    path = write_clip(
        tmp_path / "a.mkv", seconds=95, fps=5, size=(64, 48), draw=grey_level, sampling_rate=8000, layout="mono"
    )
    parts = list(stream(Source(path, None), INPUTS))
    assert [part.start for part in parts] == [0, SEGMENT]
    assert [round(part.media[0].duration) for part in parts] == [40, 55]
    whole, _ = both(path)
    assert len(whole[1].values) == 950
    np.testing.assert_allclose(np.diff(whole[1].times), 0.1, atol=1e-3)
    short = write_clip(tmp_path / "b.mkv", seconds=59, fps=5, size=(64, 48), audio=False)
    assert len(list(stream(Source(short, None), INPUTS[1:]))) == 1


def test_a_stream_that_ends_early_does_not_delay_the_other(tmp_path: Path) -> None:
    settings = {"seconds": 170, "fps": 2, "size": (64, 48), "draw": grey_level, "sound": tone(3, 8000)}
    write = partial(write_clip, **settings, sampling_rate=8000, layout="mono")
    path = write(tmp_path / "a.mkv")
    parts = list(stream(Source(path, None), INPUTS))
    lengths = [len(part.media[0].values) for part in parts]
    assert lengths[0] == pytest.approx(3 * RATE, rel=0.03) and lengths[1:] == [0, 0, 0]
    assert sum(len(part.media[1].values) for part in parts) == 1700
    late = write(tmp_path / "b.mkv", audio_start=150)
    parts = list(stream(Source(late, None), INPUTS))
    sound = np.concatenate([part.media[0].values for part in parts])
    assert np.flatnonzero(np.abs(sound) > 0.1)[0] / RATE == pytest.approx(150, abs=0.1)


# -- pixels ---------------------------------------------------------------------------------


def test_pixels_equal_those_of_pillow(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", seconds=0.4, size=(320, 180))
    with av.open(str(path)) as file:
        first = next(file.decode(video=0)).to_image()
    want = Frames(fps=25, size=96, crop_size=96)
    (frames,), _ = read(Source(path, None), [want])
    resized = first.resize((170, 96), Image.Resampling.BICUBIC).crop((37, 0, 133, 96))
    np.testing.assert_array_equal(frames.values[0], np.asarray(resized))
    (squashed,), _ = read(Source(path, None), [Frames(fps=25, size=64, squash=True)])
    assert squashed.values.shape[1:] == (64, 64, 3)


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_rotated_video_is_turned_upright(tmp_path: Path, degrees: int) -> None:
    plain = write_clip(tmp_path / "a.mp4", seconds=0.4, size=(96, 64), audio=False)
    turned = tmp_path / "b.mp4"
    raw = bytearray(plain.read_bytes())
    place = raw.index(b"tkhd") + 4 + 40  # version 0: the matrix of the track
    cos, sin = {90: (0, 1), 180: (-1, 0), 270: (0, -1)}[degrees]
    matrix = [cos, sin, 0, -sin, cos, 0, 0, 0, 0]
    fixed = [round(v * (1 << 16)) for v in matrix]
    fixed[8] = 1 << 30
    raw[place : place + 36] = b"".join(v.to_bytes(4, "big", signed=True) for v in fixed)
    turned.write_bytes(raw)
    (upright,), _ = read(Source(plain, None), [Frames(fps=5)])
    (found,), _ = read(Source(turned, None), [Frames(fps=5)])
    clockwise = np.rot90(upright.values, -degrees // 90, axes=(1, 2))
    np.testing.assert_array_equal(found.values, clockwise)


def test_non_square_pixels_are_made_square(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as file:
        vision = file.add_stream("libx264", rate=10)
        vision.width, vision.height, vision.pix_fmt = 72, 64, "yuv420p"
        vision.codec_context.sample_aspect_ratio = Fraction(16, 9)
        for i in range(5):
            frame = av.VideoFrame.from_ndarray(picture(i / 10, (72, 64)), format="rgb24")
            file.mux(vision.encode(frame))
        file.mux(vision.encode())
    (frames,), _ = read(Source(path, None), [Frames(fps=10)])
    assert frames.values.shape == (5, 64, 128, 3)


def test_faces_are_cropped_from_the_full_frame(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = sorted((data / "ravdess" / "video").glob("*.mp4"))[0]
    finder = FaceFinder(data / "weights" / "yunet.onnx")
    inputs = [Frames(fps=2, size=96, squash=True, crop="face"), Frames(fps=2, size=720)]
    (face, whole), (outcome, plain) = read(Source(path, None), inputs, finder=finder)
    assert (outcome.face_share, plain.face_share) == (1.0, None)
    assert face.values.shape[1:] == (96, 96, 3)
    track = finder.track(list(whole.values), whole.times)
    left, top, right, bottom = track.boxes[0].round().astype(int)
    expected = Image.fromarray(whole.values[0][top:bottom, left:right]).resize((96, 96))
    assert np.abs(face.values[0].astype(int) - np.asarray(expected)).mean() < 3
    monkeypatch.setattr("affuse.media.samplers.FACE_BYTES", 8 << 20)
    (small,), _ = read(Source(path, None), inputs[:1], finder=finder)
    assert np.abs(small.values.astype(int) - face.values).mean() < 12


# -- sound ----------------------------------------------------------------------------------


def test_stereo_downmix_keeps_the_loudness(tmp_path: Path) -> None:
    wave = tone(1, RATE)[0]
    path = write_clip(
        tmp_path / "a.wav", video=False, audio_codec="pcm_s16le", sampling_rate=RATE, sound=np.stack([wave, wave])
    )
    (sound,), _ = read(Source(None, path), [Sound(RATE)])
    np.testing.assert_allclose(sound.values, wave, atol=2e-4)


@pytest.mark.parametrize(
    ("sampling_rate", "layout", "codec", "ending"),
    [
        (8000, "mono", "pcm_s16le", "wav"),
        (192_000, "stereo", "flac", "flac"),
        (48_000, "7.1", "flac", "flac"),
        (48_000, "5.1", "aac", "m4a"),
        (44_100, "mono", "mp3", "mp3"),
        (7999, "mono", "pcm_u8", "wav"),
        (48_000, "stereo", "libopus", "ogg"),
    ],
)
def test_every_format_is_decoded_to_16_khz_mono(
    tmp_path: Path, sampling_rate: int, layout: str, codec: str, ending: str
) -> None:
    path = write_clip(
        tmp_path / f"a.{ending}", seconds=1, video=False, audio_codec=codec, sampling_rate=sampling_rate, layout=layout
    )
    (sound, frames), (heard, seen) = both(path)
    assert heard.code == "ok" and heard.coverage >= 0.99
    assert len(sound.values) == pytest.approx(RATE, rel=0.05)
    assert 0.05 < np.sqrt(np.mean(sound.values**2)) < 0.6
    assert frames is None and seen.code == "no_video_stream"


# -- unusual files and their failure codes ----------------------------------------------------


def outcome_codes(path: Path) -> list[str]:
    try:
        return [outcome.code for outcome in both(path)[1]]
    except MediaError as error:
        return [error.code] * 2


def cover_art(path: Path) -> Path:
    """Write a song whose only picture is its cover."""
    write_clip(path, video=False, audio_codec="aac")
    with av.open(str(path)) as source, av.open(str(path.with_suffix(".tmp.mp4")), "w") as out:
        stream_in = source.streams.audio[0]
        copied = out.add_stream_from_template(stream_in)
        cover = out.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 64, 64, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        out.mux(cover.encode(av.VideoFrame.from_ndarray(picture(0, (64, 64)), format="rgb24")))
        out.mux(cover.encode())
        for packet in source.demux(stream_in):
            if packet.dts is not None:
                packet.stream = copied
                out.mux(packet)
    return path.with_suffix(".tmp.mp4")


def test_unusual_files_have_the_expected_codes(tmp_path: Path) -> None:
    silent = np.zeros((2, 44_100), np.float32)
    playlist, script = tmp_path / "list.mp4", tmp_path / "concat.mp4"
    ordinary = write_clip(tmp_path / "ordinary.mp4")
    playlist.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{ordinary}\n")
    script.write_text(f"ffconcat version 1.0\nfile {ordinary.name}\n")
    text = tmp_path / "text.mp4"
    text.write_text("not a video")
    empty = tmp_path / "empty.mp4"
    empty.touch()
    expected = {
        ordinary: ["ok", "ok"],
        write_clip(tmp_path / "silent.mp4", sound=silent): ["ok", "ok"],
        write_clip(tmp_path / "mute.mp4", audio=False): ["no_audio_stream", "ok"],
        write_clip(tmp_path / "blind.m4a", video=False): ["ok", "no_video_stream"],
        write_clip(tmp_path / "frame.mp4", times=[0.0], audio=False): ["no_audio_stream", "ok"],
        write_clip(tmp_path / "ten.mp4", pixels="yuv420p10le"): ["ok", "ok"],
        write_clip(tmp_path / "full.mp4", pixels="yuv444p"): ["ok", "ok"],
        write_clip(tmp_path / "old.avi", video_codec="mpeg4", audio_codec="pcm_s16le"): ["ok"] * 2,
        write_clip(
            tmp_path / "web.webm",
            video_codec="libvpx-vp9",
            audio_codec="libopus",
            sampling_rate=48_000,
            options={"cpu-used": "8", "deadline": "realtime"},
        ): ["ok", "ok"],
        cover_art(tmp_path / "song.mp4"): ["ok", "no_video_stream"],
        empty: ["unreadable"] * 2,
        text: ["unreadable"] * 2,
        playlist: ["unreadable"] * 2,
        script: ["unreadable"] * 2,
        tmp_path / "gone.mp4": ["file_missing"] * 2,
        tmp_path: ["unreadable"] * 2,
    }
    assert {p.name: outcome_codes(p) for p in expected} == {p.name: c for p, c in expected.items()}


@pytest.mark.parametrize("share", [0.1, 0.4, 0.7, 0.95])
def test_coverage_is_the_fraction_that_decodes(tmp_path: Path, share: float) -> None:
    path = write_clip(tmp_path / "a.mkv", seconds=6, size=(64, 48), options={"g": "5"})
    raw = path.read_bytes()
    path.write_bytes(raw[: int(len(raw) * share)])
    media, (sound, frames) = both(path)
    assert sound.coverage == pytest.approx(media[0].duration / 6, abs=0.02)
    assert frames.coverage == pytest.approx(len(media[1].values) / 60, abs=0.03)
    assert frames.coverage == pytest.approx(share, abs=0.15)  # bytes are not quite seconds


def test_damaged_frames_are_counted(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mkv", seconds=4, size=(96, 64), options={"g": "10"})
    raw = bytearray(path.read_bytes())
    random = np.random.default_rng(1)
    for place in random.integers(len(raw) // 3, 2 * len(raw) // 3, size=400):
        raw[place] ^= 0x55
    path.write_bytes(raw)
    _, outcomes = both(path)
    assert all(outcome.decode_errors > 0 for outcome in outcomes)
    assert all(outcome.coverage < 1 for outcome in outcomes)


def test_a_picture_that_needs_too_much_memory_is_refused(tmp_path: Path) -> None:
    def black(time: float, size: tuple[int, int], seed: int) -> np.ndarray:
        return np.zeros((size[1], size[0], 3), np.uint8)

    path = write_clip(tmp_path / "a.mp4", times=[0.0], size=(8192, 8192), audio=False, draw=black)
    assert outcome_codes(path)[1] in ("undecodable", "too_large")


def test_decoding_does_not_import_torch() -> None:
    script = "import sys, affuse.media.read as m; assert 'torch' not in sys.modules, m"
    subprocess.run([sys.executable, "-c", script], check=True)
