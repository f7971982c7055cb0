"""The posterior: what is compared, combined and scored, whoever made it.

On disk a CSV (or Parquet) that any tool can write: a column ``id``, one column of probabilities
per emotion, named by the emotion, and a column per dimension, named ``dimension:valence``. Order
means nothing, names do.
"""

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..errors import PosteriorError, PosteriorMismatch, listing
from ..manifest import COLUMNS

PREFIX = "dimension:"
DIMENSIONS = ("valence", "arousal", "dominance")
"""Read as dimensions without the prefix too, so that other tools' files need no renaming."""
OF_A_MANIFEST = frozenset(COLUMNS) - {"id", *DIMENSIONS}
TOLERANCE = 1e-3
ROUNDED = 5e-3
"""What a probability written with two decimals is off at most."""


@dataclass(frozen=True)
class Posterior:
    """Emotion probabilities and dimensions of some clips.

    Attributes
    ----------
    ids : tuple of str
    emotions : tuple of str
        Names of the columns of `probabilities`; may be empty.
    probabilities : ndarray [shape=(clips, emotions)]
        Rows sum to one; a row of nan is a clip without an answer.
    dimensions : dict of str to ndarray [shape=(clips,)]
        Nan where there is no answer.
    """

    ids: tuple[str, ...]
    emotions: tuple[str, ...]
    probabilities: np.ndarray
    dimensions: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    def predicted(self) -> np.ndarray:
        """Return the index of each clip's likeliest emotion; -1 where there is no answer."""
        answered = ~np.isnan(self.probabilities).any(1)
        return np.where(answered, np.nan_to_num(self.probabilities).argmax(1), -1)

    def has_prediction(self) -> np.ndarray:
        """Tell of each clip whether it has an answer: emotions, or any dimension."""
        told = [~np.isnan(self.probabilities).all(1)] if self.emotions else []
        told += [~np.isnan(values) for values in self.dimensions.values()]
        return np.any(told, axis=0) if told else np.zeros(len(self), dtype=bool)

    def at(self, ids: Sequence[str]) -> "Posterior":
        """Return the rows of these clips, in this order.

        Raises
        ------
        PosteriorMismatch
            Some are not there.
        """
        ids = tuple(ids)
        if ids == self.ids:
            return self
        row = {clip: r for r, clip in enumerate(self.ids)}
        absent = [clip for clip in ids if clip not in row]
        if absent:
            raise PosteriorMismatch(f"{len(absent)} of {len(ids)} clips have no posterior: {listing(absent)}")
        rows = [row[clip] for clip in ids]
        dimensions = {name: values[rows] for name, values in self.dimensions.items()}
        return Posterior(tuple(ids), self.emotions, self.probabilities[rows], dimensions)

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
                f"emotions differ: only here {sorted(here - there) or 'none'}, "
                f"only there {sorted(there - here) or 'none'}"
            )
        columns = [self.emotions.index(emotion) for emotion in emotions]
        return Posterior(self.ids, tuple(emotions), self.probabilities[:, columns], self.dimensions)

    @classmethod
    def read(cls, path: str | Path, *, logits: bool = False) -> "Posterior":
        """Read a CSV or Parquet file.

        Parameters
        ----------
        path : path
        logits : bool
            The emotion columns are logits: take their softmax.

        Raises
        ------
        PosteriorMismatch
            No ``id``, ids twice, text where a number belongs; rows that do not sum to one, but for
            what rounding to two decimals explains, or logits that do.
        """
        path = Path(path)
        ids, columns = _columns(path)
        named = {c: v for c, v in columns.items() if c.startswith(PREFIX) or c in DIMENSIONS}
        emotions = tuple(c for c in columns if c not in named)
        values = np.stack([columns[c] for c in emotions], 1) if emotions else np.zeros((len(ids), 0))
        if logits:
            values = softmax(_checked_logits(path, values))
        elif emotions:
            values = _summing_to_one(path, ids, values)
        return cls(ids, emotions, values, {c.removeprefix(PREFIX): v for c, v in named.items()})

    def write(self, path: str | Path) -> None:
        """Write CSV or Parquet, by the ending."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        numbers = dict(zip(self.emotions, self.probabilities.T, strict=True))
        numbers |= {PREFIX + name: values for name, values in self.dimensions.items()}
        if path.suffix == ".parquet":
            import pyarrow
            import pyarrow.parquet

            pyarrow.parquet.write_table(pyarrow.table({"id": list(self.ids), **numbers}), path)
            return
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["id", *numbers])
            for row, clip in enumerate(self.ids):
                cells = (float(values[row]) for values in numbers.values())
                writer.writerow([clip, *("" if np.isnan(x) else f"{x:.9g}" for x in cells)])


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return probabilities of logits, over the last axis; a row of nan stays one."""
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return np.asarray(powers / powers.sum(-1, keepdims=True))


