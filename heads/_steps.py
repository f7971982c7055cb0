"""Answers over time, one answer a clip, and annotations of either kind."""

import torch
from torch import Tensor
from torch.nn import functional as F


def over_clip(steps: Tensor, mask: Tensor | None) -> Tensor:
    """Return the mean over the steps that exist; what is one a clip already stays.

    Parameters
    ----------
    steps : Tensor [shape=(batch, time, n) or (batch, n)]
    mask : Tensor of bool [shape=(batch, time)] or None

    Returns
    -------
    Tensor [shape=(batch, n)]
    """
    if mask is None:
        return steps
    share = mask / mask.sum(1, keepdim=True).clamp(min=1)
    return torch.einsum("bt,btn->bn", share.to(steps), steps)


def matched(answers: Tensor, wanted: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Bring answers and annotations to the same steps.

    A clip's one annotation meets the mean of its steps; a track of annotations meets a clip's one
    answer by its mean, and other numbers of steps by the mean over each step's share of the track,
    taking both to cover the clip evenly.

    Parameters
    ----------
    answers : Tensor [shape=(batch, n) or (batch, time, n)]
    wanted : Tensor [shape=(batch, n) or (batch, track, n)]
        Nan where not annotated.
    mask : Tensor of bool [shape=(batch, time)] or None

    Returns
    -------
    answers, wanted : Tensor of the same shape
    """
    if answers.ndim == 2:
        return answers, wanted if wanted.ndim == 2 else wanted.nanmean(1)
    if mask is None:
        mask = answers.new_ones(answers.shape[:2], dtype=torch.bool)
    if wanted.ndim == 2:
        return over_clip(answers, mask), wanted
    if wanted.shape[1] != answers.shape[1]:
        wanted = _shared_out(wanted, mask)
    return answers, wanted.masked_fill(~mask[..., None], torch.nan)


def _shared_out(track: Tensor, mask: Tensor) -> Tensor:
    annotated = ~track.isnan().all(2)
    position = torch.arange(1, track.shape[1] + 1, device=track.device)
    length = (annotated * position).amax(1, keepdim=True)
    n_steps = mask.sum(1, keepdim=True)
    step = (position - 0.5) * n_steps / length.clamp(min=1)
    wanted = torch.arange(mask.shape[1], device=track.device)
    member = step.floor()[:, None] == wanted[:, None]
    # A track that is sparser than the steps: a step without a member takes the nearest one.
    nearest = ((wanted[:, None] + 0.5) - step[:, None]).abs().argmin(2)
    nearest_member = F.one_hot(nearest, track.shape[1]).bool()
    member = torch.where(member.any(2, keepdim=True), member, nearest_member)
    spread = torch.where(member[..., None], track[:, None], torch.nan)
    return spread.nanmean(2)
