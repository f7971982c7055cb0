"""The training loop: batches of similar length, AdamW, warm-up and cosine schedule, without hooks.

The loop is the same for features and for media, in one process and in several. All randomness of an epoch follows
from the seed and the number of the epoch. An interrupted training therefore resumes exactly, and the same seed gives
the same numbers on the same machine. The best epoch is chosen on clips that are split off from the *training* folds,
never on held-out clips.
"""

import importlib.util
import json
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
import torch

from ..cache._commit import atomic_write
from ..errors import RecipeError
from ..posteriors import metrics
from ..recipes.recipe import TrainingSettings
from ..tensors import IGNORE, Batch
from .checkpoint import RunningMeans, TrainingState, load_state, save_state
from .dataset import Dataset, split_batches
from .distributed import ProcessGroup, process_group
from .feature_augmentation import add_noise, drop_frames, soft_hard_dropout
from .model import EmotionModel, InputNorm
from .standardisation import statistics

SAVE_EVERY = 60.0
"""Seconds between checkpoints. Most trainings on cached features end before the first one."""
HALF_PRECISION = {"bfloat16": torch.bfloat16, "float16": torch.float16}


@contextmanager
def seeded(*numbers: int) -> Iterator[torch.Generator]:
    """Seed torch and yield a generator with the same seed; the state of torch's generators is restored afterwards."""
    seed = int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield torch.Generator().manual_seed(seed)


def initialise(model: EmotionModel, train: Dataset, *, standardise: bool) -> None:
    """Estimate what is not trained by gradients from the training clips: class weights, means and deviations."""
    model.head.initialise(train.targets())
    encoders = model.encoder_streams()
    for place, name in enumerate(model.names if standardise else ()):
        encoder = encoders.get(name)
        if encoder is None or not encoder.starts_random:
            cast(InputNorm, model.front[place]).standardise(*statistics(train.features(name, encoder)))


def fit(
    model: EmotionModel,
    train: Dataset,
    settings: TrainingSettings,
    *,
    validation: Dataset | None = None,
    seed: int = 0,
    device: torch.device | str = "cpu",
    log: Path | None = None,
    state_file: Path | None = None,
    save_every: float = SAVE_EVERY,
) -> list[dict[str, Any]]:
    """Train a model in place; return one entry per epoch, as in the log.

    The model ends on the CPU with the weights that the settings select.

    Parameters
    ----------
    model : EmotionModel
        Model after `initialise`.
    train : Dataset
        Labelled training items.
    validation : Dataset or None
        Clips on which the epoch is chosen; required where the settings have patience.
    log : Path or None
        File for one JSON line per epoch; see `TrainingLog`.
    state_file : Path or None
        Checkpoint from which an interrupted training resumes. It is removed at the end.
    save_every : float
        Seconds between checkpoints.
    """
    if not len(train):
        raise RecipeError("No clip of the training folds has both a label and features.")
    group = process_group()
    place = group.device(str(device))
    model.to(place)
    loop = Loop(model, build_optimizer(model, settings), settings, group, place)
    state = load_state(state_file, model, loop.optimizer) if state_file else TrainingState()
    saved = time.monotonic()

    def save() -> None:
        nonlocal saved
        if state_file and group.is_main_process and time.monotonic() - saved >= save_every:
            save_state(state_file, model, loop.optimizer, state)
            saved = time.monotonic()

    with TrainingLog(log if group.is_main_process else None, after=state.epoch) as journal:
        while state.epoch < settings.epochs and not _patience_is_over(state, settings):
            try:
                with seeded(seed, state.epoch) as generator:
                    line = _epoch(loop, train, state, generator, save)
            except (MemoryError, RuntimeError) as error:
                from .memory import explain_oom

                explain_oom(error, settings)
                raise
            state.epoch += 1
            if validation is not None:
                line |= _validate(loop, state, validation)
            state.history.append(line)
            journal.write(state.history)
            save()
    if selected := state.best_weights or state.average:
        model.load_trained_state(selected)
    model.to("cpu").eval()
    group.wait()
    if state_file and group.is_main_process:
        state_file.unlink(missing_ok=True)
    return state.history


@dataclass
class Loop:
    """Objects that every step of a training uses."""

    model: EmotionModel
    optimizer: torch.optim.Optimizer
    settings: TrainingSettings
    process_group: ProcessGroup
    device: torch.device

    def __post_init__(self) -> None:
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.settings.precision == "float16")


def build_optimizer(model: EmotionModel, settings: TrainingSettings) -> torch.optim.AdamW:
    """Return AdamW without weight decay on biases, norms and scalars such as uncertainties.

    Encoders have learning rates of their own; the full rate of each parameter group is its ``rate``.
    """
    in_encoders = {id(p) for p in model.encoders.parameters()}
    trained = [p for p in model.parameters() if p.requires_grad and id(p) not in in_encoders]
    decay, rate = settings.weight_decay, settings.learning_rate
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": decay, "rate": rate},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0, "rate": rate},
    ]
    for each in model.encoder_streams().values():
        groups += each.parameter_groups(rate=rate, weight_decay=decay)
    return torch.optim.AdamW(groups, lr=rate, fused=True)


