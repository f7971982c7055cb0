"""AVT-CA, AVERFormer and MulT against torch and against their papers."""

import pytest
import torch
from torch import nn

from affuse.errors import AffuseError
from affuse.fusion._attention import MultiHeadAttention, PositionalEncoding
from affuse.fusion.averformer import AVERFormer, GuidedLayer
from affuse.fusion.avtca import AVTCA, ConvolutionBlock, IntermediateAttention, MaskedBatchNorm
from affuse.fusion.mult import MulT
from affuse.tensors import Stream

torch.manual_seed(0)
X, SOURCE = torch.randn(3, 5, 8), torch.randn(3, 4, 8)
MASK = torch.arange(4)[None] < torch.tensor([4, 2, 1])[:, None]


@pytest.mark.parametrize("heads", [1, 2, 8])
def test_multi_head_attention_matches_torch(heads):
    ours, theirs = MultiHeadAttention(8, heads=heads), nn.MultiheadAttention(8, heads, batch_first=True)
    rows = [ours.query, ours.key, ours.value]
    theirs.in_proj_weight.data = torch.cat([linear.weight.data for linear in rows])
    theirs.in_proj_bias.data = torch.cat([linear.bias.data for linear in rows])
    theirs.out_proj.load_state_dict(ours.out.state_dict())
    found, weights = ours(X, SOURCE, MASK)
    expected, attention = theirs(X, SOURCE, SOURCE, key_padding_mask=~MASK)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(weights, attention)


def test_a_masked_source_gives_zeros_and_heads_must_divide_the_width():
    found, weights = MultiHeadAttention(8, heads=2)(X, SOURCE, torch.zeros_like(MASK))
    assert (found == 0).all() and (weights == 0).all()
    with pytest.raises(AffuseError, match="width of 8 cannot be divided into 3 heads"):
        MultiHeadAttention(8, heads=3)


def test_positions_depend_on_seconds():
    clock = PositionalEncoding(6)
    times = torch.tensor([[0.1, 0.2, 0.3]])
    fast = Stream(torch.zeros(1, 3, 1), torch.ones(1, 3, dtype=torch.bool), times)
    slow = Stream(torch.zeros(1, 1, 1), torch.ones(1, 1, dtype=torch.bool), times[:, 1:2])
    torch.testing.assert_close(clock(fast)[:, 1], clock(slow)[:, 0])


def test_batch_norm_ignores_masked_frames():
    norm = MaskedBatchNorm(8)
    out = norm(SOURCE, MASK)
    frames = SOURCE[MASK]
    expected = (frames - frames.mean(0)) / (frames.var(0, correction=0) + 1e-5).sqrt()
    torch.testing.assert_close(out[MASK], expected)
    assert (out[~MASK] == 0).all()
    alone = torch.zeros(3, 4, dtype=torch.bool)
    assert (norm(SOURCE, alone) == 0).all()
    alone[0, 0] = True
    assert norm(SOURCE, alone).isfinite().all(), "one frame has no deviation"


def test_a_convolution_block_pools_pairs_of_steps():
    block, plain = ConvolutionBlock(8, 6, pool=True).eval(), ConvolutionBlock(8, 6, pool=False).eval()
    plain.load_state_dict(block.state_dict())
    x, whole = X, torch.ones(3, 5, dtype=torch.bool)
    before, after = plain(x, whole), block(x, whole)
    torch.testing.assert_close(after[:, :4], torch.maximum(before[:, :4], before[:, 1:]))
    torch.testing.assert_close(after[:, 4], before[:, 4])


def test_the_intermediate_block_has_no_residual_from_its_query():
    block = IntermediateAttention(8, heads=2)
    y, _ = block.attend(block.norm_x(X), block.norm_source(SOURCE), MASK)
    torch.testing.assert_close(block(X, SOURCE, MASK)[0], y + block.feed_forward(block.norm(y)))
    assert block.attend.query.bias is None


