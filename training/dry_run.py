"""Estimate of a training before it starts: trained weights, memory and steps."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ..cache.store import FeatureStore
from ..errors import RecipeError
from ..manifest import Manifest
from ..recipes.recipe import Recipe
from .dataset import Dataset, MediaLoading, split_batches
from .distributed import process_group
from .learner import build_network, is_pooled
from .loop import HALF_PRECISION, build_optimizer
from .memory import MemoryEstimate, estimate_memory, find_largest, free_memory, is_out_of_memory
from .metadata import describe_run
from .model import EmotionModel
from .run import Run

N_LONGEST = 4
"""Number of the longest clips on which memory is measured."""
MAX_BATCH = 1024
MARGIN = 0.8
"""Share of the free memory that a batch may use; other programs and fragmentation need the rest."""


@dataclass(frozen=True)
class DryRun:
    """Estimate of a training.

    Attributes
    ----------
    n_models : int
        Number of models: seeds times folds.
    n_clips : int
        Number of training clips of the first fold.
    steps : int
        Number of steps of one training if all epochs are trained.
    n_at_a_time : int
        Number of clips that are computed at a time.
    estimate : MemoryEstimate
        Memory, measured on the longest clips.
    free : int
        Free memory of the device in bytes.
    batch_that_fits : int or None
        Largest number of clips at a time that fits into memory; None where it was not searched for.
    """

    n_models: int
    n_clips: int
    steps: int
    n_at_a_time: int
    estimate: MemoryEstimate
    free: int
    batch_that_fits: int | None

    def lines(self) -> list[str]:
        """Return the estimate as lines of text."""
        found = self.estimate
        share = found.n_trained / max(1, found.n_parameters)
        lines = [
            f"models: {self.n_models}, each trained on up to {self.n_clips} clips in {self.steps} steps",
            f"trained weights: {found.n_trained:,} of {found.n_parameters:,} ({share:.1%})",
            f"memory: about {_size(found.total(self.n_at_a_time))}, of which {_size(found.weights)} for weights, "
            f"gradients and moments and {_size(found.clip)} for each of {self.n_at_a_time} clips at a time",
            f"free on the device: {_size(self.free)}",
        ]
        if self.batch_that_fits is not None:
            lines.append(
                f"largest batch that fits: {self.batch_that_fits} clips. Set training.batch to it, or keep "
                "training.batch and raise training.accumulate for the same steps."
            )
        return lines


def dry_run(
    recipe: Recipe | str | Path,
    manifest: Manifest | str | Path,
    store: FeatureStore | str | Path,
    *,
    streams: Sequence[str] = (),
    device: str = "auto",
    loading: MediaLoading = MediaLoading(),
    find_batch_size: bool = False,
) -> DryRun:
    """Estimate a training from a forward pass of the longest clips; nothing is written.

    Parameters
    ----------
    recipe, manifest, store, streams, device, loading
        See `affuse.train`.
    find_batch_size : bool
        Also search for the largest number of clips at a time that fits into memory.

    Raises
    ------
    RecipeError
        The recipe trains no single network, or not even one clip fits into memory.
    """
    recipe, manifest, store = Recipe.of(recipe), Manifest.of(manifest), FeatureStore.of(store)
    place = process_group().device(device)
    model, train, n_models = _first_fold(recipe, manifest, store, streams, loading)
    settings = recipe.training
    estimate, free = estimate_memory(model, train.batch(_longest(train))), free_memory(place)
    largest = _largest_batch(model, train, recipe, place, estimate) if find_batch_size else None
    steps = settings.epochs * len(split_batches(range(len(train)), settings.batch))
    n_at_a_time = -(-settings.batch // settings.accumulate)
    return DryRun(n_models, len(train), steps, n_at_a_time, estimate, free, largest)


def _first_fold(
    recipe: Recipe, manifest: Manifest, store: FeatureStore, streams: Sequence[str], loading: MediaLoading
) -> tuple[EmotionModel, Dataset, int]:
    """Return the model and the training clips of the first fold, and the number of models of the run."""
    if recipe.members or recipe.head is None or is_pooled(recipe.head):
        raise RecipeError(f"{recipe.name} does not train a single network, so that there is nothing to estimate.")
    metadata = describe_run(recipe, manifest, store, streams=streams)
    run = Run(Path(), recipe, metadata, loading)
    dataset, _ = run.dataset(manifest, store)
    train = dataset.subset(run.folds(manifest)[0].train).labelled()
    model = build_network(recipe, dataset, seed=metadata.seeds[0])
    model.head.initialise(train.targets())
    return model, train, len(metadata.seeds) * len(metadata.folds)


def _largest_batch(
    model: EmotionModel, train: Dataset, recipe: Recipe, place: torch.device, estimate: MemoryEstimate
) -> int:
    """Return the largest number of clips at a time that fits, by the longest clips of the first fold.

    On a GPU whole steps are tried. On a CPU, where the system would end the process instead of the step, the estimate
    is compared with the free memory.
    """
    limit = min(MAX_BATCH, len(train))
    if place.type == "cpu":
        n = min(limit, estimate.max_clips(int(MARGIN * free_memory(place))))
    else:
        model.to(place)
        longest = _longest(train, limit)
        n = find_largest(lambda n: _fits(model, train, longest[:n], recipe, place), most=limit)
    if n < 1:
        raise RecipeError(
            "Not even one clip at a time fits into memory. Set encoders.NAME.checkpointing=true, train fewer layers, "
            "or crop clips with augmentation.crop."
        )
    return n


def _longest(train: Dataset, n: int = N_LONGEST) -> list[int]:
    return sorted(range(len(train)), key=train.lengths.__getitem__, reverse=True)[:n]


def _fits(model: EmotionModel, train: Dataset, rows: Sequence[int], recipe: Recipe, place: torch.device) -> bool:
    optimizer = build_optimizer(model, replace(recipe.training, learning_rate=0.0))
    dtype = HALF_PRECISION.get(recipe.training.precision)
    try:
        batch = train.batch(rows).to(place)
        with torch.autocast(place.type, dtype, enabled=dtype is not None):
            loss = model.train().head.loss(model(batch.streams), batch.targets)["total"]
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return False
    finally:
        optimizer.zero_grad()
        if place.type == "cuda":
            torch.cuda.empty_cache()
    return True


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 2**30:.1f} GB" if n_bytes >= 2**30 else f"{n_bytes / 2**20:.0f} MB"
