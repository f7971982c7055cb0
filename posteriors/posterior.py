"""Posteriors: emotion probabilities and dimensions of clips, the common format of all systems.

On disk a posterior is a CSV or Parquet file that any tool can write: a column ``id``, one column of probabilities per
emotion, named after the emotion, and one column per dimension, such as ``dimension:valence``. The order of rows and
columns does not matter.
"""

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..cache._commit import atomic_write
from ..errors import PosteriorError, PosteriorMismatch, listing
from ..manifest import COLUMNS

if TYPE_CHECKING:
    import pandas

PREFIX = "dimension:"
DIMENSIONS = ("valence", "arousal", "dominance")
"""Columns that are read as dimensions without the prefix too, so that files of other tools need no renaming."""
MANIFEST_COLUMNS = frozenset(COLUMNS) - {"id", *DIMENSIONS}
TOLERANCE = 1e-3
ROUNDING = 5e-3
"""Largest error of a probability that is written with two decimals."""
MIN_PROBABILITY = 1e-12
"""Lower bound of probabilities in logarithms: a zero of one system is no veto."""


@dataclass(frozen=True)
class Posterior:
    """Emotion probabilities and dimensions of some clips.

    Attributes
    ----------
    ids : tuple of str
    emotions : tuple of str
        Names of the columns of `probabilities`; may be empty.
    probabilities : ndarray [shape=(clips, emotions)]
        Rows sum to one; a row of nan is a clip without a prediction.
    dimensions : dict of str to ndarray [shape=(clips,)]
        Estimates such as valence; nan where there is none.
    """

    ids: tuple[str, ...]
    emotions: tuple[str, ...]
    probabilities: np.ndarray
    dimensions: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"<Posterior of {len(self)} clips: {', '.join([*self.emotions, *self.dimensions])}>"

    def __len__(self) -> int:
        return len(self.ids)

    def predicted(self) -> np.ndarray:
        """Return the index of each clip's most probable emotion [shape=(clips,)]; -1 without a prediction."""
        if not self.emotions:
            return np.full(len(self), -1)
        known = ~np.isnan(self.probabilities).any(1)
        return np.where(known, np.nan_to_num(self.probabilities).argmax(1), -1)

    def has_prediction(self) -> np.ndarray:
        """Return whether each clip has a prediction, of emotions or of any dimension [shape=(clips,)]."""
        known = [~np.isnan(self.probabilities).all(1)] if self.emotions else []
        known += [~np.isnan(values) for values in self.dimensions.values()]
        return np.any(known, axis=0) if known else np.zeros(len(self), dtype=bool)

    def at(self, ids: Sequence[str]) -> "Posterior":
        """Return the rows of these clips, in this order.

        Raises
        ------
        PosteriorMismatch
            Some clips are missing.
        """
        ids = tuple(ids)
        if ids == self.ids:
            return self
        known = set(self.ids)
        missing = [clip for clip in ids if clip not in known]
        if missing:
            raise PosteriorMismatch(
                f"The posterior has no row for {len(missing)} of {len(ids)} clips ({listing(missing)}). Predict these "
                "clips too, or leave them out."
            )
        return self.reindexed(ids)

    def reindexed(self, ids: Sequence[str]) -> "Posterior":
        """Return the rows of these clips, in this order; nan for clips that are missing."""
        row = {clip: r for r, clip in enumerate(self.ids)}
        rows = np.array([row.get(clip, len(row)) for clip in ids], int)
        blank = np.full((1, len(self.emotions)), np.nan)
        return Posterior(
            tuple(ids),
            self.emotions,
            np.concatenate([self.probabilities, blank])[rows],
            {name: np.append(values, np.nan)[rows] for name, values in self.dimensions.items()},
        )

    def ordered(self, emotions: Sequence[str]) -> "Posterior":
        """Return the same posterior with the emotions in this order.

        Raises
        ------
        PosteriorMismatch
            The emotions differ.
        """
        if set(emotions) != set(self.emotions):
            here, there = set(self.emotions), set(emotions)
            raise PosteriorMismatch(
                f"The emotions differ: only here {sorted(here - there) or 'none'}, "
                f"only there {sorted(there - here) or 'none'}. Use the same names in both."
            )
        columns = [self.emotions.index(emotion) for emotion in emotions]
        return Posterior(self.ids, tuple(emotions), self.probabilities[:, columns], self.dimensions)

    @classmethod
    def read(cls, path: str | Path, *, logits: bool = False) -> "Posterior":
        """Read a CSV or Parquet file.

        Parameters
        ----------
        path : str or Path
        logits : bool
            The emotion columns are logits; their softmax is taken.

        Raises
        ------
        PosteriorError
            The file does not exist.
        PosteriorMismatch
            The file has no column ``id``, an id twice, or text in place of a number; rows do not sum to one beyond
            what rounding to two decimals explains; or they do although `logits` is given.
        """
        path = Path(path)
        return cls._from_columns(str(path), *_read_columns(path), logits=logits)

    def write(self, path: str | Path) -> None:
        """Write a CSV or Parquet file, depending on the suffix."""
        path = Path(path)
        columns = self._columns()
        if path.suffix == ".parquet":
            import pyarrow
            import pyarrow.parquet

            with atomic_write(path) as temporary:
                pyarrow.parquet.write_table(pyarrow.table({"id": list(self.ids), **columns}), temporary)
            return
        with atomic_write(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["id", *columns])
            for row, clip in enumerate(self.ids):
                cells = (float(values[row]) for values in columns.values())
                writer.writerow([clip, *("" if np.isnan(x) else f"{x:.9g}" for x in cells)])

    def to_pandas(self) -> "pandas.DataFrame":
        """Return a table with one row per clip, indexed by ``id``, and the columns of the file format."""
        import pandas

        return pandas.DataFrame(self._columns(), index=pandas.Index(self.ids, name="id"))

    @classmethod
    def from_pandas(cls, table: "pandas.DataFrame") -> "Posterior":
        """Return the posterior of a table such as `to_pandas` returns.

        Parameters
        ----------
        table : pandas.DataFrame
            Ids as its index or in a column ``id``; one column of probabilities per emotion; dimensions as
            ``dimension:valence`` or ``valence``.

        Raises
        ------
        PosteriorMismatch
            An id occurs twice, or the probabilities of a clip do not sum to one.
        """
        if "id" in table.columns:
            table = table.set_index("id")
        elif table.index.name != "id" and np.issubdtype(table.index.dtype, np.integer):
            raise PosteriorMismatch("Found no ids. Expected the ids of the clips as the index or in a column 'id'.")
        try:
            columns = {str(name): table[name].to_numpy(dtype=float) for name in table.columns}
        except ValueError as error:
            raise PosteriorMismatch(f"Found a column of text: {error}. Drop all columns but probabilities.") from None
        return cls._from_columns("The table", tuple(map(str, table.index)), columns)

    @classmethod
    def _from_columns(
        cls, where: str, ids: tuple[str, ...], columns: Mapping[str, np.ndarray], *, logits: bool = False
    ) -> "Posterior":
        twice = [clip for clip, n in Counter(ids).items() if n > 1]
        if twice:
            raise PosteriorMismatch(f"{where} has more than one row for {listing(twice)}. Keep one row per clip.")
        dimensions = {c: v for c, v in columns.items() if c.startswith(PREFIX) or c in DIMENSIONS}
        emotions = tuple(c for c in columns if c not in dimensions)
        values = np.stack([columns[c] for c in emotions], 1) if emotions else np.zeros((len(ids), 0))
        if logits:
            known = ~np.isnan(values).any(1)
            if known.any() and _sum_to_one(values[known]).all():
                raise PosteriorMismatch(f"{where} holds probabilities: each row sums to one. Leave out --logits.")
            values = softmax(values)
        elif emotions:
            values = _checked_probabilities(where, ids, values)
        return cls(ids, emotions, values, {c.removeprefix(PREFIX): v for c, v in dimensions.items()})

    def _columns(self) -> dict[str, np.ndarray]:
        columns = dict(zip(self.emotions, self.probabilities.T, strict=True))
        return columns | {PREFIX + name: values for name, values in self.dimensions.items()}


