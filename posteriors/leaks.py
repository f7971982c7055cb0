"""Detection of leaks: clips that both sides of a split share, and scored clips that something was fitted on."""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import LeakError, listing
from ..manifest import AUDIO_SUFFIXES, VIDEO_SUFFIXES, Clip, Manifest
from .provenance import Provenance

MIN_COSINE = 0.9995
"""Cosine above which features are taken to come from two copies of one recording."""
ROWS_PER_BLOCK = 2048
PSEUDO = "pseudo-label"


class Leak(NamedTuple):
    """Clips through which one side of a split contains information about the other.

    Attributes
    ----------
    kind : str
        ``speaker``, ``clip``, ``copy`` and ``pseudo-label`` are refused; ``recording`` and ``near-duplicate`` are
        reported for a person to check.
    ids : tuple of str
    text : str
        One sentence that says what the sides share.
    """

    kind: str
    ids: tuple[str, ...]
    text: str

    @property
    def refused(self) -> bool:
        """Whether scores across this split are meaningless."""
        return self.kind in ("speaker", "clip", "copy", PSEUDO)


def side(clip: Clip) -> str:
    """Return the side of the split that a clip is on: test, its fold, its split, or else training."""
    if clip.split == "test":
        return "test"
    if clip.fold is not None:
        return f"fold {clip.fold}"
    return clip.split or "train"


def find(manifest: Manifest, *, features: np.ndarray | None = None) -> list[Leak]:
    """Return every leak between the sides of the split of a manifest.

    Parameters
    ----------
    manifest : Manifest
        Its columns ``split`` and ``fold`` define the sides.
    features : ndarray [shape=(clips, dim)] or None
        One vector per clip, in the order of the manifest, to find near-duplicates.

    Returns
    -------
    list of Leak
        Speakers are compared without case and spaces, ids also without media suffix; media are compared by path and
        time span, and by content.
    """
    clips = list(manifest)
    leaks = [
        *_shared(clips, "speaker", lambda c: _simplified(c.speaker)),
        *_shared(clips, "clip", lambda c: _without_suffix(c.id)),
        *_media(clips),
        *_copies(clips),
        *_pseudo_labels(clips),
    ]
    if features is not None:
        leaks += _near_duplicates(clips, features)
    return leaks


def check(manifest: Manifest, *, features: np.ndarray | None = None) -> list[Leak]:
    """Raise an error that lists the leaks that make scores meaningless; return those that a person has to judge."""
    leaks = find(manifest, features=features)
    refused = [leak.text for leak in leaks if leak.refused]
    if refused:
        raise LeakError(
            f"Manifest {manifest.name} leaks across its split:\n  " + "\n  ".join(refused) + "\n"
            "Give each speaker one side, remove the copies, and score no pseudo-labels."
        )
    return [leak for leak in leaks if not leak.refused]


def check_scored(scored: Iterable[Clip], *, provenance: Provenance | None, manifests: Sequence[Manifest]) -> None:
    """Raise an error if clips to score have pseudo-labels, or a posterior was fitted on them or their speakers.

    The manifests give the speakers of `Provenance.fitted_clips`.
    """
    scored = list(scored)
    made = [c for c in scored if c.source is not None]
    if made:
        raise LeakError(
            f"Found {len(made)} clips with pseudo-labels ({made[0].source}) among the clips to score: "
            f"{listing(c.id for c in made)}. Score annotated clips only."
        )
    if provenance is None or not provenance.fitted_clips:
        return
    seen = set(provenance.fitted_clips)
    speakers = {_simplified(c.speaker) for m in manifests for c in m.subset(seen)} - {None}
    both = [c.id for c in scored if seen & {c.id, c.id.rpartition("@")[0]} or _simplified(c.speaker) in speakers]
    if both:
        raise LeakError(
            f"This posterior was fitted on {len(both)} of the clips to score, or on their speakers "
            f"({provenance.made_by}): {listing(both)}. Score clips of other speakers, the out-of-fold posterior of a "
            "run, or a combination that `affuse combine` fits, which holds each fold out."
        )


