"""Labels over time are read, shifted and smoothed."""

from pathlib import Path

import numpy as np
import pytest

from affuse.annotations import Track
from affuse.errors import ManifestError


def test_a_written_track_is_read_unchanged(tmp_path: Path) -> None:
    track = Track(np.array([0.02, 1.5, 7200.0333]), np.array([[0.5, np.nan], [-1, 0.25], [0, 1]]))
    track.write(tmp_path / "a.csv")
    again = Track.read(tmp_path / "a.csv")
    assert again.dimensions == ("valence", "arousal")
    np.testing.assert_allclose(again.times, track.times, atol=1e-4)
    np.testing.assert_array_equal(again.values, track.values)
    np.testing.assert_array_equal(again.select(["arousal", "dominance"])[:, 0], track.values[:, 1])
    assert np.isnan(again.select(["dominance"])).all()


def test_values_at_a_rate_have_the_time_of_the_centre_of_their_step(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("arousal\n0.1\nnan\n0.3\n")
    track = Track.read(tmp_path / "a.csv", rate=2)
    np.testing.assert_allclose(track.times, [0.25, 0.75, 1.25])
    with pytest.raises(ManifestError, match="rate"):
        Track.read(tmp_path / "a.csv")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("time,valence\n0,a\n", "line 2, column 'valence'"),
        ("time,valence\n1,0\n0,0\n", "increase"),
        ("time,valance\n0,0\n", "valence"),
        ("time,valence\n0\n", "2 fields"),
        ("", "Expected 'time'"),
    ],
)
def test_faults_name_line_and_column(tmp_path: Path, text: str, expected: str) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(ManifestError, match=expected):
        Track.read(tmp_path / "a.csv")


def test_compensating_a_delay_shifts_labels_and_drops_those_before_the_start() -> None:
    track = Track(np.arange(5.0), np.arange(5.0)[:, None], ("valence",)).compensate_delay(2.0)
    np.testing.assert_allclose(track.times, [0, 1, 2])
    np.testing.assert_allclose(track.values[:, 0], [2, 3, 4])


def test_smoothing_averages_the_annotated_steps_in_the_window() -> None:
    values = np.array([0.0, 3.0, np.nan, 6.0, 9.0])
    track = Track(np.arange(5.0), values[:, None], ("valence",)).smoothed(2.0)
    expected = [1.5, 1.5, np.nan, 7.5, 7.5]
    np.testing.assert_allclose(track.values[:, 0], expected)
