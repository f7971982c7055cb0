"""Losses of the heads: emotion, dimensions, and their weighting against each other.

Targets that are not annotated never count: a clip without an emotion, a dimension that is nan.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .. import plugins
from ..errors import RecipeError, UnknownOption, check_known
from ..tensors import IGNORE, Targets
from ._steps import align_targets

MAX_LOG_VARIANCE = 10.0
"""Bound of the absolute log variances, so that the weight of a task cannot overflow."""


class Objective(nn.Module):
    r"""Loss of the emotion and of all dimensions together.

    ``kendall``: homoscedastic uncertainty (Kendall, Gal and Cipolla 2018, equation 10), with
    :math:`s = \log\sigma^2` trained for the emotion and for every dimension:

    .. math:: e^{-s_e} L_e + \tfrac12 s_e + \sum_d (\tfrac12 e^{-s_d} L_d + \tfrac12 s_d)

    ``liebel``: Liebel and Körner 2018, which stays positive:
    :math:`\sum_i \tfrac12 e^{-s_i} L_i + \log(1 + e^{s_i})`.
    ``fixed``: :math:`L_e + w \sum_d L_d`.

    That the "multi-task loss based on uncertainty" of the MER 2023 system is Kendall's is our interpretation. A task
    without an annotation in the batch is left out together with its log term. A single task is not weighted: its
    uncertainty would only raise its own weight during training.

    Parameters
    ----------
    n_emotions : int
        Number of emotions; 0 for dimensions alone.
    dimensions : sequence of str
        Names of the dimensions.
    weighting : {"kendall", "liebel", "fixed"}
        Weighting of the tasks.
    dimension_weight : float
        Weight :math:`w` of ``fixed``.
    dimension_loss : {"mse", "ccc"}
        Squared error, or one minus the concordance correlation over all annotated steps of the batch.
    ccc_over : {"batch", "sequence"}
        Whether the concordance is computed over the flattened batch or as the mean over the clips.
    class_weights : {"none", "balanced"}
        ``balanced``: inverse to the frequency of the emotion in the training fold.
    focal : float
        Exponent of the focal loss (Lin et al. 2017); 0 is cross entropy.
    prior : float
        Factor of the log prior of the training fold that is added to the logits in training (logit adjustment, Menon
        et al. 2021), which favours rare emotions at test time.
    smoothing : float
        Label smoothing, from 0 to below 1.
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
        check_known("weighting", weighting, ("fixed", *UNCERTAINTY))
        check_known("dimension_loss", dimension_loss, ("mse", "ccc"))
        check_known("ccc_over", ccc_over, ("batch", "sequence"))
        check_known("class_weights", class_weights, ("none", "balanced"))
        if not 0 <= smoothing < 1 or min(focal, prior, dimension_weight) < 0:
            raise RecipeError(
                f"Found head.loss options smoothing = {smoothing}, focal = {focal}, prior = {prior}, "
                f"dimension_weight = {dimension_weight}. Expected no negative value, and smoothing below 1."
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
        """Count the emotions of the training fold; an absent emotion counts once."""
        labels = targets.emotion[targets.emotion != IGNORE]
        if len(self.log_prior) and len(labels):
            counts = torch.bincount(labels, minlength=len(self.log_prior)).clamp(min=1)
            self.log_prior.copy_((counts / counts.sum()).log())

    def forward(
        self, logits: Tensor, estimates: Sequence[Tensor], targets: Targets, mask: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Return the loss ``total`` and the unweighted loss of every task by name.

        Parameters
        ----------
        logits : Tensor [shape=(batch, emotions)]
        estimates : sequence of Tensor [shape=(batch, n) or (batch, time, n)]
            Estimates of the dimensions; each of them is compared with the targets.
        targets : Targets
        mask : Tensor of bool [shape=(batch, time)], optional
            Steps of the estimates that exist.
        """
        parts: dict[str, Tensor] = {}
        total = (logits.sum() + sum(estimate.sum() for estimate in estimates)) * 0
        n_emotions = len(self.log_prior)
        if n_emotions and bool((targets.emotion != IGNORE).any()):
            parts["emotion"] = self.emotion(logits, targets.emotion)
            total = total + self.weigh(0, parts["emotion"], categorical=True)
        pairs = [align_targets(estimate, targets.dimensions, mask) for estimate in estimates]
        for d, name in enumerate(self.dimensions):
            losses = [self.dimension(x[..., d], y[..., d]) for x, y in pairs]
            annotated = [loss for loss in losses if loss is not None]
            if annotated:
                parts[name] = torch.stack(annotated).sum()
                task = bool(n_emotions) + d
                total = total + self.weigh(task, parts[name], categorical=False)
        return {"total": total, **parts}

    def emotion(self, logits: Tensor, emotion: Tensor) -> Tensor:
        """Return the cross entropy with prior, focal factor, smoothing and class weights."""
        annotated = emotion != IGNORE
        logits, emotion = logits[annotated] + self.prior * self.log_prior, emotion[annotated]
        losses = F.cross_entropy(logits, emotion, reduction="none", label_smoothing=self.smoothing)
        if self.focal:
            correct = logits.softmax(-1).gather(-1, emotion[:, None]).squeeze(-1)
            losses = (1 - correct).clamp(min=1e-8) ** self.focal * losses
        if self.class_weights == "none":
            return losses.mean()
        weights = (-self.log_prior).exp()[emotion]
        return (weights * losses).sum() / weights.sum()

    def dimension(self, estimate: Tensor, target: Tensor) -> Tensor | None:
        """Return the loss of one dimension over the annotated targets; None if there are none."""
        annotated = ~target.isnan()
        if not bool(annotated.any()):
            return None
        if self.dimension_loss == "mse":
            return F.mse_loss(estimate[annotated], target[annotated])
        if self.ccc_over == "sequence" and target.ndim == 2:
            rows = zip(estimate, target, annotated, strict=True)
            return torch.stack([1 - ccc(x[known], y[known]) for x, y, known in rows if bool(known.any())]).mean()
        return 1 - ccc(estimate[annotated], target[annotated])

    def weigh(self, task: int, loss: Tensor, *, categorical: bool) -> Tensor:
        """Return the loss of a task, weighted by its uncertainty or by the fixed weight."""
        if not self.uncertain:
            return loss if categorical else self.dimension_weight * loss
        s = self.log_variance[task].clamp(-MAX_LOG_VARIANCE, MAX_LOG_VARIANCE)
        return UNCERTAINTY[self.weighting](s, loss, categorical)


def _kendall(s: Tensor, loss: Tensor, categorical: bool) -> Tensor:
    return (1.0 if categorical else 0.5) * torch.exp(-s) * loss + 0.5 * s


def _liebel(s: Tensor, loss: Tensor, categorical: bool) -> Tensor:
    return 0.5 * torch.exp(-s) * loss + F.softplus(s)


UNCERTAINTY: dict[str, Callable[[Tensor, Tensor, bool], Tensor]] = {"kendall": _kendall, "liebel": _liebel}


def ccc(x: Tensor, y: Tensor, eps: float = 1e-8) -> Tensor:
    """Return the concordance correlation coefficient (Lin 1989) of two vectors, differentiable.

    >>> ccc(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 2.0, 3.0]))
    tensor(1.)
    """
    mean_x, mean_y = x.mean(), y.mean()
    covariance = ((x - mean_x) * (y - mean_y)).mean()
    spread = x.var(correction=0) + y.var(correction=0) + (mean_x - mean_y) ** 2
    return 2 * covariance / (spread + eps)


Loss = Annotated[Mapping[str, Any], Objective]
"""Table ``[head.loss]`` of a recipe: the options of `Objective`."""


def build_objective(emotions: Sequence[str], dimensions: Sequence[str], settings: Loss | None) -> Objective:
    """Build the objective from the table ``[head.loss]`` of a recipe.

    Raises
    ------
    UnknownOption
        If the table has options that `Objective` does not take.
    """
    known, settings = plugins.options(Objective), settings or {}
    unknown = [option for option in settings if option not in known]
    if unknown:
        raise UnknownOption("head.loss", unknown, known)
    return Objective(len(emotions), dimensions, **settings)
