"""One forward pass for every layer and pooling asked for, in batches that change nothing.

What shares a batch follows from the clips of a bucket alone, so the numbers do not depend on who
extracts it.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..cache.store import Features, Spool, Spooled
from ..tensors import Stream
from ._encoder import Encoder, Prepared, gathered
from ._features import Specification

PRECISIONS = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
ROOM = {
    ("audio", "cpu"): 0,  # on a CPU a batch of sounds is slower than its clips
    ("visual", "cpu"): 32 * 3 * 224 * 224,
    ("audio", "gpu"): 240 * 16_000,
    ("visual", "gpu"): 256 * 3 * 224 * 224,
}
"""Numbers in a batch; a clip that has more is a batch of its own."""
WAITING = {"cpu": 1, "gpu": 4}
"""Batches' worth of numbers that are waited for, so that clips of like lengths find each other."""


class Item(NamedTuple):
    """A stretch of a clip, ready for the network.

    Attributes
    ----------
    clip : int
        Place in the bucket.
    start : float
        Seconds from the clip's start.
    prepared : Prepared
    """

    clip: int
    start: float
    prepared: Prepared


class Forward:
    """Collects a bucket's stretches, runs them in batches and keeps what is asked for.

    Parameters
    ----------
    encoder : Encoder
        On its device, in evaluation mode.
    specifications : sequence of Specification
    device : torch.device
    precision : str
        ``float32``, or what the forward pass is autocast to.
    spool : Spool
        Where features wait for `features`.
    """

    def __init__(
        self,
        encoder: Encoder,
        specifications: Sequence[Specification],
        *,
        device: torch.device,
        precision: str,
        spool: Spool,
    ) -> None:
        self.encoder, self.specifications, self.spool = encoder, specifications, spool
        self.device, self.precision = device, precision
        kind = "cpu" if device.type == "cpu" else "gpu"
        self.room = ROOM[encoder.modality, kind]
        self.patience = WAITING[kind] * self.room
        self._waiting: list[Item] = []
        self._sums: dict[tuple[str, int], tuple[np.ndarray, int]] = {}

    def add(self, item: Item) -> None:
        """Take a stretch; runs a batch when enough of them wait."""
        self._waiting.append(item)
        waiting = sum(each.prepared.values.numel() for each in self._waiting)
        if waiting >= self.patience:
            self.flush()

    def flush(self) -> None:
        """Run everything that waits."""
        for batch in batches(self._waiting, batching=self.encoder.batching, room=self.room):
            self._run(batch)
        self._waiting = []

    def _run(self, batch: Sequence[Item]) -> None:
        media = gathered([item.prepared.values for item in batch], [item.prepared.times for item in batch])
        with torch.inference_mode(), self._cast():
            layers = self.encoder(media.to(self.device))
            for spec in self.specifications:
                chosen = [layers[i] for i in spec.layers]
                for place, item in enumerate(batch):
                    values, times = _clip(chosen, place, spec)
                    self._keep(spec, item, values, times)

    def _keep(self, spec: Specification, item: Item, values: np.ndarray, times: np.ndarray) -> None:
        place = spec.key, item.clip
        if spec.pool == "none":
            self.spool.put(place, Features(values, times + np.float32(item.start)))
        else:
            total, n = self._sums.get(place, (np.zeros((), np.float64), 0))
            self._sums[place] = total + values.sum(0, dtype=np.float64), n + len(values)

    def _cast(self) -> AbstractContextManager[object]:
        if self.precision == "float32":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=PRECISIONS[self.precision])

    def features(self, spec: Specification, clip: int, duration: float) -> Spooled | None:
        """Return a clip's features after `flush`; None where there are none."""
        place = spec.key, clip
        total, n = self._sums.pop(place, (np.zeros(()), 0))
        if n:
            with np.errstate(over="ignore"):
                mean = (total / n).astype(np.float32).astype(spec.dtype)
            self.spool.put(place, Features(mean[None], np.array([duration / 2], np.float32)))
        return self.spool.take(place)


def _clip(layers: Sequence[Stream], place: int, spec: Specification) -> tuple[np.ndarray, np.ndarray]:
    mask = layers[0].mask[place]
    stacked = torch.stack([layer.values[place][mask] for layer in layers], dim=1).float()
    values: Tensor = stacked
    if spec.how != "apart":
        values = stacked.sum(1) if spec.how == "sum" else stacked.mean(1)
    elif len(layers) == 1:
        values = stacked[:, 0]
    times = layers[0].times[place][mask].float().cpu().numpy()
    array: np.ndarray = values.cpu().numpy()
    if spec.pool == "none":
        with np.errstate(over="ignore"):  # what overflows is found when the shard is made
            array = array.astype(spec.dtype)
    return array, times


def batches(items: Sequence[Item], *, batching: str, room: int) -> Iterator[list[Item]]:
    """Deal stretches into batches.

    Parameters
    ----------
    items : sequence of Item
    batching : str
        ``mask`` takes any lengths, nearest together; ``equal`` equal ones only; ``single`` one.
    room : int
        Numbers that a batch may hold, padding counted.
    """
    batch: list[Item] = []
    for item in sorted(items, key=lambda item: len(item.prepared.values)):
        size = item.prepared.values.numel()
        fits = batch and batching != "single" and (len(batch) + 1) * size <= room
        if fits and batching == "equal":
            fits = len(batch[0].prepared.values) == len(item.prepared.values)
        if batch and not fits:
            yield batch
            batch = []
        batch.append(item)
    if batch:
        yield batch
