"""Rules in which nothing is fitted: their definitions, alignment of members, and missing predictions."""

import numpy as np
import pytest

from affuse.errors import PosteriorMismatch
from affuse.posteriors.posterior import Posterior, softmax
from affuse.posteriors.rules import RULES, align, combine_by_rule

EMOTIONS = ("angry", "happy", "sad")


def system(seed, n=40, **dimensions):
    generator = np.random.default_rng(seed)
    rows = softmax(generator.normal(size=(n, 3)) * 2)
    return Posterior(tuple(f"c{i}" for i in range(n)), EMOTIONS, rows, dimensions)


def test_the_uniform_mean_is_the_mean():
    a, b = system(0), system(1)
    found = combine_by_rule([a, b]).probabilities
    np.testing.assert_allclose(found, (a.probabilities + b.probabilities) / 2)


def test_the_geometric_mean_is_mertools_average_of_logits():
    logits = np.random.default_rng(0).normal(size=(5, 20, 3)) * 3
    ids = tuple(map(str, range(20)))
    folds = [Posterior(ids, EMOTIONS, softmax(each)) for each in logits]
    np.testing.assert_allclose(combine_by_rule(folds, rule="geometric").probabilities, softmax(logits.mean(0)))


@pytest.mark.parametrize("rule", RULES)
def test_the_order_of_clips_and_emotions_does_not_matter(rule):
    a, b, c = system(0), system(1), system(2)
    reversed_ = Posterior(b.ids[::-1], b.emotions, b.probabilities[::-1]).ordered(EMOTIONS[::-1])
    np.testing.assert_allclose(
        combine_by_rule([a, reversed_, c], rule=rule).probabilities, combine_by_rule([a, b, c], rule=rule).probabilities
    )


@pytest.mark.parametrize("rule", RULES)
def test_rows_sum_to_one_and_the_others_replace_a_missing_member(rule):
    a, b, c = system(0), system(1), system(2)
    short = Posterior(b.ids[5:], b.emotions, b.probabilities[5:])
    found = combine_by_rule([a, short, c], rule=rule)
    np.testing.assert_allclose(found.probabilities.sum(1), 1)
    alone = combine_by_rule([a, c], rule=rule).at(a.ids[:5])
    np.testing.assert_allclose(found.at(a.ids[:5]).probabilities, alone.probabilities)


def test_a_clip_that_no_member_predicts_stays_without_a_prediction():
    a = system(0, 2)
    a.probabilities[0] = np.nan
    for rule in RULES:
        found = combine_by_rule([a, a], rule=rule).probabilities
        assert np.isnan(found[0]).all() and not np.isnan(found[1]).any()


def test_weights_are_normalised_and_entropy_favours_certain_members():
    a, b = system(0), system(1)
    found = combine_by_rule([a, b], weights=np.array([3, 1])).probabilities
    np.testing.assert_allclose(found, 0.75 * a.probabilities + 0.25 * b.probabilities)
    sure = Posterior(("x",), EMOTIONS, np.array([[0.98, 0.01, 0.01]]))
    unsure = Posterior(("x",), EMOTIONS, np.array([[0.3, 0.4, 0.3]]))
    mean, weighed = (combine_by_rule([sure, unsure], rule=r) for r in ("mean", "entropy"))
    assert weighed.probabilities[0, 0] > mean.probabilities[0, 0]


def test_a_majority_outvotes_one_confident_member():
    votes = [[0.4, 0.35, 0.25], [0.4, 0.35, 0.25], [0.0, 1.0, 0.0]]
    members = [Posterior(("x",), EMOTIONS, np.array([v])) for v in votes]
    assert combine_by_rule(members, rule="majority").predicted()[0] == 0
    assert combine_by_rule(members, rule="mean").predicted()[0] == 1


def test_dimensions_are_combined_by_mean_median_and_weights():
    members = [system(i, 2, valence=np.array([v, np.nan])) for i, v in enumerate([0.0, 1.0, 5.0])]
    members[1].dimensions["valence"][1] = 7.0
    assert combine_by_rule(members).dimensions["valence"].tolist() == pytest.approx([2, 7])
    median = combine_by_rule(members, dimensions="median").dimensions["valence"]
    assert median.tolist() == pytest.approx([1, 7])
    own = {"valence": np.array([1.0, 1.0, 0.0])}
    weighed = combine_by_rule(members, dimension_weights=own).dimensions["valence"]
    assert weighed.tolist() == pytest.approx([0.5, 7])


def test_members_that_do_not_fit_are_named():
    a = system(0)
    other = Posterior(a.ids, ("angry", "happy", "fear"), a.probabilities)
    with pytest.raises(PosteriorMismatch, match=r"b\.csv.*fear"):
        align([a, other], names=("a.csv", "b.csv"))
    elsewhere = Posterior(("z1", "z2"), EMOTIONS, a.probabilities[:2])
    with pytest.raises(PosteriorMismatch, match=r"no clip in common"):
        align([a, elsewhere])
    with pytest.raises(PosteriorMismatch, match="do not fit 2 members"):
        combine_by_rule([a, a], weights=np.array([1, -1]))
    with pytest.raises(PosteriorMismatch, match="several systems with the name x"):
        align([a, a], names=("x", "x"))
