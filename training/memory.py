"""What a training will need of the device, and what to lower where that is too much."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import EnvironmentFailure
from ..recipes.recipe import TrainingSettings
from ..tensors import Batch
from .finetuning import n_parameters
from .model import EmotionModel

SHORT = ("can't allocate memory", "not enough memory", "out of memory")


@contextmanager
def told(settings: TrainingSettings) -> Iterator[None]:
    """Turn running out of memory into what to lower.

    Raises
    ------
    EnvironmentFailure
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_shortage(error):
            raise
        parts = settings.accumulate
        raise EnvironmentFailure(
            f"the device ran out of memory at {-(-settings.batch // parts)} clips at a time; raise "
            f"training.accumulate from {parts} to {2 * parts} (the same step in more parts), lower "
            f"training.batch, set encoders.NAME.checkpointing=true or training.precision=bfloat16, "
            "or crop clips with augmentation.crop; --find-batch-size finds what fits"
        ) from error


def is_shortage(error: BaseException) -> bool:
    """Tell whether an error says that memory is short."""
    known = isinstance(error, (MemoryError, torch.OutOfMemoryError))
    return known or any(word in str(error).lower() for word in SHORT)


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes of a training.

    Attributes
    ----------
    n_trained, n_parameters : int
    weights : int
        Of weights, gradients and AdamW's two moments.
    clip : int
        Kept for the backward pass, for each clip at a time.
    """

    n_trained: int
    n_parameters: int
    weights: int
    clip: int

    def total(self, n_clips: int) -> int:
        """Return the bytes with so many clips at a time."""
        return self.weights + n_clips * self.clip

    def most(self, room: int) -> int:
        """Return how many clips at a time fit into so many bytes."""
        return max(0, room - self.weights) // max(1, self.clip)


def estimate(model: EmotionModel, batch: Batch) -> MemoryEstimate:
    """Measure on a batch what is kept for the backward pass, and count the rest."""
    seen: dict[int, int] = {}
    own = {parameter.data_ptr() for parameter in model.parameters()}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    model.train()
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        loss = model.head.loss(model(batch.streams), batch.targets)["total"]
    media = sum(stream.values.nbytes for stream in batch.streams.values())
    del loss
    n_trained, n_all = n_parameters(model)
    clip = (sum(seen.values()) + media) // len(batch.ids)
    return MemoryEstimate(n_trained, n_all, 4 * n_all + 12 * n_trained, clip)


def room(device: torch.device) -> int:
    """Return the bytes that are free on a device."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    import os

    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def largest(fits: Callable[[int], bool], *, most: int) -> int:
    """Return the largest number up to `most` that fits, by doubling and then halving the gap.

    >>> largest(lambda n: n <= 11, most=64)
    11
    """
    good, n = 0, 1
    while n <= most and fits(n):
        good, n = n, 2 * n
    bad = min(n, most + 1)
    while bad - good > 1:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if fits(middle) else (good, middle)
    return good
