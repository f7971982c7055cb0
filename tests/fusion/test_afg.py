"""AFG against its equations, written with loops (Wang et al. 2023, our interpretation)."""

import math

import pytest
import torch

from affuse.errors import UnknownName
from affuse.fusion._align import align
from affuse.fusion._gather import Gather, GuidedGather
from affuse.fusion._layers import Dropout
from affuse.fusion.afg import AFG
from affuse.tensors import Stream

torch.manual_seed(0)
X = torch.randn(3, 6, 5)
MASK = torch.arange(6)[None] < torch.tensor([6, 4, 1])[:, None]


def pad_sequences(x, mask, keys, context, scale):
    """Z = sum_t alpha_t x_t, one clip, one step and one value at a time."""
    out = torch.zeros(len(x), x.shape[2])
    for b in range(len(x)):
        steps = [t for t in range(x.shape[1]) if mask[b, t]]
        scores = [scale * (torch.tanh(keys(x[b, t])) @ context).item() for t in steps]
        total = sum(math.exp(s) for s in scores)
        for t, s in zip(steps, scores, strict=True):
            out[b] += math.exp(s) / total * x[b, t]
    return out


def test_self_guided_gathering_matches_its_equation():
    gather = Gather(5, att_dim=4, scale=0.3).eval()
    z, alpha = gather(X, MASK)
    expected = pad_sequences(X, MASK, gather.key, gather.context[:, 0], 0.3)
    torch.testing.assert_close(z, expected)
    torch.testing.assert_close(alpha.sum(1), torch.ones(3))
    assert (alpha[~MASK] == 0).all()


def test_query_guided_gathering_matches_its_equation():
    gather = GuidedGather(5, 3, att_dim=4, scale=0.3).eval()
    query = torch.randn(3, 2, 3)
    z, alpha = gather(X, MASK, query)
    assert alpha.shape == (3, 2, 6)
    for n in range(2):
        for b in range(3):
            context = gather.query(query[b, n])
            expected = pad_sequences(X[b : b + 1], MASK[b : b + 1], gather.key, context, 0.3)
            torch.testing.assert_close(z[b, n], expected[0])


def test_a_scale_of_zero_gives_the_mean():
    z, _ = Gather(5, scale=0.0).eval()(X, MASK)
    expected = torch.stack([X[b][MASK[b]].mean(0) for b in range(3)])
    torch.testing.assert_close(z, expected)


def test_a_fully_masked_sequence_gives_zeros():
    z, alpha = Gather(5).eval()(X, torch.zeros_like(MASK))
    assert (z == 0).all() and (alpha == 0).all()


def streams():
    times = (torch.arange(6) + 0.5).expand(3, 6) / 2
    slow = torch.arange(3)[None] < torch.tensor([3, 2, 1])[:, None]
    return {
        "audio": Stream(X, MASK, times.masked_fill(~MASK, torch.nan)),
        "visual": Stream(
            torch.randn(3, 3, 4) * slow[..., None],
            slow,
            (torch.arange(3) + 0.5).expand(3, 3).masked_fill(~slow, torch.nan),
        ),
    }


def test_structure_a_gathers_then_sums_with_weights():
    both = streams()
    fusion = AFG({"audio": 5, "visual": 4}, structure="a", width=8, hidden=6).eval()
    s = fusion.structure
    h = [s.project[k](s.gather[k](x.values, x.mask)[0]) for k, x in enumerate(both.values())]
    a = s.weigh.decide(torch.cat(h, 1))
    fused = fusion(both)
    torch.testing.assert_close(fused.vector, a[:, :1] * h[0] + a[:, 1:] * h[1])
    torch.testing.assert_close(fused.attention["streams"], a)


def test_structure_b_concatenates_then_gathers():
    both = streams()
    fusion = AFG({"audio": 5, "visual": 4}, structure="b", width=8, hidden=6).eval()
    s = fusion.structure
    aligned = align(both, "shortest")  # alignment and projection commute but for the bias
    y = [s.project[k](x.values) * x.mask[..., None] for k, x in enumerate(aligned.values())]
    z, _ = s.gather(torch.cat(y, -1), aligned["audio"].mask | aligned["visual"].mask)
    torch.testing.assert_close(fusion(both).vector, s.fuse(z))


def test_the_first_level_of_structure_c_guides_the_second():
    both = streams()
    fusion = AFG({"audio": 5, "visual": 4}, structure="c", width=8, hidden=6).eval()
    s = fusion.structure
    y = [s.project[k](x.values) for k, x in enumerate(both.values())]
    masks = [x.mask for x in both.values()]
    g = [s.first[k](s.gather[k](y[k], masks[k])[0]) for k in range(2)]
    a = s.weigh_streams.decide(torch.cat(g, 1))
    f = a[:, :1] * g[0] + a[:, 1:] * g[1]
    q = torch.stack([s.query[0](f), s.query[1](g[0]), s.query[2](g[1])], 1)
    z = [s.second[k](s.guided[k](y[k], masks[k], q)[0]) for k in range(2)]
    p = torch.einsum("bk,kbnd->bnd", a, torch.stack(z))
    b = s.weigh_queries.decide(p.flatten(1))
    fused = fusion(both)
    torch.testing.assert_close(fused.vector, torch.einsum("bn,bnd->bd", b, p))
    assert fused.attention["audio guided"].shape == (3, 3, 6), "K + 1 queries over audio's steps"


def test_an_unknown_structure_is_rejected():
    with pytest.raises(UnknownName, match="structure"):
        AFG({"audio": 5}, structure="d")


def test_dropout_drops_its_share_and_keeps_the_mean():
    x = torch.ones(400, 50, 10)
    for share in (0.1, 0.3, 0.5):
        dropped = Dropout(share)(x)
        assert abs(float((dropped == 0).float().mean()) - share) < 0.01
        assert abs(float(dropped.mean()) - 1) < 0.01
    assert Dropout(0.5).eval()(x) is x and Dropout(0.0)(x) is x
    dropped = Dropout(0.5)(x)
    together = float((dropped[:, 0] * dropped[:, 1]).mean())
    assert abs(together - 1) < 0.1, "steps are dropped independently"
