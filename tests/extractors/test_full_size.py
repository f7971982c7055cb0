"""Published checkpoints load: the names and shapes of their weights fit, without their values.

The files are sparse: a header with the published names and shapes, and a hole in place of the data.
"""

import json
import struct
from math import prod
from pathlib import Path

import pytest

from affuse import plugins
from affuse.errors import EncoderError
from affuse.extractors._transformers import transformers

LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16}
LARGE_SPEECH = {**LARGE, "intermediate_size": 4096, "feat_extract_norm": "layer", "do_stable_layer_norm": True}


def layer(prefix: str, shapes: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """Add a prefix to the names of tensors; a shape given as a list stands for a weight and its bias."""
    found = {}
    for name, shape in shapes.items():
        if isinstance(shape, list):
            found |= {f"{prefix}{name}.weight": tuple(shape), f"{prefix}{name}.bias": (shape[0],)}
        else:
            found[f"{prefix}{name}"] = shape
    return found


def speech(prefix: str, *, conv_bias: bool, wavlm: bool = False):
    d, kernels = 1024, [10, 3, 3, 3, 3, 2, 2]
    names = {f"{prefix}masked_spec_embed": (d,)}
    for i, k in enumerate(kernels):
        names |= layer(
            f"{prefix}feature_extractor.conv_layers.{i}.", {"conv": [512, 1 if i == 0 else 512, k], "layer_norm": [512]}
        )
        if not conv_bias:
            del names[f"{prefix}feature_extractor.conv_layers.{i}.conv.bias"]
    names |= layer(f"{prefix}feature_projection.", {"layer_norm": [512], "projection": [d, 512]})
    names |= layer(
        f"{prefix}encoder.",
        {
            "pos_conv_embed.conv.bias": (d,),
            "pos_conv_embed.conv.weight_g": (1, 1, 128),
            "pos_conv_embed.conv.weight_v": (d, 64, 128),
            "layer_norm": [d],
        },
    )
    for i in range(24):
        shapes = {f"attention.{p}_proj": [d, d] for p in ("q", "k", "v", "out")}
        shapes |= {
            "layer_norm": [d],
            "feed_forward.intermediate_dense": [4 * d, d],
            "feed_forward.output_dense": [d, 4 * d],
            "final_layer_norm": [d],
        }
        if wavlm:
            shapes |= {"attention.gru_rel_pos_const": (1, 16, 1, 1), "attention.gru_rel_pos_linear": [8, 64]}
        if wavlm and i == 0:
            shapes["attention.rel_attn_embed.weight"] = (320, 16)
        names |= layer(f"{prefix}encoder.layers.{i}.", shapes)
    return names


def hubert():
    config = {**LARGE_SPEECH, "model_type": "hubert", "architectures": ["HubertForCTC"], "conv_bias": True}
    names = speech("hubert.", conv_bias=True) | layer("", {"lm_head": [32, 1024]})
    return config, {"do_normalize": True, "sampling_rate": 16000}, names


def wavlm():
    config = {**LARGE_SPEECH, "model_type": "wavlm", "conv_bias": False}
    return config, {"do_normalize": True, "sampling_rate": 16000}, speech("", conv_bias=False, wavlm=True)


def whisper():
    d = 1280
    config = {
        "model_type": "whisper",
        "d_model": d,
        "encoder_layers": 32,
        "num_mel_bins": 128,
        "encoder_attention_heads": 20,
        "encoder_ffn_dim": 4 * d,
        "decoder_layers": 32,
        "decoder_attention_heads": 20,
        "decoder_ffn_dim": 4 * d,
        "vocab_size": 51866,
    }
    names = layer(
        "model.encoder.",
        {"conv1": [d, 128, 3], "conv2": [d, d, 3], "layer_norm": [d], "embed_positions.weight": (1500, d)},
    )
    for i in range(32):
        shapes = {f"self_attn.{p}_proj": [d, d] for p in ("q", "v", "out")}
        shapes |= {
            "self_attn.k_proj.weight": (d, d),
            "self_attn_layer_norm": [d],
            "fc1": [4 * d, d],
            "fc2": [d, 4 * d],
            "final_layer_norm": [d],
        }
        names |= layer(f"model.encoder.layers.{i}.", shapes)
    names |= layer("model.decoder.", {"embed_tokens.weight": (51866, d), "layer_norm": [d]})
    return config, None, names


def pictures(size: int, resample: int, crop: int) -> dict:
    return {
        "image_processor_type": "ViTImageProcessor",
        "size": {"shortest_edge": size},
        "crop_size": {"height": crop, "width": crop},
        "do_center_crop": True,
        "resample": resample,
        "do_resize": True,
        "do_rescale": True,
        "do_normalize": True,
        "rescale_factor": 1 / 255,
        "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225],
    }


def videomae():
    d = 1024
    config = {
        **LARGE,
        "model_type": "videomae",
        "architectures": ["VideoMAEForPreTraining"],
        "intermediate_size": 4 * d,
        "decoder_hidden_size": 512,
        "decoder_num_attention_heads": 8,
        "decoder_intermediate_size": 2048,
    }
    names = layer("videomae.", {"embeddings.patch_embeddings.projection": [d, 3, 2, 16, 16], "layernorm": [d]})
    for i in range(24):
        shapes = {f"attention.attention.{p}.weight": (d, d) for p in ("query", "key", "value")}
        shapes |= {
            "attention.attention.q_bias": (d,),
            "attention.attention.v_bias": (d,),
            "attention.output.dense": [d, d],
            "intermediate.dense": [4 * d, d],
            "output.dense": [d, 4 * d],
            "layernorm_before": [d],
            "layernorm_after": [d],
        }
        names |= layer(f"videomae.encoder.layer.{i}.", shapes)
    names |= {"mask_token": (1, 1, 512), "encoder_to_decoder.weight": (512, d)}
    config["use_mean_pooling"] = False
    return config, pictures(224, 2, 224) | {"image_processor_type": "VideoMAEImageProcessor"}, names


def dinov2():
    d = 1024
    config = {**LARGE, "model_type": "dinov2", "image_size": 518, "patch_size": 14}
    names = layer(
        "",
        {
            "embeddings.cls_token": (1, 1, d),
            "embeddings.mask_token": (1, d),
            "embeddings.position_embeddings": (1, 1370, d),
            "layernorm": [d],
            "embeddings.patch_embeddings.projection": [d, 3, 14, 14],
        },
    )
    for i in range(24):
        shapes = {f"attention.attention.{p}": [d, d] for p in ("query", "key", "value")}
        shapes |= {
            "attention.output.dense": [d, d],
            "norm1": [d],
            "norm2": [d],
            "layer_scale1.lambda1": (d,),
            "layer_scale2.lambda1": (d,),
            "mlp.fc1": [4 * d, d],
            "mlp.fc2": [d, 4 * d],
        }
        names |= layer(f"encoder.layer.{i}.", shapes)
    return config, pictures(256, 3, 224) | {"image_processor_type": "BitImageProcessor"}, names


def clip():
    d = 1024
    vision = {"image_size": 224, "layers": 24, "width": d, "patch_size": 14}
    config = {"model_cfg": {"embed_dim": 768, "quick_gelu": True, "vision_cfg": vision}, "preprocess_cfg": {}}
    names = layer(
        "visual.",
        {
            "class_embedding": (d,),
            "positional_embedding": (257, d),
            "proj": (d, 768),
            "conv1.weight": (d, 3, 14, 14),
            "ln_pre": [d],
            "ln_post": [d],
        },
    )
    for i in range(24):
        shapes = {
            "ln_1": [d],
            "ln_2": [d],
            "attn.in_proj_weight": (3 * d, d),
            "attn.in_proj_bias": (3 * d,),
            "attn.out_proj": [d, d],
            "mlp.c_fc": [4 * d, d],
            "mlp.c_proj": [d, 4 * d],
        }
        names |= layer(f"visual.transformer.resblocks.{i}.", shapes)
    names |= {"logit_scale": (), "token_embedding.weight": (49408, 768)}
    return config, None, names


def save(folder: Path, config: dict, processor: dict | None, names: dict) -> Path:
    own = "model_cfg" in config
    (folder / ("open_clip_config.json" if own else "config.json")).write_text(json.dumps(config))
    if processor:
        (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    header, end = {"__metadata__": {"format": "pt"}}, 0
    for name, shape in names.items():
        start, end = end, end + 4 * prod(shape)
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with (folder / f"{'open_clip_' if own else ''}model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)
    return folder


CHECKPOINTS = [
    ("clip", clip, "clip:ViT-L-14/openai", 1),
    ("wav2vec2", hubert, "wav2vec2:facebook/hubert-large-ls960-ft", 25),
    ("wav2vec2", wavlm, "wav2vec2:microsoft/wavlm-large", 25),
    ("whisper", whisper, "whisper:openai/whisper-large-v3", 33),
    ("videomae", videomae, "videomae:MCG-NJU/videomae-large", 25),
    ("image", dinov2, "image:facebook/dinov2-large", 25),
]


def without_memory(monkeypatch):
    """Make transformers match names and shapes without allocating the tensors."""
    base = transformers().PreTrainedModel
    original = base.from_pretrained.__func__
    monkeypatch.setattr(
        base, "from_pretrained", classmethod(lambda cls, *args, **kw: original(cls, *args, device_map="meta", **kw))
    )


def test_a_published_checkpoint_with_one_wrong_name_is_refused(tmp_path, monkeypatch):
    without_memory(monkeypatch)
    config, processor, names = dinov2()
    names["encoder.layer.3.attention.attention.kay.bias"] = names.pop("encoder.layer.3.attention.attention.key.bias")
    monkeypatch.setattr("affuse.extractors._hub.digest_of", lambda path: "0" * 40)
    with pytest.raises(EncoderError, match="lacks 1 of the weights"):
        plugins.find("encoder", "image").from_pretrained(str(save(tmp_path, config, processor, names)))


@pytest.mark.parametrize(
    ("family", "published", "request_", "n_layers"), CHECKPOINTS, ids=[c[1].__name__ for c in CHECKPOINTS]
)
def test_a_published_checkpoint_loads(family, published, request_, n_layers, tmp_path, monkeypatch):
    # The digest would read gigabytes of zeros.
    monkeypatch.setattr("affuse.extractors._hub.digest_of", lambda path: "0" * 40)
    without_memory(monkeypatch)
    plugin = plugins.find("encoder", family)
    encoder = plugin.from_pretrained(str(save(tmp_path, *published())))
    (info,) = [info for info in plugin.checkpoints if info.request == request_]
    millions = sum(p.numel() for p in encoder.parameters()) / 1e6
    assert (encoder.dim, encoder.n_layers) == (info.dim, n_layers)
    assert millions == pytest.approx(info.parameters, abs=1.5)
    assert encoder.rate == info.rate