def rate_factor(step: int, n_steps: int, n_warmup: int, schedule: str) -> float:
    """Return the share of the full learning rate at a step.

    >>> [rate_factor(step, 10, 2, "cosine") for step in (0, 1, 2, 10)]
    [0.5, 1.0, 1.0, 0.0]
    """
    if step < n_warmup:
        return (step + 1) / n_warmup
    if schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (step - n_warmup) / max(1, n_steps - n_warmup)))


def sample_epoch(train: Dataset, settings: TrainingSettings, generator: torch.Generator) -> list[int]:
    """Return the items of an epoch: each once, or, where balanced, drawn so that emotions are equally frequent."""
    if not settings.balanced or not train.emotions:
        return torch.randperm(len(train), generator=generator).tolist()
    emotions = [sample.emotion for sample in train.samples]
    counts = Counter(emotions)
    weights = torch.tensor([1 / counts[emotion] for emotion in emotions])
    return torch.multinomial(weights, len(train), True, generator=generator).tolist()


def validation_score(found: Mapping[str, float], select: str) -> float:
    """Return the score by which ``training.select`` chooses an epoch; higher is better.

    `found` are the metrics of the validation clips.

    ``mer2023`` becomes the weighted F1 where valence is not annotated, and the concordance where no emotion is a
    target. ``ccc`` and ``mse`` are means over the dimensions; the sign of ``mse`` is reversed.
    """
    if select == "mer2023" and "mer2023" not in found:
        select = "waf" if "waf" in found else "ccc"
    if select in found:
        return metrics.sign(select) * found[select]
    values = [value for name, value in found.items() if name.startswith(f"{select}:")]
    return metrics.sign(select) * float(np.mean(values)) if values else float("nan")


