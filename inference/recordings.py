"""A person's own recordings: decoded, encoded as the run's clips were, and predicted from.

What a run needs is read off the features it learnt from: each key's folder says which encoder with
which options made it. Features of the recordings go to a folder that is thrown away.
"""

import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from ..cache.store import FeatureStore
from ..corpora._folder import scan
from ..errors import EncoderError, ManifestError, MediaError, MissingFeatures
from ..manifest import AUDIO_SUFFIXES, VIDEO_SUFFIXES, Clip, Manifest
from ..posteriors.posterior import Posterior
from ..posteriors.rules import combine_by_rule
from ..posteriors.timeline import Timeline, windows
from ..training.run import Run

CARD = "encoder.json"
FEW = 4
"""Clips that one worker encodes, on all cores; more are shared among workers of a thread each."""


class Wanted(NamedTuple):
    """What makes the features of one key again.

    Attributes
    ----------
    key : str
    request : str
        As after ``affuse extract -e``.
    faces : dict or None
        Detector and rule, where faces are cut out.
    precision : str
    """

    key: str
    request: str
    faces: dict[str, str] | None
    precision: str


@dataclass(frozen=True)
class Answers:
    """What was predicted of some recordings.

    Attributes
    ----------
    posterior : Posterior
        A row a recording, or a window.
    manifest : Manifest
        The recordings, or their windows: what was decoded.
    failures : list of str
        What of them could not be decoded, and why.
    """

    posterior: Posterior
    manifest: Manifest
    failures: list[str]


def recordings(paths: Sequence[Path]) -> Manifest:
    """Return media files, and those below folders, as clips; each its own speaker.

    Raises
    ------
    ManifestError
        Something is no media.
    """
    clips: list[Clip] = []
    for path in paths:
        if path.is_dir():
            clips += scan(path)
        elif path.suffix.lower() in VIDEO_SUFFIXES and path.is_file():
            clips.append(Clip(path.stem, video=path))
        elif path.suffix.lower() in AUDIO_SUFFIXES and path.is_file():
            clips.append(Clip(path.stem, audio=path))
        else:
            endings = " ".join(sorted(VIDEO_SUFFIXES | AUDIO_SUFFIXES))
            raise ManifestError(f"{path} is no recording; wanted a file ending in {endings}")
    return Manifest((_own(clip) for clip in clips), name="recordings")


def _own(clip: Clip) -> Clip:
    return Clip(clip.id, video=clip.video, audio=clip.audio, speaker=f"recording {clip.id}")


def wanted(run: Run, store: FeatureStore) -> list[Wanted]:
    """Return what has to be extracted for a run, read off the features it learnt from.

    Raises
    ------
    MissingFeatures
        The store does not say how the features were made.
    """
    if run.facts is None:
        return [each for member in run.members for each in wanted(member, store)]
    return [
        _wanted(store, str(facts["key"]), facts["specification"])
        for name, facts in run.facts.streams.items()
        if "key" in facts and name not in run.recipe.encoders
    ]


def _wanted(store: FeatureStore, key: str, specification: dict[str, object]) -> Wanted:
    card = store.path / key / CARD
    if not card.is_file():
        raise MissingFeatures(
            f"{store.path} does not say how {key} was made, which the run learnt from; name the "
            "folder that `affuse extract` wrote with --features. Features of other tools cannot be "
            "made for new recordings."
        )
    asked = json.loads(card.read_text(encoding="utf-8"))["asked"]
    identity = specification["identity"]
    assert isinstance(identity, dict)
    layers = specification["layers"]
    assert isinstance(layers, list | tuple)
    options = {
        **asked["options"],
        "layers": "+".join(map(str, layers)),
        "how": specification["how"],
        "pool": specification["pool"],
        "dtype": specification["dtype"],
    }
    head = f"{asked['family']}:{asked['checkpoint']}"
    request = ",".join([head, *(f"{name}={value}" for name, value in options.items())])
    return Wanted(key, request, asked["faces"], str(identity["precision"]))


