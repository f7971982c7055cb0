"""Estimates over time and targets over time, brought to the same steps."""

import torch
from torch import Tensor
from torch.nn import functional as F


def mean_over_steps(steps: Tensor, mask: Tensor | None) -> Tensor:
    """Return the mean over the steps that exist; values without a time axis are returned as they are.

    Parameters
    ----------
    steps : Tensor [shape=(batch, time, n) or (batch, n)]
    mask : Tensor of bool [shape=(batch, time)] or None
        None: all steps exist.

    Returns
    -------
    Tensor [shape=(batch, n)]
    """
    if steps.ndim == 2:
        return steps
    if mask is None:
        return steps.mean(1)
    weights = mask / mask.sum(1, keepdim=True).clamp(min=1)
    return torch.einsum("bt,btn->bn", weights.to(steps), steps)


def align_targets(estimates: Tensor, targets: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Bring estimates and targets to the same steps.

    One target per clip is compared with the mean of the estimates over time. Targets over time are averaged for one
    estimate per clip. Where the numbers of steps differ, the targets are averaged over the share of each step,
    assuming that both cover the clip evenly.

    Parameters
    ----------
    estimates : Tensor [shape=(batch, n) or (batch, time, n)]
    targets : Tensor [shape=(batch, n) or (batch, target_time, n)]
        Nan where not annotated.
    mask : Tensor of bool [shape=(batch, time)] or None
        Steps of the estimates that exist; None: all.

    Returns
    -------
    estimates, targets : Tensor of the same shape
    """
    if estimates.ndim == 2:
        return estimates, targets if targets.ndim == 2 else targets.nanmean(1)
    if mask is None:
        mask = estimates.new_ones(estimates.shape[:2], dtype=torch.bool)
    if targets.ndim == 2:
        return mean_over_steps(estimates, mask), targets
    if targets.shape[1] != estimates.shape[1]:
        targets = _resample(targets, mask)
    return estimates, targets.masked_fill(~mask[..., None], torch.nan)


def _resample(targets: Tensor, mask: Tensor) -> Tensor:
    annotated = ~targets.isnan().all(2)
    position = torch.arange(1, targets.shape[1] + 1, device=targets.device)
    length = (annotated * position).amax(1, keepdim=True)
    n_steps = mask.sum(1, keepdim=True)
    place = (position - 0.5) * n_steps / length.clamp(min=1)
    step = torch.arange(mask.shape[1], device=targets.device)
    member = place.floor()[:, None] == step[:, None]
    # Where targets are sparser than steps, a step without a target takes the nearest one.
    nearest = ((step[:, None] + 0.5) - place[:, None]).abs().argmin(2)
    nearest_member = F.one_hot(nearest, targets.shape[1]).bool()
    member = torch.where(member.any(2, keepdim=True), member, nearest_member)
    spread = torch.where(member[..., None], targets[:, None], torch.nan)
    return spread.nanmean(2)