def _columns(path: Path) -> tuple[tuple[str, ...], dict[str, np.ndarray]]:
    if not path.is_file():
        raise PosteriorError(
            f"{path} does not exist. Expected a posterior (CSV or Parquet, from any tool) or a run folder."
        )
    if path.suffix == ".parquet":
        import pyarrow.parquet

        table = pyarrow.parquet.read_table(path).to_pydict()
        header, rows = list(table), list(map(list, zip(*table.values(), strict=True)))
    else:
        with path.open(newline="", encoding="utf-8-sig") as file:
            header, *rows = list(csv.reader(file)) or [[]]
    if "id" not in header or len(set(header)) < len(header):
        raise PosteriorMismatch(
            f"{path} has the columns {listing(header)}; wanted 'id', one column an emotion, and "
            f"'{PREFIX}NAME' for dimensions, each once"
        )
    ids = tuple(str(row[header.index("id")]) for row in rows)
    if len(set(ids)) < len(ids):
        raise PosteriorMismatch(f"{path}: ids more than once: {listing(i for i, n in Counter(ids).items() if n > 1)}")
    columns = {}
    for c, name in enumerate(header):
        if name == "id":
            continue
        try:
            cells = (row[c] for row in rows)
            columns[name] = np.array([np.nan if x in ("", None) else float(x) for x in cells])
        except (ValueError, IndexError) as error:
            if name in OF_A_MANIFEST:
                raise PosteriorMismatch(
                    f"{path} looks like a manifest (it has the column {name!r}); wanted a "
                    "posterior or a run's folder here, and a manifest as --manifest"
                ) from None
            raise PosteriorMismatch(f"{path}, column {name!r}: {error}") from None
    return ids, columns


def _summing_to_one(path: Path, ids: tuple[str, ...], values: np.ndarray) -> np.ndarray:
    sums, some = values.sum(1), ~np.isnan(values).all(1)
    wrong = some & ~_like_probabilities(values)
    if wrong.any():
        bad = [ids[i] for i in np.flatnonzero(wrong)]
        percent = np.nanmedian(sums) > 50 and np.nanmin(values) >= 0
        hint = "percentages? then divide by 100" if percent else "logits? then say --logits"
        raise PosteriorMismatch(
            f"{path}: probabilities of {len(bad)} clips are negative or do not sum to one "
            f"({listing(bad)}); are they {hint}"
        )
    rounded = some & (abs(sums - 1) > TOLERANCE)
    return np.where(rounded[:, None], values / sums[:, None], values)


def _checked_logits(path: Path, values: np.ndarray) -> np.ndarray:
    answered = ~np.isnan(values).any(1)
    if answered.any() and _like_probabilities(values[answered]).all():
        raise PosteriorMismatch(f"{path} holds probabilities already: every row sums to one; leave out --logits")
    return values


def _like_probabilities(values: np.ndarray) -> np.ndarray:
    """Tell of each row whether it sums to one, but for what rounding to two decimals explains."""
    off = abs(values.sum(1) - 1)
    return np.asarray((values >= 0).all(1) & (off <= TOLERANCE + ROUNDED * values.shape[1]))
