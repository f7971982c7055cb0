"""Small checkpoints that are saved by the reference libraries, and small media to encode.

Each function writes a folder in the format of the library and returns its path. All weights are random, drawn with a
seed, so that every layer changes the result.
"""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from affuse.extractors._encoder import Encoder, Frames, Media, pad_sequences
from affuse.extractors._transformers import transformers
from affuse.media.resize import shaped

CONVOLUTIONS = {"conv_dim": [16] * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2}
NARROW = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 48}


def speech(folder: Path, kind: str, *, large: bool, normalise: bool = True) -> Path:
    """Save a speech model: ``Wav2Vec2``, ``Hubert``, ``WavLM``, ``Data2VecAudio``."""
    library = transformers()
    options = {**NARROW, **CONVOLUTIONS}
    if kind == "Data2VecAudio":
        del options["num_conv_pos_embeddings"], options["num_conv_pos_embedding_groups"]
        options |= {"num_conv_pos_embeddings": 3, "num_conv_pos_embedding_groups": 2, "conv_pos_kernel_size": 5}
    elif large:
        options |= {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
    config = getattr(library, f"{kind}Config")(**options)
    return save_checkpoint(
        folder,
        getattr(library, f"{kind}Model")(config),
        library.Wav2Vec2FeatureExtractor(do_normalize=normalise, return_attention_mask=large),
    )


def save_checkpoint(folder: Path, model, processor) -> Path:
    """Save a model of transformers and its processor, after adding noise to every parameter."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def voice(seconds: float, seed: int = 3) -> Media:
    """Return a chirp with noise at 16 kHz."""
    t = np.arange(int(seconds * 16_000)) / 16_000
    noise = np.random.default_rng(seed).normal(size=len(t))
    samples = 0.1 + 0.3 * np.sin(2 * np.pi * 220 * t * (1 + t)) + 0.05 * noise
    return Media(samples.astype(np.float32), np.empty(0), seconds)


def encoded(encoder: Encoder, *media: Media):
    """Prepare clips and encode them as one batch, without gradients."""
    prepared = [encoder.prepare(clip) for clip in media]
    with torch.no_grad():
        return encoder(pad_sequences([p.values for p in prepared], [p.times for p in prepared]))


def pictures(n: int, seed: int = 5, height: int = 45, width: int = 60) -> np.ndarray:
    """Return smooth random pictures, uint8 of shape (n, height, width, 3)."""
    coarse = np.random.default_rng(seed).integers(0, 256, (n, 6, 8, 3), dtype=np.uint8)
    size = (width, height)
    return np.stack([np.asarray(Image.fromarray(c).resize(size, Image.BICUBIC)) for c in coarse])


def frame_media(frames: np.ndarray, inputs: Frames) -> Media:
    """Return the media of a clip with five of these frames per second, resized for an encoder."""
    shapes = np.stack([shaped(frame, inputs) for frame in frames])
    return Media(shapes, (np.arange(len(frames)) + 0.5) / 5, len(frames) / 5)
