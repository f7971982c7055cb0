"""Metadata of a run, written before training starts and checked when it is resumed."""

import hashlib
import json
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from .. import __version__
from ..cache._commit import write_text
from ..cache.store import FeatureStore
from ..errors import LeakError, RecipeError, StoreError, listing
from ..manifest import Clip, Fold, Manifest
from ..posteriors.run_folder import RunFolder
from ..recipes.recipe import Recipe, TrainingSettings
from .streams import choose_streams

NOT_SET = "not set"
COMPARED = ("streams", "emotions", "dimensions", "manifest", "recipe", "start")
"""Fields that must be equal when a run is resumed."""


@dataclass(frozen=True)
class RunMetadata:
    """Metadata of a run: ``run.json``.

    Attributes
    ----------
    streams : dict of str to dict
        Key and specification of the features by stream name. For a stream that starts from media, those that the
        output of its encoder would have in a store.
    emotions, dimensions : list of str
        Names of the targets, in the order of the models.
    folds : dict of str to dict
        Number of training clips and of held-out clips by fold.
    seeds : list of int
    manifest, recipe : str
        Digests of the labels and of the recipe.
    notices : list of str
        Facts that readers of the results should know.
    versions : dict of str to str
        Versions of affuse, of the main libraries and of Python.
    start : str
        Digest of the run from which fusion and head were taken; empty where there is none.
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

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the metadata of a run."""
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, TypeError, ValueError) as error:
            raise StoreError(f"{path} cannot be read as the metadata of a run: {error}.") from None

    def write(self, path: Path) -> None:
        """Write the metadata; the file is complete or absent."""
        write_text(path, json.dumps(asdict(self), indent=2, default=str) + "\n")


def describe_run(
    recipe: Recipe, manifest: Manifest, store: FeatureStore, *, streams: Sequence[str] = (), start: Path | None = None
) -> RunMetadata:
    """Return the metadata of a run that is to be trained; see `train` for the parameters.

    Raises
    ------
    RecipeError
        The manifest has no label for any target of the recipe, or the run to start from does not fit.
    LeakError
        The run to start from was trained on other clips, labels or folds.
    """
    described = _describe_streams(recipe, store, streams)
    folds = manifest.folds(recipe.training.folds, seed=recipe.training.seed)
    trained = Manifest((c for c in manifest if c.split != "test"), name=manifest.name)
    dimensions = [str(d) for d in recipe.targets.dimensions if _is_annotated(recipe, trained, d)]
    emotions = trained.emotions if recipe.targets.emotion else []
    if not emotions and not dimensions:
        raise RecipeError(
            f"{manifest.name} has labels neither for emotions nor for {listing(recipe.targets.dimensions)}. "
            "Fill in the columns, or change [targets] in the recipe."
        )
    notices = [
        f"{d.capitalize()} is not trained, because no clip is annotated with it."
        for d in recipe.targets.dimensions
        if d not in dimensions
    ]
    if emotions:
        if only_test := sorted(set(manifest.emotions) - set(trained.emotions)):
            notices.append(f"Only clips of the split 'test' show {listing(only_test)}, so no model is trained on it.")
        notices += _emotion_notices(trained, folds)
    if recipe.encoders and not streams and (unused := store.keys()):
        notices.append(f"The features {listing(unused)} are not used. Name them with --stream to add them.")
    if len(folds) != recipe.training.folds != TrainingSettings.folds:
        notices.append(f"The manifest defines {len(folds)} folds; training.folds = {recipe.training.folds} is ignored.")
    if n_unknown := sum(clip.speaker is None for clip in trained):
        notices.append(f"{n_unknown} clips have no speaker: the same person may be in training and held-out clips.")
    metadata = RunMetadata(
        streams=described,
        emotions=emotions,
        dimensions=dimensions,
        folds={f.name: {"train": len(f.train), "held_out": len(f.held_out)} for f in folds},
        seeds=[recipe.training.seed + i for i in range(recipe.training.seeds)],
        manifest=_digest(*(_labels(clip) for clip in manifest)),
        recipe=_digest(str(recipe)),
        notices=notices,
        versions={
            "affuse": __version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
            "machine": platform.machine(),
        },
    )
    return metadata if start is None else _with_start(metadata, start)


def check_resumable(folder: RunFolder, recipe: Recipe, metadata: RunMetadata) -> bool:
    """Return whether a folder already contains this run; raise `RecipeError` if it contains another one."""
    if not folder.metadata.is_file():
        return False
    known = RunMetadata.read(folder.metadata)
    wanted = json.loads(json.dumps(asdict(metadata), default=str))
    differ = [name for name in COMPARED if wanted[name] != getattr(known, name)]
    if "recipe" in differ:
        place = differ.index("recipe")
        differ[place : place + 1] = _differences(Recipe.read(folder.recipe), recipe)
    if differ:
        raise RecipeError(
            f"{folder.path} contains a run with a difference in: {listing(differ)}. Choose another --out, or delete it."
        )
    return True


