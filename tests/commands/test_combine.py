"""Tests of `affuse combine`."""

import json

import numpy as np

from affuse.posteriors.posterior import Posterior, softmax
from affuse.posteriors.provenance import Provenance

from ..predictions import EMOTIONS
from .conftest import affuse


def test_combine_writes_what_evaluate_reads_and_beats_the_best_member(files):
    members = [files / f"{name}.csv" for name in "abc"]
    out = files / "combined.csv"
    text = affuse("combine", *members, "--manifest", files / "clips.csv", "-o", out)
    assert "contribution" in text
    assert Provenance.read(out).cross_fitted
    scores = {
        name: json.loads(affuse("evaluate", files / name, files / "clips.csv", "--json"))[0]
        for name in ("combined.csv", "a.csv", "b.csv", "c.csv")
    }
    waf = {name: each["figures"]["waf"]["value"] for name, each in scores.items()}
    assert waf["combined.csv"] > max(waf["a.csv"], waf["b.csv"], waf["c.csv"])


def test_average_logits_on_files_of_logits(tmp_path):
    logits = np.random.default_rng(0).normal(size=(2, 6, 3)) * 4
    ids = tuple(map(str, range(6)))
    for fold in range(2):
        Posterior(ids, EMOTIONS, logits[fold]).write(tmp_path / f"{fold}.csv")
    out = tmp_path / "out.csv"
    affuse("combine", tmp_path / "0.csv", tmp_path / "1.csv", "--logits", "--average", "logits", "-o", out)
    np.testing.assert_allclose(Posterior.read(out).probabilities, softmax(logits.mean(0)), atol=1e-7)
