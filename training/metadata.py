"""What a run is made of: taken down before the first model, compared before the next."""

import json
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from .. import __version__
from ..cache.store import FeatureStore
from ..errors import LeakError, RecipeError, listing
from ..manifest import Clip, Fold, Manifest
from ..recipes.recipe import Recipe, TrainingSettings
from .dataset import choose_streams
from .encoder_stream import EncoderStream
from .run import Run, RunMetadata, digest

UNSAID = "unsaid"
STATED = ("streams", "emotions", "dimensions", "manifest", "recipe", "start")


def stated(
    recipe: Recipe, manifest: Manifest, store: FeatureStore, streams: Sequence[str] = (), start: Path | None = None
) -> RunMetadata:
    """Return what a run of the recipe is made of."""
    made_of = _streams(recipe, store, streams)
    rounds = manifest.folds(recipe.training.folds, seed=recipe.training.seed)
    learnt = Manifest((c for c in manifest if c.split != "test"), name=manifest.name)
    dimensions = [str(d) for d in recipe.targets.dimensions if _annotated(recipe, learnt, d)]
    emotions = learnt.emotions if recipe.targets.emotion else []
    if not emotions and not dimensions:
        raise RecipeError(
            f"{manifest.name} annotates neither an emotion nor {listing(recipe.targets.dimensions)}"
            "; fill the columns, or change [targets]"
        )
    notices = [f"nobody annotated {d}; it is not learnt" for d in recipe.targets.dimensions if d not in dimensions]
    unmet = sorted(set(manifest.emotions) - set(learnt.emotions))
    if unmet and emotions:
        notices.append(f"only clips under test show {listing(unmet)}: it is not learnt")
    if recipe.encoders and not streams and (unused := store.keys()):
        notices.append(f"features {listing(unused)} are not used; name some with --stream")
    notices += _few(learnt, rounds) if emotions else []
    if len(rounds) != recipe.training.folds != TrainingSettings.folds:
        notices.append(
            f"the manifest has {len(rounds)} folds; training.folds = {recipe.training.folds} is for manifests without"
        )
    if nameless := sum(clip.speaker is None for clip in learnt):
        notices.append(f"{nameless} clips have no speaker: a person may stand on both sides of a fold")
    facts = RunMetadata(
        streams=made_of,
        emotions=emotions,
        dimensions=dimensions,
        folds={f.name: {"train": len(f.train), "held_out": len(f.held_out)} for f in rounds},
        seeds=[recipe.training.seed + i for i in range(recipe.training.seeds)],
        manifest=digest(*(_labels(clip) for clip in manifest)),
        recipe=digest(str(recipe)),
        notices=notices,
        versions=_versions(),
    )
    return facts if start is None else _from(start, facts)


def _few(manifest: Manifest, rounds: Sequence[Fold]) -> list[str]:
    """Say which emotions some round cannot learn, and which may be one emotion spelled twice."""
    notices = []
    for fold in rounds:
        learnt = {clip.emotion for clip in fold.train}
        unseen = sorted({c.emotion for c in fold.held_out if c.emotion} - learnt)
        if unseen:
            notices.append(
                f"fold {fold.name} holds every clip of {listing(unseen)}, which its model cannot "
                "learn then; drop or merge emotions that so few people show"
            )
    spelled: dict[str, list[str]] = {}
    for emotion in manifest.emotions:
        spelled.setdefault("".join(emotion.casefold().split()), []).append(emotion)
    for alike in spelled.values():
        if len(alike) > 1:
            notices.append(f"{listing(map(repr, alike))} are taken for different emotions")
    if len(spelled) == 1:
        notices.append(f"every clip is {manifest.emotions[0]}: there is nothing to tell apart")
    return notices


