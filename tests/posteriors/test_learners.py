"""Fitted combinations come near a known optimum, and are never fitted on the clips that they are applied to."""

from dataclasses import replace

import numpy as np
import pytest

from affuse.errors import LeakError, PosteriorMismatch, UnknownName
from affuse.manifest import Clip, Manifest
from affuse.posteriors.combine import combine
from affuse.posteriors.cross_fitting import assign_folds, cross_fit, member_temperatures
from affuse.posteriors.labels import Labels
from affuse.posteriors.learners import LogLinear, Rule, Stacking, Weights, make_learner
from affuse.posteriors.posterior import Posterior, softmax
from affuse.posteriors.rules import Members
from affuse.posteriors.systems import System

EMOTIONS = ("angry", "happy", "neutral", "sad")


def synthetic(seed=0, n=1200, strengths=(1.0, 0.8, 0.6), temperatures=(0.4, 1.0, 2.0)):
    """Return members with independent errors at various temperatures, labels, and the optimal posterior."""
    generator = np.random.default_rng(seed)
    emotion = generator.choice(4, n, p=(0.4, 0.3, 0.2, 0.1))
    logs = np.log([0.4, 0.3, 0.2, 0.1])
    evidence = [s**2 * np.eye(4)[emotion] + s * generator.normal(size=(n, 4)) for s in strengths]
    rows = np.stack([softmax((e + logs) / t) for e, t in zip(evidence, temperatures, strict=True)])
    ids = tuple(f"c{i}" for i in range(n))
    labels = Labels(ids, tuple(f"s{i % 20}" for i in range(n)), EMOTIONS, emotion)
    names = tuple(f"m{i}" for i in range(len(strengths)))
    return Members(names, ids, EMOTIONS, rows, {}), labels, softmax(sum(evidence) + logs)


def manifest_of(labels, **more):
    clips = zip(labels.ids, labels.speakers, labels.emotion, strict=True)
    return Manifest(Clip(i, speaker=s, emotion=EMOTIONS[e], **more) for i, s, e in clips)


def accuracy(probabilities, labels):
    return (probabilities.argmax(1) == labels.emotion).mean()


def test_the_log_linear_pool_finds_the_optimum_of_independent_members():
    found = []
    for seed in range(4):
        members, labels, best = synthetic(seed, 3000)
        posterior = cross_fit(members, labels, LogLinear(), fold=assign_folds(labels)).posterior
        found.append(accuracy(posterior.probabilities, labels) - accuracy(best, labels))
    assert np.mean(found) > -0.004


def test_the_exponents_of_the_log_linear_pool_undo_the_temperatures():
    members, labels, _ = synthetic(0, 6000)
    fitted = LogLinear().fit(members, labels)
    np.testing.assert_allclose(fitted.weights, (0.4, 1.0, 2.0), rtol=0.2)


def test_zeros_of_rounded_posteriors_cost_little():
    """Files with two decimals contain zeros that stand for small probabilities."""
    lost = []
    for seed in range(4):
        members, labels, _ = synthetic(seed, 3000, strengths=(1.6, 1.0, 0.8), temperatures=(0.3, 1.0, 1.0))
        rounded = replace(members, probabilities=np.round(members.probabilities, 2))
        exact, coarse = (
            cross_fit(each, labels, LogLinear(), fold=assign_folds(labels)).posterior.probabilities
            for each in (members, rounded)
        )
        lost.append(accuracy(exact, labels) - accuracy(coarse, labels))
    assert np.mean(lost) < 0.012, lost


def test_an_uninformative_member_gets_no_weight_from_any_learner():
    members, labels, _ = synthetic(0, 1500, strengths=(1.0, 1.0, 0.0), temperatures=(1.0, 1.0, 1.0))
    for each in (LogLinear(), Weights(), Weights("geometric"), Weights(by="waf")):
        assert each.fit(members, labels).weights[2] < 0.15


