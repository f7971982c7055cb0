"""The leak guard: what stands on both sides of a split, and what was fitted on what is scored."""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import LeakError, listing
from ..manifest import AUDIO_SUFFIXES, VIDEO_SUFFIXES, Clip, Manifest
from .provenance import Provenance

NEAR = 0.9995
"""Features whose cosine is above this are taken for two takes of one recording's bytes."""
BLOCK = 2048
PSEUDO = "pseudo-label"


class Leak(NamedTuple):
    """Clips through which one side of a split knows the other.

    Attributes
    ----------
    kind : str
        ``speaker``, ``clip``, ``copy`` and ``pseudo-label`` are refused; ``recording`` and
        ``near-duplicate`` are flagged, for a person to look at.
    ids : tuple of str
    text : str
        One sentence: what is shared, by which sides.
    """

    kind: str
    ids: tuple[str, ...]
    text: str

    @property
    def refused(self) -> bool:
        """Whether scores across this split mean nothing."""
        return self.kind in ("speaker", "clip", "copy", PSEUDO)


def side(clip: Clip) -> str:
    """Return which side of a split a clip is on: its fold, else its split, else training."""
    if clip.split == "test":
        return "test"
    if clip.fold is not None:
        return f"fold {clip.fold}"
    return clip.split or "train"


def find(manifest: Manifest, *, features: np.ndarray | None = None) -> list[Leak]:
    """Return every leak between the sides of a manifest's split.

    Parameters
    ----------
    manifest : Manifest
        Its columns ``split`` and ``fold`` make the sides.
    features : ndarray [shape=(clips, dim)] or None
        A vector a clip, in the manifest's order: near-duplicates are looked for among them.

    Returns
    -------
    list of Leak
        Speakers are compared without case and spaces, ids without case and ending; media by path
        and stretch, and by their bytes.
    """
    clips = list(manifest)
    leaks = [
        *_shared(clips, "speaker", lambda c: _plain(c.speaker)),
        *_shared(clips, "clip", lambda c: _bare(c.id)),
        *_media(clips),
        *_copies(clips),
        *_pseudo(clips),
    ]
    if features is not None:
        leaks += _near(clips, features)
    return leaks


def check(manifest: Manifest, *, features: np.ndarray | None = None) -> list[Leak]:
    """Refuse what must not be; return what only a person can judge.

    Raises
    ------
    LeakError
        All leaks that are refused, at once.
    """
    leaks = find(manifest, features=features)
    refused = [leak.text for leak in leaks if leak.refused]
    if refused:
        raise LeakError(
            f"{manifest.name} leaks across its split:\n  " + "\n  ".join(refused) + "\n"
            "Give each speaker one side, drop the copies, and keep pseudo-labels out of what is "
            "scored."
        )
    return [leak for leak in leaks if not leak.refused]


def check_scored(scored: Iterable[Clip], *, provenance: Provenance | None, manifests: Sequence[Manifest]) -> None:
    """Refuse to score pseudo-labels, and clips or people that a posterior was fitted on.

    Parameters
    ----------
    scored : iterable of Clip
    provenance : Provenance or None
        Of the posterior.
    manifests : sequence of Manifest
        They say who speaks in the clips of `provenance.seen`.

    Raises
    ------
    LeakError
        Labels that a system made, or clips that were not held out when they were combined.
    """
    scored = list(scored)
    made = [c.id for c in scored if c.source is not None]
    if made:
        raise LeakError(
            f"{len(made)} of the clips to score have labels that systems made "
            f"({scored[0].source or 'column source'}): {listing(made)}; score annotated clips only"
        )
    if provenance is None or not provenance.seen:
        return
    seen = set(provenance.seen)
    speakers = {_plain(c.speaker) for m in manifests for c in m.where(seen)} - {None}
    both = [c.id for c in scored if seen & {c.id, c.id.rpartition("@")[0]} or _plain(c.speaker) in speakers]
    if both:
        raise LeakError(
            f"{len(both)} of the clips to score, or their speakers, are what this posterior was "
            f"fitted on ({provenance.made_by}): {listing(both)}. Score clips of other speakers; a "
            "run's out-of-fold posterior; or what `affuse combine` fits anew, which holds each "
            "fold out."
        )


