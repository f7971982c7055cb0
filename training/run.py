"""A run: the folder that a recipe, trained over the folds of a manifest, leaves behind.

::

    recipe.toml      every value said              run.json     versions, streams, folds, digests
    manifest.csv     the clips and labels used     models/      seed0-fold1.safetensors, …
    logs/            one JSON line an epoch        posteriors/  out-of-fold.csv, test.csv, seed0.csv

Each model is written whole or not at all and never trained again, so the same command goes on
after a kill. A run of members holds a run of each.
"""

import hashlib
import json
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch

from .. import __version__
from ..cache.store import FeatureStore
from ..corpora._manifest import Clip, Fold, Manifest
from ..errors import MissingFeatures, RecipeError, StoreError, listing
from ..posteriors.combine import combine
from ..posteriors.posterior import Posterior
from .data import Samples, choose_streams, gather, per_speaker
from .recipe import Recipe
from .system import System, learn, load
from .windows import windowed

LIKENESS = ("name", "modality", "dim")
STATED = ("streams", "emotions", "dimensions", "manifest", "recipe")


@dataclass(frozen=True)
class Facts:
    """What a run was made of: ``run.json``.

    Attributes
    ----------
    streams : dict of str to dict
        Key and specification of the features, by the stream's name.
    emotions, dimensions : list of str
        What is decoded, in the models' order.
    folds : dict of str to dict
        Numbers of clips to learn from and held out, by the fold's name.
    seeds : list of int
    manifest, recipe : str
        Digests.
    notices : list of str
        What a reader of the results should know.
    versions : dict of str to str
    """

    streams: dict[str, dict[str, Any]]
    emotions: list[str]
    dimensions: list[str]
    folds: dict[str, dict[str, int]]
    seeds: list[int]
    manifest: str
    recipe: str
    notices: list[str]
    versions: dict[str, str] = field(default_factory=dict)


class Job(NamedTuple):
    """One model to train: a seed and a fold of a run's folder."""

    path: Path
    store: Path
    seed: int
    fold: str
    device: str


