"""Runs: a recipe that was trained over the folds of a manifest, in a folder that `RunFolder` lays out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..cache.store import FeatureStore
from ..errors import RecipeError, StoreError, listing
from ..manifest import Clip, Fold, Manifest
from ..posteriors import metrics
from ..posteriors.labels import Labels
from ..posteriors.over_time import manifest_over_time, rows_by_clip, select_clips
from ..posteriors.posterior import Posterior, concatenate
from ..posteriors.rules import combine_by_rule
from ..posteriors.run_folder import RunFolder
from ..recipes.recipe import Recipe
from .dataset import Dataset, MediaLoading, describe_missing_streams, gather
from .distributed import process_group
from .learner import TrainedModel, load_model
from .metadata import RunMetadata
from .standardisation import standardise_per_speaker
from .streams import choose_streams, same_features


@dataclass(frozen=True)
class Run:
    """A trained recipe.

    Parameters
    ----------
    path : Path
        Folder of the run.
    recipe : Recipe
    metadata : RunMetadata or None
        None for a run of members.
    loading : MediaLoading
        Settings for reading media files, where streams start from media.

    Examples
    --------
    >>> run = Run.open("runs/afg-a")  # doctest: +SKIP
    >>> run.predict(manifest, store).to_pandas()  # doctest: +SKIP
    """

    path: Path
    recipe: Recipe
    metadata: RunMetadata | None
    loading: MediaLoading = MediaLoading()

    def __repr__(self) -> str:
        return f"<Run {self.path}: {self.recipe.name}>"

    @classmethod
    def open(cls, path: str | Path, *, loading: MediaLoading = MediaLoading()) -> "Run":
        """Open the folder of a run.

        Raises
        ------
        StoreError
            The folder is not a run, or its metadata are damaged.
        """
        folder = RunFolder(Path(path))
        if not folder.recipe.is_file():
            raise StoreError(f"{path} is not a run. `affuse train RECIPE --out {path}` makes one.")
        recipe = Recipe.read(folder.recipe)
        return cls(folder.path, recipe, None if recipe.members else RunMetadata.read(folder.metadata), loading)

    @property
    def folder(self) -> RunFolder:
        """The paths of the files of the run."""
        return RunFolder(self.path)

    @cached_property
    def members(self) -> list["Run"]:
        """The runs of the members."""
        return [Run.open(self.folder.member(m.name).path, loading=self.loading) for m in self.recipe.members]

    @property
    def notices(self) -> list[str]:
        """Facts that readers of the results should know."""
        if self.metadata is None:
            return list(dict.fromkeys(notice for member in self.members for notice in member.notices))
        return self.metadata.notices

    @property
    def out_of_fold(self) -> Posterior:
        """The posterior of the training manifest, where each clip is predicted by the models of its held-out fold."""
        return Posterior.read(self.folder.out_of_fold)

    @property
    def seed_posteriors(self) -> list[Posterior]:
        """The out-of-fold posterior of each seed."""
        return [Posterior.read(path) for path in self.folder.seed_posteriors]

    def predict(
        self,
        manifest: Manifest | str | Path,
        store: FeatureStore | str | Path,
        *,
        streams: Sequence[str] = (),
        device: str = "auto",
    ) -> Posterior:
        """Predict clips. The result may be scored, except for the clips that `trained_on` returns.

        A clip of the training manifest (one with the same id or the same media file) is predicted only by the models
        that were not trained on it, and every other clip by all models. For the training manifest of a
        cross-validation, the result therefore equals `out_of_fold`.

        Parameters
        ----------
        manifest : Manifest or path
            Clips to predict; their labels are not used.
        store : FeatureStore or path
            Features of the clips.
        streams : sequence of str
            ``NAME=KEY`` where the features have another key than those of the training.
        device : str
            Such as ``cpu`` or ``cuda:1``; ``auto`` takes the fastest device.

        Returns
        -------
        Posterior
            The mean of the posteriors of the models, in the order of the manifest.

        Raises
        ------
        MissingFeatures
            The store does not contain the features of a stream.
        RecipeError
            `streams` names a stream that the run does not have.
        """
        manifest, store, place = Manifest.of(manifest), FeatureStore.of(store), process_group().device(device)
        if self.metadata is None:
            posteriors = [m.predict(manifest, store, streams=streams, device=device) for m in self.members]
            return combine_by_rule(posteriors, rule=self.recipe.combine.rule)
        dataset, _ = self.dataset(manifest, store, streams=streams)
        return self.predict_dataset(dataset, manifest, device=place)

    def predict_dataset(self, dataset: Dataset, manifest: Manifest, *, device: torch.device | str = "cpu") -> Posterior:
        """Predict a dataset that `dataset` has built from a manifest; see `predict`."""
        folds = self.folds_not_trained_on(manifest)
        groups = list(dict.fromkeys(folds.get(clip, ()) for clip in dataset.ids))
        parts = []
        for group in groups:
            part = dataset.where(folds.get(clip, ()) == group for clip in dataset.ids) if len(groups) > 1 else dataset
            models = self._models(group)
            parts.append(combine_by_rule([self.load(path).posterior(part, device=device) for path in models]))
        if len(parts) == 1:
            return parts[0]
        found = concatenate(parts)
        if not self.recipe.windows:
            return found.at(dataset.ids)
        rows = rows_by_clip(found.ids)
        return found.at([found.ids[row] for clip in dataset.ids for row in rows.get(clip, ())])

    def held_out(self, manifest: Manifest) -> list[str]:
        """Return the ids of the clips that `predict` predicts only by models that were not trained on them."""
        if self.metadata is None:
            trained = set(self.trained_on(manifest))
            found = {clip for member in self.members for clip in member.held_out(manifest)} - trained
            return [clip for clip in manifest.ids if clip in found]
        return [clip for clip, folds in self.folds_not_trained_on(manifest).items() if folds]

    def trained_on(self, manifest: Manifest) -> list[str]:
        """Return the ids of the clips that every model was trained on, so that their predictions must not be scored."""
        if self.metadata is None:
            found = {clip for member in self.members for clip in member.trained_on(manifest)}
            return [clip for clip in manifest.ids if clip in found]
        return [clip for clip, folds in self.folds_not_trained_on(manifest).items() if not folds]

    def folds_not_trained_on(self, manifest: Manifest) -> dict[str, tuple[str, ...]]:
        """Return, for every clip that some models were trained on, the folds whose models were not.

        A clip is recognised by its id, or else by its media file. A run from the hub has no manifest, so that its
        training clips are unknown and the result is empty.
        """
        if not self.folder.manifest.is_file():
            return {}
        by_id, by_media = self._own_clips.by_id, self._own_ids_by_media
        own_ids = {
            clip.id: [clip.id] if clip.id in by_id else [i for path in _media(clip) for i in by_media.get(path, ())]
            for clip in manifest
        }
        if not any(own_ids.values()):
            return {}  # a run of 0.1.0 would have to divide its clips into folds first
        trained_in: dict[str, set[str]] = {}
        for fold in self._own_folds:
            for clip in fold.train.ids:
                trained_in.setdefault(clip, set()).add(fold.name)
        found = {}
        for name, ids in own_ids.items():
            trained = {fold for own in ids for fold in trained_in.get(own, ())}
            if trained:
                found[name] = tuple(fold.name for fold in self._own_folds if fold.name not in trained)
        return found

    @cached_property
    def _own_clips(self) -> Manifest:
        return Manifest.read(self.folder.manifest)

    @cached_property
    def _own_ids_by_media(self) -> dict[Path, list[str]]:
        found: dict[Path, list[str]] = {}
        for clip in self._own_clips:
            for path in _media(clip):
                found.setdefault(path, []).append(clip.id)
        return found

    @cached_property
    def _own_folds(self) -> list[Fold]:
        return self.folds(self._own_clips)

    def folds(self, manifest: Manifest) -> list[Fold]:
        """Return the folds of a manifest as the recipe defines them."""
        return manifest.folds(self.recipe.training.folds, seed=self.recipe.training.seed)

    def load(self, model: Path) -> TrainedModel:
        """Load one of the trained models; `folder` has their paths."""
        assert self.metadata is not None
        return load_model(model, self.recipe, emotions=self.metadata.emotions, dimensions=self.metadata.dimensions)

    def dataset(
        self, manifest: Manifest, store: FeatureStore, *, streams: Sequence[str] = ()
    ) -> tuple[Dataset, list[str]]:
        """Return the clips of a manifest as the models of the run take them, and notices about them.

        See `predict` for the parameters.
        """
        assert self.metadata is not None
        encoders = self.recipe.encoders
        keys = self._stream_keys(store, streams)
        dataset: Dataset
        dataset = gather(manifest, store, keys, emotions=self.metadata.emotions, dimensions=self.metadata.dimensions)
        notices = [] if encoders else describe_missing_streams(dataset)
        if encoders:
            from .media_dataset import add_media_streams  # loads the media packages

            dataset = add_media_streams(
                dataset,
                manifest,
                encoders,
                loading=self.loading,
                augmentation=self.recipe.augmentation,
                size=self.recipe.training.batch,
            )
        if self.recipe.windows:
            from .window_dataset import cut_windows

            dataset = cut_windows(dataset, manifest, self.recipe.windows)
        if self.recipe.streams.standardise == "speaker":
            dataset, few = standardise_per_speaker(dataset)
            notices += few
        return dataset, notices

    def results(self, manifest: Manifest) -> list[dict[str, Any]]:
        """Return the metrics of the run on held-out clips, as `affuse train` prints them.

        Returns
        -------
        list of dict
            ``on``, ``clips`` and metrics, in one row per fold and one for all clips. The metrics of a fold are means
            over seeds. ``mean of seeds`` is the mean metric of single seeds, ``seeds combined`` that of their mean
            posterior. A run of members has one row per member and one for their combination.
        """
        if self.recipe.members:
            rows = [_row(m.recipe.name, [m.out_of_fold], manifest, m.recipe) for m in self.members]
            return [*rows, _row("combined", [self.out_of_fold], manifest, self.recipe.members[0])]
        seeds = self.seed_posteriors
        rows = [
            _row(f"fold {f.name}", [select_clips(p, f.held_out.ids) for p in seeds], manifest, self.recipe)
            for f in self.folds(manifest)
        ]
        if len(seeds) == 1:
            return [*rows, _row("all folds", seeds, manifest, self.recipe)]
        combined = _row("seeds combined", [self.out_of_fold], manifest, self.recipe)
        return [*rows, _row("mean of seeds", seeds, manifest, self.recipe), combined]

    def _models(self, folds: Sequence[str]) -> list[Path]:
        """Return the trained models of some folds; of all folds where none is given."""
        assert self.metadata is not None
        wanted = {self.folder.model(seed, fold) for seed in self.metadata.seeds for fold in folds}
        found = [path for path in self.folder.models if not folds or path in wanted]
        if not found:
            raise StoreError(f"{self.path} has no trained models. Run `affuse train` again.")
        return found

    def _stream_keys(self, store: FeatureStore, requests: Sequence[str]) -> Mapping[str, str]:
        assert self.metadata is not None
        streams = self.metadata.streams
        if not requests:
            return {n: same_features(store, s) for n, s in streams.items() if n not in self.recipe.encoders}
        chosen = choose_streams(store, requests=requests)
        if unknown := sorted(set(chosen) - set(streams)):
            raise RecipeError(f"{self.path} has no stream {listing(unknown)}. It was trained on {listing(streams)}.")
        return chosen


def _media(clip: Clip) -> set[Path]:
    return {path.resolve() for path in (clip.video, clip.audio) if path is not None}


def _row(on: str, posteriors: list[Posterior], manifest: Manifest, recipe: Recipe) -> dict[str, Any]:
    first = posteriors[0]
    rate = recipe.windows.rate if recipe.windows else None
    labels = Labels.from_manifest(manifest_over_time(manifest, first.ids, rate=rate).subset(first.ids), first.emotions)
    found = [metrics.compute_metrics(p.at(labels.ids), labels) for p in posteriors]
    means = {name: float(np.mean([f[name] for f in found])) for name in metrics.summary(found[0])}
    return {"on": on, "clips": len(labels), **means}
