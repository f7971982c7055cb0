"""The hybrid loss and its divergences against their definitions."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy
from torch.nn import functional as F

from affuse.errors import AffuseError
from affuse.heads import _divergence as divergence
from affuse.heads.hybrid import Hybrid
from affuse.tensors import Fused, Targets, Width

torch.manual_seed(0)
A, B = torch.randn(6, 4), torch.randn(6, 4)
EMOTIONS = ("a", "b", "c", "d")
WIDTH = Width(8, {"audio": 5, "visual": 6})
FUSED = Fused(torch.randn(6, 8), None, {}, {"audio": torch.randn(6, 5), "visual": torch.randn(6, 6)})
TARGETS = Targets(torch.tensor([0, 1, 2, 3, 0, 1]), torch.randn(6, 1))


def test_divergences_of_posteriors_match_scipy():
    p, q = A.softmax(1).numpy(), B.softmax(1).numpy()
    found = float(divergence.jensen_shannon(A, B))
    assert found == pytest.approx((jensenshannon(p, q, axis=1) ** 2).mean(), abs=1e-6)
    both = (entropy(p, q, axis=1) + entropy(q, p, axis=1)) / 2
    assert float(divergence.symmetric_kl(A, B)) == pytest.approx(both.mean(), abs=1e-5)
    far = 100 * torch.eye(4)
    assert float(divergence.jensen_shannon(far, far.flip(0))) == pytest.approx(np.log(2), abs=1e-5)


@pytest.mark.parametrize("name", ["jensen_shannon", "symmetric_kl", "mmd", "cmd"])
def test_a_divergence_is_symmetric_and_zero_for_equal_inputs(name):
    measure = getattr(divergence, name)
    torch.testing.assert_close(measure(A, B), measure(B, A))
    assert float(measure(A, B)) > 0.01
    x = A.clone().requires_grad_()
    equal = measure(x, A)
    assert abs(float(equal.detach())) < 1e-5
    equal.backward()
    assert x.grad.isfinite().all()


def test_cmd_and_mmd_match_their_definitions():
    x, y = torch.tanh(A).numpy(), torch.tanh(B).numpy()
    total = np.linalg.norm(x.mean(0) - y.mean(0)) / 2
    for k in range(2, 6):
        gap = ((x - x.mean(0)) ** k).mean(0) - ((y - y.mean(0)) ** k).mean(0)
        total += np.linalg.norm(gap) / 2**k
    assert float(divergence.cmd(A, B)) == pytest.approx(total, abs=1e-5)
    z = torch.cat([A, B]).double().numpy()
    squares = np.array([[((u - v) ** 2).sum() for v in z] for u in z])
    kernel = sum(np.exp(-squares / (s * squares.mean())) for s in (0.5, 1, 2)) / 3
    total = kernel[:6, :6].mean() + kernel[6:, 6:].mean() - 2 * kernel[:6, 6:].mean()
    assert float(divergence.mmd(A, B)) == pytest.approx(total, abs=1e-5)


def test_cosine_and_orthogonality_are_zero_for_orthogonal_and_one_for_equal_inputs():
    assert float(divergence.cosine(A, A)) == pytest.approx(1)
    assert float(divergence.cosine(torch.eye(4), torch.eye(4).roll(1, 0))) == 0
    x = torch.tensor([[1.0], [-1], [1], [-1]])
    y = torch.tensor([[1.0], [1], [-1], [-1]])
    assert float(divergence.orthogonality(x, y)) == pytest.approx(0)
    assert float(divergence.orthogonality(x, -x)) == pytest.approx(1)


def test_the_total_is_the_sum_of_its_logged_parts():
    head = Hybrid(
        WIDTH,
        EMOTIONS,
        ["valence"],
        unimodal_weight=0.4,
        divergence_weight=0.2,
        disparity_weight=0.7,
        loss={"weighting": "fixed"},
    )
    decoded = head(FUSED)
    parts = head.loss(decoded, TARGETS)
    expected = (
        parts["emotion"]
        + parts["valence"]
        + 0.4 * (parts["emotion audio"] + parts["emotion visual"])
        + 0.2 * (parts["similar"] + 0.7 * parts["different"])
    )
    torch.testing.assert_close(parts["total"], expected)
    own = F.cross_entropy(decoded.unimodal["audio"], TARGETS.emotion)
    torch.testing.assert_close(parts["emotion audio"], own)
    a, v = decoded.unimodal["audio"], decoded.unimodal["visual"]
    torch.testing.assert_close(parts["similar"], divergence.jensen_shannon(a, v))


@pytest.mark.parametrize("similar", ["js", "symkl", "mmd", "cmd", "none"])
@pytest.mark.parametrize("different", ["cos", "orth", "none"])
def test_every_choice_of_divergences_trains_every_parameter(similar, different):
    head = Hybrid(WIDTH, EMOTIONS, [], similar=similar, different=different)
    head.loss(head(FUSED), TARGETS)["total"].backward()
    assert all(p.grad is not None for p in head.parameters())


def test_a_clip_without_a_stream_counts_in_neither_its_loss_nor_its_divergences():
    head = Hybrid(WIDTH, EMOTIONS, [])
    partial = FUSED.streams["visual"].clone()
    partial[4:] = 0
    parts = head.loss(head(FUSED._replace(streams=FUSED.streams | {"visual": partial})), TARGETS)
    first = Fused(FUSED.vector[:4], None, {}, {k: v[:4] for k, v in FUSED.streams.items()})
    expected = head.loss(head(first), Targets(TARGETS.emotion[:4], TARGETS.dimensions[:4]))
    for part in ("emotion visual", "similar", "different"):
        torch.testing.assert_close(parts[part], expected[part])


def test_errors_say_what_the_head_needs():
    with pytest.raises(AffuseError, match="Use head.name = 'joint' otherwise"):
        Hybrid(Width(8, {}), EMOTIONS, [])
    with pytest.raises(AffuseError, match="did you mean 'symkl'"):
        Hybrid(WIDTH, EMOTIONS, [], similar="symlk")
