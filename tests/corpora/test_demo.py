"""The built-in corpora have real media, are reproducible and need both modalities."""

import itertools
from pathlib import Path

import av
import numpy as np
import pytest

from affuse.annotations import Track
from affuse.corpora import demo, demo_long
from affuse.corpora._demo_face import Expression, Look, draw
from affuse.corpora._demo_video import frame_times
from affuse.corpora._demo_voice import CONTROL_RATE, Prosody, Voice, speak
from affuse.manifest import Manifest


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return demo.make_demo_corpus(tmp_path_factory.mktemp("demo"), n_speakers=2, n_repetitions=1)


def test_clips_have_h264_video_and_aac_audio_of_equal_length(made: Manifest) -> None:
    assert len(made) == 12 and len(made.speakers) == 2 and len(made.emotions) == 6
    assert made[0].video
    with av.open(str(made[0].video)) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        assert (video.codec_context.name, audio.codec_context.name) == ("h264", "aac")
        assert (video.width, video.height) == (demo.SIZE, demo.SIZE)
        seconds = [float(s.duration * s.time_base) for s in (video, audio)]
    assert seconds[0] == pytest.approx(seconds[1], abs=0.1)
    assert 1.3 < seconds[0] < 2.1
    np.testing.assert_allclose(np.diff(frame_times(made[0].video)), 1 / demo.FPS, atol=1e-4)


def test_the_same_seed_gives_the_same_bytes(made: Manifest, tmp_path: Path) -> None:
    again = demo.make_demo_corpus(tmp_path, n_speakers=1, n_repetitions=1)
    assert made[0].video and again[0].video
    assert made[0].video.read_bytes() == again[0].video.read_bytes()
    assert demo.Demo().read(tmp_path).manifest.ids == again.ids


def test_every_pair_of_emotions_differs_in_some_modality() -> None:
    for one, other in itertools.combinations(demo.DISPLAYS.values(), 2):
        assert one.face != other.face or one.voice != other.voice
    faces = {d.face for d in demo.DISPLAYS.values()}
    voices = {id(d.voice) for d in demo.DISPLAYS.values()}
    assert len(faces) == len(voices) == 4


def test_a_face_shows_its_expression() -> None:
    look = Look.random(np.random.default_rng(0))
    rest, wide, smile = (
        draw(look, Expression(**e), 128).astype(int) for e in ({}, {"eye_open": 1.5}, {"mouth_curve": 1.0})
    )
    eyes, mouth = slice(40, 66), slice(72, 100)
    assert np.abs(wide - rest)[eyes].max() > 40 and np.abs(wide - rest)[mouth].max() == 0
    assert np.abs(smile - rest)[mouth].max() > 40 and np.abs(smile - rest)[eyes].max() == 0


def test_a_voice_has_the_requested_pitch_and_loudness() -> None:
    voice = Voice(pitch=120.0, formants=1.0, tilt=-12.0, level=0.0)

    def sound(**prosody: float) -> np.ndarray:
        steady = Prosody(**({"swing": 0.0, "breath": 0.0} | prosody))
        return speak(voice, steady, 2.0, np.random.default_rng(1)).sound

    for factor in (1.0, 1.6):
        spectrum = np.abs(np.fft.rfft(sound(pitch=factor) * np.hanning(32_000)))
        strongest = np.fft.rfftfreq(32_000, 1 / 16_000)[40:600][spectrum[40:600].argmax()]
        ratio = strongest / (120 * factor)
        assert ratio == pytest.approx(round(ratio), abs=0.12)
    louder = sound(level=6.0).std() / sound().std()
    assert louder == pytest.approx(2.0, rel=0.1)


def test_annotations_of_long_recordings_are_delayed(tmp_path: Path) -> None:
    made = demo_long.make_long_demo_corpus(tmp_path, n_speakers=1, seconds=8.0)
    clip = demo_long.DemoLong().read(tmp_path).manifest[0]
    assert clip.video and clip.labels and clip.id == made[0].id
    assert len(frame_times(clip.video)) == 80
    track = Track.read(clip.labels)
    assert len(track.times) == 200 and np.isnan(track.values[track.times < 2.4]).all()

    n = 60 * CONTROL_RATE
    felt = np.sin(np.arange(n) / 150)
    course = demo_long.Course(felt, -felt, np.zeros(n, bool), np.zeros(n, bool))
    late = demo_long.annotate(course, 1.8, np.random.default_rng(0))
    known = np.isfinite(late.values[:, 0])
    seen = np.interp(late.times[known] - 1.8, np.arange(n) / CONTROL_RATE, felt)
    assert np.abs(late.values[known, 0] - seen).max() < 0.25
    assert 0.85 < known.mean() < 1.0
