"""Tensors that pass between the packages: streams, targets, batches and fused representations.

Padding comes after the data, and every sequence has a mask that is True where there is data. There is
no other padding convention.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from .errors import DeviceError

IGNORE = -100
"""Emotion index of a clip without an emotion label (`ignore_index` of torch)."""


class Stream(NamedTuple):
    """Sequences of one stream for a batch of clips, before or after its encoder.

    Attributes
    ----------
    values : Tensor [shape=(batch, time, dim) or (batch, time, layers, dim)]
        Features, with four axes where the layers of an encoder are kept apart until the model mixes
        them. Media have other axes after time: none for waveforms, (channels, height, width) for
        frames.
    mask : Tensor of bool [shape=(batch, time)]
        True where there is data; False throughout for a clip without this stream.
    times : Tensor [shape=(batch, time)]
        Centre of each step in seconds from the start of the clip; nan where masked.
    """

    values: Tensor
    mask: Tensor
    times: Tensor

    def to(self, device: torch.device | str) -> "Stream":
        """Return the stream on a device."""
        return Stream(*(tensor.to(device) for tensor in self))


class Targets(NamedTuple):
    """Labels of a batch of clips.

    Attributes
    ----------
    emotion : Tensor of int64 [shape=(batch,)]
        Index of the emotion; `IGNORE` where not annotated.
    dimensions : Tensor [shape=(batch, n) or (batch, time, n)]
        Dimensional labels, such as valence; nan where not annotated.
    """

    emotion: Tensor
    dimensions: Tensor

    def to(self, device: torch.device | str) -> "Targets":
        """Return the targets on a device."""
        return Targets(*(tensor.to(device) for tensor in self))


class Batch(NamedTuple):
    """Clips of one training or prediction step.

    Attributes
    ----------
    ids : tuple of str
        Ids of the clips.
    streams : dict of str to Stream
        Streams by name. A name begins with its modality: ``audio``, ``visual``, ``audio:whisper``.
    targets : Targets
        Labels of the clips.
    """

    ids: tuple[str, ...]
    streams: dict[str, Stream]
    targets: Targets

    def to(self, device: torch.device | str) -> "Batch":
        """Return the batch on a device."""
        streams = {name: stream.to(device) for name, stream in self.streams.items()}
        return Batch(self.ids, streams, self.targets.to(device))


class Width(NamedTuple):
    """Dimensions that a head is built for.

    Attributes
    ----------
    vector : int
        Dimension of the output of the fusion.
    streams : dict of str to int
        Dimension of the vector of each stream before fusion.
    """

    vector: int
    streams: dict[str, int]


class Fused(NamedTuple):
    """Output of a fusion, input of a head.

    Attributes
    ----------
    vector : Tensor [shape=(batch, width) or (batch, time, width)]
        One vector per clip, or one per step where the fusion keeps time.
    mask : Tensor of bool [shape=(batch, time)] or None
        Mask of the steps; None for one vector per clip.
    attention : dict of str to Tensor
        Attention weights for analysis, by name; time is the last axis or the last but one.
    streams : dict of str to Tensor [shape=(batch, width of that stream)]
        Vector of each stream, or of each modality, before fusion, where the fusion has one; zeros
        where a clip lacks the stream.
    """

    vector: Tensor
    mask: Tensor | None
    attention: dict[str, Tensor]
    streams: dict[str, Tensor]


def select_device(name: str) -> torch.device:
    """Return a device by its name; ``auto`` is CUDA if available, then MPS, then the CPU."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        torch.device(name)
    except RuntimeError as error:
        raise DeviceError(f"Unknown device {name!r}; expected auto, cpu, cuda, cuda:1 or mps.") from error
    try:
        return torch.zeros(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise DeviceError(f"Device {name!r} cannot be used on this machine: {error}") from error