@pytest.mark.parametrize("learner", [LogLinear(), Weights(), Weights(by="accuracy"), Stacking()])
def test_a_fitted_combination_is_never_worse_than_the_best_member(learner):
    members, labels, _ = synthetic(3, 800)
    posterior = cross_fit(members, labels, learner, fold=assign_folds(labels)).posterior
    best = max(accuracy(p, labels) for p in members.probabilities)
    assert accuracy(posterior.probabilities, labels) > best - 0.01
    np.testing.assert_allclose(posterior.probabilities.sum(1), 1)


@pytest.mark.parametrize("learner", [LogLinear(), Weights(by="waf"), Stacking("lightgbm")])
def test_no_clip_is_combined_with_a_fit_to_itself(learner):
    """Changing the labels of one fold must not change the predictions for this fold."""
    members, labels, _ = synthetic(0, 400)
    fold = assign_folds(labels)
    before = cross_fit(members, labels, learner, fold=fold).posterior.probabilities
    changed = np.where(fold == 2, (labels.emotion + 1) % 4, labels.emotion)
    other = Labels(labels.ids, labels.speakers, EMOTIONS, changed)
    after = cross_fit(members, other, learner, fold=fold).posterior.probabilities
    np.testing.assert_array_equal(before[fold == 2], after[fold == 2])
    assert np.abs(before[fold != 2] - after[fold != 2]).max() > 1e-6


def test_folds_keep_speakers_together_and_leave_out_test_clips():
    members, labels, _ = synthetic(0, 400)
    manifest = manifest_of(labels)
    clips = [c if c.speaker != "s0" else Clip(c.id, speaker="s0", emotion=c.emotion, split="test") for c in manifest]
    fold = assign_folds(Labels.from_manifest(Manifest(clips), EMOTIONS))
    for speaker in set(labels.speakers):
        assert len({f for f, s in zip(fold, labels.speakers, strict=True) if s == speaker}) == 1
    assert set(fold[[s == "s0" for s in labels.speakers]]) == {-1}


def test_a_speaker_in_two_folds_or_on_both_sides_of_the_test_is_refused():
    clips = [Clip(f"c{i}", speaker=f"s{i // 2}", emotion="sad", fold=str(i % 2)) for i in range(8)]
    with pytest.raises(LeakError, match="more than one fold"):
        assign_folds(Labels.from_manifest(Manifest(clips), EMOTIONS))
    clips = [Clip(f"c{i}", speaker=f"s{i // 2}", emotion="sad", split="test" if i == 1 else None) for i in range(12)]
    with pytest.raises(LeakError, match="s0"):
        assign_folds(Labels.from_manifest(Manifest(clips), EMOTIONS))


def test_members_may_be_missing_for_some_clips():
    members, labels, _ = synthetic(0, 600)
    members.probabilities[0, :200] = np.nan
    members.probabilities[:, 5] = np.nan
    for learner in (LogLinear(), Weights(), Stacking()):
        found = cross_fit(members, labels, learner, fold=assign_folds(labels)).posterior.probabilities
        assert np.isnan(found[5]).all() and not np.isnan(np.delete(found, 5, 0)).any()


def test_inverse_variance_weights_favour_the_member_with_smaller_errors():
    members, labels, _ = synthetic(0, 500)
    generator = np.random.default_rng(0)
    valence = generator.normal(size=500)
    errors = generator.normal(size=(3, 500)) * np.array([[0.1], [1.0], [1.0]])
    members.dimensions["valence"] = valence + errors
    labels.dimensions["valence"] = valence
    found = cross_fit(members, labels, Rule(), fold=assign_folds(labels), dimensions="inverse-variance")
    assert found.dimension_weights["valence"][0] > 0.9
    assert ((found.posterior.dimensions["valence"] - valence) ** 2).mean() < 0.012


