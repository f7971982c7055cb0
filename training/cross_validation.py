"""Training of a recipe over the folds of a manifest, with one model per seed and fold.

Models are written completely or not at all and are never trained twice, so that running the same command again
resumes an interrupted training. Where accelerate has started several processes, all of them train each model
together.
"""

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ..cache.store import FeatureStore
from ..errors import RecipeError, listing
from ..manifest import Fold, Manifest
from ..posteriors.posterior import Posterior, concatenate
from ..posteriors.rules import combine_by_rule
from ..posteriors.run_folder import RunFolder
from ..recipes.recipe import Recipe
from .dataset import Dataset, MediaLoading
from .distributed import process_group
from .learner import check_recipe, fit_recipe
from .metadata import RunMetadata, check_resumable, describe_run
from .run import Run


def train(
    recipe: Recipe | str | Path,
    manifest: Manifest | str | Path,
    store: FeatureStore | str | Path,
    *,
    out: str | Path,
    streams: Sequence[str] | str = (),
    device: str = "auto",
    workers: int | None = None,
    start: str | Path | None = None,
    loading: MediaLoading = MediaLoading(),
    progress: Callable[[str], None] = lambda line: None,
) -> Run:
    """Train a recipe over the folds of a manifest, or resume an interrupted training.

    Parameters
    ----------
    recipe : Recipe, str or Path
        Recipe, name of a recipe that comes with affuse, or path of a TOML file.
    manifest : Manifest or path
        Clips and labels. Its folds are used, or else the recipe's number of folds is made.
    store : FeatureStore or path
        Features of the clips.
    out : str or Path
        Folder of the run.
    streams : sequence of str
        ``NAME=KEY`` or ``KEY`` of the store. Empty: all keys, or none where the recipe has encoders.
    device : str
        Such as ``cpu`` or ``cuda:1``; ``auto`` takes the fastest device.
    workers : int or None
        Number of models that are trained at the same time; results do not depend on it. None: the number of cores
        for cached features on the CPU, otherwise one.
    start : str, Path or None
        Run on cached features of the same clips. Training starts from its fusions and heads.
    loading : MediaLoading
        Settings for reading media files, where streams start from media.
    progress : callable
        Called with one line of text for every trained model.

    Returns
    -------
    Run

    Raises
    ------
    RecipeError
        The folder contains a run of another recipe, manifest or features, or there is nothing to train on.
    DeviceError
        The device does not exist on this machine.
    LeakError
        The run to start from had other folds, or a speaker is in more than one fold.

    Examples
    --------
    >>> run = train("mer2023-afg-a", manifest, store, out="runs/afg-a")  # doctest: +SKIP
    """
    recipe, manifest, store = Recipe.of(recipe), Manifest.of(manifest), FeatureStore.of(store)
    streams = [streams] if isinstance(streams, str) else streams
    folder, group = RunFolder(Path(out)), process_group()
    device = str(group.device(device))
    start = None if start is None else Path(start)
    _check_members(folder, recipe)
    if recipe.members and start is not None:
        raise RecipeError(f"{recipe.name} has members, but --start needs a single system. Train each member alone.")
    parts = {folder.member(m.name): m for m in recipe.members} or {folder: recipe}
    trainings = []
    for place, part in parts.items():
        metadata = describe_run(part, manifest, store, streams=streams, start=start)
        trainings.append(Training(Run(place.path, part, metadata, loading), manifest, store, device, start))
    _share_datasets(trainings)
    if group.is_main_process:
        _prepare(folder, recipe, trainings)
    group.wait()
    jobs = [
        TrainingJob(training, seed, fold)
        for training in trainings
        for seed in training.metadata.seeds
        for fold in training.metadata.folds
        if not training.run.folder.model(seed, fold).exists()
    ]
    group.wait()
    if workers is None:
        workers = torch.get_num_threads() if device == "cpu" and not any(p.encoders for p in parts.values()) else 1
    for job, line in _run_jobs(jobs, workers if group.size == 1 else 1):
        if group.is_main_process:
            progress(f"{job.training.run.recipe.name} seed {job.seed} fold {job.fold}: {line}")
    if group.is_main_process:
        for training in trainings:
            training.write_posteriors()
        if recipe.members:
            _combine_members(folder, recipe, trainings)
    group.wait()
    return Run(folder.path, recipe, None, loading) if recipe.members else trainings[0].run