def _streams(recipe: Recipe, store: FeatureStore, asked: Sequence[str]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    if asked or not recipe.encoders:
        chosen = choose_streams(store, asked=asked, modalities=recipe.streams.modalities)
        found = {name: {"key": key, "specification": store.specification(key)} for name, key in chosen.items()}
    if twice := sorted(set(found) & set(recipe.encoders)):
        raise RecipeError(f"{listing(twice)} cannot come from features and from media at once")
    for name, settings in recipe.encoders.items():
        specification = EncoderStream.build(settings, seed=0).specification
        found[name] = {"key": specification.key, "specification": specification.facts()}
    return found


def _annotated(recipe: Recipe, manifest: Manifest, dimension: str) -> bool:
    if recipe.windows:
        return any(clip.labels is not None for clip in manifest)
    return any(getattr(clip, dimension) is not None for clip in manifest)


def _from(start: Path, facts: RunMetadata) -> RunMetadata:
    """Check that a run may be gone on from: the same clips in the same folds, the same streams."""
    known = Run.open(start).facts
    if known is None:
        raise RecipeError(f"{start} is a run of members; --start wants one of them")
    if (known.manifest, known.folds) != (facts.manifest, facts.folds):
        raise LeakError(
            f"{start} was trained on other clips, labels or folds: its models may have learnt from "
            "what is held out here. Train it on this manifest first"
        )
    for name, about in facts.streams.items():
        theirs = known.streams.get(name, {}).get("specification")
        if theirs is None or _made_by(theirs) != _made_by(about["specification"]):
            raise RecipeError(
                f"stream {name!r} of {start} came from other features than encoders.{name} makes "
                f"({known.streams.get(name, {}).get('key')}, wanted {about['key']}); state the "
                "same encoder, checkpoint, layers and options in the recipe"
            )
    return replace(facts, start=digest(known.recipe, *(s["key"] for s in known.streams.values())))


def _made_by(specification: Mapping[str, Any]) -> tuple[object, ...]:
    """Return what tells features apart but for precision and what finds faces."""
    identity = dict(specification.get("identity", {}))
    for detail in ("precision", "faces"):
        identity.pop(detail, None)
    words = json.dumps(identity, sort_keys=True)
    return words, list(specification["layers"]), specification["how"], specification["pool"]


def check_known(run: Run) -> bool:
    """Check that a folder, where it is a run's, was made of the same; tell whether it is one."""
    if not (run.path / "run.json").is_file():
        return False
    known = Run.open(run.path)
    same = json.loads(json.dumps(asdict(run.facts), default=str))  # type: ignore[arg-type]
    differ = [name for name in STATED if same[name] != getattr(known.facts, name, None)]
    if "recipe" in differ:
        place = differ.index("recipe")
        differ[place : place + 1] = _differences(known.recipe, run.recipe)
    if differ:
        raise RecipeError(
            f"{run.path} holds a run with a difference in: {listing(differ)}; choose another --out, or delete it"
        )
    return True


def _differences(known: Recipe, wanted: Recipe) -> list[str]:
    """Say which options differ, as ``training.seeds (1, now 2)``."""
    before, now = dict(_leaves(asdict(known))), dict(_leaves(asdict(wanted)))
    told = {
        place: (before.get(place, UNSAID), now.get(place, UNSAID))
        for place in dict.fromkeys((*before, *now))
        if place != "about"
    }
    return [f"{place} ({old}, now {new})" for place, (old, new) in told.items() if old != new]


def _leaves(table: Mapping[str, Any], within: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        place = within if key == "options" else f"{within}.{key}".lstrip(".")
        if isinstance(value, dict):
            yield from _leaves(value, place)
        else:
            yield place, value


def _labels(clip: Clip) -> str:
    """Return what of a clip a model can learn from: media may move, labels may not change."""
    track = None if clip.labels is None else digest(clip.labels.read_text("utf-8", "replace"))
    return repr(
        [clip.id, clip.speaker, clip.split, clip.fold, clip.emotion, clip.valence, clip.arousal, clip.source, track]
    )


def _versions() -> dict[str, str]:
    import numpy

    return {
        "affuse": __version__,
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
    }