def _plain(text: str | None) -> str | None:
    return None if text is None else "".join(text.casefold().split())


def _bare(name: str) -> str:
    """Return an id without case, spaces and a media ending; ``v1.2`` keeps its dot."""
    plain = _plain(name) or ""
    ending = Path(plain).suffix
    return plain.removesuffix(ending) if ending in VIDEO_SUFFIXES | AUDIO_SUFFIXES else plain


def _groups(clips: Sequence[Clip], key: Callable[[Clip], Hashable]) -> Iterable[list[Clip]]:
    """Yield the clips that share a key across sides."""
    found: defaultdict[Hashable, list[Clip]] = defaultdict(list)
    for clip in clips:
        value = key(clip)
        if value is not None:
            found[value].append(clip)
    return (group for group in found.values() if len({side(c) for c in group}) > 1)


def _leak(kind: str, group: Sequence[Clip], what: str) -> Leak:
    sides = ", ".join(sorted({side(c) for c in group}))
    ids = tuple(c.id for c in group)
    return Leak(kind, ids, f"{what} in {sides}: {listing(ids)}")


def _shared(clips: list[Clip], kind: str, key: Callable[[Clip], Hashable]) -> Iterable[Leak]:
    for group in _groups(clips, key):
        name = repr(group[0].speaker) if kind == "speaker" else "under nearly the same id"
        yield _leak(kind, group, f"{kind} {name}")


def _source(clip: Clip) -> Path | None:
    return clip.video or clip.audio


def _media(clips: list[Clip]) -> Iterable[Leak]:
    for group in _groups(clips, lambda c: (p := _source(c)) and p.absolute()):
        name = f"{(_source(group[0]) or Path()).name!r}"
        overlapping = list(_overlaps(group))
        if overlapping:
            both = list({c.id: c for pair in overlapping for c in pair}.values())
            yield _leak("clip", both, f"the same stretch of {name}")
        else:
            yield _leak("recording", group, f"stretches of one recording, {name},")


def _overlaps(group: Sequence[Clip]) -> Iterable[tuple[Clip, Clip]]:
    """Yield pairs on two sides whose stretches share time."""
    ranked = sorted(group, key=lambda c: c.start or 0.0)
    for i, earlier in enumerate(ranked):
        end = float("inf") if earlier.end is None else earlier.end
        for later in ranked[i + 1 :]:
            if (later.start or 0.0) >= end:
                break
            if side(earlier) != side(later):
                yield earlier, later


def _copies(clips: list[Clip]) -> Iterable[Leak]:
    """Compare bytes, but only of files of one size and different paths."""
    sizes: defaultdict[int, list[Clip]] = defaultdict(list)
    for clip in clips:
        path = _source(clip)
        if path is not None and path.is_file():
            sizes[path.stat().st_size].append(clip)
    for alike in sizes.values():
        if len({(_source(c) or Path()).absolute() for c in alike}) < 2:
            continue
        for group in _groups(alike, lambda c: _digest(_source(c))):
            if len({(_source(c) or Path()).absolute() for c in group}) > 1:
                yield _leak("copy", group, "copies of one file")


def _digest(path: Path | None) -> str | None:
    if path is None:
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _pseudo(clips: list[Clip]) -> Iterable[Leak]:
    """Find pseudo-labels among what is scored."""
    scored = [c for c in clips if c.source is not None and side(c) != "train"]
    if scored:
        yield _leak(PSEUDO, scored, "pseudo-labels as if they were true")


def _near(clips: list[Clip], features: np.ndarray) -> Iterable[Leak]:
    rows = np.nan_to_num(np.asarray(features, np.float32))
    rows = rows - rows.mean(0)
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    sides = np.array([side(c) for c in clips])
    for start in range(0, len(rows), BLOCK):
        block = rows[start : start + BLOCK] @ rows.T > NEAR
        block &= sides[start : start + BLOCK, None] != sides
        for i, j in zip(*np.nonzero(block), strict=True):
            if start + i < j:
                yield _leak("near-duplicate", [clips[start + i], clips[j]], "nearly equal features")
