"""Labels that posteriors are scored against: those of a manifest, as arrays in the order of the posterior."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..errors import PosteriorMismatch, listing
from ..manifest import Manifest

MISSING = -1
"""Index of an emotion that is not annotated, and of a prediction that is missing."""


@dataclass(frozen=True)
class Labels:
    """Labels of some clips.

    Attributes
    ----------
    ids, speakers : tuple of str [shape=(clips,)]
        A clip without a speaker counts as a speaker of its own.
    emotions : tuple of str
        Names of the emotions that `emotion` indexes.
    emotion : ndarray of int [shape=(clips,)]
        -1 where not annotated.
    dimensions : dict of str to ndarray [shape=(clips,)]
        Nan where not annotated.
    folds, splits : tuple of str or None [shape=(clips,)]
        Fold that holds the clip out, and its split.
    """

    ids: tuple[str, ...]
    speakers: tuple[str, ...]
    emotions: tuple[str, ...]
    emotion: np.ndarray
    dimensions: Mapping[str, np.ndarray] = field(default_factory=dict)
    folds: tuple[str | None, ...] = ()
    splits: tuple[str | None, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: np.ndarray) -> "Labels":
        """Return the labels of some clips, given as a mask or as row numbers."""
        rows = np.flatnonzero(rows) if rows.dtype == bool else rows
        return Labels(
            tuple(self.ids[r] for r in rows),
            tuple(self.speakers[r] for r in rows),
            self.emotions,
            self.emotion[rows],
            {name: values[rows] for name, values in self.dimensions.items()},
            tuple(self.folds[r] for r in rows) if self.folds else (),
            tuple(self.splits[r] for r in rows) if self.splits else (),
        )

    @property
    def annotated(self) -> np.ndarray:
        """Whether a clip has any label [shape=(clips,)]."""
        known = self.emotion != MISSING
        for values in self.dimensions.values():
            known = known | ~np.isnan(values)
        return np.asarray(known)

    @functools.cached_property
    def speaker_index(self) -> tuple[np.ndarray, int]:
        """Index of each clip's speaker [shape=(clips,)], in alphabetical order, and the number of speakers."""
        names, index = np.unique(np.array(self.speakers), return_inverse=True)
        return index, len(names)

    @classmethod
    def from_manifest(cls, manifest: Manifest, emotions: Sequence[str]) -> "Labels":
        """Return the labels of a manifest, with emotions numbered as in `emotions`."""
        index = {name: i for i, name in enumerate(emotions)}
        unknown = [e for e in manifest.emotions if e not in index] if emotions else []
        if unknown:
            raise PosteriorMismatch(
                f"Manifest {manifest.name} has the emotions {listing(unknown)}, but the posterior has only "
                f"{listing(emotions, most=12)}. Rename them if they mean the same; remove their clips if no system was "
                "trained on them."
            )
        dimensions = {
            name: np.array([np.nan if (v := getattr(c, name)) is None else v for c in manifest])
            for name in ("valence", "arousal")
        }
        return cls(
            tuple(manifest.ids),
            tuple(c.speaker if c.speaker is not None else f"clip {c.id}" for c in manifest),
            tuple(emotions),
            np.array([index.get(c.emotion or "", MISSING) for c in manifest], int),
            {n: v.astype(float) for n, v in dimensions.items() if not np.isnan(v).all()},
            tuple(c.fold for c in manifest),
            tuple(c.split for c in manifest),
        )
