"""Losses of the heads, all in one place: emotion, dimensions, and how they are weighed.

What is not annotated never counts: a clip without an emotion, a dimension that is nan.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .. import plugins
from ..errors import RecipeError, UnknownName, UnknownOption
from ..tensors import IGNORE, Targets
from ._steps import matched

LIMIT = 10.0
"""Log variances are held within ±LIMIT, so that no task's weight overflows."""


class Objective(nn.Module):
    r"""Emotion and dimensions under one loss.

    ``kendall``: homoscedastic uncertainty (Kendall, Gal and Cipolla 2018, equation 10), with
    :math:`s = \log\sigma^2` learned for the emotion and for every dimension:

    .. math:: e^{-s_e} L_e + \tfrac12 s_e + \sum_d (\tfrac12 e^{-s_d} L_d + \tfrac12 s_d)

    ``liebel``: Liebel and Körner 2018, which stays positive:
    :math:`\sum_i \tfrac12 e^{-s_i} L_i + \log(1 + e^{s_i})`.
    ``fixed``: :math:`L_e + w \sum_d L_d`. That the MER 2023 system's "multi-task loss based on
    uncertainty" is Kendall's is our reading. A task without one annotation in the batch is left
    out together with its log term. A single task has nothing to be weighed against: its loss is
    taken as it is, since its own uncertainty would only raise its weight as it is learnt.

    Parameters
    ----------
    n_emotions : int
    dimensions : sequence of str
    weighting : {"kendall", "liebel", "fixed"}
    dimension_weight : float
        The :math:`w` of ``fixed``.
    dimension_loss : {"mse", "ccc"}
        ``ccc`` is one minus the concordance correlation over all annotated steps of the batch.
    ccc_over : {"batch", "sequence"}
        Whether concordance is taken over the flattened batch or the mean of every clip's own.
    class_weights : {"none", "balanced"}
        ``balanced``: inverse to the emotion's frequency in the training fold.
    focal : float
        Exponent of the focal loss (Lin et al. 2017); 0 is cross entropy.
    prior : float
        Share of the log prior of the training fold that is added to the logits in training (logit
        adjustment, Menon et al. 2021), so that rare emotions need no luck at test time.
    smoothing : float
        Label smoothing.
    """

    def __init__(
        self,
        n_emotions: int,
        dimensions: Sequence[str],
        *,
        weighting: str = "kendall",
        dimension_weight: float = 1.0,
        dimension_loss: str = "mse",
        ccc_over: str = "batch",
        class_weights: str = "none",
        focal: float = 0.0,
        prior: float = 0.0,
        smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        choice("weighting", weighting, WEIGHTINGS)
        choice("dimension_loss", dimension_loss, ("mse", "ccc"))
        choice("ccc_over", ccc_over, ("batch", "sequence"))
        choice("class_weights", class_weights, ("none", "balanced"))
        if not 0 <= smoothing < 1 or min(focal, prior, dimension_weight) < 0:
            raise RecipeError(
                f"head.loss: smoothing = {smoothing}, focal = {focal}, prior = {prior}, "
                f"dimension_weight = {dimension_weight}; wanted none below 0, and smoothing below 1"
            )
        self.dimensions = tuple(dimensions)
        self.weighting, self.dimension_weight = weighting, dimension_weight
        self.dimension_loss, self.ccc_over = dimension_loss, ccc_over
        self.class_weights, self.focal, self.prior = class_weights, focal, prior
        self.smoothing = smoothing
        self.log_prior: Tensor
        self.register_buffer("log_prior", torch.zeros(n_emotions))
        n_tasks = bool(n_emotions) + len(dimensions)
        self.uncertain = weighting != "fixed" and n_tasks > 1
        if self.uncertain:
            self.log_variance = nn.Parameter(torch.zeros(n_tasks))

    def initialise(self, targets: Targets) -> None:
        """Learn the emotions' frequencies in the training fold; an absent one counts once."""
        labels = targets.emotion[targets.emotion != IGNORE]
        if len(self.log_prior) and len(labels):
            counts = torch.bincount(labels, minlength=len(self.log_prior)).clamp(min=1)
            self.log_prior.copy_((counts / counts.sum()).log())

    def forward(
        self, logits: Tensor, estimates: Sequence[Tensor], targets: Targets, mask: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Return ``total`` and every task's own loss before weighing, by name.

        Parameters
        ----------
        logits : Tensor [shape=(batch, emotions)]
        estimates : sequence of Tensor [shape=(batch, n) or (batch, time, n)]
            Estimates of the dimensions that all have to meet the annotation.
        targets : Targets
        mask : Tensor of bool [shape=(batch, time)], optional
            Steps of the estimates that count.
        """
        parts: dict[str, Tensor] = {}
        total = (logits.sum() + sum(estimate.sum() for estimate in estimates)) * 0
        n_emotions = len(self.log_prior)
        if n_emotions and bool((targets.emotion != IGNORE).any()):
            parts["emotion"] = self.emotion(logits, targets.emotion)
            total = total + self.weighed(0, parts["emotion"], categorical=True)
        pairs = [matched(estimate, targets.dimensions, mask) for estimate in estimates]
        for d, name in enumerate(self.dimensions):
            losses = [self.dimension(x[..., d], y[..., d]) for x, y in pairs]
            there = [loss for loss in losses if loss is not None]
            if there:
                parts[name] = torch.stack(there).sum()
                task = bool(n_emotions) + d
                total = total + self.weighed(task, parts[name], categorical=False)
        return {"total": total, **parts}

    def emotion(self, logits: Tensor, emotion: Tensor) -> Tensor:
        """Cross entropy with priors, focal factor, smoothing and class weights."""
        there = emotion != IGNORE
        logits, emotion = logits[there] + self.prior * self.log_prior, emotion[there]
        losses = F.cross_entropy(logits, emotion, reduction="none", label_smoothing=self.smoothing)
        if self.focal:
            right = logits.softmax(-1).gather(-1, emotion[:, None]).squeeze(-1)
            losses = (1 - right).clamp(min=1e-8) ** self.focal * losses
        if self.class_weights == "none":
            return losses.mean()
        weights = (-self.log_prior).exp()[emotion]
        return (weights * losses).sum() / weights.sum()

    def dimension(self, answer: Tensor, wanted: Tensor) -> Tensor | None:
        """Loss of one dimension over what is annotated; None if nothing is."""
        there = ~wanted.isnan()
        if not bool(there.any()):
            return None
        if self.dimension_loss == "mse":
            return F.mse_loss(answer[there], wanted[there])
        if self.ccc_over == "sequence" and wanted.ndim == 2:
            rows = [r for r in range(len(wanted)) if bool(there[r].any())]
            each = [1 - ccc(answer[r][there[r]], wanted[r][there[r]]) for r in rows]
            return torch.stack(each).mean()
        return 1 - ccc(answer[there], wanted[there])

    def weighed(self, task: int, loss: Tensor, *, categorical: bool) -> Tensor:
        """Weigh a task's loss by its uncertainty, or by the fixed weight."""
        if not self.uncertain:
            return loss if categorical else self.dimension_weight * loss
        s = self.log_variance[task].clamp(-LIMIT, LIMIT)
        weighed: Tensor = WEIGHTINGS[self.weighting](s, loss, categorical)
        return weighed


def _kendall(s: Tensor, loss: Tensor, categorical: bool) -> Tensor:
    return (1.0 if categorical else 0.5) * torch.exp(-s) * loss + 0.5 * s


def _liebel(s: Tensor, loss: Tensor, categorical: bool) -> Tensor:
    return 0.5 * torch.exp(-s) * loss + F.softplus(s)


WEIGHTINGS: dict[str, Any] = {"kendall": _kendall, "liebel": _liebel, "fixed": None}


def ccc(x: Tensor, y: Tensor, eps: float = 1e-8) -> Tensor:
    """Concordance correlation coefficient (Lin 1989) of two vectors, differentiable.

    >>> ccc(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 2.0, 3.0]))
    tensor(1.)
    """
    mean_x, mean_y = x.mean(), y.mean()
    covariance = ((x - mean_x) * (y - mean_y)).mean()
    spread = x.var(correction=0) + y.var(correction=0) + (mean_x - mean_y) ** 2
    return 2 * covariance / (spread + eps)


def choice(option: str, found: str, known: Sequence[str] | Mapping[str, Any]) -> None:
    """Refuse a value that an option does not have.

    Raises
    ------
    UnknownName
    """
    if found not in known:
        raise UnknownName(option, found, known)


Loss = Annotated[Mapping[str, Any], Objective]
"""A recipe's table of the objective's options."""


def objective(emotions: Sequence[str], dimensions: Sequence[str], settings: Loss | None) -> Objective:
    """Make the objective from a recipe's table ``[head.loss]``.

    Raises
    ------
    UnknownOption
    """
    known, settings = plugins.options(Objective), settings or {}
    wrong = [option for option in settings if option not in known]
    if wrong:
        raise UnknownOption("head.loss", wrong, known)
    return Objective(len(emotions), dimensions, **settings)