class Training:
    """The training of one run; see `train` for the parameters. It loads its dataset once per process."""

    def __init__(self, run: Run, manifest: Manifest, store: FeatureStore, device: str, start: Path | None) -> None:
        self.run, self.manifest, self.store, self.device, self.start = run, manifest, store, device, start
        self.shares_with: Training | None = None

    def __getstate__(self) -> dict[str, object]:
        """Leave the dataset out: another process maps the files itself."""
        kept = {name: value for name, value in self.__dict__.items() if name not in ("dataset", "folds")}
        return {**kept, "store": self.store.path}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self.store = FeatureStore(self.store)  # type: ignore[arg-type]

    @property
    def metadata(self) -> RunMetadata:
        """Metadata of the run."""
        assert self.run.metadata is not None
        return self.run.metadata

    @cached_property
    def dataset(self) -> tuple[Dataset, list[str]]:
        """The clips of the manifest as the models take them, and notices about them."""
        return self.shares_with.dataset if self.shares_with else self.run.dataset(self.manifest, self.store)

    @cached_property
    def folds(self) -> dict[str, Fold]:
        """The folds of the manifest by name."""
        return {fold.name: fold for fold in self.run.folds(self.manifest)}

    def train(self, seed: int, fold: str) -> str:
        """Train one model and write it; return a summary in a few words."""
        began = time.perf_counter()
        dataset, _ = self.dataset
        folder, group = self.run.folder, process_group()
        model, n_epochs = fit_recipe(
            self.run.recipe,
            dataset.subset(self.folds[fold].train),
            seed=seed,
            device=self.device,
            log=folder.log(seed, fold),
            state_file=folder.training_state(seed, fold),
            start=None if self.start is None else _start_model(self.start, seed, fold),
        )
        if group.is_main_process:
            model.save(folder.model(seed, fold))
        group.wait()
        epochs = f"{n_epochs} epochs, " if n_epochs else ""
        failures = listing(f"{clip} ({code})" for clip, code in sorted(dataset.failures.items()))
        failed = f"; not decoded, or only in part: {failures}" if failures else ""
        return f"{epochs}{time.perf_counter() - began:.1f} s{failed}"

    def write_posteriors(self) -> None:
        """Write the out-of-fold posteriors of every seed and their mean, and the posterior of the test clips."""
        dataset, _ = self.dataset
        folder = self.run.folder
        test = dataset.subset(self.manifest.select("test"))
        seeds, tests = [], []
        for seed in self.metadata.seeds:
            parts = []
            for fold in self.folds.values():
                model = self.run.load(folder.model(seed, fold.name))
                parts.append(model.posterior(dataset.subset(fold.held_out), device=self.device))
                if test.n_clips:
                    tests.append(model.posterior(test, device=self.device))
            seeds.append(concatenate(parts))
            seeds[-1].write(folder.seed_posterior(seed))
        combine_by_rule(seeds).write(folder.out_of_fold)
        if tests:
            combine_by_rule(tests).write(folder.test)


class TrainingJob(NamedTuple):
    """One model to train."""

    training: Training
    seed: int
    fold: str


def _share_datasets(trainings: list[Training]) -> None:
    """Let members that read the same streams in the same way share one dataset."""
    for i, training in enumerate(trainings):
        training.shares_with = next((t for t in trainings[:i] if _inputs(t) == _inputs(training)), None)


def _inputs(training: Training) -> tuple[object, ...]:
    recipe, metadata = training.run.recipe, training.metadata
    per_speaker = recipe.streams.standardise == "speaker"
    settings = (recipe.windows, recipe.encoders, recipe.augmentation, recipe.encoders and recipe.training.batch)
    return metadata.streams, metadata.emotions, metadata.dimensions, per_speaker, settings


