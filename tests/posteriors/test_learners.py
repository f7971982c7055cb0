"""What is learnt in combining: near a known optimum, never from the clip it is applied to."""

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

EMOTIONS = ("angry", "happy", "neutral", "sad")


def world(seed=0, n=1200, strengths=(1.0, 0.8, 0.6), heats=(0.4, 1.0, 2.0)):
    """Members that err independently, at other temperatures; and the posterior given them all."""
    generator = np.random.default_rng(seed)
    emotion = generator.choice(4, n, p=(0.4, 0.3, 0.2, 0.1))
    logs = np.log([0.4, 0.3, 0.2, 0.1])
    seen = [s**2 * np.eye(4)[emotion] + s * generator.normal(size=(n, 4)) for s in strengths]
    rows = np.stack([softmax((e + logs) / t) for e, t in zip(seen, heats, strict=True)])
    ids = tuple(f"c{i}" for i in range(n))
    truth = Labels(ids, tuple(f"s{i % 20}" for i in range(n)), EMOTIONS, emotion)
    names = tuple(f"m{i}" for i in range(len(strengths)))
    return Members(names, ids, EMOTIONS, rows, {}), truth, softmax(sum(seen) + logs)


def manifest_of(truth, **more):
    clips = zip(truth.ids, truth.speakers, truth.emotion, strict=True)
    return Manifest(Clip(i, speaker=s, emotion=EMOTIONS[e], **more) for i, s, e in clips)


def accuracy(probabilities, truth):
    return (probabilities.argmax(1) == truth.emotion).mean()


def test_the_log_linear_pool_finds_the_optimum_of_independent_members():
    found = []
    for seed in range(4):
        members, truth, best = world(seed, 3000)
        answers = cross_fit(members, truth, LogLinear(), fold=assign_folds(truth)).posterior
        found.append(accuracy(answers.probabilities, truth) - accuracy(best, truth))
    assert np.mean(found) > -0.004


def test_its_exponents_undo_each_members_temperature():
    members, truth, _ = world(0, 6000)
    fitted = LogLinear().fit(members, truth)
    np.testing.assert_allclose(fitted.weights, (0.4, 1.0, 2.0), rtol=0.2)


def test_zeros_of_rounded_posteriors_cost_little():
    """Files hold two decimals; what was written as zero was not impossible."""
    lost = []
    for seed in range(4):
        members, truth, _ = world(seed, 3000, strengths=(1.6, 1.0, 0.8), heats=(0.3, 1.0, 1.0))
        rounded = replace(members, probabilities=np.round(members.probabilities, 2))
        exact, coarse = (
            cross_fit(each, truth, LogLinear(), fold=assign_folds(truth)).posterior.probabilities
            for each in (members, rounded)
        )
        lost.append(accuracy(exact, truth) - accuracy(coarse, truth))
    assert np.mean(lost) < 0.012, lost


def test_a_member_that_knows_nothing_gets_no_weight_from_any_learner():
    members, truth, _ = world(0, 1500, strengths=(1.0, 1.0, 0.0), heats=(1.0, 1.0, 1.0))
    for each in (LogLinear(), Weights(), Weights("geometric"), Weights(by="waf")):
        assert each.fit(members, truth).weights[2] < 0.15


@pytest.mark.parametrize("how", [LogLinear(), Weights(), Weights(by="accuracy"), Stacking()])
def test_learning_is_never_worse_than_the_best_member(how):
    members, truth, _ = world(3, 800)
    answers = cross_fit(members, truth, how, fold=assign_folds(truth)).posterior
    best = max(accuracy(p, truth) for p in members.probabilities)
    assert accuracy(answers.probabilities, truth) > best - 0.01
    np.testing.assert_allclose(answers.probabilities.sum(1), 1)


@pytest.mark.parametrize("how", [LogLinear(), Weights(by="waf"), Stacking("lightgbm")])
def test_nobody_is_combined_by_what_saw_them(how):
    """Turning one fold's labels round must not move that fold's own answers."""
    members, truth, _ = world(0, 400)
    fold = assign_folds(truth)
    before = cross_fit(members, truth, how, fold=fold).posterior.probabilities
    turned = np.where(fold == 2, (truth.emotion + 1) % 4, truth.emotion)
    other = Labels(truth.ids, truth.speakers, EMOTIONS, turned)
    after = cross_fit(members, other, how, fold=fold).posterior.probabilities
    np.testing.assert_array_equal(before[fold == 2], after[fold == 2])
    assert np.abs(before[fold != 2] - after[fold != 2]).max() > 1e-6


def test_speakers_stay_together_and_clips_under_test_are_never_learnt_from():
    members, truth, _ = world(0, 400)
    manifest = manifest_of(truth)
    clips = [c if c.speaker != "s0" else Clip(c.id, speaker="s0", emotion=c.emotion, split="test") for c in manifest]
    fold = assign_folds(Labels.from_manifest(Manifest(clips), EMOTIONS))
    for speaker in set(truth.speakers):
        assert len({f for f, s in zip(fold, truth.speakers, strict=True) if s == speaker}) == 1
    assert set(fold[[s == "s0" for s in truth.speakers]]) == {-1}


