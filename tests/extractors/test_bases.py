"""A new encoder is one short file on top of a shared base."""

import numpy as np
import pytest
import torch

from affuse import plugins
from affuse.errors import EncoderError, UnknownOption
from affuse.extractors._loading import build_encoder
from affuse.extractors._request import Request
from affuse.extractors._transformers import transformers

from ..checkpoints import NARROW, encoded, frame_media, pictures, save_checkpoint, voice

COLOURS = '''
from affuse.extractors._encoder import Frames
from affuse.extractors._frames import FrameEncoder, Pixels


class Colours(FrameEncoder):
    """Mean colour of each frame."""

    family = "colours"
    has_weights = False
    pixels = Pixels.unnormalised(Frames(size=8, squash=True))
    dim = 3

    def encode_frames(self, frames):
        return [frames.mean((2, 3))]


plugin = Colours
'''
SIGLIP = '''
from affuse.extractors._encoder import Frames
from affuse.extractors._frames import FrameEncoder, Pixels
from affuse.extractors._hub import resolve
from affuse.extractors._transformers import load_model, read_config, read_pixels, transformers


class Siglip(FrameEncoder):
    """Pooled vectors of SigLIP."""

    family = "my-siglip"

    def load(self, checkpoint):
        files = resolve(checkpoint)
        config = read_config(files, family=self.family, model_types=("siglip_vision_model",))
        self.model, self.origin = load_model(files, transformers().SiglipVisionModel, config), files.identity()
        self.dim = config.hidden_size
        self.set_pixels(read_pixels(files))

    def encode_frames(self, frames):
        return [self.model(frames).pooler_output]


plugin = Siglip
'''
LOUDNESS = '''
import torch
from affuse.extractors._audio import SoundEncoder


class Loudness(SoundEncoder):
    """Root mean square over steps of 100 ms."""

    family, has_weights, dim, rate, min_samples = "loudness", False, 1, 10.0, 1600

    def encode_clip(self, samples):
        steps = samples[: len(samples) // 1600 * 1600].reshape(-1, 1600)
        return steps.square().mean(1, keepdim=True).sqrt(), (torch.arange(len(steps)) + 0.5) / 10


plugin = Loudness
'''


@pytest.fixture
def request_(tmp_path, monkeypatch):
    """Return a function that saves a plug-in as a module and builds the encoder of a request."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def build(code: str, name: str, rest: str = ""):
        assert len(code.strip().splitlines()) <= 25
        module = f"plugin_{name.lower()}"
        (tmp_path / f"{module}.py").write_text(code)
        return build_encoder(Request.parse(f"{module}.{name}{rest}")).eval()

    return build


def test_a_descriptor_of_frames_has_the_options_of_all_frame_encoders(request_):
    encoder = request_(COLOURS, "Colours", ",fps=2")
    assert plugins.options(encoder.from_pretrained) == {"fps": None, "frames": None, "crop": "none"}
    frames = pictures(3)
    (found,) = encoded(encoder, frame_media(frames, encoder.inputs), frame_media(frames[:1], encoder.inputs))
    assert found.values.shape == (2, 3, 3) and found.mask.sum(1).tolist() == [3, 1]
    np.testing.assert_allclose(found.values[0, 0], frames[0].mean((0, 1)) / 255, atol=0.01)
    assert (encoder.rate, encoder.modality, encoder.inputs.fps) == (2.0, "visual", 2.0)
    identity = encoder.identity()
    assert (identity["family"], identity["wants"]["fps"]) == ("colours", 2.0)
    with pytest.raises(UnknownOption, match="frames"):
        request_(COLOURS, "Colours", ",frame=2")
    with pytest.raises(EncoderError, match="fps=fast"):
        request_(COLOURS, "Colours", ",fps=fast")


def test_an_encoder_with_published_weights_loads_a_checkpoint(request_, tmp_path):
    library = transformers()
    processor = library.SiglipImageProcessorPil(size={"height": 32, "width": 32})
    model = library.SiglipVisionModel(library.SiglipVisionConfig(**NARROW, image_size=32, patch_size=16))
    folder = save_checkpoint(tmp_path / "model", model, processor)
    encoder = request_(SIGLIP, "Siglip", f":{folder}")
    frames = pictures(2)
    (found,) = encoded(encoder, frame_media(frames, encoder.inputs))
    with torch.no_grad():
        expected = model.eval()(processor(list(frames), return_tensors="pt")["pixel_values"]).pooler_output
    torch.testing.assert_close(found.values[0], expected, atol=1e-4, rtol=1e-4)
    assert encoder.identity()["checkpoint"] == "local"
    with pytest.raises(EncoderError, match="needs a checkpoint"):
        request_(SIGLIP, "Siglip")


def test_a_descriptor_of_sound_encodes_clip_by_clip(request_):
    encoder = request_(LOUDNESS, "Loudness")
    (found,) = encoded(encoder, voice(1.0), voice(0.35))
    assert found.mask.sum(1).tolist() == [10, 3]
    expected = np.sqrt(np.square(voice(1.0).values[:1600]).mean())
    assert found.values[0, 0, 0].item() == pytest.approx(float(expected), rel=1e-5)
    assert found.times[0, 0].item() == pytest.approx(0.05)
