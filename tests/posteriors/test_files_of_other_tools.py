"""Posterior files of other tools, and notices about misleading results."""

from pathlib import Path

import numpy as np
import pytest

from affuse.errors import PosteriorMismatch
from affuse.manifest import Clip, Manifest
from affuse.posteriors.combine import combine
from affuse.posteriors.evaluation import evaluate
from affuse.posteriors.posterior import Posterior

EMOTIONS = ("angry", "happy", "sad")


def written(path: Path, rows: np.ndarray, decimals: int = 9) -> Path:
    lines = [f"c{i},{','.join(f'{x:.{decimals}f}' for x in row)}" for i, row in enumerate(rows)]
    path.write_text("\n".join([f"id,{','.join(EMOTIONS)}", *lines]) + "\n")
    return path


def test_probabilities_may_be_rounded_to_two_decimals(tmp_path: Path) -> None:
    rows = np.array([[0.333, 0.333, 0.334], [0.125, 0.375, 0.5], [0.005, 0.005, 0.99]])
    found = Posterior.read(written(tmp_path / "a.csv", rows, 2))
    np.testing.assert_allclose(found.probabilities.sum(1), 1, atol=1e-12)
    np.testing.assert_allclose(found.probabilities, rows, atol=0.01)


@pytest.mark.parametrize(
    ("scale", "logits", "message"),
    [(100, False, "percentages"), (-3, False, "pass --logits"), (1, True, "Leave out --logits")],
)
def test_percentages_and_logits_are_recognised(tmp_path: Path, scale: float, logits: bool, message: str) -> None:
    path = written(tmp_path / "a.csv", scale * np.full((4, 3), 1 / 3))
    with pytest.raises(PosteriorMismatch, match=message):
        Posterior.read(path, logits=logits)


def manifest(n: int) -> Manifest:
    return Manifest(Clip(f"c{i}", speaker=f"s{i % 6}", emotion=EMOTIONS[i % 3], fold=str(i % 6 % 3)) for i in range(n))


def confident(n: int, right: float, seed: int = 0) -> Posterior:
    """Return confident predictions, a fraction of them correct."""
    rng = np.random.default_rng(seed)
    shown = np.where(rng.random(n) < right, np.arange(n) % 3, rng.integers(0, 3, n))
    rows = np.full((n, 3), 0.05) + 0.85 * np.eye(3)[shown]
    return Posterior(tuple(f"c{i}" for i in range(n)), EMOTIONS, rows)


def test_labelled_clips_that_are_missing_in_a_file_give_a_notice() -> None:
    notices = evaluate(confident(57, 0.8), manifest(60)).notices
    assert any("3 labelled clips are not in the posterior and are not scored: c57, c58, c59" in n for n in notices)
    assert not any("not in the posterior" in n for n in evaluate(confident(60, 0.8), manifest(60)).notices)


def test_a_member_that_is_better_alone_gives_a_notice() -> None:
    found = combine(
        [confident(60, 0.9), confident(60, 0.0, 1), confident(60, 0.0, 2)],
        names=("good", "bad", "worse"),
        manifest=manifest(60),
        rule="mean",
        weights="0.1,0.45,0.45",
    )
    assert found.provenance.notices[-1].startswith("good alone reaches waf 0.")


def test_a_clip_that_no_member_predicts_gives_no_notice() -> None:
    blank = confident(60, 0.8).probabilities
    blank[:2] = np.nan
    partial = Posterior(confident(60, 0.8).ids, EMOTIONS, blank)
    found = combine([partial, partial], names=("a", "b"), manifest=manifest(60), rule="mean")
    assert not any("no prediction for" in notice for notice in found.provenance.notices)
