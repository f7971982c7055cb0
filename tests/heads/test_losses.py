"""Losses against their equations, scikit-learn's class weights and audmetric's concordance."""

import audmetric
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from affuse.errors import AffuseError
from affuse.heads._losses import Objective, ccc
from affuse.heads._steps import align_targets
from affuse.tensors import IGNORE, Targets

torch.manual_seed(0)
LOGITS = torch.randn(6, 3)
EMOTION = torch.tensor([0, 1, 1, 2, 2, 2])
ESTIMATES, LABELS = torch.randn(6, 1), torch.randn(6, 1)
TARGETS = Targets(EMOTION, LABELS)


def objective(**settings):
    made = Objective(3, ["valence"], **settings)
    made.initialise(TARGETS)
    return made


def test_kendall_weighting_matches_its_equation():
    made = objective(weighting="kendall")
    made.log_variance.data = torch.tensor([0.4, -0.7])
    ce, mse = F.cross_entropy(LOGITS, EMOTION), F.mse_loss(ESTIMATES, LABELS)
    expected = 0.5 * np.exp(0.7) * mse + np.exp(-0.4) * ce + 0.5 * (0.4 - 0.7)
    parts = made(LOGITS, [ESTIMATES], TARGETS)
    torch.testing.assert_close(parts["total"], expected.float())
    torch.testing.assert_close(parts["emotion"], ce)
    torch.testing.assert_close(parts["valence"], mse)


