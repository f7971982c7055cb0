"""Training a recipe over the folds of a manifest: a model a seed and fold, each job on its own.

Each model is written whole or not at all and never trained again, so the same command goes on
after a kill. Started by accelerate, all processes train each model together.
"""

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import torch

from ..cache.store import FeatureStore
from ..errors import RecipeError, listing
from ..manifest import Manifest
from ..posteriors.posterior import Posterior
from ..posteriors.rules import combine_by_rule
from ..recipes.recipe import Recipe
from .dataset import CachedDataset
from .distributed import crew
from .learner import learn, rehearse
from .media_dataset import MediaDataset, MediaLoading
from .metadata import check_known, stated
from .run import Run, joined, model_file


class TrainingJob(NamedTuple):
    """One model to train: a seed and a fold of a run's folder."""

    path: Path
    store: Path
    seed: int
    fold: str
    device: str
    start: Path | None
    loading: MediaLoading


def train(
    recipe: Recipe,
    manifest: Manifest,
    store: FeatureStore,
    path: str | Path,
    *,
    streams: Sequence[str] = (),
    device: str = "cpu",
    workers: int | None = None,
    start: Path | None = None,
    loading: MediaLoading = MediaLoading(),
    tell: Callable[[str], None] = lambda line: None,
) -> Run:
    """Train a recipe over the folds of a manifest, or go on where that was interrupted.

    Parameters
    ----------
    recipe : Recipe
    manifest : Manifest
    store : FeatureStore
    path : str or Path
        The run's folder.
    streams : sequence of str
        ``NAME=KEY`` or ``KEY``; empty: all keys of the store, none where the recipe has encoders.
    device : str
    workers : int or None
        Models at a time; their numbers do not depend on how many. None: as many as there are
        cores, where features are cached and the device is the CPU; else one.
    start : Path or None
        A run on cached features of the same clips: its fusions and heads go on here.
    loading : MediaLoading
    tell : callable
        Called with a line about every model that is done.

    Raises
    ------
    RecipeError
        The folder holds a run of another recipe, manifest or features; or nothing can be learnt.
    EncoderError
        There is no such device here.
    LeakError
        The run to start from had other folds.
    """
    path, team = Path(path), crew()
    device = str(team.device(device))
    _check_members(path, recipe)
    if recipe.members and start is not None:
        raise RecipeError(f"{recipe.name} has members; --start goes with a single system")
    parts = {path / member.name: member for member in recipe.members} or {path: recipe}
    facts = {place: stated(part, manifest, store, streams, start) for place, part in parts.items()}
    runs = [Run(place, parts[place], facts[place], loading=loading) for place in parts]
    if team.leads:
        _write_all_down(path, recipe, runs, manifest, store)
    team.wait()
    jobs = [
        TrainingJob(run.path, store.path, seed, fold, device, start, loading)
        for run in runs
        for seed in facts[run.path].seeds
        for fold in facts[run.path].folds
        if not model_file(run.path, seed, fold).exists()
    ]
    team.wait()
    if workers is None:
        small = device == "cpu" and not any(run.recipe.encoders for run in runs)
        workers = torch.get_num_threads() if small else 1
    for job, line in _done(jobs, workers if team.size == 1 else 1):
        if team.leads:
            tell(f"{parts[job.path].name} seed {job.seed} fold {job.fold}: {line}")
    if team.leads:
        for run in runs:
            _write_posteriors(run, manifest, store, device=device)
        if recipe.members:
            _combine_members(path, recipe, runs)
    team.wait()
    return Run(path, recipe, None) if recipe.members else runs[0]


def _write_all_down(path: Path, recipe: Recipe, runs: list[Run], manifest: Manifest, store: FeatureStore) -> None:
    new = []
    for run in runs:
        assert run.facts is not None
        known = check_known(run)
        for name, stream in run.facts.streams.items():
            if name not in run.recipe.encoders:
                store.check_any(stream["key"], manifest.ids)
        samples, more = run.samples(manifest, store)
        run.facts.notices.extend(more)
        if not known:
            rehearse(run.recipe, samples)
            new.append(run)
    if recipe.members:
        path.mkdir(parents=True, exist_ok=True)
        recipe.write(path / "recipe.toml")
    for run in new:
        _write_down(run, manifest)


