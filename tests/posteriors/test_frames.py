"""Moments and their labels."""

from pathlib import Path

import numpy as np

from affuse.corpora._manifest import Clip, Manifest
from affuse.corpora._tracks import Track
from affuse.posteriors.frames import frame_ids, moments, parted


def test_a_moment_takes_the_label_that_stands_there_or_none(tmp_path: Path) -> None:
    track = Track(np.array([0.0, 0.1, 0.2]), np.array([[1.0], [np.nan], [-1.0]]), ("valence",))
    track.write(tmp_path / "a.csv")
    clip = Clip(id="a@home", speaker="s", split="test", labels=tmp_path / "a.csv")
    ids = frame_ids("a@home", np.array([0.0, 0.1, 0.21, 5.0]))
    listed = moments(Manifest([clip]), ids)
    assert [c.valence for c in listed] == [1.0, None, -1.0, None]
    assert {(c.speaker, c.split, c.arousal) for c in listed} == {("s", "test", None)}


def test_ids_of_whole_clips_are_no_moments() -> None:
    assert parted(["a", "me@example.org", "a@1.5", "b@2"]) == {}
    manifest = Manifest([Clip(id="a@1.0000")])
    assert moments(manifest, ["a@1.0000"]) is manifest