class Run:
    """A folder with trained models.

    Parameters
    ----------
    path : Path
    recipe : Recipe
    facts : Facts or None
        None for a run of members.
    """

    def __init__(self, path: Path, recipe: Recipe, facts: Facts | None) -> None:
        self.path, self.recipe, self.facts = path, recipe, facts

    def __repr__(self) -> str:
        return f"<Run {self.path}: {self.recipe.name}>"

    @classmethod
    def open(cls, path: str | Path) -> "Run":
        """Open a run's folder.

        Raises
        ------
        StoreError
            There is none, or it is of another form.
        """
        path = Path(path)
        if not (path / "recipe.toml").is_file():
            raise StoreError(f"{path} is not a run; `affuse train RECIPE --out {path}` makes one")
        recipe = Recipe.read(path / "recipe.toml")
        if recipe.members:
            return cls(path, recipe, None)
        try:
            facts = Facts(**json.loads((path / "run.json").read_text(encoding="utf-8")))
        except (OSError, TypeError, ValueError) as error:
            raise StoreError(f"{path / 'run.json'} cannot be read: {error}") from None
        return cls(path, recipe, facts)

    @property
    def members(self) -> list["Run"]:
        """The runs of its members."""
        return [Run.open(self.path / member.name) for member in self.recipe.members]

    @property
    def models(self) -> list[Path]:
        """Files of the trained models."""
        return sorted((self.path / "models").glob("seed*-fold*.safetensors"))

    @property
    def out_of_fold(self) -> Posterior:
        """Every clip by the models that did not learn from it, mean over seeds."""
        return Posterior.read(self.path / "posteriors" / "out-of-fold.csv")

    @property
    def notices(self) -> list[str]:
        """What a reader of the results should know."""
        if self.facts is None:
            return list(dict.fromkeys(n for member in self.members for n in member.notices))
        return self.facts.notices

    def learnt_from(self, manifest: Manifest) -> int:
        """Return how many of a manifest's clips some of the models learnt from."""
        if self.facts is None:
            return max(member.learnt_from(manifest) for member in self.members)
        own = Manifest.read(self.path / "manifest.csv")
        return sum(clip.id in own.by_id and own.by_id[clip.id].split != "test" for clip in manifest)

    def seeds(self) -> list[Posterior]:
        """Return the out-of-fold posterior of each seed."""
        return [Posterior.read(p) for p in sorted((self.path / "posteriors").glob("seed*.csv"))]

    def predict(
        self,
        manifest: Manifest,
        store: FeatureStore,
        *,
        streams: Sequence[str] = (),
        device: str = "cpu",
    ) -> Posterior:
        """Return the mean of all folds' and seeds' posteriors.

        For clips that it learnt from, `out_of_fold` is the honest answer.

        Parameters
        ----------
        manifest : Manifest
            Labels are not looked at.
        store : FeatureStore
        streams : sequence of str
            ``NAME=KEY`` where the features have another key than those learnt from.
        device : str

        Raises
        ------
        MissingFeatures
            The store lacks a stream's features.
        """
        if self.facts is None:
            answers = [
                m.predict(manifest, store, streams=streams, device=device) for m in self.members
            ]
            return combine(answers, rule=self.recipe.combine.rule)
        samples, _ = self.samples(manifest, store, streams=streams)
        if not self.models:
            raise StoreError(f"{self.path} holds no trained model; run `affuse train` again")
        return combine([self.load(path).posterior(samples, device=device) for path in self.models])

    def answer(self, samples: Samples, manifest: Manifest, *, device: str = "cpu") -> Posterior:
        """Return the posterior of samples as one may score it.

        Clips that a fold held out are decoded by that fold's models alone, all others by every
        model.
        """
        assert self.facts is not None
        own = Manifest.read(self.path / "manifest.csv")
        held = {clip.id: fold.name for fold in self.folds(own) for clip in fold.held_out}
        parts = []
        for name in [*self.facts.folds, None]:
            rows = samples.where(held.get(clip) == name for clip in samples.ids)
            seeds = self.facts.seeds
            files = [_place(self.path, s, name) for s in seeds] if name else self.models
            if len(rows):
                parts.append(combine([self.load(f).posterior(rows, device=device) for f in files]))
        return _joined(parts).at(manifest.ids)

    def folds(self, manifest: Manifest) -> list[Fold]:
        """Return the rounds of cross-validation that it was trained in."""
        return manifest.folds(self.recipe.training.folds, seed=self.recipe.training.seed)

    def load(self, model: Path) -> System:
        """Load one of its models."""
        assert self.facts is not None
        emotions, dimensions = self.facts.emotions, self.facts.dimensions
        return load(model, self.recipe, emotions=emotions, dimensions=dimensions)

    def samples(
        self, manifest: Manifest, store: FeatureStore, *, streams: Sequence[str] = ()
    ) -> tuple[Samples, list[str]]:
        """Return a manifest's clips as the run's models take them, and notices."""
        assert self.facts is not None
        chosen = {name: _same(store, facts) for name, facts in self.facts.streams.items()
                  if not streams}  # fmt: skip
        if streams:
            chosen = choose_streams(store, asked=streams)
            unknown = set(chosen) - set(self.facts.streams)
            if unknown:
                raise RecipeError(
                    f"{self.path} knows no stream {listing(sorted(unknown))}; it learnt from "
                    f"{listing(self.facts.streams)}"
                )
        found = gather(
            manifest,
            store,
            chosen,
            emotions=self.facts.emotions,
            dimensions=self.facts.dimensions,
        )
        if self.recipe.windows:
            found = windowed(found, manifest, self.recipe.windows)
        return per_speaker(found) if self.recipe.streams.standardise == "speaker" else (found, [])


