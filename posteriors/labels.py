"""What posteriors are scored against: the labels of a manifest, as arrays beside the posterior."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..errors import PosteriorMismatch, listing
from ..manifest import Manifest

MISSING = -1
"""Index of an emotion that nobody annotated, and of an answer that a system did not give."""


@dataclass(frozen=True)
class Labels:
    """Labels of some clips.

    Attributes
    ----------
    ids, speakers : tuple of str [shape=(clips,)]
        A clip whose speaker is not known is its own speaker.
    emotions : tuple of str
        Names that `emotion` counts into.
    emotion : ndarray of int [shape=(clips,)]
        -1 where not annotated.
    dimensions : dict of str to ndarray [shape=(clips,)]
        Nan where not annotated.
    folds, splits : tuple of str or None [shape=(clips,)]
        Which fold holds the clip out, which split it is of.
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

    def rows(self, rows: np.ndarray) -> "Labels":
        """Return some of the clips, by a mask or by their rows."""
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
        """Whether anything is known of a clip [shape=(clips,)]."""
        known = self.emotion != MISSING
        for values in self.dimensions.values():
            known = known | ~np.isnan(values)
        return np.asarray(known)

    @classmethod
    def of(cls, manifest: Manifest, emotions: Sequence[str]) -> "Labels":
        """Take the labels out of a manifest, emotions numbered as in `emotions`.

        Raises
        ------
        PosteriorMismatch
            The manifest knows an emotion that the posterior does not.
        """
        known = {name: index for index, name in enumerate(emotions)}
        foreign = [e for e in manifest.emotions if e not in known] if emotions else []
        if foreign:
            raise PosteriorMismatch(
                f"{manifest.name} has the emotions {listing(foreign)}, the posterior only "
                f"{listing(emotions, most=12)}; where they are other words "
                "for the same, rename them; where nobody learnt them, leave their clips out"
            )
        dimensions = {
            name: np.array([np.nan if (v := getattr(c, name)) is None else v for c in manifest])
            for name in ("valence", "arousal")
        }
        return cls(
            tuple(manifest.ids),
            tuple(c.speaker if c.speaker is not None else f"clip {c.id}" for c in manifest),
            tuple(emotions),
            np.array([known.get(c.emotion or "", MISSING) for c in manifest], int),
            {n: v.astype(float) for n, v in dimensions.items() if not np.isnan(v).all()},
            tuple(c.fold for c in manifest),
            tuple(c.split for c in manifest),
        )
