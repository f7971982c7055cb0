"""Windows of a recording, smoothing of a timeline, and its export."""

import json
import re
from xml.etree import ElementTree

import numpy as np
import pytest

from affuse.errors import PosteriorMismatch
from affuse.posteriors.annotation_tools import export_timeline
from affuse.posteriors.posterior import Posterior, softmax
from affuse.posteriors.timeline import Timeline, windows


@pytest.fixture
def timeline():
    rows = softmax(np.random.default_rng(0).normal(size=(10, 3)) * 3)
    rows[4] = np.nan
    start = np.arange(10) * 0.5
    valence = np.linspace(-1, 1, 10)
    return Timeline('a "b" <c>', start, start + 0.5, ("angry", "happy", "sad"), rows, {"valence": valence})


def test_windows_cover_a_recording_and_stay_inside_it():
    found = windows(10.3, every=1.0, window=4.0)
    assert len(found) == 11
    assert all(0 <= s and e <= 10.3 + 1e-9 and e - s == pytest.approx(4) for s, e in found)
    assert found[5] == pytest.approx((3.5, 7.5))
    assert windows(2.5, every=5.0, window=4.0) == [(0.0, 2.5)]


def test_smoothing_is_a_moving_average_that_keeps_probabilities(timeline):
    found = timeline.smoothed(1.5)
    known = np.delete(np.arange(10), 4)
    np.testing.assert_allclose(found.probabilities[known].sum(1), 1)
    np.testing.assert_allclose(found.probabilities[1], timeline.probabilities[:3].mean(0))
    np.testing.assert_allclose(found.probabilities[5], timeline.probabilities[5:7].mean(0))
    assert np.isnan(found.probabilities[4]).all()


def test_the_csv_file_is_a_posterior_over_time(timeline, tmp_path):
    export_timeline(timeline, tmp_path / "t.csv")
    found = Posterior.read(tmp_path / "t.csv")
    assert found.ids[1].endswith("@0.7500")
    np.testing.assert_allclose(found.probabilities, timeline.probabilities, atol=1e-8)


def test_the_json_file_has_none_for_a_missing_prediction(timeline, tmp_path):
    export_timeline(timeline, tmp_path / "t.json")
    found = json.loads((tmp_path / "t.json").read_text())
    assert found["probabilities"][4] == [None] * 3
    assert found["end"][-1] == 5.0


def test_the_textgrid_has_tiers_without_gaps(timeline, tmp_path):
    export_timeline(timeline, tmp_path / "t.TextGrid")
    text = (tmp_path / "t.TextGrid").read_text()
    tiers = text.split("item [")[2:]
    assert [re.search(r'name = "(.*)"', t)[1] for t in tiers] == ["emotion", "probability", "valence"]
    for tier in tiers:
        numbers = [float(x) for x in re.findall(r"xm(?:in|ax) = ([\d.]+)", tier)][2:]
        starts, ends = numbers[::2], numbers[1::2]
        assert starts[0] == 0 and ends[-1] == 5 and starts[1:] == ends[:-1]
        assert int(re.search(r"intervals: size = (\d+)", tier)[1]) == len(starts)


def test_the_elan_file_has_ordered_time_slots_and_valid_references(timeline, tmp_path):
    export_timeline(timeline, tmp_path / "t.eaf")
    root = ElementTree.parse(tmp_path / "t.eaf").getroot()
    slots = {s.get("TIME_SLOT_ID"): int(s.get("TIME_VALUE")) for s in root.iter("TIME_SLOT")}
    assert list(slots.values()) == sorted(slots.values())
    spans = list(root.iter("ALIGNABLE_ANNOTATION"))
    assert all(slots[s.get("TIME_SLOT_REF1")] < slots[s.get("TIME_SLOT_REF2")] for s in spans)
    assert len({s.get("ANNOTATION_ID") for s in spans}) == len(spans)
    valence = [t for t in root.iter("TIER") if t.get("TIER_ID") == "valence"][0]
    assert [v.text for v in valence.iter("ANNOTATION_VALUE")][0] == "-1.000"


def test_an_unknown_suffix_is_refused(timeline, tmp_path):
    with pytest.raises(PosteriorMismatch, match="TextGrid"):
        export_timeline(timeline, tmp_path / "t.docx")
