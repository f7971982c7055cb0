"""What every audio encoder does with a clip's sound before its network."""

import numpy as np
import torch

from ..errors import MediaError
from ._encoder import Media, Prepared, Sound


def waveform(media: Media, wants: Sound, *, shortest: int, normalise: bool = False) -> Prepared:
    """Return the samples and their times.

    Parameters
    ----------
    media : Media
        Samples, float32, shape (samples,).
    shortest : int
        Samples that the encoder needs for one step.
    normalise : bool
        The clip is brought to zero mean and unit variance.

    Raises
    ------
    MediaError
        Too short for one step.
    """
    samples = media.values
    if len(samples) < shortest:
        raise MediaError("too_short", "the clip's sound is shorter than one step of the encoder")
    if normalise:
        samples = (samples - samples.mean()) / np.sqrt(samples.var() + 1e-7)
    times = torch.arange(len(samples)) / wants.sampling_rate
    return Prepared(torch.tensor(samples, dtype=torch.float32), times)
