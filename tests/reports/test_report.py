"""Tests of `write_report` as a Python function, and of the tables for a terminal."""

import numpy as np
import pytest

from affuse.manifest import Clip, Manifest
from affuse.posteriors import metrics
from affuse.posteriors.combine import combine
from affuse.posteriors.evaluation import evaluate
from affuse.posteriors.posterior import Posterior, softmax
from affuse.posteriors.systems import System
from affuse.reports import text
from affuse.reports.report import write_report

EMOTIONS = ("happy", "neutral", "sad")


@pytest.fixture(scope="module")
def labels():
    return Manifest(
        Clip(f"c{i}", speaker=f"s{i % 6}", emotion=EMOTIONS[i % 3], valence=float(i % 3)) for i in range(60)
    )


def predictions(seed):
    generator = np.random.default_rng(seed)
    emotion = np.arange(60) % 3
    rows = softmax(1.5 * np.eye(3)[emotion] + generator.normal(size=(60, 3)))
    return Posterior(
        tuple(f"c{i}" for i in range(60)), EMOTIONS, rows, {"valence": emotion + generator.normal(size=60)}
    )


def test_posteriors_systems_combinations_and_files_are_compared(labels, tmp_path):
    first, second = predictions(0), predictions(1)
    second.write(tmp_path / "second.csv")
    both = combine([first, second], manifest=labels, n_resamples=20)
    systems = [first, first, both, System("named", second), tmp_path / "second.csv", str(tmp_path / "second.csv")]
    path = write_report(systems, labels, tmp_path / "report.html", n_resamples=20, title="All kinds")
    assert path == tmp_path / "report.html"
    html = path.read_text()
    second_path = tmp_path / "second.csv"
    for name in ("posterior 1", "posterior 2", "combined", "named", str(second_path), "All kinds"):
        assert name in html
    assert "Members of combined" in html and "all combined" not in html


def test_a_new_metric_appears_in_report_and_terminal(labels, tmp_path, monkeypatch):
    new = metrics.Metric(
        "errors", "error rate", False, metrics.emotion_confusions, lambda c: 1 - metrics.accuracy(c), summary=True
    )
    monkeypatch.setattr(metrics, "METRICS", (*metrics.METRICS, new))
    html = write_report([predictions(0)], labels, tmp_path / "report.html", n_resamples=20).read_text()
    assert ">error rate\N{NO-BREAK SPACE}↓<" in html
    assert "\nerror rate " in text.evaluation(evaluate(predictions(0), labels, n_resamples=20))


def test_tables_leave_out_empty_columns():
    rows = [["metric", "value", "SD over seeds"], ["WAF", "0.9000", ""], ["macro F1", "", ""]]
    assert text.table(rows) == "metric    value\nWAF       0.9000\nmacro F1"
