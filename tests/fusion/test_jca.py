"""JCA and its variants against their equations, in the layout of the papers (features x steps)."""

import pytest
import torch

from affuse.errors import AffuseError
from affuse.fusion.jca import JCA, DenseAttention, Gate, JointAttention, VanillaAttention
from affuse.tensors import Stream

torch.manual_seed(0)
L, D, K = 8, 6, 4
A, V = torch.randn(3, L, D), torch.randn(3, L, D)
ALL = [torch.ones(3, L, dtype=torch.bool)] * 2


def test_joint_attention_matches_its_equations():
    layer = JointAttention(2, D, steps=L, rank=K)
    joined = torch.cat([A, V], -1)
    for k, (x, found) in enumerate(zip((A, V), layer([A, V], ALL), strict=True)):
        c = torch.tanh(torch.einsum("bld,lm,bme->bde", x, layer.joint[k], joined) / (2 * D) ** 0.5)
        assert c.shape == (3, D, 2 * D)
        h = torch.einsum("bld,lk->bdk", x, layer.own[k])
        h = torch.relu(h + torch.einsum("bde,ek->bdk", c, layer.other[k]))
        expected = torch.einsum("bdk,kl->bld", h, layer.back[k]) + x
        torch.testing.assert_close(found, expected)


def test_a_stream_of_zeros_stays_zeros_and_the_other_attends_to_itself():
    layer = JointAttention(2, D, steps=L, rank=K)
    audio, visual = layer([torch.zeros_like(A), V], ALL)
    assert (audio == 0).all()
    assert (visual - V).abs().max() > 0.01


def test_dense_attention_matches_its_equations():
    layer = DenseAttention(2, D, steps=L, dropout=0.6).eval()
    joined = layer.join(torch.cat([V, A], -1))
    for k, (x, found) in enumerate(zip((V, A), layer([V, A], ALL), strict=True)):
        key = torch.einsum("bld,ml->bdm", x, layer.key[k].weight) + layer.key[k].bias
        s = torch.tanh(torch.einsum("bdl,ble->bde", key, joined) / (2 * D) ** 0.5)
        o = torch.relu(torch.tanh(torch.einsum("bld,bde->ble", layer.value[k](x), s)))
        torch.testing.assert_close(found, x + torch.relu(layer.out[k](o)))


def test_vanilla_attention_matches_its_equations():
    layer = VanillaAttention(2, D)
    unit = [x / x.norm(dim=-1, keepdim=True) for x in (A, V)]
    z = torch.einsum("bld,de,bme->blm", unit[0], layer.relate[0], unit[1])
    audio = torch.einsum("blm,bld->bmd", z.softmax(1), A)
    visual = torch.einsum("bml,bmd->bld", z.transpose(1, 2).softmax(1), V)
    found = layer([A, V], ALL)
    torch.testing.assert_close(found[0], torch.tanh(A + audio))
    torch.testing.assert_close(found[1], torch.tanh(V + visual))


def test_the_gate_matches_its_equation():
    gate = Gate(D, temperature=0.1)
    out, w = gate(A, V)
    expected = torch.softmax(gate.choose(V) / 0.1, -1)
    torch.testing.assert_close(w, expected)
    torch.testing.assert_close(out, torch.relu(expected[..., :1] * A + expected[..., 1:] * V))


def stream(x, n):
    times = (torch.arange(n) + 0.5).expand(len(x), n) * 2 / n
    return Stream(x, torch.ones(len(x), n, dtype=torch.bool), times)


def test_streams_of_any_length_are_resampled_to_l_steps():
    fusion = JCA({"audio": 5, "visual": 7}, width=D, steps=L, output="steps").eval()
    for n_audio, n_visual in ((1, 1), (3, 20), (50, 8)):
        fused = fusion(
            {
                "audio": stream(torch.randn(2, n_audio, 5), n_audio),
                "visual": stream(torch.randn(2, n_visual, 7), n_visual),
            }
        )
        assert fused.vector.shape == (2, L, 2 * D) and fused.mask.all()


def test_each_round_attends_to_the_result_of_the_one_before():
    dims = {"audio": 5, "visual": 7}
    both = {"audio": stream(torch.randn(2, L, 5), L), "visual": stream(torch.randn(2, L, 7), L)}
    shared = JCA(dims, width=D, steps=L, recursion=2, share=True, output="steps").eval()
    own = [shared.project[k](s.values) for k, s in enumerate(both.values())]
    masks = [s.mask for s in both.values()]
    layer = shared.attend[0]
    expected = torch.cat(layer(layer(own, masks), masks), -1)
    torch.testing.assert_close(shared(both).vector, expected)
    assert len(shared.attend) == 1
    assert len(JCA(dims, recursion=3).attend) == 3


@pytest.mark.parametrize("settings", [{"variant": "papr"}, {"lstm": "front"}, {"output": "step"}, {"recursion": 0}])
def test_unknown_options_are_rejected(settings):
    with pytest.raises(AffuseError):
        JCA({"audio": 5}, **settings)
