"""The tensors that pass between the rooms, and how clips become a batch.

Padding stands behind and every sequence carries its mask: True where there is something. No other
padding convention exists.
"""

from typing import NamedTuple

import torch
from torch import Tensor

IGNORE = -100
"""Emotion index of a clip that is not annotated (torch's `ignore_index`)."""


class Stream(NamedTuple):
    """One modality's sequence for a batch of clips, before or after its encoder.

    Attributes
    ----------
    values : Tensor [shape=(batch, time, dim) or (batch, time, layers, dim)]
        Four axes where an encoder's layers are kept apart, until the model mixes them; media have
        their own axes behind time: waveform samples none, frames (channels, height, width).
    mask : Tensor of bool [shape=(batch, time)]
        True where there is something; a clip without this modality is False throughout.
    times : Tensor [shape=(batch, time)]
        Centre of each step, seconds from the clip's start; nan where masked.
    """

    values: Tensor
    mask: Tensor
    times: Tensor

    def to(self, device: torch.device | str) -> "Stream":
        """Return the stream on a device."""
        return Stream(*(tensor.to(device) for tensor in self))


class Targets(NamedTuple):
    """What the annotators said.

    Attributes
    ----------
    emotion : Tensor of int64 [shape=(batch,)]
        Index into the emotions; `IGNORE` where not annotated.
    dimensions : Tensor [shape=(batch, n) or (batch, time, n)]
        Nan where not annotated.
    """

    emotion: Tensor
    dimensions: Tensor

    def to(self, device: torch.device | str) -> "Targets":
        """Return the targets on a device."""
        return Targets(*(tensor.to(device) for tensor in self))


class Batch(NamedTuple):
    """Clips for one step.

    Attributes
    ----------
    ids : tuple of str
    streams : dict of str to Stream
        By stream name. A name begins with its modality: ``audio``, ``visual``, ``audio:whisper``.
    targets : Targets
    """

    ids: tuple[str, ...]
    streams: dict[str, Stream]
    targets: Targets

    def to(self, device: torch.device | str) -> "Batch":
        """Return the batch on a device."""
        streams = {name: stream.to(device) for name, stream in self.streams.items()}
        return Batch(self.ids, streams, self.targets.to(device))


class Width(NamedTuple):
    """What a head is built on: the width of a fusion's output and of each stream's own vector."""

    vector: int
    streams: dict[str, int]


class Fused(NamedTuple):
    """What a fusion gives a head.

    Attributes
    ----------
    vector : Tensor [shape=(batch, width) or (batch, time, width)]
        One vector a clip, or one a step where the fusion keeps time.
    mask : Tensor of bool [shape=(batch, time)] or None
        The steps' mask; None for one vector a clip.
    attention : dict of str to Tensor
        Weights worth looking at, by name; the last axis but one or the last is time.
    streams : dict of str to Tensor [shape=(batch, width of that stream)]
        Each stream's own vector before fusion, where the fusion has one: of a stream, or of a
        whole modality; zeros where a clip lacks it.
    """

    vector: Tensor
    mask: Tensor | None
    attention: dict[str, Tensor]
    streams: dict[str, Tensor]
