"""TFN, LMF and attention against their equations."""

import itertools

import pytest
import torch

from affuse.errors import AffuseError
from affuse.fusion.attention import Attention
from affuse.fusion.lmf import LMF
from affuse.fusion.tfn import TFN
from affuse.tensors import Stream

torch.manual_seed(0)
DIMS = {"audio": 5, "visual": 4, "text": 3}
STREAMS = {
    name: Stream(torch.randn(2, 6, dim), torch.ones(2, 6, dtype=torch.bool), torch.arange(6.0).expand(2, 6))
    for name, dim in DIMS.items()
}


def with_one(vector):
    return [*vector.tolist(), 1.0]


def test_tensor_fusion_contains_every_product():
    fusion = TFN(DIMS, factor=2).eval()
    fused = fusion(STREAMS)
    for b in range(2):
        vectors = [with_one(v[b]) for v in fused.streams.values()]
        products = [x * y * z for x, y, z in itertools.product(*vectors)]
        expected = fusion.project(torch.tensor([products]))[0]
        torch.testing.assert_close(fused.vector[b], expected)


def test_low_rank_fusion_matches_its_equation():
    fusion = LMF(DIMS, rank=3, factor=2, width=4).eval()
    torch.nn.init.normal_(fusion.weights)
    fused = fusion(STREAMS)
    for b, o in itertools.product(range(2), range(4)):
        total = fusion.bias[o].item()
        for r in range(3):
            term = fusion.weights[r].item()
            for vector, weights in zip(fused.streams.values(), fusion.factors, strict=True):
                term *= sum(x * weights[r, i, o].item() for i, x in enumerate(with_one(vector[b])))
            total += term
        assert fused.vector[b, o].item() == pytest.approx(total, abs=1e-5)


def test_attention_weights_have_no_softmax_by_default():
    fusion = Attention(DIMS, width=8).eval()
    fused = fusion(STREAMS)
    joined = torch.cat(list(fused.streams.values()), 1)
    weights = fusion.weigh.decide(joined)
    expected = sum(weights[:, k, None] * v for k, v in enumerate(fused.streams.values()))
    torch.testing.assert_close(fused.vector, expected)
    sums = Attention(DIMS, softmax=True).eval()(STREAMS).attention["streams"].sum(1)
    torch.testing.assert_close(sums, torch.ones(2))


def test_too_many_products_are_rejected_with_an_alternative():
    with pytest.raises(AffuseError, match="use fusion.name = 'lmf'"):
        TFN(dict.fromkeys("abcd", 5))
