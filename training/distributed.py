"""Training of one model by several processes, as ``accelerate launch -m affuse train …`` starts them.

Each process computes a shard of every batch, and the gradients are summed, weighted by the number of clips. A step
therefore equals the step of one process on the whole batch. Hugging Face accelerate starts and connects the
processes; it is not imported where there is only one.
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import EnvironmentFailure
from ..tensors import select_device


@dataclass(frozen=True)
class ProcessGroup:
    """The group of processes that train one model, seen from one of them.

    Attributes
    ----------
    rank : int
        Index of this process.
    size : int
        Number of processes.
    state : accelerate's PartialState or None
        None for a single process.
    """

    rank: int = 0
    size: int = 1
    state: Any = None

    @property
    def is_main_process(self) -> bool:
        """Whether this process writes files."""
        return self.rank == 0

    def device(self, name: str) -> torch.device:
        """Return the device of this process; `name` selects it where there is only one process."""
        if self.state is not None:
            return self.state.device  # type: ignore[no-any-return]
        return select_device(name)

    def shard(self, rows: Sequence[int]) -> list[int]:
        """Return this process's part of a batch; if that is empty, one clip whose weight is zero."""
        return list(rows[self.rank :: self.size] or rows[:1])

    def shard_weight(self, rows: Sequence[int]) -> float:
        """Return the share of a batch's clips that this process computes."""
        return len(rows[self.rank :: self.size]) / len(rows)

    def wait(self) -> None:
        """Wait until every process has reached this point."""
        if self.state is not None:
            self.state.wait_for_everyone()

    @torch.no_grad()
    def all_reduce(self, tensors: Iterable[Tensor]) -> None:
        """Replace each tensor by its sum over the processes, in one exchange."""
        found = list(tensors)
        if self.state is None or not found:
            return
        flat = torch.cat([t.reshape(-1).float() for t in found])
        torch.distributed.all_reduce(flat)
        for tensor, total in zip(found, torch.split(flat, [t.numel() for t in found]), strict=True):
            tensor.copy_(total.view_as(tensor))

    def all_reduce_gradients(self, model: nn.Module) -> None:
        """Sum the gradients over the processes; a missing gradient counts as zero."""
        if self.state is None:
            return
        trainable = [p for p in model.parameters() if p.requires_grad]
        for parameter in trainable:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        self.all_reduce(p.grad for p in trainable if p.grad is not None)

    @torch.no_grad()
    def average_buffers(self, model: nn.Module) -> None:
        """Average buffers over the processes, such as the statistics of batch normalisation."""
        if self.state is None:
            return
        buffers = [b for b in model.buffers() if b.is_floating_point()]
        self.all_reduce(buffers)
        for buffer in buffers:
            buffer /= self.size


@cache
def process_group() -> ProcessGroup:
    """Return the group of processes that this process belongs to."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return ProcessGroup()
    from ..extractors._torchvision import declare_missing_operators

    declare_missing_operators()
    try:
        from accelerate import PartialState
    except ImportError:
        raise EnvironmentFailure(
            "Training with several processes needs accelerate, which is not installed: pip install affuse[finetune]"
        ) from None
    state = PartialState(cpu=os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("true", "1"))
    return ProcessGroup(state.process_index, state.num_processes, state)
