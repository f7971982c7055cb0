"""The loop: batches of similar length, AdamW, warm-up and cosine, and nothing to hook into.

It is the same from cached features and from media, alone and in a crew of processes. Everything
random in an epoch follows from the seed and the epoch's number, so a training that was interrupted
goes on exactly, and the same seed gives the same numbers on the same machine. Which epoch is kept
is decided on clips set aside from the *training* folds, never on those held out.
"""

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from ..errors import RecipeError
from ..recipes.recipe import TrainingSettings
from ..tensors import IGNORE, Batch
from .checkpoint import RunningMeans, TrainingState, resumed, save
from .dataset import CachedDataset, cut, statistics
from .distributed import ProcessGroup, crew
from .feature_augmentation import noisy, softhard, without_frames
from .finetuning import groups
from .log import Log
from .media_dataset import MediaDataset
from .memory import told
from .model import EmotionModel, InputNorm
from .validation import score

SAVE_EVERY = 60.0
"""Seconds between states on disk; most trainings on cached features are over before."""


@contextmanager
def seeded(*numbers: int) -> Iterator[torch.Generator]:
    """Draw from these numbers within, dropout and initial weights too; leave no trace outside."""
    seed = int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield torch.Generator().manual_seed(seed)


def initialise(model: EmotionModel, train: CachedDataset, *, standardised: bool) -> None:
    """Take from the training clips what is counted, not learnt: deviations, class weights."""
    model.head.initialise(train.targets())
    if not standardised:
        return
    for place, name in enumerate(model.names):
        front = cast(InputNorm, model.front[place])
        encoder = model.attached().get(name)
        if encoder is None:
            front.standardise(*statistics(s.streams[name] for s in train.samples))
        elif isinstance(train, MediaDataset) and not encoder.begins_random:
            front.standardise(*statistics(train.encoded(name, encoder)))


def fit(
    model: EmotionModel,
    train: CachedDataset,
    settings: TrainingSettings,
    *,
    validation: CachedDataset | None = None,
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
    train : CachedDataset
        Labelled ones.
    settings : TrainingSettings
    validation : CachedDataset or None
        Clips to choose the epoch on; wanted where the settings have patience.
    seed : int
    device : torch.device or str
    log : Path or None
        One JSON line an epoch; see `Log`.
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
    team = crew()
    place = team.device(str(device))
    model.to(place)
    loop = Loop(model, optimizer_of(model, settings), settings, team, place)
    state = resumed(state_file, model, loop.optimizer) if state_file else TrainingState()
    saved = time.monotonic()

    def pause() -> None:
        nonlocal saved
        if state_file and team.leads and time.monotonic() - saved >= save_every:
            save(state_file, model, loop.optimizer, state)
            saved = time.monotonic()

    with Log(log if team.leads else None, after=state.epoch) as journal:
        while state.epoch < settings.epochs and not _patience_is_over(state, settings):
            with seeded(seed, state.epoch) as generator, told(settings):
                line = _epoch(loop, train, state, generator, pause)
            state.epoch += 1
            if validation is not None:
                line["score"] = _validated(model, state, validation, settings, place)
            state.history.append(line)
            journal.write(state.history)
            pause()
    chosen = state.kept or state.average
    if chosen:
        model.relearn(chosen)
    model.to("cpu").eval()
    team.wait()
    if state_file and team.leads:
        state_file.unlink(missing_ok=True)
    return state.history


@dataclass
class Loop:
    """What every step of a training takes.

    Attributes
    ----------
    model : EmotionModel
    optimizer : Optimizer
    settings : TrainingSettings
    crew : ProcessGroup
    device : torch.device
    """

    model: EmotionModel
    optimizer: torch.optim.Optimizer
    settings: TrainingSettings
    crew: ProcessGroup
    device: torch.device

    def __post_init__(self) -> None:
        half = self.settings.precision == "float16"
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=half)


def optimizer_of(model: EmotionModel, settings: TrainingSettings) -> torch.optim.AdamW:
    """AdamW whose decay spares biases, norms and scalars such as uncertainties.

    Encoders learn at rates of their own; each group remembers its as ``rate``.
    """
    within = {id(p) for p in model.encoders.parameters()}
    learnt = [p for p in model.parameters() if p.requires_grad and id(p) not in within]
    decay, speed = settings.weight_decay, settings.learning_rate
    found = [
        {"params": [p for p in learnt if p.ndim > 1], "weight_decay": decay, "rate": speed},
        {"params": [p for p in learnt if p.ndim <= 1], "weight_decay": 0.0, "rate": speed},
    ]
    for each in model.attached().values():
        found += groups(each.encoder, each.settings, rate=speed, weight_decay=decay)
    return torch.optim.AdamW(found, lr=speed, fused=True)


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


def drawn(train: CachedDataset, settings: TrainingSettings, generator: torch.Generator) -> list[int]:
    """Return the rows of an epoch: every clip once, or emotions equally often."""
    if not settings.balanced:
        return torch.randperm(len(train), generator=generator).tolist()
    emotions = [sample.emotion for sample in train.samples]
    counts = Counter(emotions)
    weights = torch.tensor([1 / counts[emotion] for emotion in emotions])
    return torch.multinomial(weights, len(train), True, generator=generator).tolist()


