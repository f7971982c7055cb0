"""Divergences between two modalities: between their posteriors and between their embeddings."""

import torch
from torch import Tensor
from torch.nn import functional as F


def jensen_shannon(a: Tensor, b: Tensor) -> Tensor:
    """Return the Jensen-Shannon divergence of two posteriors, from 0 to log 2, averaged over clips.

    Parameters
    ----------
    a, b : Tensor [shape=(clips, emotions)]
        Logits.
    """
    p, q = a.log_softmax(-1), b.log_softmax(-1)
    middle = torch.logaddexp(p, q) - torch.log(torch.tensor(2.0))
    return (_kl(p, middle) + _kl(q, middle)) / 2


def symmetric_kl(a: Tensor, b: Tensor) -> Tensor:
    """Return the mean of both Kullback-Leibler divergences; arguments as in `jensen_shannon`."""
    p, q = a.log_softmax(-1), b.log_softmax(-1)
    return (_kl(p, q) + _kl(q, p)) / 2


def _kl(p: Tensor, q: Tensor) -> Tensor:
    return (p.exp() * (p - q)).sum(-1).mean()


def mmd(a: Tensor, b: Tensor) -> Tensor:
    """Return the squared maximum mean discrepancy under Gaussian kernels (Gretton et al. 2012, biased estimate).

    The widths of the kernels are 1/2, 1 and 2 times the mean squared distance of all pairs.

    Parameters
    ----------
    a, b : Tensor [shape=(clips, dim)]
        Embeddings.
    """
    joined = torch.cat([a, b])
    squares = (joined[:, None] - joined).square().sum(-1)
    scale = squares.detach().mean().clamp(min=1e-8)
    kernel = torch.stack([torch.exp(-squares / (s * scale)) for s in (0.5, 1.0, 2.0)]).mean(0)
    n = len(a)
    return kernel[:n, :n].mean() + kernel[n:, n:].mean() - 2 * kernel[:n, n:].mean()


def cmd(a: Tensor, b: Tensor, *, moments: int = 5) -> Tensor:
    """Return the central moment discrepancy (Zellinger et al. 2017) of features squashed into (-1, 1).

    Parameters
    ----------
    a, b : Tensor [shape=(clips, dim)]
        Embeddings.
    moments : int
        Highest order of the moments that are compared.
    """
    a, b = torch.tanh(a), torch.tanh(b)
    mean_a, mean_b = a.mean(0), b.mean(0)
    total = _norm(mean_a - mean_b) / 2
    for k in range(2, moments + 1):
        difference = ((a - mean_a) ** k).mean(0) - ((b - mean_b) ** k).mean(0)
        total = total + _norm(difference) / 2**k
    return total


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """Return the absolute cosine of the two embeddings of a clip, averaged over clips."""
    return F.cosine_similarity(a, b, dim=-1).abs().mean()


def orthogonality(a: Tensor, b: Tensor) -> Tensor:
    """Return the squared correlation of the features of `a` with those of `b`, averaged over all pairs.

    This is :math:`||A^T V||_F^2` of batches that are centred and scaled, so that its size depends neither on the
    number of clips nor on the number of features.
    """
    a, b = (F.normalize(x - x.mean(0), dim=0) for x in (a, b))
    return (a.T @ b).square().mean()


def _norm(vector: Tensor) -> Tensor:
    # Two equal batches have a difference of zero, where the plain root has no gradient.
    return (vector.square().sum() + 1e-12).sqrt()
