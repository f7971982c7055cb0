"""State of a training on disk, from which an interrupted training resumes.

One safetensors file holds the weights, the optimizer's moments, running averages, the sums of the current epoch and
the states of all random generators; its header holds the counters. A resumed training gives bit for bit the results
of an uninterrupted one on the same machine.
"""

import json
import math
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import StoreError
from .distributed import ProcessGroup
from .model import EmotionModel, read_tensors, write_tensors

COUNTS = ("epoch", "step", "done", "best", "best_epoch", "scale")


class RunningMeans:
    """Weighted means over an epoch. The sums stay on the device, because reading them would wait for it."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.weights: defaultdict[str, float] = defaultdict(float)

    def add(self, name: str, value: Tensor, *, weight: float = 1.0) -> None:
        """Add the value of one step."""
        value = value.detach() * weight
        self.sums[name] = self.sums[name] + value if name in self.sums else value
        self.weights[name] += weight

    def gather(self, group: ProcessGroup) -> None:
        """Sum over the processes of a group."""
        names = sorted(self.sums)
        weights = [torch.tensor(self.weights[n], device=self.sums[n].device) for n in names]
        group.all_reduce([self.sums[n] for n in names] + weights)
        if group.size > 1:
            self.weights.update({n: float(w) for n, w in zip(names, weights, strict=True)})

    def means(self) -> dict[str, float]:
        """Return the mean of each value by its name."""
        return {n: float(total) / max(self.weights[n], 1e-9) for n, total in self.sums.items()}


@dataclass
class TrainingState:
    """State of a training.

    Attributes
    ----------
    epoch, step : int
        Number of completed epochs and steps.
    done : int
        Number of completed steps of the current epoch.
    best : float
        Best score on the validation clips.
    best_epoch : int
        Epoch of the best score.
    scale : float
        Scale of the loss in float16; 0 for the initial scale.
    average : dict of str to Tensor
        Running average of the weights.
    best_weights : dict of str to Tensor
        Weights of the best epoch.
    history : list of dict
        One record per epoch, as in the log.
    means : RunningMeans
        Means of the current epoch.
    random : dict of str to Tensor
        States of the random generators within an epoch.
    """

    epoch: int = 0
    step: int = 0
    done: int = 0
    best: float = -math.inf
    best_epoch: int = 0
    scale: float = 0.0
    average: dict[str, Tensor] = field(default_factory=dict)
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    means: RunningMeans = field(default_factory=RunningMeans)
    random: dict[str, Tensor] = field(default_factory=dict)

    def record_random_state(self, generator: torch.Generator, device: torch.device) -> None:
        """Record the states of the random generators."""
        self.random = {"torch": torch.get_rng_state(), "own": generator.get_state()}
        if device.type == "cuda":
            self.random["cuda"] = torch.cuda.get_rng_state(device)

    def restore_random_state(self, generator: torch.Generator, device: torch.device) -> None:
        """Restore the recorded states if the current epoch was interrupted."""
        if self.done and self.random:
            torch.set_rng_state(self.random["torch"])
            generator.set_state(self.random["own"])
            if device.type == "cuda" and "cuda" in self.random:
                torch.cuda.set_rng_state(self.random["cuda"], device)


def save_state(path: Path, model: EmotionModel, optimizer: torch.optim.Optimizer, state: TrainingState) -> None:
    """Write the state of a training atomically."""
    parts = {
        "model": model.trained_state(),
        "average": state.average,
        "kept": state.best_weights,
        "tally": state.means.sums,
        "random": state.random,
        **{f"moments.{index}": slots for index, slots in optimizer.state_dict()["state"].items()},
    }
    tensors = {f"{part}.{name}": torch.as_tensor(v) for part, values in parts.items() for name, v in values.items()}
    words = {
        "state": json.dumps({name: getattr(state, name) for name in COUNTS}),
        "history": json.dumps(state.history),
        "tally": json.dumps(state.means.weights),
    }
    write_tensors(path, tensors, words)


def load_state(path: Path, model: EmotionModel, optimizer: torch.optim.Optimizer) -> TrainingState:
    """Load the state of a training into model and optimizer; return a new state if there is no file."""
    if not path.is_file():
        return TrainingState()
    tensors, words = read_tensors(path)
    parts: defaultdict[str, dict[str, Tensor]] = defaultdict(dict)
    for name, value in tensors.items():
        part, _, rest = name.partition(".")
        parts[part][rest] = value
    try:
        model.load_trained_state(parts["model"])
        groups = optimizer.state_dict()["param_groups"]
        moments: defaultdict[int, dict[str, Tensor]] = defaultdict(dict)
        for name, value in parts["moments"].items():
            index, _, slot = name.partition(".")
            moments[int(index)][slot] = value
        optimizer.load_state_dict({"state": dict(moments), "param_groups": groups})
        device = next(model.parameters()).device
        means = RunningMeans()
        means.sums = {name: value.to(device) for name, value in parts["tally"].items()}
        means.weights.update(json.loads(words["tally"]))
        return TrainingState(
            **json.loads(words["state"]),
            average={n: v.to(device) for n, v in parts["average"].items()},
            best_weights=parts["kept"],
            history=json.loads(words["history"]),
            means=means,
            random=parts["random"],
        )
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise StoreError(f"{path} does not fit this run ({error}). Delete it to start the training again.") from None
