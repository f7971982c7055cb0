"""Pseudo-labels: unlabelled clips that systems agree on, as many of each emotion, as a manifest.

What is under test, or shares a speaker or a recording with it, is left out: a label made there
would carry the test into training.
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
    """The manifest of clips worth learning from, and why others are not in it.

    Attributes
    ----------
    manifest : Manifest
        Split ``train``, no fold; `source` says which systems agreed and how sure they were.
    counts : dict of str to int
        Clips by emotion.
    left_out : dict of str to int
        Clips by reason.
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
    """Label clips on which every system's likeliest emotion is the same.

    Parameters
    ----------
    posteriors : sequence of Posterior
    manifest : Manifest
        Lists the clips. Annotated ones are left out, and test clips, their speakers and recordings.
    names : sequence of str
        Of the systems, for the provenance.
    per_emotion : int or None
        At most so many clips of each emotion, the surest first; None: as many as the emotion with
        the fewest has, so that classes are balanced.
    least : float
        Mean probability of the emotion that a clip must reach.

    Raises
    ------
    PosteriorMismatch
        No clip is left.
    """
    members = align(posteriors, names=names)
    left_out: Counter[str] = Counter()
    mean = combine_by_rule(members)
    sure = np.nan_to_num(mean.probabilities.max(1, initial=0))
    agreed = _agreed(members)
    test = _Test(manifest)
    candidates: dict[str, list[tuple[float, Clip]]] = {e: [] for e in members.emotions}
    for row, clip_id in enumerate(members.ids):
        clip = manifest.by_id.get(clip_id)
        why = _reason(clip, test, agreed[row], sure[row] >= least)
        if why or clip is None:
            left_out[why] += 1
        else:
            candidates[members.emotions[agreed[row]]].append((float(sure[row]), clip))
    found = {e: len(c) for e, c in candidates.items() if c}
    if not found:
        reasons = listing(f"{n} {why}" for why, n in left_out.items())
        raise PosteriorMismatch(
            f"no clip is left to label; left out: {reasons}. List unlabelled clips in the manifest, or lower --least"
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


class _Test:
    """What belongs to the test: its ids, speakers and recordings."""

    def __init__(self, manifest: Manifest) -> None:
        clips = manifest.select("test")
        self.ids = set(clips.ids)
        self.speakers = set(clips.speakers)
        self.media = {(c.video or c.audio) for c in clips} - {None}

    def __contains__(self, clip: Clip) -> bool:
        return clip.id in self.ids or clip.speaker in self.speakers or (clip.video or clip.audio) in self.media


def _agreed(members: Members) -> np.ndarray:
    """Return the emotion that every system has chosen; -1 where they differ or one is silent."""
    chosen = np.stack([members.member(m).chosen() for m in range(len(members))])
    return np.where((chosen == chosen[0]).all(0), chosen[0], -1)


def _reason(clip: Clip | None, test: _Test, agreed: int, sure: bool) -> str:
    if clip is None:
        return "not in the manifest"
    if clip in test:
        return "under test"
    if clip.emotion is not None:
        return "annotated"
    if agreed < 0:
        return "systems differ"
    return "" if sure else "not sure enough"


def _labelled(clip: Clip, emotion: str, sure: float, members: Members) -> Clip:
    source = f"pseudo-label: {' & '.join(members.names)} agree, {sure:.3f}"
    return dataclasses.replace(clip, emotion=emotion, source=source, split="train", fold=None)
