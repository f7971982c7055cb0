"""What training does to prepared streams so that a model bears noise and absence.

All of it acts after standardisation, where zero is the mean of the training fold, and draws from a
given generator only.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from ..tensors import Stream, Targets, modality

Streams = dict[str, Stream]


def softhard(streams: Mapping[str, Stream], targets: Targets, *, generator: torch.Generator) -> tuple[Streams, Targets]:
    """Repeat a batch: as it is, with modalities faded against each other, and with each alone.

    Chumachenko, Iosifidis and Gabbouj 2022, "Self-attention fusion for audiovisual emotion
    recognition with incomplete data". There a modality that is left out is zeros; here it is
    masked, which is how absence looks everywhere in affuse. With two modalities the fading is
    ``(c a, (1 - c) v)``, c uniform; with more, each has its own share of the sum.

    Returns
    -------
    streams : dict of str to Stream [batch of (2 + modalities) times the clips]
    targets : Targets
    """
    kinds = sorted({modality(name) for name in streams})
    n_clips = len(targets.emotion)
    shares = torch.rand(n_clips, len(kinds), generator=generator)
    if len(kinds) == 2:
        shares[:, 1] = 1 - shares[:, 0]
    else:
        shares = shares / shares.sum(1, keepdim=True)
    repeated = {}
    for name, (values, mask, times) in streams.items():
        own = kinds.index(modality(name))
        faded = values * shares[:, own].to(values)[:, None, None]
        kept = [mask if kind == modality(name) else torch.zeros_like(mask) for kind in kinds]
        repeated[name] = Stream(
            torch.cat([values, faded, *(values for _ in kinds)]),
            torch.cat([mask, mask, *kept]),
            times.repeat(2 + len(kinds), 1),
        )
    times_over = 2 + len(kinds)
    emotion = targets.emotion.repeat(times_over)
    dimensions = targets.dimensions.repeat(times_over, *[1] * (targets.dimensions.ndim - 1))
    return repeated, Targets(emotion, dimensions)


def without_frames(streams: Mapping[str, Stream], share: float, *, generator: torch.Generator) -> Streams:
    """Mask a share of the steps of every stream; a clip that would lose all keeps all."""
    return {name: s._replace(mask=_thinned(s.mask, share, generator)) for name, s in streams.items()}


def _thinned(mask: Tensor, share: float, generator: torch.Generator) -> Tensor:
    kept = mask & (torch.rand(mask.shape, generator=generator).to(mask.device) >= share)
    return torch.where(kept.any(1, keepdim=True), kept, mask)


def noisy(streams: Mapping[str, Stream], deviation: float, *, generator: torch.Generator) -> Streams:
    """Add Gaussian noise to the steps that are there."""
    found = {}
    for name, stream in streams.items():
        noise = torch.randn(stream.values.shape, generator=generator).to(stream.values)
        noise = noise.masked_fill(~stream.mask[..., None], 0)
        found[name] = stream._replace(values=stream.values + deviation * noise)
    return found
