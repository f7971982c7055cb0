"""The loop: batches of similar length, AdamW, warm-up and cosine, and nothing to hook into.

Everything random in an epoch follows from the seed and the epoch's number, so a training that was
interrupted goes on exactly, and the same seed gives the same numbers on the same machine. Which
epoch is kept is decided on clips set aside from the *training* folds, never on those held out.
"""

import json
import math
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from ..cache.batch import IGNORE, Batch
from ..errors import RecipeError, StoreError
from .augment import noisy, softhard, without_frames
from .data import Samples, statistics
from .model import EmotionModel, Front, read_tensors, write_tensors
from .recipe import TrainingSettings
from .score import score

SAVE_EVERY = 60.0
"""Seconds between states on disk; most trainings on cached features are over before."""


@contextmanager
def seeded(*numbers: int) -> Iterator[torch.Generator]:
    """Draw from these numbers within, dropout and initial weights too; leave no trace outside."""
    seed = int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield torch.Generator().manual_seed(seed)


def initialise(model: EmotionModel, train: Samples, *, standardised: bool) -> None:
    """Take from the training clips what is counted, not learnt: deviations, class weights."""
    model.head.initialise(train.targets())
    if not standardised:
        return
    for place, name in enumerate(model.names):
        if str(place) not in model.encoders:
            front = cast(Front, model.front[place])
            front.standardise(*statistics(s.streams[name] for s in train.samples))


@dataclass
class State:
    """Where a training stands after some epochs.

    Attributes
    ----------
    epoch, step : int
        Done so far.
    best : float
        Best score on the clips set aside.
    best_epoch : int
    average, kept : dict of str to Tensor
        Running average of the weights; weights of the best epoch.
    history : list of dict
        One line an epoch.
    """

    epoch: int = 0
    step: int = 0
    best: float = -math.inf
    best_epoch: int = 0
    average: dict[str, Tensor] = field(default_factory=dict)
    kept: dict[str, Tensor] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)


def fit(
    model: EmotionModel,
    train: Samples,
    settings: TrainingSettings,
    *,
    validation: Samples | None = None,
    seed: int = 0,
    device: torch.device | str = "cpu",
    log: Path | None = None,
    state_file: Path | None = None,
    save_every: float = SAVE_EVERY,
) -> list[dict[str, Any]]:
    """Train a model in place; it ends with the weights the settings ask for.

    Parameters
    ----------
    model : EmotionModel
        Standardised and on no particular device.
    train : Samples
        Labelled ones.
    settings : TrainingSettings
    validation : Samples or None
        Clips to choose the epoch on; wanted where the settings have patience.
    seed : int
    device : torch.device or str
    log : Path or None
        One JSON line an epoch.
    state_file : Path or None
        Where to leave off and go on from; removed at the end.
    save_every : float
        Seconds between states.

    Returns
    -------
    list of dict
        The history, as in the log.

    Raises
    ------
    RecipeError
        No labelled clip, or the loss is not finite.
    """
    if not len(train):
        raise RecipeError("no clip of the training folds has a label and features")
    model.to(device)
    optimizer = optimizer_of(model, settings)
    state = _resumed(state_file, model, optimizer) if state_file else State()
    saved = time.monotonic()
    while state.epoch < settings.epochs and not _patience_is_over(state, settings):
        with seeded(seed, state.epoch) as generator:
            line = _epoch(model, optimizer, train, settings, state, generator)
        state.epoch += 1
        if validation is not None:
            line["score"] = _validated(model, state, validation, settings, device)
        state.history.append(line)
        if log:
            _log(log, state.history)
        if state_file and time.monotonic() - saved >= save_every:
            _save(state_file, model, optimizer, state)
            saved = time.monotonic()
    chosen = state.kept or state.average
    if chosen:
        model.load_state_dict(chosen)
    model.to("cpu").eval()
    if state_file:
        state_file.unlink(missing_ok=True)
    return state.history


def optimizer_of(model: EmotionModel, settings: TrainingSettings) -> torch.optim.AdamW:
    """AdamW whose decay spares biases, norms and scalars such as uncertainties."""
    learnt = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in learnt if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in learnt if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, fused=True)


def rate(step: int, n_steps: int, n_warmup: int, schedule: str) -> float:
    """Return the share of the learning rate at a step.

    >>> [rate(step, 10, 2, "cosine") for step in (0, 1, 2, 10)]
    [0.5, 1.0, 1.0, 0.0]
    """
    if step < n_warmup:
        return (step + 1) / n_warmup
    if schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (step - n_warmup) / max(1, n_steps - n_warmup)))


def drawn(train: Samples, settings: TrainingSettings, generator: torch.Generator) -> list[int]:
    """Return the rows of an epoch: every clip once, or emotions equally often."""
    if not settings.balanced:
        return torch.randperm(len(train), generator=generator).tolist()
    emotions = [sample.emotion for sample in train.samples]
    counts = Counter(emotions)
    weights = torch.tensor([1 / counts[emotion] for emotion in emotions])
    return torch.multinomial(weights, len(train), True, generator=generator).tolist()


def _epoch(
    model: EmotionModel,
    optimizer: torch.optim.Optimizer,
    train: Samples,
    settings: TrainingSettings,
    state: State,
    generator: torch.Generator,
) -> dict[str, Any]:
    model.train()
    start = time.perf_counter()
    device = next(model.parameters()).device
    plan = train.plan(settings.batch, order=drawn(train, settings, generator), generator=generator)
    n_steps = settings.epochs * len(plan)
    n_warmup = round(settings.warmup * len(plan))
    tally = Tally()
    for rows in plan:
        share = rate(state.step, n_steps, n_warmup, settings.schedule)
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * share
        _step(model, optimizer, train.batch(rows).to(device), settings, generator, tally)
        state.step += 1
        if settings.ema:
            _average(state, model, settings.ema)
    line = {"epoch": state.epoch + 1, **tally.means(), "learning_rate": group["lr"]}
    return line | {"seconds": round(time.perf_counter() - start, 3)}