def _emotion_notices(manifest: Manifest, folds: Sequence[Fold]) -> list[str]:
    """Return notices about emotions that a fold cannot train, or that may be one emotion in two spellings."""
    notices = []
    for fold in folds:
        trained = {clip.emotion for clip in fold.train}
        if unseen := sorted({c.emotion for c in fold.held_out if c.emotion} - trained):
            notices.append(
                f"Fold {fold.name} holds out every clip of {listing(unseen)}, which its model cannot predict. "
                "Remove or merge emotions that so few speakers show."
            )
    spellings: dict[str, list[str]] = {}
    for emotion in manifest.emotions:
        spellings.setdefault("".join(emotion.casefold().split()), []).append(emotion)
    for similar in spellings.values():
        if len(similar) > 1:
            notices.append(f"{listing(map(repr, similar))} are treated as different emotions.")
    if len(spellings) == 1:
        notices.append(f"Every clip is labelled {manifest.emotions[0]}, so that there is nothing to distinguish.")
    return notices


def _describe_streams(recipe: Recipe, store: FeatureStore, requests: Sequence[str]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    if requests or not recipe.encoders:
        chosen = choose_streams(store, requests=requests, modalities=recipe.streams.modalities)
        found = {name: {"key": key, "specification": store.specification(key)} for name, key in chosen.items()}
    if not recipe.encoders:
        return found
    from .encoder_stream import EncoderStream  # loads the media packages

    if both := sorted(set(found) & set(recipe.encoders)):
        raise RecipeError(
            f"The stream {listing(both)} comes both from features and from an encoder of the recipe. "
            "Give the features another name with --stream NAME=KEY."
        )
    for name, settings in recipe.encoders.items():
        specification = EncoderStream.build(settings, seed=0).specification
        found[name] = {"key": specification.key, "specification": specification.as_dict()}
    return found


def _is_annotated(recipe: Recipe, manifest: Manifest, dimension: str) -> bool:
    if recipe.windows:
        return any(clip.labels is not None for clip in manifest)
    return any(getattr(clip, dimension) is not None for clip in manifest)


def _with_start(metadata: RunMetadata, start: Path) -> RunMetadata:
    """Check that training may start from a run: the same clips in the same folds, and the same streams."""
    folder = RunFolder(start)
    if not folder.recipe.is_file():
        raise StoreError(f"{start} is not a run. `affuse train RECIPE --out {start}` makes one.")
    if not folder.metadata.is_file() and Recipe.read(folder.recipe).members:
        raise RecipeError(f"{start} is a run of members. Pass one of its members to --start.")
    known = RunMetadata.read(folder.metadata)
    if (known.manifest, known.folds) != (metadata.manifest, metadata.folds):
        raise LeakError(
            f"{start} was trained on other clips, labels or folds, so that its models may have been trained on clips "
            "that are held out here. Train it on this manifest first."
        )
    for name, stream in metadata.streams.items():
        theirs = known.streams.get(name, {}).get("specification")
        if theirs is None or _origin(theirs) != _origin(stream["specification"]):
            raise RecipeError(
                f"The stream {name!r} of {start} has other features than encoders.{name} makes: found "
                f"{known.streams.get(name, {}).get('key')}, expected {stream['key']}. Use the same encoder, "
                "checkpoint, layers and options."
            )
    return replace(metadata, start=_digest(known.recipe, *(s["key"] for s in known.streams.values())))


def _origin(specification: Mapping[str, Any]) -> tuple[object, ...]:
    """Return what distinguishes features, except for the precision and the face detector."""
    identity = {k: v for k, v in specification.get("identity", {}).items() if k not in ("precision", "faces")}
    text = json.dumps(identity, sort_keys=True)
    return text, list(specification["layers"]), specification["how"], specification["pool"]


def _differences(known: Recipe, wanted: Recipe) -> list[str]:
    """Return the options that differ, such as ``training.seeds (1, now 2)``."""
    before, now = dict(_leaves(asdict(known))), dict(_leaves(asdict(wanted)))
    found = []
    for place in dict.fromkeys((*before, *now)):
        old, new = before.get(place, NOT_SET), now.get(place, NOT_SET)
        if place != "about" and old != new:
            found.append(f"{place} ({old}, now {new})")
    return found


def _leaves(table: Mapping[str, Any], within: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        place = within if key == "options" else f"{within}.{key}".lstrip(".")
        if isinstance(value, dict):
            yield from _leaves(value, place)
        else:
            yield place, value


def _labels(clip: Clip) -> str:
    """Return a text that changes with the labels of a clip; its media files may move."""
    track = None if clip.labels is None else _digest(clip.labels.read_text("utf-8", "replace"))
    return repr(
        [clip.id, clip.speaker, clip.split, clip.fold, clip.emotion, clip.valence, clip.arousal, clip.source, track]
    )


def _digest(*texts: str) -> str:
    return hashlib.blake2b("\n".join(texts).encode(), digest_size=12).hexdigest()
