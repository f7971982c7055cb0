"""Processes that train one model together, as ``accelerate launch -m affuse train …`` starts them.

Each takes its share of every batch and the gradients are summed, weighted by clips, so a step is
that of one process with the whole batch, whatever the loss counts by. Starting, finding each other
and exchanging is Hugging Face accelerate's; alone, nothing of it is imported.
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import EnvironmentFailure


@dataclass(frozen=True)
class ProcessGroup:
    """One process, and how many train together with it.

    Attributes
    ----------
    rank, size : int
    state : accelerate's PartialState or None
        None where there is one process.
    """

    rank: int = 0
    size: int = 1
    state: Any = None

    @property
    def leads(self) -> bool:
        """Tell whether this process writes files."""
        return self.rank == 0

    def device(self, asked: str) -> torch.device:
        """Return where this process computes; alone, where it was asked to."""
        if self.state is not None:
            return self.state.device  # type: ignore[no-any-return]
        from ..extractors._loading import chosen

        return chosen(asked)

    def share(self, rows: Sequence[int]) -> list[int]:
        """Return this process's part of a batch; one clip that counts nothing if it has none."""
        return list(rows[self.rank :: self.size] or rows[:1])

    def weight(self, rows: Sequence[int]) -> float:
        """Return the share of a batch's clips that this process has."""
        return len(rows[self.rank :: self.size]) / len(rows)

    def wait(self) -> None:
        """Wait until every process has come so far."""
        if self.state is not None:
            self.state.wait_for_everyone()

    @torch.no_grad()
    def add(self, tensors: Iterable[Tensor]) -> None:
        """Replace each tensor by its sum over the processes, in one exchange."""
        found = list(tensors)
        if self.state is None or not found:
            return
        flat = torch.cat([t.reshape(-1).float() for t in found])
        torch.distributed.all_reduce(flat)
        totals = torch.split(flat, [t.numel() for t in found])
        for tensor, total in zip(found, totals, strict=True):
            tensor.copy_(total.view_as(tensor))

    def add_gradients(self, model: nn.Module) -> None:
        """Sum gradients; a weight that this process's clips did not touch has zero."""
        if self.state is None:
            return
        learnt = [p for p in model.parameters() if p.requires_grad]
        for parameter in learnt:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        self.add(p.grad for p in learnt if p.grad is not None)

    @torch.no_grad()
    def average_buffers(self, model: nn.Module) -> None:
        """Average what was counted and not learnt, such as a batch norm's statistics."""
        if self.state is None:
            return
        counted = [b for b in model.buffers() if b.is_floating_point()]
        self.add(counted)
        for buffer in counted:
            buffer /= self.size


@cache
def crew() -> ProcessGroup:
    """Return the crew that this process was started in.

    Raises
    ------
    EnvironmentFailure
        Started with others, and accelerate is not installed.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return ProcessGroup()
    from ..extractors._torchvision import mend

    mend()
    try:
        from accelerate import PartialState
    except ImportError:
        raise EnvironmentFailure(
            "several processes train together by accelerate, which is not installed: pip install affuse[finetune]"
        ) from None
    state = PartialState(cpu=os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("true", "1"))
    return ProcessGroup(state.process_index, state.num_processes, state)
