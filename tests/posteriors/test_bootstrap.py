"""Bootstrap resamples are those of the library confidence-intervals, and the intervals have their coverage."""

import confidence_intervals
import numpy as np
import pytest

from affuse.posteriors.bootstrap import bootstrap, interval, resample_counts
from affuse.posteriors.labels import Labels
from affuse.posteriors.metrics import compute_metrics
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
    labels = Labels(ids, speakers, EMOTIONS, emotion, {"valence": sentiment})
    estimate = np.nan_to_num(sentiment) + generator.normal(size=200)
    return Posterior(ids, EMOTIONS, rows, {"valence": estimate}), labels


def test_sums_over_speakers_give_the_metrics_of_all_clips(scored):
    expected = compute_metrics(*scored, sentiment=True)
    found = bootstrap(*scored, n_resamples=2, sentiment=True).values
    assert list(found) == list(expected) and len(found) == 17
    for name, value in expected.items():
        assert found[name] == pytest.approx(value), name


def test_a_resample_scores_the_clips_of_the_speakers_that_were_drawn(scored):
    posterior, labels = scored
    found = bootstrap(posterior, labels, n_resamples=5).resampled
    speakers = np.unique(np.array(labels.speakers))
    for number in range(5):
        held = confidence_intervals.get_bootstrap_indices(len(speakers), random_state=number)
        rows = np.concatenate([np.flatnonzero(np.array(labels.speakers) == speakers[s]) for s in held])
        drawn = Posterior(
            tuple(posterior.ids[r] for r in rows),
            EMOTIONS,
            posterior.probabilities[rows],
            {"valence": posterior.dimensions["valence"][rows]},
        )
        for name, value in compute_metrics(drawn, labels.take(rows)).items():
            assert found[name][number] == pytest.approx(value), name


def test_percentiles_are_those_of_the_library():
    values = np.random.default_rng(0).normal(size=1000)
    assert interval(0.0, values)[1:] == pytest.approx(confidence_intervals.get_conf_int(values, 5), abs=1e-15)


def test_intervals_over_speakers_have_their_coverage_where_those_over_clips_do_not():
    """Speakers differ: in 60 synthetic corpora the true accuracy lies within nine intervals out of ten."""
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
            labels = Labels(ids, speakers, ("yes", "no"), np.zeros(1200, int))
            found = bootstrap(posterior, labels, n_resamples=200).interval("accuracy")
            covered[kind] += found.low <= 0.6 <= found.high
    assert covered["speakers"] >= 52 and covered["clips"] < 45


def test_resamples_are_the_same_for_every_system():
    np.testing.assert_array_equal(resample_counts(7, n_resamples=3), resample_counts(7, n_resamples=3))
    assert (resample_counts(7, n_resamples=3).sum(1) == 7).all()
