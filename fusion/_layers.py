"""What the fusions share: masked means and softmaxes, streams that are absent, small networks."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ..errors import RecipeError
from ..tensors import Stream


def complete(streams: Mapping[str, Stream], dims: Mapping[str, int]) -> dict[str, Stream]:
    """Return every stream of `dims`, an absent one as a single masked step.

    So a fusion knows one kind of absence only: a mask that is False throughout. What masked steps
    hold is set to zero, because a nan that is multiplied by a weight of zero is still nan.

    Raises
    ------
    RecipeError
        None of the streams of `dims` is there.
    """
    if not any(name in streams for name in dims):
        raise RecipeError(
            f"the batch has the streams {', '.join(streams) or '(none)'}; the fusion was built "
            f"on {', '.join(dims)} and needs at least one of them"
        )
    example = next(streams[name] for name in dims if name in streams)
    n_clips = len(example.mask)
    found = {}
    for name, dim in dims.items():
        if name in streams:
            values, mask, times = streams[name]
            found[name] = Stream(values.masked_fill(~mask[..., None], 0), mask, times)
        else:
            found[name] = Stream(
                example.values.new_zeros(n_clips, 1, dim),
                example.mask.new_zeros(n_clips, 1),
                example.times.new_full((n_clips, 1), torch.nan),
            )
    return found


def masked_softmax(scores: Tensor, mask: Tensor, dim: int) -> Tensor:
    """Softmax over what the mask allows; zeros where it allows nothing.

    Parameters
    ----------
    scores : Tensor
    mask : Tensor of bool
        Broadcasts to `scores`.
    dim : int
    """
    weights = scores.masked_fill(~mask, torch.finfo(scores.dtype).min).softmax(dim)
    return weights * mask


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over time; zeros where everything is masked.

    Parameters
    ----------
    values : Tensor [shape=(batch, time, dim)]
    mask : Tensor of bool [shape=(batch, time)]

    Returns
    -------
    Tensor [shape=(batch, dim)]
    """
    weights = mask / mask.sum(1, keepdim=True).clamp(min=1)
    return (weights.to(values)[:, None] @ values).squeeze(1)


def masked_max(values: Tensor, mask: Tensor) -> Tensor:
    """Maximum over time; zeros where everything is masked. Shapes as in `masked_mean`."""
    peak = values.masked_fill(~mask[..., None], -torch.inf).amax(1)
    return peak.masked_fill(~mask.any(1, keepdim=True), 0)


class Dropout(nn.Module):
    """Dropout for whole sequences: eight decisions from each random number.

    On a CPU it takes a quarter of the time of torch's own, which was half of an epoch. The share
    is rounded to 1/256, the scale to match.

    Parameters
    ----------
    share : float
        Of the values that are dropped while training; below 1.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        if not 0 <= share < 1:
            raise RecipeError(f"found a dropout of {share}; wanted a share, from 0 to below 1")
        self.keep = round((1 - share) * 256)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.keep == 256:
            return x
        draws = torch.empty(-(-x.numel() // 8), dtype=torch.int64, device=x.device)
        draws.random_(-(2**63), None)
        bytes_ = draws.view(torch.uint8)[: x.numel()].view(x.shape)
        return x * ((bytes_ < self.keep) * (256 / self.keep)).to(x)


def mlp(widths: Sequence[int], dropout: float) -> nn.Sequential:
    """Linear, ReLU, Dropout for every step from one width to the next."""
    layers: list[nn.Module] = []
    for n_in, n_out in zip(widths[:-1], widths[1:], strict=True):
        layers += [nn.Linear(n_in, n_out), nn.ReLU(), Dropout(dropout)]
    return nn.Sequential(*layers)
