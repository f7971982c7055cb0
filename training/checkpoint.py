"""Where a training stands, on disk: written whole or not at all, so that a kill costs no number.

One safetensors file holds weights, moments, averages, the sums of the epoch so far and the states
of all generators; its header the counts. Going on from it gives bit for bit what an uninterrupted
training would have given on the same machine.
"""

import json
import math
from collections import defaultdict
from collections.abc import Mapping
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
    """Sums over an epoch, kept where they were computed: reading one would wait for the device."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.weights: defaultdict[str, float] = defaultdict(float)

    def add(self, name: str, value: Tensor, *, weight: float = 1.0) -> None:
        """Add one step's value."""
        value = value.detach() * weight
        self.sums[name] = self.sums[name] + value if name in self.sums else value
        self.weights[name] += weight

    def gather(self, crew: ProcessGroup) -> None:
        """Add up what the processes of a crew have each counted."""
        names = sorted(self.sums)
        weights = [torch.tensor(self.weights[n], device=self.sums[n].device) for n in names]
        crew.add([self.sums[n] for n in names] + weights)
        if crew.size > 1:
            self.weights.update({n: float(w) for n, w in zip(names, weights, strict=True)})

    def means(self) -> dict[str, float]:
        """Return the mean of each."""
        return {n: float(total) / max(self.weights[n], 1e-9) for n, total in self.sums.items()}


@dataclass
class TrainingState:
    """Where a training stands.

    Attributes
    ----------
    epoch, step : int
        Done so far.
    done : int
        Steps of the epoch under way.
    best : float
        Best score on the clips set aside.
    best_epoch : int
    scale : float
        Of the loss in float16; 0: as it begins.
    average, kept : dict of str to Tensor
        Running average of the weights; weights of the best epoch.
    history : list of dict
        One line an epoch.
    tally : RunningMeans
        Of the epoch under way.
    random : dict of str to Tensor
        States of the generators within an epoch.
    """

    epoch: int = 0
    step: int = 0
    done: int = 0
    best: float = -math.inf
    best_epoch: int = 0
    scale: float = 0.0
    average: dict[str, Tensor] = field(default_factory=dict)
    kept: dict[str, Tensor] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    tally: RunningMeans = field(default_factory=RunningMeans)
    random: dict[str, Tensor] = field(default_factory=dict)

    def remember(self, generator: torch.Generator, device: torch.device) -> None:
        """Take down the generators' states."""
        self.random = {"torch": torch.get_rng_state(), "own": generator.get_state()}
        if device.type == "cuda":
            self.random["cuda"] = torch.cuda.get_rng_state(device)

    def recall(self, generator: torch.Generator, device: torch.device) -> None:
        """Put the generators where they stood when the epoch was interrupted."""
        if self.done and self.random:
            torch.set_rng_state(self.random["torch"])
            generator.set_state(self.random["own"])
            if device.type == "cuda" and "cuda" in self.random:
                torch.cuda.set_rng_state(self.random["cuda"], device)


def save(path: Path, model: EmotionModel, optimizer: torch.optim.Optimizer, state: TrainingState) -> None:
    """Write where a training stands."""
    tensors = {f"model.{name}": value for name, value in model.learnt().items()}
    tensors |= {f"average.{name}": value for name, value in state.average.items()}
    tensors |= {f"kept.{name}": value for name, value in state.kept.items()}
    tensors |= {f"tally.{name}": value for name, value in state.tally.sums.items()}
    tensors |= {f"random.{name}": value for name, value in state.random.items()}
    for place, slots in optimizer.state_dict()["state"].items():
        tensors |= {f"moments.{place}.{slot}": torch.as_tensor(v) for slot, v in slots.items()}
    words = {
        "state": json.dumps({name: getattr(state, name) for name in COUNTS}),
        "history": json.dumps(state.history),
        "tally": json.dumps(state.tally.weights),
    }
    write_tensors(path, tensors, words)


def resumed(path: Path, model: EmotionModel, optimizer: torch.optim.Optimizer) -> TrainingState:
    """Read where a training stood into model and optimizer; a new state where there is no file.

    Raises
    ------
    StoreError
        Damaged, or of another training.
    """
    if not path.is_file():
        return TrainingState()
    tensors, words = read_tensors(path)
    parts: defaultdict[str, dict[str, Tensor]] = defaultdict(dict)
    for name, value in tensors.items():
        part, _, rest = name.partition(".")
        parts[part][rest] = value
    try:
        model.relearn(parts["model"])
        groups = optimizer.state_dict()["param_groups"]
        moments = _moments(parts["moments"])
        optimizer.load_state_dict({"state": moments, "param_groups": groups})
        device = next(model.parameters()).device
        tally = RunningMeans()
        tally.sums = {name: value.to(device) for name, value in parts["tally"].items()}
        tally.weights.update(json.loads(words["tally"]))
        return TrainingState(
            **json.loads(words["state"]),
            average={n: v.to(device) for n, v in parts["average"].items()},
            kept=parts["kept"],
            history=json.loads(words["history"]),
            tally=tally,
            random=parts["random"],
        )
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise StoreError(f"{path} does not fit this run ({error}); delete it to begin anew") from None


def _moments(flat: Mapping[str, Tensor]) -> dict[int, dict[str, Tensor]]:
    found: defaultdict[int, dict[str, Tensor]] = defaultdict(dict)
    for name, value in flat.items():
        place, _, slot = name.partition(".")
        found[int(place)][slot] = value
    return dict(found)