def concatenate(parts: Sequence[Posterior]) -> Posterior:
    """Return the rows of several posteriors with the same emotions, one after the other."""
    parts = [part.ordered(parts[0].emotions) for part in parts]
    names = dict.fromkeys(name for part in parts for name in part.dimensions)
    return Posterior(
        tuple(clip for part in parts for clip in part.ids),
        parts[0].emotions,
        np.concatenate([part.probabilities for part in parts]),
        {
            name: np.concatenate([part.dimensions.get(name, np.full(len(part), np.nan)) for part in parts])
            for name in names
        },
    )


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return the probabilities of logits over the last axis; a row of nan stays nan."""
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return np.asarray(powers / powers.sum(-1, keepdims=True))


def _read_columns(path: Path) -> tuple[tuple[str, ...], dict[str, np.ndarray]]:
    if not path.is_file():
        raise PosteriorError(
            f"{path} does not exist. Expected a posterior (CSV or Parquet) or the folder of a run. Check the path."
        )
    if path.suffix == ".parquet":
        import pyarrow.parquet

        table = pyarrow.parquet.read_table(path).to_pydict()
        header, rows = list(table), list(map(list, zip(*table.values(), strict=True)))
    else:
        try:
            with path.open(newline="", encoding="utf-8-sig") as file:
                header, *rows = list(csv.reader(file)) or [[]]
        except (UnicodeDecodeError, csv.Error) as error:
            raise PosteriorError(
                f"{path} is not a table of text ({error}). Expected a posterior as CSV in UTF-8, or as Parquet."
            ) from None
    if "id" not in header or len(set(header)) < len(header):
        raise PosteriorMismatch(
            f"{path} has the columns {listing(header)}. Expected 'id', one column per emotion and '{PREFIX}NAME' for "
            "dimensions, each of them once. Rename the columns."
        )
    ids = tuple(str(row[header.index("id")]) for row in rows)
    columns = {}
    for c, name in enumerate(header):
        if name == "id":
            continue
        try:
            cells = (row[c] for row in rows)
            columns[name] = np.array([np.nan if x in ("", None) else float(x) for x in cells])
        except (ValueError, IndexError) as error:
            if name in MANIFEST_COLUMNS:
                raise PosteriorMismatch(
                    f"{path} looks like a manifest: it has the column {name!r}. Expected a posterior or the folder of "
                    "a run. Pass a manifest as --manifest."
                ) from None
            raise PosteriorMismatch(
                f"{path}, column {name!r}: {error}. Expected numbers; leave a cell empty where there is no prediction."
            ) from None
    return ids, columns


def _checked_probabilities(where: str, ids: tuple[str, ...], values: np.ndarray) -> np.ndarray:
    sums, known = values.sum(1), ~np.isnan(values).all(1)
    wrong = known & ~_sum_to_one(values)
    if wrong.any():
        clips = [ids[i] for i in np.flatnonzero(wrong)]
        percent = np.nanmedian(sums) > 50 and np.nanmin(values) >= 0
        advice = "If they are percentages, divide them by 100." if percent else "If they are logits, pass --logits."
        raise PosteriorMismatch(
            f"{where} has {len(clips)} clips whose probabilities are negative or do not sum to one "
            f"({listing(clips)}). {advice}"
        )
    rounded = known & (abs(sums - 1) > TOLERANCE)
    return np.where(rounded[:, None], values / sums[:, None], values)


def _sum_to_one(values: np.ndarray) -> np.ndarray:
    """Return whether each row sums to one, apart from what rounding to two decimals explains."""
    error = abs(values.sum(1) - 1)
    return np.asarray((values >= 0).all(1) & (error <= TOLERANCE + ROUNDING * values.shape[1]))
