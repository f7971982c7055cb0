"""The tallies' figures are the libraries', and the intervals hold what they promise."""

import confidence_intervals
import numpy as np
import pytest

from affuse.posteriors import calibration, metrics
from affuse.posteriors.bootstrap import draw, drawn, interval, tallies
from affuse.posteriors.labels import Labels
from affuse.posteriors.posterior import Posterior, softmax

EMOTIONS = ("angry", "happy", "sad")


@pytest.fixture
def scored():
    generator = np.random.default_rng(0)
    ids = tuple(map(str, range(200)))
    rows = softmax(generator.normal(size=(200, 3)))
    rows[7] = np.nan
    sentiment = np.round(generator.uniform(-3, 3, 200) * 3) / 3
    sentiment[3] = np.nan
    speakers = tuple(f"s{i % 11}" for i in range(200))
    emotion = generator.integers(-1, 3, 200)
    truth = Labels(ids, speakers, EMOTIONS, emotion, {"valence": sentiment})
    estimate = np.nan_to_num(sentiment) + generator.normal(size=200)
    return Posterior(ids, EMOTIONS, rows, {"valence": estimate}), truth


def test_every_tallied_figure_is_the_one_that_the_libraries_compute(scored):
    posterior, truth = scored
    expected = metrics.figures(posterior, truth, sentiment=True)
    expected |= calibration.measures(posterior, truth)
    speakers, code = np.unique(np.array(truth.speakers), return_inverse=True)
    found = {}
    for tally in tallies(posterior, truth, code, len(speakers), sentiment=True):
        found |= tally.read(tally.sums.sum(0, keepdims=True))
    assert set(expected) - {"mer2023"} <= set(found)
    for name, value in expected.items():
        if name != "mer2023":
            assert found[name][0] == pytest.approx(value), name


def test_a_draw_scores_the_clips_of_the_speakers_it_holds(scored):
    posterior, truth = scored
    found = drawn(posterior, truth, n_draws=5)
    speakers = np.unique(np.array(truth.speakers))
    for number in range(5):
        held = confidence_intervals.get_bootstrap_indices(len(speakers), random_state=number)
        rows = np.concatenate([np.flatnonzero(np.array(truth.speakers) == speakers[s]) for s in held])
        some = truth.rows(rows)
        answers = Posterior(
            some.ids, EMOTIONS, posterior.probabilities[rows], {"valence": posterior.dimensions["valence"][rows]}
        )
        expected = metrics.figures(answers, some)
        for name in ("waf", "uar", "macro_f1", "mer2023", "ccc:valence"):
            assert found[name][number] == pytest.approx(expected[name]), name


def test_intervals_over_speakers_cover_where_those_over_clips_do_not():
    """People differ: of 60 made-up corpora the truth lies within nine intervals in ten."""
    covered = {"speakers": 0, "clips": 0}
    for seed in range(60):
        generator = np.random.default_rng(seed)
        skill = np.clip(0.6 + 0.15 * generator.normal(size=30), 0, 1)
        right = generator.random((30, 40)) < skill[:, None]
        rows = np.stack([right.ravel(), ~right.ravel()], 1) * 1.0
        ids = tuple(map(str, range(1200)))
        people = tuple(f"s{i // 40}" for i in range(1200))
        posterior = Posterior(ids, ("yes", "no"), rows)
        for kind, speakers in (("speakers", people), ("clips", ids)):
            truth = Labels(ids, speakers, ("yes", "no"), np.zeros(1200, int))
            draws = drawn(posterior, truth, n_draws=200)["accuracy"]
            found = interval(right.mean(), draws)
            covered[kind] += found.low <= 0.6 <= found.high
    assert covered["speakers"] >= 52 and covered["clips"] < 45


def test_draws_are_the_same_for_everyone():
    np.testing.assert_array_equal(draw(7, n_draws=3), draw(7, n_draws=3))
    assert (draw(7, n_draws=3).sum(1) == 7).all()