def _prepare(folder: RunFolder, recipe: Recipe, trainings: list[Training]) -> None:
    """Check all runs before anything is written, then write what describes them."""
    new = []
    for training in trainings:
        run = training.run
        known = check_resumable(run.folder, run.recipe, training.metadata)
        for name, stream in training.metadata.streams.items():
            if name not in run.recipe.encoders:
                training.store.check_overlap(stream["key"], training.manifest.ids)
        dataset, notices = training.dataset
        training.metadata.notices.extend(notices)
        if not known:
            check_recipe(run.recipe, dataset)
            new.append(training)
    if recipe.members:
        folder.path.mkdir(parents=True, exist_ok=True)
        recipe.write(folder.recipe)
    for training in new:
        place = training.run.folder
        place.path.mkdir(parents=True, exist_ok=True)
        # With the folds written out, predictions know them whatever version of scikit-learn divides clips later.
        settings = training.run.recipe.training
        training.manifest.with_folds(settings.folds, seed=settings.seed).write(place.manifest)
        training.run.recipe.write(place.recipe)
        training.metadata.write(place.metadata)


def _check_members(folder: RunFolder, recipe: Recipe) -> None:
    if not folder.recipe.is_file():
        return
    found = Recipe.read(folder.recipe)
    if [m.name for m in found.members] != [m.name for m in recipe.members]:
        raise RecipeError(
            f"{folder.path} contains a run of {found.name}, whose members are not those of {recipe.name}. "
            "Choose another --out, or delete it."
        )


def _run_jobs(jobs: list[TrainingJob], workers: int) -> Iterator[tuple[TrainingJob, str]]:
    if workers <= 1 or len(jobs) <= 1:
        for job in jobs:
            yield job, job.training.train(job.seed, job.fold)
        return
    from multiprocessing import get_context

    trainings = list(dict.fromkeys(job.training for job in jobs))
    calls = [(trainings.index(job.training), job.seed, job.fold) for job in jobs]
    with ProcessPoolExecutor(workers, get_context("spawn"), _start_worker, (trainings,)) as pool:
        with _hidden_main():
            lines = pool.map(_train_in_worker, calls)
        yield from zip(jobs, lines, strict=True)


@contextmanager
def _hidden_main() -> Iterator[None]:
    """Start processes that do not import the main script again, so that it needs no ``__main__`` guard."""
    main = sys.modules["__main__"].__dict__
    hidden: dict[str, Any] = {name: main[name] for name in ("__file__", "__spec__") if name in main}
    main.update(dict.fromkeys(hidden))
    try:
        yield
    finally:
        main.update(hidden)


_TRAININGS: list[Training] = []
"""The trainings of a worker process."""


def _start_worker(trainings: list[Training]) -> None:
    torch.set_num_threads(1)
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    _TRAININGS.extend(trainings)


def _train_in_worker(call: tuple[int, int, str]) -> str:
    training, seed, fold = call
    return _TRAININGS[training].train(seed, fold)


def _start_model(start: Path, seed: int, fold: str) -> Path:
    """Return the model to start from: of the same fold, and of the same seed if there is one."""
    folder = RunFolder(start)
    seeds = RunMetadata.read(folder.metadata).seeds
    path = folder.model(seed if seed in seeds else seeds[0], fold)
    if not path.is_file():
        raise RecipeError(f"{start} has no model of fold {fold}. Complete its training with `affuse train` first.")
    return path


def _combine_members(folder: RunFolder, recipe: Recipe, trainings: list[Training]) -> None:
    folders = [training.run.folder for training in trainings]
    for out, files in (
        (folder.out_of_fold, [each.out_of_fold for each in folders]),
        (folder.test, [each.test for each in folders]),
    ):
        if all(file.is_file() for file in files):
            combine_by_rule([Posterior.read(file) for file in files], rule=recipe.combine.rule).write(out)
