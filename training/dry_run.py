"""What a training would be, told before it begins: weights that learn, memory, steps."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ..cache.store import FeatureStore
from ..errors import RecipeError
from ..manifest import Manifest
from ..recipes.recipe import Recipe
from .dataset import CachedDataset, cut
from .distributed import crew
from .learner import built
from .loop import optimizer_of
from .media_dataset import MediaLoading
from .memory import MemoryEstimate, estimate, is_shortage, largest, room
from .metadata import stated
from .model import EmotionModel
from .pooled import is_pooled
from .run import Run

N_LOOKED_AT = 4
MOST = 1024
MARGIN = 0.8
"""Of the free memory that a batch may take: what others take and what fragments is not known."""


@dataclass(frozen=True)
class DryRun:
    """What a training would be.

    Attributes
    ----------
    n_models : int
        Seeds times folds.
    n_clips : int
        That the first fold learns from.
    steps : int
        Of the longest training.
    n_clips_at_a_time : int
    estimate : MemoryEstimate
        By the longest clips.
    free : int
        Bytes on the device now.
    fitting : int or None
        The most clips at a time that fit; None: not asked.
    """

    n_models: int
    n_clips: int
    steps: int
    n_clips_at_a_time: int
    estimate: MemoryEstimate
    free: int
    fitting: int | None

    def lines(self) -> list[str]:
        """Return it for a person."""
        found = self.estimate
        share = found.n_trained / max(1, found.n_parameters)
        total = found.total(self.n_clips_at_a_time)
        lines = [
            f"models: {self.n_models}, each from up to {self.n_clips} clips in {self.steps} steps",
            f"weights that learn: {found.n_trained:,} of {found.n_parameters:,} ({share:.1%})",
            f"memory: about {_size(total)}, {_size(found.weights)} for weights, gradients and "
            f"moments, {_size(found.clip)} for each of {self.n_clips_at_a_time} clips at a time",
            f"free on the device: {_size(self.free)}",
        ]
        if self.fitting is not None:
            lines.append(
                f"fitting at a time: {self.fitting} clips; set training.batch to that, or "
                "keep it and raise training.accumulate for the same steps"
            )
        return lines


def rehearse(
    recipe: Recipe,
    manifest: Manifest,
    store: FeatureStore,
    *,
    streams: Sequence[str] = (),
    device: str = "cpu",
    loading: MediaLoading = MediaLoading(),
    fitting: bool = False,
) -> DryRun:
    """Read a few of the longest clips, run them forward and count; nothing is written.

    Parameters
    ----------
    recipe, manifest, store, streams, device, loading
        As `rounds.train` takes them.
    fitting : bool
        Find the most clips at a time that fit, too.
    """
    place = crew().device(device)
    model, train, n_models = _first(recipe, manifest, store, streams, loading)
    settings = recipe.training
    found, free = estimate(model, next(train.batches([_longest(train)]))), room(place)
    most = _most(model, train, recipe, place, found) if fitting else None
    steps = settings.epochs * len(cut(range(len(train)), settings.batch))
    parts = -(-settings.batch // settings.accumulate)
    return DryRun(n_models, len(train), steps, parts, found, free, most)


def _most(model: EmotionModel, train: CachedDataset, recipe: Recipe, place: torch.device, found: MemoryEstimate) -> int:
    """Return the most clips at a time that fit, by the longest clips of the first fold.

    On a GPU whole steps are tried; on a CPU, where the system would end the process and not the
    step, the estimate is held against the free memory.

    Raises
    ------
    RecipeError
        Not even one clip fits.
    """
    most = min(MOST, len(train))
    if place.type == "cpu":
        n = min(most, found.most(int(MARGIN * room(place))))
    else:
        model.to(place)
        longest = _longest(train, most)
        n = largest(lambda n: _fits(model, train, longest[:n], recipe, place), most=most)
    if n < 1:
        raise RecipeError(
            "not even one clip at a time fits; set encoders.NAME.checkpointing=true, train fewer "
            "layers, or crop clips with augmentation.crop"
        )
    return n


def _first(
    recipe: Recipe, manifest: Manifest, store: FeatureStore, streams: Sequence[str], loading: MediaLoading
) -> tuple[EmotionModel, CachedDataset, int]:
    """Return the first fold's model and clips, and how many models there would be."""
    if recipe.members or recipe.head is None or is_pooled(recipe.head):
        raise RecipeError(f"{recipe.name} trains no single network; there is nothing to rehearse")
    facts = stated(recipe, manifest, store, streams)
    run = Run(Path(), recipe, facts, loading=loading)
    samples, _ = run.samples(manifest, store)
    train = samples.of(run.folds(manifest)[0].train).labelled()
    model = built(recipe, samples, seed=facts.seeds[0])
    model.head.initialise(train.targets())
    return model, train, len(facts.seeds) * len(facts.folds)


def _longest(train: CachedDataset, n: int = N_LOOKED_AT) -> list[int]:
    return sorted(range(len(train)), key=train.lengths.__getitem__, reverse=True)[:n]


def _fits(model: EmotionModel, train: CachedDataset, rows: Sequence[int], recipe: Recipe, place: torch.device) -> bool:
    optimizer = optimizer_of(model, replace(recipe.training, learning_rate=0.0))
    half = {"bfloat16": torch.bfloat16, "float16": torch.float16}.get(recipe.training.precision)
    try:
        batch = next(train.batches([rows])).to(place)
        with torch.autocast(place.type, half, enabled=half is not None):
            loss = model.train().head.loss(model(batch.streams), batch.targets)["total"]
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    except (RuntimeError, MemoryError) as error:
        if not is_shortage(error):
            raise
        return False
    finally:
        optimizer.zero_grad()
        if place.type == "cuda":
            torch.cuda.empty_cache()
    return True


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 2**30:.1f} GB" if n_bytes >= 2**30 else f"{n_bytes / 2**20:.0f} MB"