def _epoch(
    loop: Loop, train: Dataset, state: TrainingState, generator: torch.Generator, save: Callable[[], None]
) -> dict[str, Any]:
    loop.model.train()
    start, settings, group = time.perf_counter(), loop.settings, loop.process_group
    if loop.scaler.is_enabled() and state.scale:
        loop.scaler.load_state_dict(loop.scaler.state_dict() | {"scale": state.scale})
    plan = train.plan(settings.batch, order=sample_epoch(train, settings, generator), generator=generator)
    n_steps, n_warmup = settings.epochs * len(plan), round(settings.warmup * len(plan))
    shards = [group.shard(rows) for rows in plan[state.done :]]
    # The gradients of the parts of a batch are accumulated.
    remaining = [split_batches(rows, -(-len(rows) // settings.accumulate)) for rows in shards]
    batches = train.batches([part for parts in remaining for part in parts], generator=generator)
    if group.rank:
        torch.manual_seed(torch.initial_seed() + group.rank)  # every process drops other units
    state.restore_random_state(generator, loop.device)
    for rows, parts in zip(plan[state.done :], remaining, strict=True):
        factor = rate_factor(state.step, n_steps, n_warmup, settings.schedule)
        for parameters in loop.optimizer.param_groups:
            parameters["lr"] = parameters["rate"] * factor
        sizes = [len(part) for part in parts]
        weights = [group.shard_weight(rows) * size / sum(sizes) for size in sizes]
        _step(loop, [next(batches) for _ in parts], weights, state, generator)
        state.step, state.done = state.step + 1, state.done + 1
        if settings.ema:
            _average(state, loop.model, settings.ema)
        state.record_random_state(generator, loop.device)
        state.scale = loop.scaler.get_scale() if loop.scaler.is_enabled() else 0.0
        save()
    group.average_buffers(loop.model)
    state.means.gather(group)
    line = {"epoch": state.epoch + 1, **state.means.means()}
    line["learning_rate"] = settings.learning_rate * rate_factor(state.step - 1, n_steps, n_warmup, settings.schedule)
    state.done, state.means, state.random = 0, RunningMeans(), {}
    return line | {"seconds": round(time.perf_counter() - start, 3)}


def _step(
    loop: Loop, batches: Sequence[Batch], weights: Sequence[float], state: TrainingState, generator: torch.Generator
) -> None:
    loop.optimizer.zero_grad()
    for batch, weight in zip(batches, weights, strict=True):
        if batch.streams:
            _backward(loop, batch.to(loop.device), weight, state.means, generator)
    loop.process_group.all_reduce_gradients(loop.model)
    loop.scaler.unscale_(loop.optimizer)
    norm = torch.nn.utils.clip_grad_norm_(loop.model.parameters(), loop.settings.clip or math.inf)
    finite = bool(norm.isfinite())
    if not finite and not loop.scaler.is_enabled():
        raise RecipeError(
            "A gradient is not finite. Lower training.learning_rate, or look for extreme values in the features with "
            "`affuse cache export`."
        )
    loop.scaler.step(loop.optimizer)
    loop.scaler.update()
    if finite:  # otherwise the scaler has skipped the step and reduced its scale
        state.means.add("gradient", norm)


def _backward(loop: Loop, batch: Batch, weight: float, means: RunningMeans, generator: torch.Generator) -> None:
    """Add the gradients of one part of a batch, weighted by its share of the batch."""
    model, settings = loop.model, loop.settings
    dtype = HALF_PRECISION.get(settings.precision)
    with torch.autocast(loop.device.type, dtype, enabled=dtype is not None):
        streams, targets = model.prepare(batch.streams), batch.targets
        if settings.noise:
            streams = add_noise(streams, settings.noise, generator=generator)
        if settings.frame_dropout:
            streams = drop_frames(streams, settings.frame_dropout, generator=generator)
        if settings.modality_dropout == "softhard":
            streams, targets = soft_hard_dropout(streams, targets, generator=generator)
        fused = model.fuse(streams)
        decoded = model.head(fused)
        loss = model.head.loss(decoded, targets)
    vectors = fused.streams if decoded.unimodal else {}
    for vector in vectors.values():
        vector.retain_grad()
    loop.scaler.scale(loss["total"] * weight).backward()  # type: ignore[no-untyped-call]
    for name, value in loss.items():
        means.add(f"loss:{name}" if name != "total" else "loss", value, weight=weight)
    known = targets.emotion != IGNORE
    for name, logits in decoded.unimodal.items():
        correct = logits.argmax(-1)[known] == targets.emotion[known]
        means.add(f"accuracy:{name}", correct.float().mean(), weight=weight)
    norms = {name: v.grad.float().norm() for name, v in vectors.items() if v.grad is not None}
    mean = sum(norms.values(), torch.zeros(())) / max(len(norms), 1)
    for name, norm in norms.items():
        means.add(f"gradient_ratio:{name}", norm / mean.clamp(min=1e-30), weight=weight)


@torch.no_grad()
def _average(state: TrainingState, model: EmotionModel, decay: float) -> None:
    weights = model.trained_state()
    if not state.average:
        state.average = {name: value.clone() for name, value in weights.items()}
        return
    # Average over fewer steps at first, so that the random initial weights are soon forgotten.
    decay = min(decay, (1 + state.step) / (10 + state.step))
    for name, value in weights.items():
        if value.dtype.is_floating_point:
            state.average[name].lerp_(value, 1 - decay)
        else:
            state.average[name].copy_(value)


def _validate(loop: Loop, state: TrainingState, validation: Dataset) -> dict[str, float]:
    """Evaluate the averaged or current weights, keep the best ones, and return the entries of the log."""
    model = loop.model
    current = {name: value.clone() for name, value in model.trained_state().items()}
    if state.average:
        model.load_trained_state(state.average)
    found = metrics.compute_metrics(model.posterior(validation, device=loop.device), validation.labels())
    score = validation_score(found, loop.settings.select)
    if score > state.best or not state.best_weights:
        state.best, state.best_epoch = score, state.epoch
        state.best_weights = {name: value.clone() for name, value in model.trained_state().items()}
    model.load_trained_state(current)
    return {"score": score} | {f"validation:{name}": found[name] for name in metrics.summary(found)}


def _patience_is_over(state: TrainingState, settings: TrainingSettings) -> bool:
    return bool(settings.patience and state.best_weights and state.epoch - state.best_epoch >= settings.patience)


class TrainingLog:
    """Log of the training of one model.

    Parameters
    ----------
    path : Path or None
        Path of the log, ``NAME.jsonl``. Events are written to ``tensorboard/NAME/`` beside it. None writes nothing.
    after : int
        Number of completed epochs. TensorBoard discards events that an interrupted training wrote for later epochs.
    """

    def __init__(self, path: Path | None, *, after: int = 0) -> None:
        self.path = path
        self._events: Any = None
        if path and importlib.util.find_spec("tensorboard"):
            from torch.utils.tensorboard import SummaryWriter

            folder = path.parent / "tensorboard" / path.stem
            self._events = SummaryWriter(folder, purge_step=after + 1 if after else None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        if self._events is not None:
            self._events.close()

    def write(self, history: list[dict[str, Any]]) -> None:
        """Write all epochs to the log, and the last epoch as events."""
        if self.path is None:
            return
        # Flushing the disk in every epoch would slow down small models, and the next epoch writes the log again.
        with atomic_write(self.path, sync=False) as temporary:
            temporary.write_text("".join(json.dumps(line) + "\n" for line in history), encoding="utf-8")
        if self._events is not None:
            for name, value in history[-1].items():
                if isinstance(value, int | float) and name != "epoch":
                    self._events.add_scalar(name, value, history[-1]["epoch"])
            self._events.flush()
