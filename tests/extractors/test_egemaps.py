"""eGeMAPS equal the values of openSMILE."""

import sys

import numpy as np
import pytest

from affuse.errors import EncoderError
from affuse.extractors.egemaps import Egemaps

from ..checkpoints import encoded, voice


@pytest.mark.parametrize("level", ["functionals", "lld"])
def test_values_equal_opensmile(level):
    opensmile = pytest.importorskip("opensmile")
    name = {"functionals": "Functionals", "lld": "LowLevelDescriptors"}[level]
    smile = opensmile.Smile(opensmile.FeatureSet.eGeMAPSv02, opensmile.FeatureLevel[name])
    clip = voice(1.0)
    expected = smile.process_signal(clip.values, 16_000).to_numpy()
    encoder = Egemaps.from_pretrained(level=level)
    found = encoded(encoder, clip, voice(1.4))[0]
    np.testing.assert_allclose(found.values[0][found.mask[0]], expected, rtol=1e-4, atol=1e-5)
    assert found.values.shape[-1] == encoder.dim


def test_without_opensmile_the_message_names_the_extra_and_the_licence(monkeypatch):
    monkeypatch.setitem(sys.modules, "opensmile", None)
    with pytest.raises(EncoderError, match=r"affuse\[opensmile\].*no commercial product"):
        Egemaps.from_pretrained()
