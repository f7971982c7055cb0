"""A run: the folder that a recipe, trained over the folds of a manifest, leaves behind.

::

    recipe.toml      every value said              run.json     versions, streams, folds, digests
    manifest.csv     the clips and labels used     models/      seed0-fold1.safetensors, …
    logs/            one JSON line an epoch        posteriors/  out-of-fold.csv, test.csv, seed0.csv

A run of members holds a run of each.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..cache.store import FeatureStore
from ..errors import MissingFeatures, RecipeError, StoreError, listing
from ..manifest import Clip, Fold, Manifest
from ..posteriors.posterior import Posterior
from ..posteriors.rules import combine_by_rule
from ..recipes.recipe import Recipe
from .dataset import CachedDataset, absences, choose_streams, gather, per_speaker
from .distributed import crew
from .learner import TrainedModel, load
from .media_dataset import MediaLoading, attach_media
from .window_dataset import windowed


@dataclass(frozen=True)
class RunMetadata:
    """What a run was made of: ``run.json``.

    Attributes
    ----------
    streams : dict of str to dict
        Key and specification of the features, by the stream's name; of a stream that starts from
        media, those that its encoder would have had in a cache.
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
    start : str
        Digest of the run that fusion and head were taken from; empty where there is none.
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
    start: str = ""


class Run:
    """A folder with trained models.

    Parameters
    ----------
    path : Path
    recipe : Recipe
    facts : RunMetadata or None
        None for a run of members.
    loading : MediaLoading
        How media is read, where streams start from it.
    """

    def __init__(
        self, path: Path, recipe: Recipe, facts: RunMetadata | None, *, loading: MediaLoading = MediaLoading()
    ) -> None:
        self.path, self.recipe, self.facts, self.loading = path, recipe, facts, loading

    def __repr__(self) -> str:
        return f"<Run {self.path}: {self.recipe.name}>"

    @classmethod
    def open(cls, path: str | Path, *, loading: MediaLoading = MediaLoading()) -> "Run":
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
            return cls(path, recipe, None, loading=loading)
        try:
            facts = RunMetadata(**json.loads((path / "run.json").read_text(encoding="utf-8")))
        except (OSError, TypeError, ValueError) as error:
            raise StoreError(f"{path / 'run.json'} cannot be read: {error}") from None
        return cls(path, recipe, facts, loading=loading)

    @property
    def members(self) -> list["Run"]:
        """The runs of its members."""
        return [Run.open(self.path / m.name, loading=self.loading) for m in self.recipe.members]

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

    def learnt_from(self, manifest: Manifest) -> list[str]:
        """Return which of a manifest's clips some of the models learnt from."""
        if self.facts is None:
            known = [set(member.learnt_from(manifest)) for member in self.members]
            return [clip for clip in manifest.ids if any(clip in each for each in known)]
        place = self.path / "manifest.csv"
        if not place.is_file():  # from the hub: nobody but its maker knows
            return []
        learnt = [clip for clip in Manifest.read(place) if clip.split != "test"]
        ids, media = {clip.id for clip in learnt}, {path for c in learnt for path in _media(c)}
        return [clip.id for clip in manifest if clip.id in ids or _media(clip) & media]

    def seeds(self) -> list[Posterior]:
        """Return the out-of-fold posterior of each seed."""
        return [Posterior.read(p) for p in sorted((self.path / "posteriors").glob("seed*.csv"))]

    def predict(
        self, manifest: Manifest, store: FeatureStore, *, streams: Sequence[str] = (), device: str = "cpu"
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
        place = crew().device(device)
        if self.facts is None:
            answers = [m.predict(manifest, store, streams=streams, device=device) for m in self.members]
            return combine_by_rule(answers, rule=self.recipe.combine.rule)
        samples, _ = self.samples(manifest, store, streams=streams)
        if not self.models:
            raise StoreError(f"{self.path} holds no trained model; run `affuse train` again")
        return combine_by_rule([self.load(path).posterior(samples, device=place) for path in self.models])

    def answer(self, samples: CachedDataset, manifest: Manifest, *, device: str = "cpu") -> Posterior:
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
            files = [model_file(self.path, s, name) for s in seeds] if name else self.models
            if len(rows):
                parts.append(combine_by_rule([self.load(f).posterior(rows, device=device) for f in files]))
        found = joined(parts)
        return found if self.recipe.windows else found.at(manifest.ids)

    def folds(self, manifest: Manifest) -> list[Fold]:
        """Return the rounds of cross-validation that it was trained in."""
        return manifest.folds(self.recipe.training.folds, seed=self.recipe.training.seed)

    def load(self, model: Path) -> TrainedModel:
        """Load one of its models."""
        assert self.facts is not None
        emotions, dimensions = self.facts.emotions, self.facts.dimensions
        return load(model, self.recipe, emotions=emotions, dimensions=dimensions)

    def samples(
        self, manifest: Manifest, store: FeatureStore, *, streams: Sequence[str] = ()
    ) -> tuple[CachedDataset, list[str]]:
        """Return a manifest's clips as the run's models take them, and notices."""
        assert self.facts is not None
        encoders = self.recipe.encoders
        chosen = {
            name: _same(store, facts)
            for name, facts in self.facts.streams.items()
            if not streams and name not in encoders
        }
        if streams:
            chosen = choose_streams(store, asked=streams)
            unknown = set(chosen) - set(self.facts.streams)
            if unknown:
                raise RecipeError(
                    f"{self.path} knows no stream {listing(sorted(unknown))}; it learnt from "
                    f"{listing(self.facts.streams)}"
                )
        found = gather(manifest, store, chosen, emotions=self.facts.emotions, dimensions=self.facts.dimensions)
        notices = absences(found) if not encoders else []
        if encoders:
            found = attach_media(
                found,
                manifest,
                encoders,
                loading=self.loading,
                augmentation=self.recipe.augmentation,
                size=self.recipe.training.batch,
            )
        if self.recipe.windows:
            found = windowed(found, manifest, self.recipe.windows)
        if self.recipe.streams.standardise == "speaker":
            found, few = per_speaker(found)
            notices += few
        return found, notices


def model_file(path: Path, seed: int, fold: str) -> Path:
    """Return where a run's folder holds the model of a seed and a fold."""
    readable = "".join(c if c.isalnum() or c in "-_." else "-" for c in fold)
    name = readable if readable == fold else f"{readable}-{digest(fold)[:6]}"
    return path / "models" / f"seed{seed}-fold{name}.safetensors"


def joined(parts: Sequence[Posterior]) -> Posterior:
    """Return posteriors of different clips, one below the other."""
    import numpy as np

    return Posterior(
        tuple(clip for part in parts for clip in part.ids),
        parts[0].emotions,
        np.concatenate([part.probabilities for part in parts]),
        {d: np.concatenate([part.dimensions[d] for part in parts]) for d in parts[0].dimensions},
    )


def _media(clip: Clip) -> set[Path]:
    return {path.resolve() for path in (clip.video, clip.audio) if path is not None}


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
            if all(store.specification(other).get(f) == known[f] for f in ("name", "modality", "dim"))
        ]
        if len(alike) == 1:
            return alike[0]
    raise MissingFeatures(
        f"{store.path} holds no {key}, which the run learnt from; extract with the same encoder "
        "into it, or name other features with --stream NAME=KEY"
    )


def digest(*texts: str) -> str:
    """Return a word that changes when any of the texts does."""
    return hashlib.blake2b("\n".join(texts).encode(), digest_size=12).hexdigest()