def train(
    recipe: Recipe,
    manifest: Manifest,
    store: FeatureStore,
    path: str | Path,
    *,
    streams: Sequence[str] = (),
    device: str = "cpu",
    workers: int = 1,
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
        ``NAME=KEY`` or ``KEY``; empty: all keys of the store.
    device : str
    workers : int
        Processes; a model's numbers do not depend on how many.
    tell : callable
        Called with a line about every model that is done.

    Raises
    ------
    RecipeError
        The folder holds a run of another recipe, manifest or features; or nothing can be learnt.
    """
    path = Path(path)
    if recipe.members:
        return _train_members(recipe, manifest, store, path, streams, device, workers, tell)
    run = _opened(recipe, manifest, store, path, streams)
    assert run.facts is not None
    jobs = [
        Job(path, store.path, seed, fold, device)
        for seed in run.facts.seeds
        for fold in run.facts.folds
        if not _place(path, seed, fold).exists()
    ]
    for job, line in _done(jobs, workers):
        tell(f"{recipe.name} seed {job.seed} fold {job.fold}: {line}")
    _write_posteriors(run, manifest, store)
    return run


def _train_members(
    recipe: Recipe,
    manifest: Manifest,
    store: FeatureStore,
    path: Path,
    streams: Sequence[str],
    device: str,
    workers: int,
    tell: Callable[[str], None],
) -> Run:
    path.mkdir(parents=True, exist_ok=True)
    recipe.write(path / "recipe.toml")
    runs = [
        train(member, manifest, store, path / member.name, streams=streams, device=device,
              workers=workers, tell=tell)
        for member in recipe.members
    ]  # fmt: skip
    for name in ("out-of-fold.csv", "test.csv"):
        files = [run.path / "posteriors" / name for run in runs]
        if all(file.is_file() for file in files):
            answers = [Posterior.read(file) for file in files]
            combine(answers, rule=recipe.combine.rule).write(path / "posteriors" / name)
    return Run(path, recipe, None)


def _opened(
    recipe: Recipe,
    manifest: Manifest,
    store: FeatureStore,
    path: Path,
    streams: Sequence[str],
) -> Run:
    """Write down what the run is made of; or check that the folder was made of the same."""
    chosen = choose_streams(store, asked=streams, modalities=recipe.streams.modalities)
    rounds = manifest.folds(recipe.training.folds, seed=recipe.training.seed)
    learnt = Manifest((c for c in manifest if c.split != "test"), name=manifest.name)
    dimensions = [str(d) for d in recipe.targets.dimensions if _annotated(recipe, learnt, d)]
    emotions = learnt.emotions if recipe.targets.emotion else []
    if not emotions and not dimensions:
        raise RecipeError(
            f"{manifest.name} annotates neither an emotion nor {listing(recipe.targets.dimensions)}"
            "; fill the columns, or change [targets]"
        )
    notices = [
        f"nobody annotated {d}; it is not learnt"
        for d in recipe.targets.dimensions
        if d not in dimensions
    ]
    facts = Facts(
        streams={n: {"key": k, "specification": store.specification(k)} for n, k in chosen.items()},
        emotions=emotions,
        dimensions=dimensions,
        folds={f.name: {"train": len(f.train), "held_out": len(f.held_out)} for f in rounds},
        seeds=[recipe.training.seed + i for i in range(recipe.training.seeds)],
        manifest=_digest(*(_labels(clip) for clip in manifest)),
        recipe=_digest(str(recipe)),
        notices=notices,
        versions=_versions(),
    )
    run = Run(path, recipe, facts)
    _, more = run.samples(manifest, store)
    notices += more
    if (path / "run.json").is_file():
        _check_same(path, facts, Run.open(path).facts)
        return run
    path.mkdir(parents=True, exist_ok=True)
    manifest.write(path / "manifest.csv")
    recipe.write(path / "recipe.toml")
    _write_text(path / "run.json", json.dumps(asdict(facts), indent=2, default=str) + "\n")
    return run


def _annotated(recipe: Recipe, manifest: Manifest, dimension: str) -> bool:
    if recipe.windows:
        return any(clip.labels is not None for clip in manifest)
    return any(getattr(clip, dimension) is not None for clip in manifest)


def _check_same(path: Path, wanted: Facts, found: Facts | None) -> None:
    same = json.loads(json.dumps(asdict(wanted), default=str))
    differ = [name for name in STATED if found is None or same[name] != getattr(found, name)]
    if differ:
        raise RecipeError(
            f"{path} holds a run whose {listing(differ)} differ; choose another --out, or delete it"
        )


def _place(path: Path, seed: int, fold: str) -> Path:
    readable = "".join(c if c.isalnum() or c in "-_." else "-" for c in fold)
    name = readable if readable == fold else f"{readable}-{_digest(fold)[:6]}"
    return path / "models" / f"seed{seed}-fold{name}.safetensors"


def _done(jobs: list[Job], workers: int) -> Iterator[tuple[Job, str]]:
    if workers <= 1 or len(jobs) <= 1:
        for job in jobs:
            yield job, train_one(job)
        return
    from multiprocessing import get_context

    with ProcessPoolExecutor(workers, get_context("spawn"), _one_thread) as pool:
        yield from zip(jobs, pool.map(train_one, jobs), strict=True)


def _one_thread() -> None:
    torch.set_num_threads(1)


def train_one(job: Job) -> str:
    """Train one model of a run's folder and save it; return how it went in a few words."""
    start = time.perf_counter()
    run = Run.open(job.path)
    manifest = Manifest.read(job.path / "manifest.csv")
    samples, _ = run.samples(manifest, FeatureStore(job.store))
    fold = next(fold for fold in run.folds(manifest) if fold.name == job.fold)
    place = _place(job.path, job.seed, job.fold)
    system, n_epochs = learn(
        run.recipe,
        samples.of(fold.train),
        seed=job.seed,
        device=job.device,
        log=job.path / "logs" / f"{place.stem}.jsonl",
        state_file=place.with_suffix(".state"),
    )
    system.save(place)
    epochs = f"{n_epochs} epochs, " if n_epochs else ""
    return f"{epochs}{time.perf_counter() - start:.1f} s"


def _write_posteriors(run: Run, manifest: Manifest, store: FeatureStore) -> None:
    assert run.facts is not None
    samples, _ = run.samples(manifest, store)
    rounds = run.folds(manifest)
    test = samples.of(manifest.select("test"))
    folder = run.path / "posteriors"
    seeds, tests = [], []
    for seed in run.facts.seeds:
        parts = []
        for fold in rounds:
            system = run.load(_place(run.path, seed, fold.name))
            parts.append(system.posterior(samples.of(fold.held_out)))
            if len(test):
                tests.append(system.posterior(test))
        seeds.append(_joined(parts))
        seeds[-1].write(folder / f"seed{seed}.csv")
    combine(seeds).write(folder / "out-of-fold.csv")
    if tests:
        combine(tests).write(folder / "test.csv")


def _joined(parts: Sequence[Posterior]) -> Posterior:
    """Return posteriors of different clips, one below the other."""
    import numpy as np

    return Posterior(
        tuple(clip for part in parts for clip in part.ids),
        parts[0].emotions,
        np.concatenate([part.probabilities for part in parts]),
        {d: np.concatenate([part.dimensions[d] for part in parts]) for d in parts[0].dimensions},
    )


def _same(store: FeatureStore, facts: Mapping[str, Any]) -> str:
    """Return the key of the features that a model learnt from, or of their like.

    Features from elsewhere have a key by their content, so those of new clips have another.
    """
    key, known = str(facts["key"]), facts["specification"]
    if key in store.keys():
        return key
    if "imported" in known.get("identity", {}):
        alike = [
            other
            for other in store.keys()
            if all(
                store.specification(other).get(f) == known[f] for f in ("name", "modality", "dim")
            )
        ]
        if len(alike) == 1:
            return alike[0]
    raise MissingFeatures(
        f"{store.path} holds no {key}, which the run learnt from; extract with the same encoder "
        "into it, or name other features with --stream NAME=KEY"
    )


def _labels(clip: Clip) -> str:
    """Return what of a clip a model can learn from: media may move, labels may not change."""
    track = None if clip.labels is None else _digest(clip.labels.read_text("utf-8", "replace"))
    return repr([clip.id, clip.speaker, clip.split, clip.fold, clip.emotion, clip.valence,
                 clip.arousal, clip.source, track])  # fmt: skip


def _digest(*texts: str) -> str:
    return hashlib.blake2b("\n".join(texts).encode(), digest_size=12).hexdigest()


def _versions() -> dict[str, str]:
    import numpy

    return {"affuse": __version__, "torch": torch.__version__, "numpy": numpy.__version__,
            "python": platform.python_version(), "machine": platform.machine()}  # fmt: skip


def _write_text(path: Path, text: str) -> None:
    spare = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    spare.write_text(text, encoding="utf-8")
    os.replace(spare, path)
