"""Small checkpoints made with the reference libraries, and the references' own numbers.

Each maker writes one folder as the library itself saves it and returns its path; weights are
random, drawn by a seed, so every layer matters.
"""

from pathlib import Path

import numpy as np
import torch

from affuse.extractors._encoder import Encoder, Media, gathered
from affuse.extractors._pretrained import transformers

CONVOLUTIONS = {"conv_dim": [16] * 7, "num_conv_pos_embeddings": 16,
                "num_conv_pos_embedding_groups": 2}  # fmt: skip
NARROW = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2,
          "intermediate_size": 48}  # fmt: skip


def speech(folder: Path, kind: str, *, large: bool, normalise: bool = True) -> Path:
    """Save a speech model: ``Wav2Vec2``, ``Hubert``, ``WavLM``, ``Data2VecAudio``."""
    library = transformers()
    options = {**NARROW, **CONVOLUTIONS}
    if kind == "Data2VecAudio":
        del options["num_conv_pos_embeddings"], options["num_conv_pos_embedding_groups"]
        options |= {"num_conv_pos_embeddings": 3, "num_conv_pos_embedding_groups": 2,
                    "conv_pos_kernel_size": 5}  # fmt: skip
    elif large:
        options |= {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
    config = getattr(library, f"{kind}Config")(**options)
    return _saved(
        folder,
        getattr(library, f"{kind}Model")(config),
        library.Wav2Vec2FeatureExtractor(do_normalize=normalise, return_attention_mask=large),
    )


def _saved(folder: Path, model, processor) -> Path:
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def voice(seconds: float, seed: int = 3) -> Media:
    """Return a chirp in noise, 16 kHz."""
    t = np.arange(int(seconds * 16_000)) / 16_000
    noise = np.random.default_rng(seed).normal(size=len(t))
    samples = 0.1 + 0.3 * np.sin(2 * np.pi * 220 * t * (1 + t)) + 0.05 * noise
    return Media(samples.astype(np.float32), np.empty(0), seconds)


def encoded(encoder: Encoder, *media: Media):
    """Prepare, batch and encode clips, without gradients."""
    prepared = [encoder.prepare(clip) for clip in media]
    with torch.no_grad():
        return encoder(gathered([p.values for p in prepared], [p.times for p in prepared]))