def _step(
    model: EmotionModel,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    settings: TrainingSettings,
    generator: torch.Generator,
    tally: "Tally",
) -> None:
    device = batch.targets.emotion.device
    half = settings.precision == "bfloat16"
    with torch.autocast(device.type, torch.bfloat16, enabled=half):
        streams, targets = model.prepare(batch.streams), batch.targets
        if settings.noise:
            streams = noisy(streams, settings.noise, generator=generator)
        if settings.frame_dropout:
            streams = without_frames(streams, settings.frame_dropout, generator=generator)
        if settings.modality_dropout == "softhard":
            streams, targets = softhard(streams, targets, generator=generator)
        fused = model.fusion(streams)
        decoded = model.head(fused)
        loss = model.head.loss(decoded, targets)
    balance = fused.streams if decoded.unimodal else {}
    for vector in balance.values():
        vector.retain_grad()
    optimizer.zero_grad()
    loss["total"].backward()  # type: ignore[no-untyped-call]
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip or math.inf)
    if not norm.isfinite():
        raise RecipeError(
            f"the loss is {loss['total'].item():.3g} and its gradient not finite; lower "
            "training.learning_rate, or look for features that are"
        )
    optimizer.step()
    for name, value in loss.items():
        tally.add(f"loss:{name}" if name != "total" else "loss", value)
    tally.add("gradient", norm)
    known = targets.emotion != IGNORE
    for name, logits in decoded.unimodal.items():
        right = logits.argmax(-1)[known] == targets.emotion[known]
        tally.add(f"accuracy:{name}", right.float().mean())
    for name, vector in balance.items():
        if vector.grad is not None:
            tally.add(f"gradient:{name}", vector.grad.norm())


class Tally:
    """Sums over an epoch, kept where they were computed: reading one would wait for the device."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.counts: defaultdict[str, int] = defaultdict(int)

    def add(self, name: str, value: Tensor) -> None:
        """Add one step's value."""
        value = value.detach()
        self.sums[name] = self.sums[name] + value if name in self.sums else value
        self.counts[name] += 1

    def means(self) -> dict[str, float]:
        """Return the mean of each."""
        return {name: float(total) / self.counts[name] for name, total in self.sums.items()}


@torch.no_grad()
def _average(state: State, model: EmotionModel, decay: float) -> None:
    weights = model.state_dict()
    if not state.average:
        state.average = {name: value.clone() for name, value in weights.items()}
        return
    # Early on a long memory would be a memory of the random beginning.
    decay = min(decay, (1 + state.step) / (10 + state.step))
    for name, value in weights.items():
        if value.dtype.is_floating_point:
            state.average[name].lerp_(value, 1 - decay)
        else:
            state.average[name].copy_(value)


def _validated(
    model: EmotionModel,
    state: State,
    validation: Samples,
    settings: TrainingSettings,
    device: torch.device | str,
) -> float:
    current = {name: value.clone() for name, value in model.state_dict().items()}
    if state.average:
        model.load_state_dict(state.average)
    found = score(model.posterior(validation, device=device), validation, settings.select)
    if found > state.best or not state.kept:
        state.best, state.best_epoch = found, state.epoch
        state.kept = {name: value.clone() for name, value in model.state_dict().items()}
    model.load_state_dict(current)
    return found


def _patience_is_over(state: State, settings: TrainingSettings) -> bool:
    return bool(
        settings.patience and state.kept and state.epoch - state.best_epoch >= settings.patience
    )


def _log(path: Path, history: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w" if len(history) == 1 else "a", encoding="utf-8") as file:
        file.write(json.dumps(history[-1]) + "\n")


# -- leaving off and going on -----------------------------------------------------------------


def _save(path: Path, model: EmotionModel, optimizer: torch.optim.Optimizer, state: State) -> None:
    moments = optimizer.state_dict()["state"]
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    tensors |= {f"average.{name}": value for name, value in state.average.items()}
    tensors |= {f"kept.{name}": value for name, value in state.kept.items()}
    for place, slots in moments.items():
        tensors |= {f"moments.{place}.{slot}": torch.as_tensor(v) for slot, v in slots.items()}
    facts = {name: getattr(state, name) for name in ("epoch", "step", "best", "best_epoch")}
    words = {"state": json.dumps(facts), "history": json.dumps(state.history)}
    write_tensors(path, tensors, words)


def _resumed(path: Path, model: EmotionModel, optimizer: torch.optim.Optimizer) -> State:
    if not path.is_file():
        return State()
    tensors, words = read_tensors(path)
    parts: defaultdict[str, dict[str, Tensor]] = defaultdict(dict)
    for name, value in tensors.items():
        part, _, rest = name.partition(".")
        parts[part][rest] = value
    try:
        model.load_state_dict(parts["model"])
        groups = optimizer.state_dict()["param_groups"]
        moments = _moments(parts["moments"])
        optimizer.load_state_dict({"state": moments, "param_groups": groups})
        return State(
            **json.loads(words["state"]),
            average=parts["average"],
            kept=parts["kept"],
            history=json.loads(words["history"]),
        )
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise StoreError(
            f"{path} does not fit this run ({error}); delete it to begin anew"
        ) from None


def _moments(flat: Mapping[str, Tensor]) -> dict[int, dict[str, Tensor]]:
    found: defaultdict[int, dict[str, Tensor]] = defaultdict(dict)
    for name, value in flat.items():
        place, _, slot = name.partition(".")
        found[int(place)][slot] = value
    return dict(found)
