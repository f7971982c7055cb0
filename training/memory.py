"""Memory of a training: an estimate beforehand, a search for the largest batch, and advice when it runs out."""

import os
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import EnvironmentFailure
from ..recipes.recipe import TrainingSettings
from ..tensors import Batch
from .model import EmotionModel

OUT_OF_MEMORY = ("can't allocate memory", "not enough memory", "out of memory")


def explain_oom(error: BaseException, settings: TrainingSettings) -> None:
    """Raise `EnvironmentFailure` for an out-of-memory error, with the settings that would reduce memory."""
    if is_out_of_memory(error):
        parts = settings.accumulate
        raise EnvironmentFailure(
            f"The device ran out of memory with {-(-settings.batch // parts)} clips at a time. Raise "
            f"training.accumulate from {parts} to {2 * parts} (the same step in more parts), lower training.batch, "
            "set encoders.NAME.checkpointing=true or training.precision=bfloat16, or crop clips with "
            "augmentation.crop. The option --find-batch-size finds a batch size that fits."
        ) from error


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error reports that memory ran out."""
    known = isinstance(error, (MemoryError, torch.OutOfMemoryError))
    return known or any(text in str(error).lower() for text in OUT_OF_MEMORY)


@dataclass(frozen=True)
class MemoryEstimate:
    """Memory that a training needs, in bytes.

    Attributes
    ----------
    n_trained, n_parameters : int
        Number of parameters that are trained, and of all parameters.
    weights : int
        Bytes of the weights, the gradients and AdamW's two moments.
    clip : int
        Bytes per clip that are kept for the backward pass.
    """

    n_trained: int
    n_parameters: int
    weights: int
    clip: int

    def total(self, n_clips: int) -> int:
        """Return the bytes for a number of clips at a time."""
        return self.weights + n_clips * self.clip

    def max_clips(self, n_bytes: int) -> int:
        """Return how many clips at a time fit into a number of bytes."""
        return max(0, n_bytes - self.weights) // max(1, self.clip)


def estimate_memory(model: EmotionModel, batch: Batch) -> MemoryEstimate:
    """Measure what a forward pass of a batch keeps for the backward pass; compute the rest."""
    kept: dict[int, int] = {}
    own = {parameter.data_ptr() for parameter in model.parameters()}

    def record(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    model.train()
    with torch.autograd.graph.saved_tensors_hooks(record, lambda tensor: tensor):
        loss = model.head.loss(model(batch.streams), batch.targets)["total"]
    media = sum(stream.values.nbytes for stream in batch.streams.values())
    del loss
    sizes = [(p.numel(), p.requires_grad) for p in model.parameters()]
    n_trained, n_all = sum(n for n, trained in sizes if trained), sum(n for n, _ in sizes)
    clip = (sum(kept.values()) + media) // len(batch.ids)
    return MemoryEstimate(n_trained, n_all, 4 * n_all + 12 * n_trained, clip)


def free_memory(device: torch.device) -> int:
    """Return the bytes that are free on a device."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def find_largest(fits: Callable[[int], bool], *, most: int) -> int:
    """Return the largest number up to `most` that fits: by doubling, then by bisection.

    Small numbers are tried first, because each attempt reads and computes that many clips.

    >>> find_largest(lambda n: n <= 11, most=64)
    11
    """
    n = 1
    while n <= most and fits(n):
        n *= 2
    open_numbers = range(n // 2 + 1, min(n, most + 1))
    return n // 2 + bisect_left(open_numbers, True, key=lambda number: not fits(number))