def test_a_speaker_in_two_folds_or_on_both_sides_of_the_test_is_refused():
    clips = [Clip(f"c{i}", speaker=f"s{i // 2}", emotion="sad", fold=str(i % 2)) for i in range(8)]
    with pytest.raises(LeakError, match="more than one fold"):
        assign_folds(Labels.from_manifest(Manifest(clips), EMOTIONS))
    clips = [Clip(f"c{i}", speaker=f"s{i // 2}", emotion="sad", split="test" if i == 1 else None) for i in range(12)]
    with pytest.raises(LeakError, match="s0"):
        assign_folds(Labels.from_manifest(Manifest(clips), EMOTIONS))


def test_members_may_be_missing_for_some_clips():
    members, truth, _ = world(0, 600)
    members.probabilities[0, :200] = np.nan
    members.probabilities[:, 5] = np.nan
    for how in (LogLinear(), Weights(), Stacking()):
        found = cross_fit(members, truth, how, fold=assign_folds(truth)).posterior.probabilities
        assert np.isnan(found[5]).all() and not np.isnan(np.delete(found, 5, 0)).any()


def test_inverse_variance_trusts_the_member_that_errs_less():
    members, truth, _ = world(0, 500)
    generator = np.random.default_rng(0)
    valence = generator.normal(size=500)
    errors = generator.normal(size=(3, 500)) * np.array([[0.1], [1.0], [1.0]])
    members.dimensions["valence"] = valence + errors
    truth.dimensions["valence"] = valence
    found = cross_fit(members, truth, Rule(), fold=assign_folds(truth), dimensions="inverse-variance")
    assert found.dimension_weights["valence"][0] > 0.9
    assert ((found.posterior.dimensions["valence"] - valence) ** 2).mean() < 0.012


def test_least_squares_sees_that_two_members_err_alike():
    """Twins of one member count as one: inverse variance cannot know, least squares does."""
    members, truth, _ = world(0, 600, strengths=(1, 1, 1), heats=(1, 1, 1))
    generator = np.random.default_rng(0)
    valence, one, other = generator.normal(size=(3, 600))
    members.dimensions["valence"] = valence + np.stack([one, one + 1e-3 * other, other])
    truth.dimensions["valence"] = valence
    mse, fold = {}, assign_folds(truth)
    for rule in ("mean", "inverse-variance", "least-squares"):
        found = cross_fit(members, truth, Rule(), fold=fold, dimensions=rule).posterior
        mse[rule] = ((found.dimensions["valence"] - valence) ** 2).mean()
    assert mse["least-squares"] < 0.95 * min(mse["mean"], mse["inverse-variance"])


def test_temperatures_are_cross_fitted_too():
    members, truth, _ = world(0, 600)
    fold = assign_folds(truth)
    heat = member_temperatures(members, truth, fold=fold)
    assert heat.shape == (6, 3)
    np.testing.assert_allclose(heat[-1], (1 / 0.4, 1.0, 0.5), rtol=0.2)
    turned = np.where(fold == 0, (truth.emotion + 1) % 4, truth.emotion)
    other = Labels(truth.ids, truth.speakers, EMOTIONS, turned)
    np.testing.assert_array_equal(member_temperatures(members, other, fold=fold)[0], heat[0])


def test_the_table_says_what_each_member_is_worth():
    members, truth, _ = world(0, 900, strengths=(1.2, 1.0, 0.0), heats=(1.0, 1.0, 1.0))
    posteriors = [members.member(m) for m in range(3)]
    found = combine(posteriors, names=("a", "b", "noise"), manifest=manifest_of(truth))
    worth = {row.name: row.contribution for row in found.table}
    assert worth["a"].low > 0 and worth["b"].low > 0
    assert worth["noise"].low <= 0.005 and abs(worth["noise"].value) < 0.01
    assert found.provenance.cross_fitted and len(found.provenance.fitted_on) == 900


def test_without_labels_the_rule_is_the_mean_and_fitting_is_refused():
    members, _, _ = world(0, 50)
    posteriors = [members.member(m) for m in range(3)]
    found = combine(posteriors).posterior.probabilities
    np.testing.assert_allclose(found, members.probabilities.mean(0))
    with pytest.raises(PosteriorMismatch, match="no labelled clip"):
        combine(posteriors, rule="stacking")


def test_names_of_rules_and_weights():
    assert make_learner("mean", "0.5,0.25,0.25") == Rule("mean", (0.5, 0.25, 0.25))
    assert make_learner("geometric", "log_loss") == Weights("geometric", "log_loss")
    with pytest.raises(UnknownName, match="log-linear"):
        make_learner("loglinear")
    with pytest.raises(PosteriorMismatch, match="its own weights"):
        make_learner("stacking", "waf")


def test_test_clips_are_combined_by_what_all_labelled_clips_taught():
    members, truth, best = world(0, 1000)
    clips = [
        Clip(i, speaker=s, emotion=EMOTIONS[e]) if int(s[1:]) < 15 else Clip(i, speaker=s, split="test")
        for i, s, e in zip(truth.ids, truth.speakers, truth.emotion, strict=True)
    ]
    posteriors = [members.member(m) for m in range(3)]
    found = combine(posteriors, manifest=Manifest(clips), n_resamples=20)
    test = np.array([c.split == "test" for c in clips])
    right = found.posterior.probabilities[test].argmax(1) == truth.emotion[test]
    assert right.mean() > (best[test].argmax(1) == truth.emotion[test]).mean() - 0.03
    assert not set(found.provenance.fitted_on) & {c.id for c in clips if c.split == "test"}
    assert isinstance(found.posterior, Posterior)