def pair(n_audio=6, n_visual=3):
    def stream(n, dim):
        times = (torch.arange(n) + 0.5).expand(2, n) / n
        return Stream(torch.randn(2, n, dim), torch.ones(2, n, dtype=torch.bool), times)

    return {"audio": stream(n_audio, 5), "visual": stream(n_visual, 4)}


def test_the_ends_of_avtca_match_paper_and_released_code():
    streams, dims = pair(), {"audio": 5, "visual": 4}
    paper = AVTCA(dims, mode="paper", width=16, heads=4).eval()(streams)
    released = AVTCA(dims, mode="released", width=16, heads=4).eval()(streams)
    assert paper.vector.shape == (2, 16) and released.vector.shape == (2, 32)
    torch.testing.assert_close(paper.vector, paper.streams["audio"] + paper.streams["visual"])
    assert paper.attention["audio end"].shape == (2, 6, 3), "cross-attention at the end"
    assert released.attention["audio end"].shape == (2, 6, 6), "self-attention at the end"
    shared = AVTCA(dims, mode="released", width=16).end
    assert sum(p.numel() for p in shared.parameters()) == 4 * (16 * 16 + 16), "one for both"


@pytest.mark.parametrize("build", [AVTCA, AVERFormer])
def test_a_missing_modality_is_named(build):
    with pytest.raises(AffuseError, match="found only audio. Add the missing one with --stream visual=KEY"):
        build({"audio": 5})


def test_several_streams_of_a_modality_are_concatenated():
    streams = pair()
    streams["visual:pose"] = streams["visual"]._replace(values=torch.randn(2, 3, 7))
    fusion = AVTCA({"audio": 5, "visual": 4, "visual:pose": 7}, width=16).eval()
    assert fusion.project[1].in_features == 11
    assert fusion(streams).vector.isfinite().all()


def test_the_guide_gates_every_channel():
    layer = GuidedLayer(8, heads=2, guide="gate", dropout=0.0).eval()
    masks = [torch.ones(3, 5, dtype=torch.bool), MASK]
    (audio, visual), _ = layer([X, SOURCE], masks)
    mean = torch.stack([SOURCE[b][MASK[b]].mean(0) for b in range(3)])
    guide = layer.make(torch.cat([X.mean(1), mean], -1))
    a, v = layer.norm[0](X), layer.norm[1](SOURCE)
    for k, (x, q, kv, m, found) in enumerate(((X, a, v, MASK, audio), (SOURCE, v, a, masks[0], visual))):
        gate = torch.sigmoid(layer.gates[k](guide))[:, None]
        torch.testing.assert_close(found, x + gate * layer.attend[k](q, kv, m)[0])


def test_local_audio_streams_interact_with_the_global_stream():
    streams = pair()
    streams["audio:mel"] = streams["audio"]._replace(values=torch.randn(2, 6, 3))
    dims = {"audio": 5, "audio:mel": 3, "visual": 4}
    fusion = AVERFormer(dims, width=16, heads=2).eval()
    assert fusion.global_stream == "audio" and fusion.local_streams == ["audio:mel"]
    assert fusion(streams).attention["visual"].shape == (2, 3, 12), "both branches' tokens"
    before = fusion(streams).streams["audio"]
    streams["audio:mel"] = streams["audio:mel"]._replace(values=torch.randn(2, 6, 3))
    assert (fusion(streams).streams["audio"] - before).abs().max() > 1e-3
    with pytest.raises(AffuseError, match="did you mean 'audio:mel'"):
        AVERFormer(dims, global_stream="audio:mell")


def test_mult_has_a_transformer_for_every_ordered_pair():
    dims = {"audio": 5, "visual": 4, "text": 3}
    fusion = MulT(dims)
    assert len(fusion.cross) == 6 and fusion.width.vector == 3 * 2 * 40
    assert MulT({"audio": 5}).pairs == [("audio", "audio")]