def test_the_optimal_uncertainty_equals_the_loss():
    made = objective(weighting="kendall")
    optimizer = torch.optim.Adam(made.parameters(), 0.05)
    for _ in range(600):
        loss = made(LOGITS, [ESTIMATES], TARGETS)["total"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    ce, mse = F.cross_entropy(LOGITS, EMOTION), F.mse_loss(ESTIMATES, LABELS)
    expected = torch.stack([(2 * ce).log(), mse.log()])
    torch.testing.assert_close(made.log_variance.data, expected, atol=1e-3, rtol=0)


def test_liebel_stays_positive_and_fixed_is_a_weighted_sum():
    ce, mse = F.cross_entropy(LOGITS, EMOTION), F.mse_loss(ESTIMATES, LABELS)
    made = objective(weighting="liebel")
    made.log_variance.data = torch.tensor([-3.0, 2.0])
    s = made.log_variance.data
    expected = 0.5 * (ce / s[0].exp() + mse / s[1].exp()) + (1 + s.exp()).log().sum()
    torch.testing.assert_close(made(LOGITS, [ESTIMATES], TARGETS)["total"], expected)
    assert made(LOGITS * 100, [LABELS], TARGETS)["total"] > 0
    fixed = objective(weighting="fixed", dimension_weight=0.3)
    torch.testing.assert_close(fixed(LOGITS, [ESTIMATES], TARGETS)["total"], ce + 0.3 * mse)
    assert not list(fixed.parameters())


def test_missing_annotations_and_their_log_terms_do_not_count():
    made = objective()
    made.log_variance.data = torch.tensor([0.4, -0.7])
    masked = Targets(EMOTION.clone(), LABELS.clone())
    masked.emotion[0], masked.dimensions[1] = IGNORE, torch.nan
    expected = made(LOGITS[1:], [ESTIMATES[1:]], Targets(EMOTION[1:], masked.dimensions[1:]))
    found = made(LOGITS, [ESTIMATES], masked)
    torch.testing.assert_close(found["emotion"], expected["emotion"])
    keep = [0, 2, 3, 4, 5]
    torch.testing.assert_close(found["valence"], F.mse_loss(ESTIMATES[keep], LABELS[keep]))
    silent = Targets(EMOTION, torch.full_like(LABELS, torch.nan))
    only_emotion = made(LOGITS, [ESTIMATES], silent)
    assert "valence" not in only_emotion
    expected = np.exp(-0.4) * F.cross_entropy(LOGITS, EMOTION) + 0.2
    torch.testing.assert_close(only_emotion["total"], expected.float())


@pytest.mark.parametrize("weighting", ["kendall", "liebel"])
def test_a_single_task_is_not_weighted(weighting):
    made = Objective(3, [], weighting=weighting)
    found = made(LOGITS, [torch.zeros(6, 0)], TARGETS)["total"]
    torch.testing.assert_close(found, F.cross_entropy(LOGITS, EMOTION))
    assert not list(made.parameters())


def test_class_weights_match_scikit_learn():
    from sklearn.utils.class_weight import compute_class_weight

    weights = compute_class_weight("balanced", classes=np.arange(3), y=EMOTION.numpy())
    expected = F.cross_entropy(LOGITS, EMOTION, torch.tensor(weights, dtype=torch.float32))
    torch.testing.assert_close(objective(class_weights="balanced").emotion(LOGITS, EMOTION), expected)


def test_focal_loss_prior_and_smoothing_match_their_definitions():
    p = LOGITS.softmax(1)[torch.arange(6), EMOTION]
    torch.testing.assert_close(objective(focal=2.0).emotion(LOGITS, EMOTION), (-((1 - p) ** 2) * p.log()).mean())
    prior = torch.tensor([1 / 6, 2 / 6, 3 / 6]).log()
    torch.testing.assert_close(objective(prior=1.0).emotion(LOGITS, EMOTION), F.cross_entropy(LOGITS + prior, EMOTION))
    torch.testing.assert_close(
        objective(smoothing=0.1).emotion(LOGITS, EMOTION), F.cross_entropy(LOGITS, EMOTION, label_smoothing=0.1)
    )
    certain = torch.tensor([[50.0, 0, 0]], requires_grad=True)
    objective(focal=0.5).emotion(certain, torch.tensor([0])).backward()
    assert certain.grad.isfinite().all(), "the focal factor has no slope of infinity at one"


def test_concordance_matches_audmetric():
    x, y = torch.randn(50), torch.randn(50)
    y = x + 0.5 * y
    expected = audmetric.concordance_cc(y.numpy(), x.numpy())
    assert float(ccc(x, y)) == pytest.approx(expected, abs=1e-5)
    assert float(ccc(x, x)) == pytest.approx(1)
    assert float(ccc(2 * x + 1, 2 * y + 1)) == pytest.approx(float(ccc(x, y)), abs=1e-5)
    assert float(ccc(x, y + 1)) < float(ccc(x, y))
    flat = torch.zeros(50, requires_grad=True)
    ccc(flat, torch.zeros(50)).backward()
    assert flat.grad.isfinite().all()


def test_concordance_over_the_batch_or_each_sequence():
    estimates, expected = torch.randn(2, 9, 1), torch.randn(2, 9, 1)
    expected[0, 5:] = torch.nan
    targets = Targets(torch.full((2,), IGNORE), expected)
    parts = [(estimates[0, :5, 0], expected[0, :5, 0]), (estimates[1, :, 0], expected[1, :, 0])]
    flat = 1 - ccc(torch.cat([a for a, _ in parts]), torch.cat([w for _, w in parts]))
    each = torch.stack([1 - ccc(*pair) for pair in parts]).mean()
    for over, expected in (("batch", flat), ("sequence", each)):
        made = Objective(0, ["valence"], dimension_loss="ccc", ccc_over=over, weighting="fixed")
        found = made(torch.zeros(2, 0), [estimates], targets)["total"]
        torch.testing.assert_close(found, expected)


def test_targets_are_resampled_to_the_steps_of_the_estimates():
    mask = torch.tensor([[True, True, False]])
    track = torch.tensor([[0.0, 1, 2, 3]])[..., None]  # four labels over two steps
    _, expected = align_targets(torch.zeros(1, 3, 1), track, mask)
    assert expected[0, :2, 0].tolist() == [0.5, 2.5] and expected[0, 2].isnan().all()
    sparse = torch.tensor([[5.0, 7.0]])[..., None]  # two labels over three steps
    _, expected = align_targets(torch.zeros(1, 3, 1), sparse, torch.ones(1, 3, dtype=torch.bool))
    assert expected[0, 0, 0] == 5 and expected[0, 2, 0] == 7
    padded = torch.tensor([[0.0, 1, 2, 3, torch.nan, torch.nan]])[..., None]
    _, expected = align_targets(torch.zeros(1, 3, 1), padded, mask)
    assert expected[0, :2, 0].tolist() == [0.5, 2.5], "nan behind a track is padding"


def test_one_target_per_clip_is_compared_with_the_mean_over_steps():
    mask = torch.tensor([[True, True, False]])
    steps = torch.tensor([[[1.0], [3.0], [99.0]]])
    estimates, _ = align_targets(steps, torch.tensor([[0.0]]), mask)
    assert estimates.tolist() == [[2.0]]
    _, expected = align_targets(torch.zeros(1, 1), torch.tensor([[[1.0], [3.0], [torch.nan]]]), None)
    assert expected.tolist() == [[2.0]]


@pytest.mark.parametrize(
    ("option", "value"), [("weighting", "kendal"), ("dimension_loss", "cc"), ("class_weights", "balance")]
)
def test_unknown_values_are_rejected_with_a_suggestion(option, value):
    with pytest.raises(AffuseError, match="did you mean"):
        Objective(3, [], **{option: value})