def _simplified(text: str | None) -> str | None:
    return None if text is None else "".join(text.casefold().split())


def _without_suffix(name: str) -> str:
    """Return an id without case, spaces and media suffix; ``v1.2`` keeps its dot."""
    plain = _simplified(name) or ""
    suffix = Path(plain).suffix
    return plain.removesuffix(suffix) if suffix in VIDEO_SUFFIXES | AUDIO_SUFFIXES else plain


def _groups(clips: Sequence[Clip], key: Callable[[Clip], Hashable]) -> Iterable[list[Clip]]:
    """Yield the clips that share a key across sides."""
    found: defaultdict[Hashable, list[Clip]] = defaultdict(list)
    for clip in clips:
        value = key(clip)
        if value is not None:
            found[value].append(clip)
    return (group for group in found.values() if len({side(c) for c in group}) > 1)


def _leak(kind: str, group: Sequence[Clip], shared: str) -> Leak:
    sides = ", ".join(sorted({side(c) for c in group}))
    ids = tuple(c.id for c in group)
    return Leak(kind, ids, f"{shared} in {sides}: {listing(ids)}")


def _shared(clips: list[Clip], kind: str, key: Callable[[Clip], Hashable]) -> Iterable[Leak]:
    for group in _groups(clips, key):
        shared = f"speaker {group[0].speaker!r}" if kind == "speaker" else "clips with nearly the same id"
        yield _leak(kind, group, shared)


def _path(clip: Clip) -> Path | None:
    path = clip.video or clip.audio
    return path and path.absolute()


def _media(clips: list[Clip]) -> Iterable[Leak]:
    for group in _groups(clips, _path):
        name = f"{(_path(group[0]) or Path()).name!r}"
        overlapping = list(_overlaps(group))
        if overlapping:
            both = list({c.id: c for pair in overlapping for c in pair}.values())
            yield _leak("clip", both, f"the same time span of {name}")
        else:
            yield _leak("recording", group, f"parts of one recording, {name},")


def _overlaps(group: Sequence[Clip]) -> Iterable[tuple[Clip, Clip]]:
    """Yield pairs on two sides whose time spans overlap."""
    ranked = sorted(group, key=lambda c: c.start or 0.0)
    for i, earlier in enumerate(ranked):
        end = float("inf") if earlier.end is None else earlier.end
        for later in ranked[i + 1 :]:
            if (later.start or 0.0) >= end:
                break
            if side(earlier) != side(later):
                yield earlier, later


def _copies(clips: list[Clip]) -> Iterable[Leak]:
    """Compare the content of files, but only of files with the same size and different paths."""
    sizes: defaultdict[int, list[Clip]] = defaultdict(list)
    for clip in clips:
        path = _path(clip)
        if path is not None and path.is_file():
            sizes[path.stat().st_size].append(clip)
    for same_size in sizes.values():
        if len({_path(c) for c in same_size}) < 2:
            continue
        for group in _groups(same_size, _digest):
            if len({_path(c) for c in group}) > 1:
                yield _leak("copy", group, "copies of one file")


def _digest(clip: Clip) -> str | None:
    path = _path(clip)
    if path is None:
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _pseudo_labels(clips: list[Clip]) -> Iterable[Leak]:
    scored = [c for c in clips if c.source is not None and side(c) != "train"]
    if scored:
        yield _leak(PSEUDO, scored, "pseudo-labels among the clips that are scored,")


def _near_duplicates(clips: list[Clip], features: np.ndarray) -> Iterable[Leak]:
    rows = np.nan_to_num(np.asarray(features, np.float32))
    rows = rows - rows.mean(0)
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    sides = np.array([side(c) for c in clips])
    for start in range(0, len(rows), ROWS_PER_BLOCK):
        block = rows[start : start + ROWS_PER_BLOCK] @ rows.T > MIN_COSINE
        block &= sides[start : start + ROWS_PER_BLOCK, None] != sides
        for i, j in zip(*np.nonzero(block), strict=True):
            if start + i < j:
                yield _leak("near-duplicate", [clips[start + i], clips[j]], "nearly equal features")
