"""The joint decoder against its equations, and its initial estimates."""

import pytest
import torch

from affuse.heads.joint import Joint
from affuse.heads.separate import Separate
from affuse.tensors import IGNORE, Fused, Targets, Width

EMOTIONS = ("neutral", "angry", "happy")
torch.manual_seed(0)
H = torch.randn(5, 8)
TARGETS = Targets(torch.tensor([0, 1, 1, 2, IGNORE]), torch.tensor([[0.0], [-2], [-3], [4], [1]]))


def fused(h):
    return Fused(h, None, {}, {})


def head(**settings):
    return Joint(Width(8, {}), EMOTIONS, ["valence"], **settings)


@pytest.mark.parametrize("activation", ["softmax", "prelu", "identity"])
@pytest.mark.parametrize("bound", [None, 5.0])
def test_joint_decoding_matches_its_equations(activation, bound):
    joint = head(activation=activation, bound=bound)
    torch.nn.init.normal_(joint.mix)
    torch.nn.init.normal_(joint.offset)
    for b, decoded in enumerate(joint(fused(H)).dimensions[:, 0]):
        e = joint.emotion.weight @ H[b] + joint.emotion.bias
        act = {"softmax": e.softmax(0), "identity": e, "prelu": torch.where(e > 0, e, 0.25 * e)}[activation]
        v_e = joint.implied.weight[0] @ act + joint.implied.bias[0]
        if bound:
            v_e = bound * torch.tanh(v_e / bound)
        v_d = joint.direct.weight[0] @ H[b] + joint.direct.bias[0]
        v = joint.mix[0, 0] * v_e + joint.mix[0, 1] * v_d + joint.offset[0]
        torch.testing.assert_close(decoded, v)


def test_mean_and_gate_combine_the_same_two_estimates():
    mean = head(combine="mean")
    decoded = mean(fused(H))
    both = decoded.extras["implied"], decoded.extras["direct"]
    torch.testing.assert_close(decoded.dimensions, (both[0] + both[1]) / 2)
    gate = head(combine="gate")
    decoded = gate(fused(H))
    g = torch.sigmoid(gate.gate(H))
    expected = g * decoded.extras["implied"] + (1 - g) * decoded.extras["direct"]
    torch.testing.assert_close(decoded.dimensions, expected)


@pytest.mark.parametrize("bound", [None, 5.0])
def test_a_certain_emotion_implies_its_mean_valence(bound):
    joint = head(bound=bound)
    joint.initialise(TARGETS)
    joint.emotion.weight.data.zero_()
    for c, mean in enumerate((0.0, -2.5, 4.0)):
        joint.emotion.bias.data = 50.0 * torch.eye(3)[c]
        implied = joint(fused(H)).extras["implied"]
        torch.testing.assert_close(implied, torch.full((5, 1), mean))
    overall = TARGETS.dimensions.mean()
    joint.direct.weight.data.zero_()
    torch.testing.assert_close(joint(fused(H)).extras["direct"], overall.expand(5, 1))


def test_an_emotion_without_valence_implies_the_overall_mean():
    joint = head()
    targets = Targets(torch.tensor([0, 1]), torch.tensor([[2.0], [torch.nan]]))
    joint.initialise(targets)
    torch.testing.assert_close(joint.implied.weight[0], torch.full((3,), 2.0))


def test_detach_stops_the_gradient_of_valence_to_the_emotion():
    for detach in (False, True):
        joint = head(detach=detach)
        joint(fused(H)).dimensions.sum().backward()
        reached = joint.emotion.weight.grad
        assert (reached is None or bool((reached == 0).all())) is detach


def test_supervised_parts_have_equal_weights():
    joint = head(supervise_parts=True, loss={"weighting": "fixed"})
    decoded = joint(fused(H))
    squares = sum((x - TARGETS.dimensions).square().mean() for x in (decoded.dimensions, *decoded.extras.values()))
    torch.testing.assert_close(joint.loss(decoded, TARGETS)["valence"], squares)


def test_the_logits_of_a_clip_are_the_mean_over_its_steps():
    joint = head()
    steps, mask = torch.randn(2, 4, 8), torch.tensor([[True] * 4, [True, True, False, False]])
    decoded = joint(Fused(steps, mask, {}, {}))
    assert decoded.dimensions.shape == (2, 4, 1)
    torch.testing.assert_close(decoded.logits[1], joint.emotion(steps[1, :2]).mean(0))


def test_separate_decoders_are_independent():
    head = Separate(Width(8, {}), EMOTIONS, ["valence"], hidden=6, dropout=0.6)
    head(fused(H)).dimensions.sum().backward()
    assert all(p.grad is None for p in head.emotion.parameters())
    head.initialise(TARGETS)
    assert head.values[0][-1].bias.item() == pytest.approx(TARGETS.dimensions.mean().item())
