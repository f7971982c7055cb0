"""Tests of `affuse pseudo-label`."""

import numpy as np

from affuse.manifest import Clip, Manifest

from ..predictions import EMOTIONS, labelled_clips
from .conftest import affuse


def test_pseudo_labels_are_balanced_and_name_their_source(files):
    manifest, _ = labelled_clips()
    Manifest(Clip(c.id, speaker=c.speaker) for c in manifest).write(files / "unlabelled.csv")
    pair = [files / "a.csv", files / "b.csv"]
    text = affuse(
        "pseudo-label", *pair, "--manifest", files / "unlabelled.csv", "--per-emotion", 10, "-o", files / "pseudo.csv"
    )
    found = Manifest.read(files / "pseudo.csv")
    assert [sum(c.emotion == e for c in found) for e in EMOTIONS] == [10, 10, 10]
    assert all("a & b agree" in c.source for c in found)
    assert "systems differ" in text
    labels = {c.id: c.emotion for c in manifest}
    assert np.mean([labels[c.id] == c.emotion for c in found]) > 0.8
