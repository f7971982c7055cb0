"""Face tracking: the same person in every frame, in a box that does not jump."""

from pathlib import Path

import av
import numpy as np
import pytest

from affuse.errors import EncoderError, EnvironmentFailure
from affuse.media.faces import FaceFinder, FaceTrack, _path, _squares, detector_weights


@pytest.fixture(scope="module")
def weights(data):
    return data / "weights" / "yunet.onnx"


def frames_of(video: Path, every: int):
    with av.open(str(video)) as container:
        stream = container.streams.video[0]
        kept = [f for i, f in enumerate(container.decode(stream)) if i % every == 0]
        return [f.to_ndarray(format="rgb24") for f in kept], np.array([f.time for f in kept])


def movement(track: FaceTrack) -> float:
    """Return the largest change of centre or side between frames, in units of the side of the box."""
    squares = _squares(track.boxes)
    return float((np.abs(np.diff(squares, axis=0)) / squares[1:, 2:]).max())


def test_face_is_found_in_every_frame_and_the_box_moves_little(data, weights):
    """At 5 frames per second, a box moves by less than 5 % of its side from frame to frame."""
    videos = sorted((data / "ravdess" / "video").glob("*.mp4"))
    assert len(videos) == 10
    finder, seen, total = FaceFinder(weights), 0.0, 0
    for video in videos:
        frames, times = frames_of(video, every=6)
        track = finder.track(frames, times)
        seen, total = seen + track.share * len(frames), total + len(frames)
        assert movement(track) < 0.05, video.name
    assert seen / total >= 0.99


@pytest.fixture(scope="module")
def portrait(data):
    frames, _ = frames_of(data / "ravdess" / "video" / "01-01-01-01-01-01-01.mp4", every=200)
    return frames[0]


def test_boxes_are_interpolated_where_no_face_is_found(weights, portrait):
    blank = np.full_like(portrait, 90)
    track = FaceFinder(weights).track([blank, portrait, blank, portrait], np.arange(4) / 5)
    assert track.share == 0.5
    assert track.boxes.shape == (4, 4)
    assert movement(track) < 0.01
    np.testing.assert_allclose(track.at(np.array([0.3, 9.0]))[1], track.boxes[-1])


def test_track_is_none_without_a_face(weights, portrait):
    blank = np.full((48, 30, 3), 128, np.uint8)
    assert FaceFinder(weights).track([blank, blank], np.array([0.0, 0.2])) is None
    assert FaceFinder(weights).track([], np.array([])) is None


def test_margin_is_a_fraction_of_the_side(weights, portrait):
    sides = [np.ptp(FaceFinder(weights, margin=m).track([portrait], np.zeros(1)).boxes[0, ::2]) for m in (0.0, 0.5)]
    assert sides[1] == pytest.approx(1.5 * sides[0])


def test_pick_largest_or_central_face(weights, portrait):
    face = portrait[40:640, 340:940]
    scene = np.full((720, 1280, 3), 60, np.uint8)
    scene[60:660, :600] = face
    scene[260:460, 620:820] = face[::3, ::3]
    found = {
        pick: FaceFinder(weights, pick=pick).track([scene], np.zeros(1)).boxes[0] for pick in ("largest", "central")
    }
    assert found["largest"][2] < 640
    assert 600 < (found["central"][0] + found["central"][2]) / 2 < 840


def test_a_larger_face_in_one_frame_does_not_move_the_box():
    person, stranger = np.array([0.0, 0, 100, 100]), np.array([500.0, 0, 620, 120])
    found = [person[None], np.stack([person, stranger]), person[None], person[None]]
    np.testing.assert_array_equal(_path(found, "largest", 700, 200), np.stack([person] * 4))
    cut = [person[None], *[stranger[None]] * 3]
    np.testing.assert_array_equal(_path(cut, "largest", 700, 200)[1:], np.stack([stranger] * 3))


def test_wrong_detector_file_is_refused(tmp_path):
    with pytest.raises(EncoderError, match="Give YuNet as an ONNX file"):
        detector_weights(tmp_path / "nothing.onnx")
    (tmp_path / "text.onnx").write_text("no model")
    with pytest.raises(EncoderError, match="Give YuNet as an ONNX file"):
        FaceFinder(tmp_path / "text.onnx")


def test_missing_weights_offline_suggest_the_option(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(EnvironmentFailure, match="--face-detector"):
        detector_weights()
