"""Image models of transformers: features of raw frames equal those of the reference."""

import numpy as np
import pytest
import torch

from affuse.errors import EncoderError
from affuse.extractors._transformers import transformers
from affuse.extractors.image import ImageEncoder

from ..checkpoints import NARROW, encoded, frame_media, pictures, save_checkpoint


def _make(kind, folder):
    library = transformers()
    if kind == "dinov2":
        config = library.Dinov2Config(**NARROW, image_size=28, patch_size=14)
        processor = library.BitImageProcessorPil(
            size={"shortest_edge": 32}, crop_size={"height": 28, "width": 28}, resample=3
        )
        return save_checkpoint(folder, library.Dinov2Model(config), processor)
    if kind == "data2vec-vision":
        config = library.Data2VecVisionConfig(**NARROW, image_size=32, patch_size=16)
        processor = library.BeitImageProcessorPil(size={"height": 32, "width": 32}, do_center_crop=False)
        return save_checkpoint(folder, library.Data2VecVisionModel(config), processor)
    if kind == "clip":
        text = {
            "hidden_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 16,
            "vocab_size": 40,
        }
        vision = {**NARROW, "image_size": 32, "patch_size": 16, "projection_dim": 24}
        config = library.CLIPConfig(text_config=text, vision_config=vision, projection_dim=24)
        processor = library.CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
        return save_checkpoint(folder, library.CLIPModel(config), processor)
    config = library.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1])
    processor = library.ConvNextImageProcessorPil(size={"shortest_edge": 384})
    return save_checkpoint(folder, library.ResNetModel(config), processor)


@pytest.fixture(scope="module", params=["dinov2", "data2vec-vision", "clip"])
def folder(request, tmp_path_factory):
    return _make(request.param, tmp_path_factory.mktemp(request.param))


def reference(folder, frames):
    library = transformers()
    processor = library.AutoImageProcessor.from_pretrained(folder, backend="pil")
    inputs = processor(list(frames), return_tensors="pt")["pixel_values"]
    model = library.AutoModel.from_pretrained(folder).eval()
    model = getattr(model, "vision_model", model)
    with torch.no_grad():
        return inputs, model(inputs, output_hidden_states=True)


@pytest.mark.parametrize("height, width", [(45, 60), (61, 43)])
def test_layers_equal_the_reference(folder, height, width):
    frames = pictures(2, height=height, width=width)
    inputs, expected = reference(folder, frames)
    encoder = ImageEncoder.from_pretrained(str(folder))
    clip = frame_media(frames, encoder.inputs)
    np.testing.assert_allclose(encoder.prepare(clip).values, inputs, atol=1e-5)
    layers = encoded(encoder, clip)
    assert len(layers) == encoder.n_layers == len(expected.hidden_states)
    for found, state in zip(layers, expected.hidden_states, strict=True):
        torch.testing.assert_close(found.values[0], state[:, 0], atol=1e-4, rtol=1e-4)


def test_the_mean_over_patches_excludes_the_class_token(folder):
    frames = pictures(2)
    _, expected = reference(folder, frames)
    encoder = ImageEncoder.from_pretrained(str(folder), output="mean")
    found = encoded(encoder, frame_media(frames, encoder.inputs))[-1]
    state = expected.hidden_states[-1][:, 1:].mean(1)
    torch.testing.assert_close(found.values[0], state, atol=1e-4, rtol=1e-4)


def test_projected_is_the_vector_that_the_model_returns(folder):
    frames = pictures(2)
    encoder = ImageEncoder.from_pretrained(str(folder), output="projected")
    if "data2vec" in folder.name:
        with pytest.raises(EncoderError, match="output=cls or output=mean"):
            encoded(encoder, frame_media(frames, encoder.inputs))
        return
    (found,) = encoded(encoder, frame_media(frames, encoder.inputs))
    inputs, expected = reference(folder, frames)
    if "clip" in folder.name:
        model = transformers().CLIPModel.from_pretrained(folder).eval()
        with torch.no_grad():
            own = model.get_image_features(inputs).pooler_output
    else:
        own = expected.pooler_output
    assert found.values.shape[-1] == encoder.dim
    torch.testing.assert_close(found.values[0], own, atol=1e-4, rtol=1e-4)


def test_a_network_whose_layers_differ_in_width_has_projected_vectors_only(tmp_path):
    folder = _make("resnet", tmp_path)
    with pytest.raises(EncoderError, match="Use output=projected"):
        ImageEncoder.from_pretrained(str(folder))


def test_features_do_not_depend_on_the_batch():
    encoder = ImageEncoder.untrained(frames=8)
    clips = [frame_media(pictures(n, seed=n), encoder.inputs) for n in (2, 4)]
    together = encoded(encoder, *clips)[-1]
    alone = encoded(encoder, clips[0])[-1]
    torch.testing.assert_close(together.values[0, :2], alone.values[0], atol=1e-5, rtol=1e-5)
    assert encoder.rate is None and encoder.inputs.count == 8


def test_a_checkpoint_without_image_processor_is_refused(folder, tmp_path):
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    with pytest.raises(EncoderError, match="preprocessor_config.json"):
        ImageEncoder.from_pretrained(str(tmp_path))