def cut(manifest: Manifest, *, every: float, window: float) -> Manifest:
    """Return the windows of recordings as clips, ids ``NAME@SECONDS`` of what they stand for."""
    from ..media.read import length

    clips = []
    for clip in manifest:
        path = clip.video or clip.audio
        assert path is not None
        try:
            duration = length(path)
        except MediaError:  # one clip of it all: extraction tells why it fails
            clips.append(replace(clip, id=f"{clip.id}@0.0000"))
            continue
        for i, (start, end) in enumerate(windows(duration, every=every, window=window)):
            middle = (i * every + min((i + 1) * every, duration)) / 2
            name = f"{clip.id}@{middle:.4f}"
            clips.append(Clip(name, video=clip.video, audio=clip.audio, start=start, end=end, speaker=clip.speaker))
    return Manifest(clips, name=manifest.name)


def answer(
    runs: Sequence[Run],
    clips: Manifest,
    *,
    features: FeatureStore,
    device: str = "cpu",
    tell: Callable[[str, str], None] = lambda clip, code: None,
) -> Answers:
    """Predict clips that nobody extracted yet; the mean of several runs' posteriors.

    Parameters
    ----------
    runs : sequence of Run
    clips : Manifest
        Recordings, or windows of them.
    features : FeatureStore
        What the runs learnt from: it says which encoders to use.
    device : str
        Of encoders and models.
    tell : callable
        Called with id and code of each clip that is decoded.

    Raises
    ------
    EncoderError
        An encoder is no longer the one that the run learnt from.
    """
    with tempfile.TemporaryDirectory(prefix="affuse-") as folder:
        store = FeatureStore(Path(folder))
        every = {each.key: each for run in runs for each in wanted(run, features)}
        told = _extracted(clips, list(every.values()), store, device, tell)
        failures = list(dict.fromkeys(told))  # encoders of one group say the same
        posteriors = [run.predict(clips, store, device=device) for run in runs]
    return Answers(combine_by_rule(posteriors), clips, failures)


def _extracted(
    clips: Manifest, asked: Sequence[Wanted], store: FeatureStore, device: str, tell: Callable[[str, str], None]
) -> Iterator[str]:
    from ..engines._extraction import Extraction, ExtractionSettings

    groups: dict[tuple[str, ...], list[Wanted]] = {}
    for each in asked:
        detector = tuple((each.faces or {}).values())
        groups.setdefault((each.precision, *detector), []).append(each)
    for group in groups.values():
        faces = group[0].faces or {}
        settings = ExtractionSettings(
            threads=torch.get_num_threads() if len(clips) <= FEW else 1,
            device=device,
            precision=group[0].precision,
            no_face=faces.get("no_face", "whole"),
            face_detector=Path(faces["detector"]) if faces else None,
        )
        extraction = Extraction(clips, [each.request for each in group], store, settings=settings)
        made = {s.key for s in extraction.specifications}
        changed = [each for each in group if each.key not in made]
        if changed:
            raise EncoderError(
                f"{changed[0].request} now makes {', '.join(sorted(made))}, but the run learnt "
                f"from {changed[0].key}: the checkpoint, its code or a library has changed "
                "since. Extract and train again."
            )
        report = extraction.run(tell)
        yield from (f"{f.id}: {f.code}, {f.reason}" for f in report.failures)


def timelines(answers: Answers, recorded: Manifest, *, every: float) -> list[Timeline]:
    """Return the windows' answers as a timeline of each recording that has an answer."""
    from ..posteriors.over_time import parted

    rows = parted(answers.posterior.ids)
    result = []
    for clip in recorded:
        own = rows[clip.id]
        part = answers.posterior.at([answers.posterior.ids[r] for r in own])
        if not part.answered().any():
            continue
        start = np.arange(len(own)) * every
        last = answers.manifest.by_id[part.ids[-1]].end
        end = np.append(start[1:], last if last is not None else start[-1] + every)
        result.append(
            Timeline(clip.id, start, end, part.emotions, part.probabilities, part.dimensions, clip.video or clip.audio)
        )
    return result