def _combine_members(path: Path, recipe: Recipe, runs: list[Run]) -> None:
    for name in ("out-of-fold.csv", "test.csv"):
        files = [run.path / "posteriors" / name for run in runs]
        if all(file.is_file() for file in files):
            answers = [Posterior.read(file) for file in files]
            combine_by_rule(answers, rule=recipe.combine.rule).write(path / "posteriors" / name)


def _write_down(run: Run, manifest: Manifest) -> None:
    assert run.facts is not None
    path = run.path
    path.mkdir(parents=True, exist_ok=True)
    manifest.write(path / "manifest.csv")
    run.recipe.write(path / "recipe.toml")
    _write_text(path / "run.json", json.dumps(asdict(run.facts), indent=2, default=str) + "\n")


def _check_members(path: Path, recipe: Recipe) -> None:
    if not (path / "recipe.toml").is_file():
        return
    found = Recipe.read(path / "recipe.toml")
    if [m.name for m in found.members] != [m.name for m in recipe.members]:
        raise RecipeError(
            f"{path} holds a run of {found.name}, whose members are others than those of "
            f"{recipe.name}; choose another --out, or delete it"
        )


def _done(jobs: list[TrainingJob], workers: int) -> Iterator[tuple[TrainingJob, str]]:
    if workers <= 1 or len(jobs) <= 1:
        for job in jobs:
            yield job, train_one(job)
        return
    from multiprocessing import get_context

    with ProcessPoolExecutor(workers, get_context("spawn"), _one_thread) as pool:
        yield from zip(jobs, pool.map(train_one, jobs), strict=True)


def _one_thread() -> None:
    torch.set_num_threads(1)
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")


def train_one(job: TrainingJob) -> str:
    """Train one model of a run's folder and save it; return how it went in a few words."""
    run = Run.open(job.path, loading=job.loading)
    began = time.perf_counter()
    manifest = Manifest.read(job.path / "manifest.csv")
    samples, _ = run.samples(manifest, FeatureStore(job.store))
    fold = next(fold for fold in run.folds(manifest) if fold.name == job.fold)
    place = model_file(job.path, job.seed, job.fold)
    system, n_epochs = learn(
        run.recipe,
        samples.of(fold.train),
        seed=job.seed,
        device=job.device,
        log=job.path / "logs" / f"{place.stem}.jsonl",
        state_file=place.with_suffix(".state"),
        start=None if job.start is None else _began(job.start, job.seed, job.fold),
    )
    if crew().leads:
        system.save(place)
    crew().wait()
    epochs = f"{n_epochs} epochs, " if n_epochs else ""
    return f"{epochs}{time.perf_counter() - began:.1f} s{_undecoded(samples)}"


def _began(start: Path, seed: int, fold: str) -> Path:
    """Return the model to start from: of the same fold, of the same seed if there is one."""
    facts = Run.open(start).facts
    assert facts is not None
    place = model_file(start, seed if seed in facts.seeds else facts.seeds[0], fold)
    if not place.is_file():
        raise RecipeError(f"{start} holds no model of fold {fold}; run its `affuse train` to the end")
    return place


def _undecoded(samples: CachedDataset) -> str:
    failures = samples.reader.failures if isinstance(samples, MediaDataset) else {}
    told = listing(f"{clip} ({code})" for clip, code in sorted(failures.items()))
    return f"; not or partly decoded: {told}" if failures else ""


def _write_posteriors(run: Run, manifest: Manifest, store: FeatureStore, *, device: str) -> None:
    assert run.facts is not None
    samples, _ = run.samples(manifest, store)
    rounds = run.folds(manifest)
    test = samples.of(manifest.select("test"))
    folder = run.path / "posteriors"
    seeds, tests = [], []
    for seed in run.facts.seeds:
        parts = []
        for fold in rounds:
            system = run.load(model_file(run.path, seed, fold.name))
            parts.append(system.posterior(samples.of(fold.held_out), device=device))
            if len(test):
                tests.append(system.posterior(test, device=device))
        seeds.append(joined(parts))
        seeds[-1].write(folder / f"seed{seed}.csv")
    combine_by_rule(seeds).write(folder / "out-of-fold.csv")
    if tests:
        combine_by_rule(tests).write(folder / "test.csv")


def _write_text(path: Path, text: str) -> None:
    spare = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    spare.write_text(text, encoding="utf-8")
    os.replace(spare, path)
