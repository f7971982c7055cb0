"""Forward passes: one per batch for all requested layers and poolings of an encoder.

The batches depend only on the clips of a chunk, so the features do not depend on who extracts them.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..cache.store import Features, Spool, Spooled
from ..errors import EnvironmentFailure, MediaError
from ..media.inputs import Frames, Media, Outcome, Sound
from ..tensors import Stream
from ._encoder import Encoder, Prepared, pad_sequences
from ._request import Specification
from ._settings import ExtractionSettings

AUTOCAST = {"float32": None, "float16": torch.float16, "bfloat16": torch.bfloat16}
WAITING = {"cpu": 1, "gpu": 4}
"""Number of batches that are collected first, so that clips of similar length share a batch."""


def batch_limit(inputs: Sound | Frames, device: torch.device) -> int:
    """Return how many numbers a batch may hold; a clip with more is a batch of its own."""
    if isinstance(inputs, Sound):  # on a CPU, a batch of sounds is slower than its clips one by one
        return 0 if device.type == "cpu" else 240 * 16_000
    return (32 if device.type == "cpu" else 256) * 3 * 224 * 224


class Item(NamedTuple):
    """A prepared segment: position of the clip in its chunk, seconds from the start of the clip, and the input."""

    clip: int
    start: float
    prepared: Prepared


class Encoded(NamedTuple):
    """Result of one clip: a code, a sentence that explains a failure, and the features."""

    code: str
    reason: str
    features: Spooled | None


class EncoderPass:
    """Encodes the clips of a chunk: prepares segments, runs them in batches, collects the features.

    The encoder is on its device, in evaluation mode. A precision other than ``float32`` is autocast. The settings tell
    when a clip counts as failed.
    """

    def __init__(
        self,
        encoder: Encoder,
        specifications: Sequence[Specification],
        *,
        device: torch.device,
        precision: str,
        spool: Spool,
        settings: ExtractionSettings,
    ) -> None:
        self.encoder, self.specifications, self.spool = encoder, specifications, spool
        self.device, self.precision, self.settings = device, precision, settings
        self.limit = batch_limit(encoder.inputs, device)
        self.patience = WAITING["cpu" if device.type == "cpu" else "gpu"] * self.limit
        self._waiting: list[Item] = []
        self._sums: dict[tuple[str, int], tuple[np.ndarray, int]] = {}
        self._failures: dict[int, MediaError] = {}

    def add(self, clip: int, start: float, media: Media | None) -> None:
        """Add a segment of a clip; batches run when enough segments wait."""
        if media is None or clip in self._failures:
            return
        try:
            self._waiting.append(Item(clip, start, self.encoder.prepare(media)))
        except MediaError as error:
            if start == 0:  # a later segment may be too short without harm
                self._failures[clip] = error
            return
        if sum(item.prepared.values.numel() for item in self._waiting) >= self.patience:
            self.flush()

    def flush(self) -> None:
        """Run all segments that wait."""
        try:
            for batch in batches(self._waiting, batching=self.encoder.batching, limit=self.limit):
                self._run(batch)
        except torch.OutOfMemoryError as error:
            raise EnvironmentFailure(
                "The accelerator has too little memory for a batch. End other programs that use it, or run "
                "the same command with --device cpu; it resumes where it stopped."
            ) from error
        self._waiting = []

    def _run(self, batch: Sequence[Item]) -> None:
        media = pad_sequences([item.prepared.values for item in batch], [item.prepared.times for item in batch])
        dtype = AUTOCAST[self.precision]
        with torch.inference_mode(), torch.autocast(self.device.type, dtype, enabled=dtype is not None):
            layers = self.encoder(media.to(self.device))
            for spec in self.specifications:
                chosen = [layers[i] for i in spec.layers]
                for place, item in enumerate(batch):
                    self._keep(spec, item, *_clip(chosen, place, spec))

    def _keep(self, spec: Specification, item: Item, values: np.ndarray, times: np.ndarray) -> None:
        place = spec.key, item.clip
        if spec.pool == "none":
            self.spool.put(place, Features(values, times + np.float32(item.start)))
        else:
            total, n = self._sums.get(place, (np.zeros((), np.float64), 0))
            self._sums[place] = total + values.sum(0, dtype=np.float64), n + len(values)

    def result(self, spec: Specification, clip: int, outcome: Outcome) -> Encoded:
        """Return the features of a clip, or why there are none; call `flush` before."""
        features = self._features(spec, clip, outcome.duration or 0.0)
        minimum = self.settings.min_coverage
        failure: tuple[str, str] | None = None
        if outcome.code != "ok":
            failure = outcome.code, outcome.reason
        elif outcome.coverage is not None and outcome.coverage < minimum:
            failure = (
                "low_coverage",
                f"{outcome.coverage:.0%} of the clip could be decoded; the minimum is {minimum:.0%}",
            )
        elif clip in self._failures:
            failure = self._failures[clip].code, self._failures[clip].reason
        elif outcome.face_share == 0 and self.settings.faces.no_face == "fail":
            failure = "no_face", "no face was found in any frame"
        elif features is None:
            failure = "too_short", "there was nothing to encode"
        elif not features.finite:
            failure = "not_finite", f"features that {spec.dtype} cannot hold"
        return Encoded("ok", "", features) if failure is None else Encoded(*failure, None)

    def _features(self, spec: Specification, clip: int, duration: float) -> Spooled | None:
        place = spec.key, clip
        total, n = self._sums.pop(place, (np.zeros(()), 0))
        if n:
            with np.errstate(over="ignore"):
                mean = (total / n).astype(np.float32).astype(spec.dtype)
            self.spool.put(place, Features(mean[None], np.array([duration / 2], np.float32)))
        return self.spool.take(place)


def _clip(layers: Sequence[Stream], place: int, spec: Specification) -> tuple[np.ndarray, np.ndarray]:
    mask = layers[0].mask[place]
    values: Tensor = torch.stack([layer.values[place][mask] for layer in layers], dim=1).float()
    if spec.how != "apart":
        values = values.sum(1) if spec.how == "sum" else values.mean(1)
    elif len(layers) == 1:
        values = values[:, 0]
    times = layers[0].times[place][mask].float().cpu().numpy()
    array: np.ndarray = values.cpu().numpy()
    if spec.pool == "none":
        with np.errstate(over="ignore"):  # an overflow is noticed by `Spooled.finite`
            array = array.astype(spec.dtype)
    return array, times


def batches(items: Sequence[Item], *, batching: str, limit: int) -> Iterator[list[Item]]:
    """Group segments into batches of at most `limit` numbers, padding included.

    `batching` tells which lengths may share a batch: any (``mask``, similar lengths together), equal ones (``equal``),
    or none (``single``).
    """
    batch: list[Item] = []
    for item in sorted(items, key=lambda item: len(item.prepared.values)):
        size = item.prepared.values.numel()
        fits = batch and batching != "single" and (len(batch) + 1) * size <= limit
        if fits and batching == "equal":
            fits = len(batch[0].prepared.values) == len(item.prepared.values)
        if batch and not fits:
            yield batch
            batch = []
        batch.append(item)
    if batch:
        yield batch
