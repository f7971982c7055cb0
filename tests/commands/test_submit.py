"""Tests of `affuse submit`."""

from pathlib import Path

import numpy as np

from affuse.posteriors.over_time import frame_ids, rows_by_clip, select_clips
from affuse.posteriors.posterior import Posterior

from .conftest import affuse


def test_an_abaw_submission_has_one_line_per_frame_padded_or_cut(tmp_path: Path) -> None:
    ids = [*frame_ids("v1", np.arange(3) / 25), *frame_ids("v2@home", np.arange(2) / 25)]
    values = {"valence": np.arange(5.0) / 10, "arousal": -np.arange(5.0) / 10}
    posterior = Posterior(tuple(ids), (), np.zeros((5, 0)), values)
    assert set(rows_by_clip(ids)) == {"v1", "v2@home"}
    assert len(select_clips(posterior, ["v2@home"])) == 2
    posterior.write(tmp_path / "test.csv")
    sample, out = tmp_path / "sample.txt", tmp_path / "out.txt"
    lines = [f"v2@home/{i:05d}.jpg,0,0" for i in (1, 2, 3)] + ["v1/00001.jpg,0,0"]
    sample.write_text("image_location,valence,arousal\n" + "\n".join(lines) + "\n")
    affuse("submit", "abaw", tmp_path / "test.csv", "--sample", sample, "-o", out)
    head, *rows = out.read_text().splitlines()
    assert head == "image_location,valence,arousal"
    assert rows[:2] == ["v2@home/00001.jpg,0.3,-0.3", "v2@home/00002.jpg,0.4,-0.4"]
    assert rows[2:] == ["v2@home/00003.jpg,0.4,-0.4", "v1/00001.jpg,0,-0"]


def test_an_abaw_submission_needs_every_video_and_both_dimensions(tmp_path: Path) -> None:
    ids = tuple(frame_ids("v1", np.arange(2) / 25))
    Posterior(ids, (), np.zeros((2, 0)), {"valence": np.zeros(2)}).write(tmp_path / "test.csv")
    (tmp_path / "sample.txt").write_text("image_location\nv2/00001.jpg\n")
    words = ("submit", "abaw", tmp_path / "test.csv", "--sample", tmp_path / "sample.txt")
    assert "arousal, v2" in affuse(*words, code=1)


def test_a_mer2023_submission_has_names_and_valence(tmp_path: Path) -> None:
    probabilities = np.array([[0.2, 0.8], [0.9, 0.1]])
    values = {"valence": np.array([-1.25, 2.0])}
    Posterior(("a", "b"), ("sad", "happy"), probabilities, values).write(tmp_path / "p.csv")
    affuse("submit", "mer2023", tmp_path / "p.csv", "-o", tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text() == "name,discrete,valence\na,happy,-1.25\nb,sad,2\n"
    partial = Posterior(("a", "b"), ("sad", "happy"), probabilities * [[1], [np.nan]])
    partial.write(tmp_path / "p.csv")
    assert "1 of 2 clips have no predicted emotion" in affuse("submit", "mer2023", tmp_path / "p.csv", code=1)
