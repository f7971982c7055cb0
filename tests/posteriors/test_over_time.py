"""Labels of moments, and leaks over time."""

from pathlib import Path

import numpy as np
import pytest

from affuse.annotations import Track
from affuse.errors import LeakError
from affuse.manifest import Clip, Manifest
from affuse.posteriors.combine import combine
from affuse.posteriors.evaluation import evaluate
from affuse.posteriors.over_time import frame_ids, manifest_over_time, rows_by_clip
from affuse.posteriors.posterior import Posterior
from affuse.posteriors.provenance import Provenance
from affuse.posteriors.systems import System


def test_a_moment_has_the_nearest_label_or_none(tmp_path: Path) -> None:
    track = Track(np.array([0.0, 0.1, 0.2]), np.array([[1.0], [np.nan], [-1.0]]), ("valence",))
    track.write(tmp_path / "a.csv")
    clip = Clip(id="a@home", speaker="s", split="test", labels=tmp_path / "a.csv")
    ids = frame_ids("a@home", np.array([0.0, 0.1, 0.21, 5.0]))
    listed = manifest_over_time(Manifest([clip]), ids)
    assert [c.valence for c in listed] == [1.0, None, -1.0, None]
    assert {(c.speaker, c.split, c.arousal) for c in listed} == {("s", "test", None)}


@pytest.mark.parametrize("speaker", ["s", None])
def test_moments_of_a_recording_in_the_training_data_are_never_scored(tmp_path: Path, speaker: str | None) -> None:
    seconds = np.arange(20) / 10
    Track(seconds, np.sin(seconds)[:, None], ("valence",)).write(tmp_path / "a.csv")
    manifest = Manifest([Clip(id="a", speaker=speaker, labels=tmp_path / "a.csv")])
    ids = tuple(frame_ids("a", seconds))
    predictions = Posterior(ids, (), np.zeros((20, 0)), {"valence": np.cos(seconds)})
    trained = System("x", predictions, provenance=Provenance("predict", learnt_from=["a"]))
    other = System("x", predictions, provenance=Provenance("predict", learnt_from=["b"]))
    assert evaluate(other, manifest, n_resamples=2)
    with pytest.raises(LeakError):
        evaluate(trained, manifest, n_resamples=2)
    with pytest.raises(LeakError):
        combine([trained], manifest=manifest)


def test_systems_without_emotions_are_combined_by_the_mean(tmp_path: Path) -> None:
    seconds = np.arange(20) / 10
    Track(seconds, np.sin(seconds)[:, None], ("valence",)).write(tmp_path / "a.csv")
    manifest = Manifest([Clip(id="a", speaker="s", labels=tmp_path / "a.csv")])
    ids = tuple(frame_ids("a", seconds))
    two = [Posterior(ids, (), np.zeros((20, 0)), {"valence": np.full(20, v)}) for v in (0.2, 0.4)]
    found = combine(two, manifest=manifest, n_resamples=2)
    np.testing.assert_allclose(found.posterior.dimensions["valence"], 0.3)


def test_ids_of_whole_clips_are_not_moments() -> None:
    assert rows_by_clip(["a", "me@example.org", "a@1.5", "b@2"]) == {}
    manifest = Manifest([Clip(id="a@1.0000")])
    assert manifest_over_time(manifest, ["a@1.0000"]) is manifest
