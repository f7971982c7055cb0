"""Features of the image towers equal those of open_clip, from the pictures to the vectors."""

import json

import numpy as np
import pytest
import torch

from affuse.errors import EncoderError
from affuse.extractors import _torchvision
from affuse.extractors._frames import pool_tokens
from affuse.extractors.clip import ClipEncoder, _named
from affuse.extractors.image import ImageEncoder

from ..checkpoints import encoded, frame_media, pictures

_torchvision.declare_missing_operators()
import open_clip  # noqa: E402
from PIL import Image  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

TEXT = {"context_length": 8, "vocab_size": 64, "width": 16, "heads": 2, "layers": 1}
VIT = {"image_size": 32, "patch_size": 8, "width": 32, "layers": 3, "head_width": 16}
TIMM = {
    "image_size": 160,
    "timm_model_name": "test_vit",
    "timm_pool": "map",
    "timm_proj": "none",
    "timm_model_pretrained": True,
}
INCEPTION = [0.5, 0.5, 0.5]
LAYOUTS = {
    "openai": ({"embed_dim": 24, "quick_gelu": True, "vision_cfg": VIT, "text_cfg": TEXT}, {}),
    "siglip": (
        {"embed_dim": 64, "vision_cfg": TIMM, "text_cfg": TEXT, "custom_text": True},
        {"mean": INCEPTION, "std": INCEPTION, "resize_mode": "squash"},
    ),
}


@pytest.fixture(scope="module", params=LAYOUTS)
def folder(request, tmp_path_factory):
    """Save a complete model with its text tower in the format of open_clip."""
    path = tmp_path_factory.mktemp(request.param)
    model_cfg, preprocess_cfg = LAYOUTS[request.param]
    config = json.loads(json.dumps({"model_cfg": model_cfg, "preprocess_cfg": preprocess_cfg}))
    config["model_cfg"]["vision_cfg"]["timm_model_pretrained"] = False
    (path / "open_clip_config.json").write_text(json.dumps(config))
    torch.manual_seed(1)
    model = open_clip.create_model(f"local-dir:{path}", load_weights=False)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    save_file({k: v.contiguous().clone() for k, v in model.state_dict().items()}, path / "open_clip_model.safetensors")
    return path


def reference(folder, frames):
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    model.eval()
    inputs = torch.stack([preprocess(Image.fromarray(frame)) for frame in frames])
    with torch.no_grad():
        return inputs, model.encode_image(inputs)


def test_projected_vectors_equal_open_clip(folder):
    frames = pictures(3)
    inputs, expected = reference(folder, frames)
    encoder = ClipEncoder.from_pretrained(str(folder))
    clip = frame_media(frames, encoder.inputs)
    np.testing.assert_allclose(encoder.prepare(clip).values, inputs, atol=1e-5)
    (found,) = encoded(encoder, clip)
    torch.testing.assert_close(found.values[0], expected, atol=1e-4, rtol=1e-4)
    assert found.values.shape[-1] == encoder.dim


@pytest.mark.parametrize("output", ["cls", "mean"])
def test_hidden_states_are_the_outputs_of_the_blocks(folder, output):
    frames = pictures(2)
    encoder = ClipEncoder.from_pretrained(str(folder), output=output)
    inputs, _ = reference(folder, frames)
    model = open_clip.create_model(f"local-dir:{folder}").eval()
    trunk = getattr(model.visual, "trunk", None)
    blocks = model.visual.transformer.resblocks if trunk is None else trunk.blocks
    seen = []
    for block in blocks:
        block.register_forward_hook(lambda _, __, out: seen.append(out))
    with torch.no_grad():
        model.encode_image(inputs)
    n_prefix = getattr(trunk, "num_prefix_tokens", 1)
    layers = encoded(encoder, frame_media(frames, encoder.inputs))
    assert len(layers) == encoder.n_layers == len(seen)
    for found, state in zip(layers, seen, strict=True):
        expected = state[:, 0] if output == "cls" else state[:, n_prefix:].mean(1)
        torch.testing.assert_close(found.values[0], expected, atol=1e-4, rtol=1e-4)


def test_features_do_not_depend_on_the_batch(folder):
    encoder = ClipEncoder.from_pretrained(str(folder))
    clips = [frame_media(pictures(n, seed=n), encoder.inputs) for n in (3, 5)]
    (together,) = encoded(encoder, *clips)
    (alone,) = encoded(encoder, clips[0])
    torch.testing.assert_close(together.values[0, :3], alone.values[0], atol=1e-5, rtol=1e-5)
    assert together.mask.sum(1).tolist() == [3, 5]


def test_weights_that_do_not_fit_are_refused(folder, tmp_path):
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["model_cfg"]["embed_dim"] = 99
    config["model_cfg"]["vision_cfg"]["layers"] = 4
    config["model_cfg"]["vision_cfg"].pop("timm_model_name", None)
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    weights = (folder / "open_clip_model.safetensors").read_bytes()
    (tmp_path / "open_clip_model.safetensors").write_bytes(weights)
    with pytest.raises(EncoderError, match="do not fit the model in its configuration"):
        ClipEncoder.from_pretrained(str(tmp_path))


def test_an_unknown_tag_lists_the_known_tags():
    with pytest.raises(EncoderError, match="laion2b_s34b_b79k"):
        ClipEncoder.from_pretrained("ViT-B-32/openia")


def test_a_model_without_class_token_suggests_other_outputs():
    with pytest.raises(EncoderError, match="no class token. Use output=mean"):
        pool_tokens(torch.zeros(1, 4, 8), None, "cls")


@pytest.mark.parametrize("info", ClipEncoder.checkpoints, ids=lambda info: info.request)
def test_the_listed_models_exist_in_open_clip(info):
    source, layout = _named(info.request.removeprefix("clip:") + "@v2")
    assert source.count("/") == 1 and source.endswith("@v2")
    assert layout["model_cfg"]["embed_dim"] == info.dim
    assert layout["model_cfg"].get("quick_gelu", False) == info.request.endswith("/openai")


def test_a_model_in_the_format_of_transformers_points_to_the_encoder_image(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "clip"}')
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(EncoderError, match=r"contains no weights.*use the encoder image:"):
        ClipEncoder.from_pretrained(str(tmp_path))


def test_a_model_in_the_format_of_open_clip_points_to_the_encoder_clip(folder):
    with pytest.raises(EncoderError, match=r"has no config.json.*use the encoder clip:"):
        ImageEncoder.from_pretrained(str(folder))
