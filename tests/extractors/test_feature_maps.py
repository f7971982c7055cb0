"""Parts of the face network against their definitions."""

import pytest
import torch

from affuse.errors import AffuseError
from affuse.extractors._feature_maps import LocalExtractor, ModulatorAttention


def test_the_modulator_multiplies_both_attentions_before_the_sigmoid():
    part = ModulatorAttention(16, reduction=4).eval()
    x = torch.randn(2, 16, 12, 12)
    channel = part.channel(x.mean((2, 3))).view(2, 16, 1, 1)
    expected = torch.sigmoid(channel.expand_as(x) * part.place(x).expand_as(x)) * x
    torch.testing.assert_close(part(x), expected)


def test_the_local_extractor_keeps_quarters_of_the_image_separate():
    part = LocalExtractor(4, 8).eval()
    x = torch.randn(2, 4, 16, 16)
    whole = part(x)
    assert whole.shape == (2, 8, 8, 8)
    x[:, :, :8, 8:] += 1.0
    moved = (part(x) - whole).abs().amax((0, 1)) > 1e-6
    assert moved[:4, 4:].any() and not moved[4:].any() and not moved[:, :4].any()
    with pytest.raises(AffuseError, match="cannot be cut into quarters"):
        part(torch.randn(1, 4, 14, 16))
