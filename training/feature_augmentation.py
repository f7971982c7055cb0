"""Augmentation of prepared streams in training, for robustness to noise and missing modalities.

All functions expect standardised streams, in which zero is the mean of the training fold, and draw from the given
generator only.
"""

from collections.abc import Mapping

import torch

from ..plugins import modality_of
from ..tensors import Stream, Targets

Streams = dict[str, Stream]


def soft_hard_dropout(
    streams: Mapping[str, Stream], targets: Targets, *, generator: torch.Generator
) -> tuple[Streams, Targets]:
    """Repeat a batch: unchanged, with modalities scaled against each other, and with each modality alone.

    "Softhard" modality dropout of Chumachenko, Iosifidis and Gabbouj 2022, "Self-attention fusion for audiovisual
    emotion recognition with incomplete data". The paper replaces a dropped modality by zeros; our interpretation masks
    it, because affuse masks every missing modality. Two modalities are scaled to ``(c a, (1 - c) v)`` with uniform c,
    as in the paper; more than two get random shares that sum to one.

    Returns
    -------
    streams : dict of str to Stream [batch=(2 + modalities) * clips]
    targets : Targets [batch=(2 + modalities) * clips]
    """
    kinds = sorted({modality_of(name) for name in streams})
    n_copies = 2 + len(kinds)
    shares = torch.rand(len(targets.emotion), len(kinds), generator=generator)
    if len(kinds) == 2:
        shares[:, 1] = 1 - shares[:, 0]
    else:
        shares = shares / shares.sum(1, keepdim=True)
    repeated = {}
    for name, (values, mask, times) in streams.items():
        scaled = values * shares[:, kinds.index(modality_of(name))].to(values)[:, None, None]
        alone = [mask if kind == modality_of(name) else torch.zeros_like(mask) for kind in kinds]
        repeated[name] = Stream(
            torch.cat([values, scaled, *(values for _ in kinds)]),
            torch.cat([mask, mask, *alone]),
            times.repeat(n_copies, 1),
        )
    dimensions = targets.dimensions.repeat(n_copies, *[1] * (targets.dimensions.ndim - 1))
    return repeated, Targets(targets.emotion.repeat(n_copies), dimensions)


def drop_frames(streams: Mapping[str, Stream], share: float, *, generator: torch.Generator) -> Streams:
    """Mask a random share of the steps of every stream; a clip that would lose all its steps keeps them."""
    found = {}
    for name, stream in streams.items():
        drawn = torch.rand(stream.mask.shape, generator=generator).to(stream.mask.device)
        kept = stream.mask & (drawn >= share)
        found[name] = stream._replace(mask=torch.where(kept.any(1, keepdim=True), kept, stream.mask))
    return found


def add_noise(streams: Mapping[str, Stream], deviation: float, *, generator: torch.Generator) -> Streams:
    """Add Gaussian noise of a standard deviation to all steps that are not masked."""
    found = {}
    for name, stream in streams.items():
        noise = torch.randn(stream.values.shape, generator=generator).to(stream.values)
        noise = noise.masked_fill(~stream.mask[..., None], 0)
        found[name] = stream._replace(values=stream.values + deviation * noise)
    return found