def test_least_squares_accounts_for_correlated_errors():
    """Two copies of one member count as one, which inverse variance cannot detect."""
    members, labels, _ = synthetic(0, 600, strengths=(1, 1, 1), temperatures=(1, 1, 1))
    generator = np.random.default_rng(0)
    valence, one, other = generator.normal(size=(3, 600))
    members.dimensions["valence"] = valence + np.stack([one, one + 1e-3 * other, other])
    labels.dimensions["valence"] = valence
    mse, fold = {}, assign_folds(labels)
    for rule in ("mean", "inverse-variance", "least-squares"):
        found = cross_fit(members, labels, Rule(), fold=fold, dimensions=rule).posterior
        mse[rule] = ((found.dimensions["valence"] - valence) ** 2).mean()
    assert mse["least-squares"] < 0.95 * min(mse["mean"], mse["inverse-variance"])


def test_temperatures_are_cross_fitted_too():
    members, labels, _ = synthetic(0, 600)
    fold = assign_folds(labels)
    temperatures = member_temperatures(members, labels, fold=fold)
    assert temperatures.shape == (6, 3)
    np.testing.assert_allclose(temperatures[-1], (1 / 0.4, 1.0, 0.5), rtol=0.2)
    changed = np.where(fold == 0, (labels.emotion + 1) % 4, labels.emotion)
    other = Labels(labels.ids, labels.speakers, EMOTIONS, changed)
    np.testing.assert_array_equal(member_temperatures(members, other, fold=fold)[0], temperatures[0])


def test_the_table_lists_the_contribution_of_each_member():
    members, labels, _ = synthetic(0, 900, strengths=(1.2, 1.0, 0.0), temperatures=(1.0, 1.0, 1.0))
    posteriors = [members.member(m) for m in range(3)]
    found = combine(posteriors, names=("a", "b", "noise"), manifest=manifest_of(labels))
    contribution = {row.name: row.contribution for row in found.table}
    assert contribution["a"].low > 0 and contribution["b"].low > 0
    assert contribution["noise"].low <= 0.005 and abs(contribution["noise"].value) < 0.01
    assert found.provenance.cross_fitted and len(found.provenance.fitted_on) == 900


def test_without_labels_the_rule_is_the_mean_and_fitting_is_refused():
    members, _, _ = synthetic(0, 50)
    posteriors = [members.member(m) for m in range(3)]
    found = combine(posteriors).posterior.probabilities
    np.testing.assert_allclose(found, members.probabilities.mean(0))
    with pytest.raises(PosteriorMismatch, match="no labelled clip"):
        combine(posteriors, rule="stacking")


def test_learners_are_found_by_rule_and_weights():
    assert make_learner("mean", "0.5,0.25,0.25") == Rule("mean", (0.5, 0.25, 0.25))
    assert make_learner("geometric", "log_loss") == Weights("geometric", "log_loss")
    with pytest.raises(UnknownName, match="log-linear"):
        make_learner("loglinear")
    with pytest.raises(PosteriorMismatch, match="its own weights"):
        make_learner("stacking", "waf")


def test_test_clips_are_combined_with_the_fit_to_all_labelled_clips():
    members, labels, best = synthetic(0, 1000)
    clips = [
        Clip(i, speaker=s, emotion=EMOTIONS[e]) if int(s[1:]) < 15 else Clip(i, speaker=s, split="test")
        for i, s, e in zip(labels.ids, labels.speakers, labels.emotion, strict=True)
    ]
    posteriors = [members.member(m) for m in range(3)]
    found = combine(posteriors, manifest=Manifest(clips), n_resamples=20)
    test = np.array([c.split == "test" for c in clips])
    right = found.posterior.probabilities[test].argmax(1) == labels.emotion[test]
    assert right.mean() > (best[test].argmax(1) == labels.emotion[test]).mean() - 0.03
    assert not set(found.provenance.fitted_on) & {c.id for c in clips if c.split == "test"}
    assert isinstance(found.posterior, Posterior)


def test_posteriors_and_systems_are_combined_together():
    members, labels, _ = synthetic(0, 50)
    found = combine([members.member(0), System("jca", members.member(1))], manifest=manifest_of(labels), rule="mean")
    assert list(found.provenance.members) == ["posterior", "jca"]
    assert [row.name for row in found.table] == ["all", "posterior", "jca"]
