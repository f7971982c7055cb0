"""Answers over time and one answer a clip."""

import torch
from torch import Tensor


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
