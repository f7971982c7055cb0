"""Pseudo-labels: a manifest of unlabelled clips on which several systems agree, balanced over emotions.

Clips of the test split, and clips that share a speaker or a recording with it, are left out: their pseudo-labels would
carry information about the test set into training.
"""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..errors import PosteriorMismatch, listing
from ..manifest import Clip, Manifest
from .posterior import Posterior
from .rules import Members, align, combine_by_rule


class PseudoLabels(NamedTuple):
    """Manifest of clips with pseudo-labels, and the reasons why other clips are left out.

    Attributes
    ----------
    manifest : Manifest
        Clips with the split ``train`` and no fold; their `source` names the systems and their mean probability.
    counts : dict of str to int
        Number of clips by emotion.
    left_out : dict of str to int
        Number of clips by reason.
    """

    manifest: Manifest
    counts: dict[str, int]
    left_out: dict[str, int]


def pseudo_labels(
    posteriors: Sequence[Posterior],
    manifest: Manifest,
    *,
    names: Sequence[str] = (),
    per_emotion: int | None = None,
    least: float = 0.0,
) -> PseudoLabels:
    """Label the clips for which every system predicts the same emotion.

    Parameters
    ----------
    posteriors : sequence of Posterior
    manifest : Manifest
        Lists the clips. Annotated clips are left out, and test clips with their speakers and recordings.
    names : sequence of str
        Names of the systems, for the column ``source``.
    per_emotion : int or None
        Maximum number of clips of each emotion, the most probable first; by default the number that the rarest emotion
        has, so that the classes are balanced.
    least : float
        Minimum mean probability of the emotion.

    Raises
    ------
    PosteriorMismatch
        No clip is left.
    """
    members = align(posteriors, names=names)
    left_out: Counter[str] = Counter()
    mean = combine_by_rule(members)
    confidence = np.nan_to_num(mean.probabilities.max(1, initial=0))
    agreed = _agreed(members)
    test = _TestClips(manifest)
    candidates: dict[str, list[tuple[float, Clip]]] = {e: [] for e in members.emotions}
    for row, clip_id in enumerate(members.ids):
        clip = manifest.by_id.get(clip_id)
        reason = _reason(clip, test, agreed[row], confidence[row] >= least)
        if reason or clip is None:
            left_out[reason] += 1
        else:
            candidates[members.emotions[agreed[row]]].append((float(confidence[row]), clip))
    found = {e: len(c) for e, c in candidates.items() if c}
    if not found:
        reasons = listing(f"{n} {reason}" for reason, n in left_out.items())
        raise PosteriorMismatch(
            f"No clip is left to label (left out: {reasons}). List unlabelled clips in the manifest, or lower --least."
        )
    most = per_emotion or min(found.values())
    clips = []
    for emotion, ranked in candidates.items():
        ranked.sort(key=lambda pair: (-pair[0], pair[1].id))
        clips += [_labelled(clip, emotion, value, members) for value, clip in ranked[:most]]
        if len(ranked) > most:
            left_out["enough of that emotion"] += len(ranked) - most
    clips.sort(key=lambda clip: clip.id)
    counts = Counter(str(clip.emotion) for clip in clips)
    return PseudoLabels(Manifest(clips, name="pseudo-labels"), dict(counts), dict(left_out))


class _TestClips:
    """Ids, speakers and recordings of the test clips."""

    def __init__(self, manifest: Manifest) -> None:
        clips = manifest.select("test")
        self.ids = set(clips.ids)
        self.speakers = set(clips.speakers)
        self.media = {(c.video or c.audio) for c in clips} - {None}

    def __contains__(self, clip: Clip) -> bool:
        return clip.id in self.ids or clip.speaker in self.speakers or (clip.video or clip.audio) in self.media


def _agreed(members: Members) -> np.ndarray:
    """Return the emotion that every system predicts [shape=(clips,)]; -1 where they differ or one has none."""
    predicted = np.stack([members.member(m).predicted() for m in range(len(members))])
    return np.where((predicted == predicted[0]).all(0), predicted[0], -1)


def _reason(clip: Clip | None, test: _TestClips, agreed: int, confident: bool) -> str:
    """Return why a clip is left out; empty if it is not."""
    if clip is None:
        return "not in the manifest"
    if clip in test:
        return "under test"
    if clip.emotion is not None:
        return "annotated"
    if agreed < 0:
        return "systems differ"
    return "" if confident else "not sure enough"


def _labelled(clip: Clip, emotion: str, confidence: float, members: Members) -> Clip:
    source = f"pseudo-label: {' & '.join(members.names)} agree, {confidence:.3f}"
    return dataclasses.replace(clip, emotion=emotion, source=source, split="train", fold=None)