def _epoch(
    loop: Loop, train: CachedDataset, state: TrainingState, generator: torch.Generator, pause: Callable[[], None]
) -> dict[str, Any]:
    loop.model.train()
    start, settings, team = time.perf_counter(), loop.settings, loop.crew
    if loop.scaler.is_enabled() and state.scale:
        loop.scaler.load_state_dict(loop.scaler.state_dict() | {"scale": state.scale})
    plan = train.plan(settings.batch, order=drawn(train, settings, generator), generator=generator)
    n_steps, n_warmup = settings.epochs * len(plan), round(settings.warmup * len(plan))
    left = [_parted(team.share(rows), settings.accumulate) for rows in plan[state.done :]]
    batches = train.batches([part for parts in left for part in parts], generator=generator)
    if team.rank:
        torch.manual_seed(torch.initial_seed() + team.rank)  # no two drop the same units
    state.recall(generator, loop.device)
    for rows, parts in zip(plan[state.done :], left, strict=True):
        share = rate(state.step, n_steps, n_warmup, settings.schedule)
        for group in loop.optimizer.param_groups:
            group["lr"] = group["rate"] * share
        sizes = [len(part) for part in parts]
        weights = [team.weight(rows) * size / sum(sizes) for size in sizes]
        _step(loop, [next(batches) for _ in parts], weights, state, generator)
        state.step, state.done = state.step + 1, state.done + 1
        if settings.ema:
            _average(state, loop.model, settings.ema)
        state.remember(generator, loop.device)
        state.scale = loop.scaler.get_scale() if loop.scaler.is_enabled() else 0.0
        pause()
    team.average_buffers(loop.model)
    state.tally.gather(team)
    line = {"epoch": state.epoch + 1, **state.tally.means()}
    share = rate(state.step - 1, n_steps, n_warmup, settings.schedule)
    line["learning_rate"] = settings.learning_rate * share
    state.done, state.tally, state.random = 0, RunningMeans(), {}
    return line | {"seconds": round(time.perf_counter() - start, 3)}


def _parted(rows: Sequence[int], n: int) -> list[list[int]]:
    """Cut a batch into parts that are computed one after the other."""
    return cut(rows, -(-len(rows) // n))


def _step(
    loop: Loop, batches: Sequence[Batch], weights: Sequence[float], state: TrainingState, generator: torch.Generator
) -> None:
    loop.optimizer.zero_grad()
    for batch, weight in zip(batches, weights, strict=True):
        if batch.streams:
            _backward(loop, batch.to(loop.device), weight, state.tally, generator)
    loop.crew.add_gradients(loop.model)
    loop.scaler.unscale_(loop.optimizer)
    largest = loop.settings.clip or math.inf
    norm = torch.nn.utils.clip_grad_norm_(loop.model.parameters(), largest)
    finite = bool(norm.isfinite())
    if not finite and not loop.scaler.is_enabled():
        raise RecipeError(
            "a gradient is not finite; lower training.learning_rate, or look for features that are "
            "extreme: `affuse cache export` shows their numbers"
        )
    loop.scaler.step(loop.optimizer)
    loop.scaler.update()
    if finite:  # else the scaler left the step out, and begins smaller
        state.tally.add("gradient", norm)


def _backward(loop: Loop, batch: Batch, weight: float, tally: RunningMeans, generator: torch.Generator) -> None:
    """Add a part's gradients, as much as it is of the batch."""
    model, settings = loop.model, loop.settings
    half = {"bfloat16": torch.bfloat16, "float16": torch.float16}.get(settings.precision)
    with torch.autocast(loop.device.type, half, enabled=half is not None):
        streams, targets = model.prepare(batch.streams), batch.targets
        if settings.noise:
            streams = noisy(streams, settings.noise, generator=generator)
        if settings.frame_dropout:
            streams = without_frames(streams, settings.frame_dropout, generator=generator)
        if settings.modality_dropout == "softhard":
            streams, targets = softhard(streams, targets, generator=generator)
        fused = model.fuse(streams)
        decoded = model.head(fused)
        loss = model.head.loss(decoded, targets)
    balance = fused.streams if decoded.unimodal else {}
    for vector in balance.values():
        vector.retain_grad()
    loop.scaler.scale(loss["total"] * weight).backward()  # type: ignore[no-untyped-call]
    for name, value in loss.items():
        tally.add(f"loss:{name}" if name != "total" else "loss", value, weight=weight)
    known = targets.emotion != IGNORE
    for name, logits in decoded.unimodal.items():
        right = logits.argmax(-1)[known] == targets.emotion[known]
        tally.add(f"accuracy:{name}", right.float().mean(), weight=weight)
    grads = {name: v.grad for name, v in balance.items() if v.grad is not None}
    norms = {name: grad.float().norm() for name, grad in grads.items()}
    mean = sum(norms.values(), torch.zeros(())) / max(len(norms), 1)
    for name, norm in norms.items():
        tally.add(f"gradient_ratio:{name}", norm / mean.clamp(min=1e-30), weight=weight)


@torch.no_grad()
def _average(state: TrainingState, model: EmotionModel, decay: float) -> None:
    weights = model.learnt()
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
    state: TrainingState,
    validation: CachedDataset,
    settings: TrainingSettings,
    device: torch.device | str,
) -> float:
    current = {name: value.clone() for name, value in model.learnt().items()}
    if state.average:
        model.relearn(state.average)
    found = score(model.posterior(validation, device=device), validation, settings.select)
    if found > state.best or not state.kept:
        state.best, state.best_epoch = found, state.epoch
        state.kept = {name: value.clone() for name, value in model.learnt().items()}
    model.relearn(current)
    return found


def _patience_is_over(state: TrainingState, settings: TrainingSettings) -> bool:
    return bool(settings.patience and state.kept and state.epoch - state.best_epoch >= settings.patience)
