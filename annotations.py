"""Labels over time: valence and arousal at every moment of a long recording.

On disk, a track is a CSV file with one column per dimension and, unless it is sampled at a constant
rate, a column ``time`` in seconds from the start of the clip. An empty field or ``nan`` means not
annotated.
"""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .errors import ManifestError, suggestion

DIMENSIONS = ("valence", "arousal")


class Track(NamedTuple):
    """Dimensional labels of one clip over time.

    Attributes
    ----------
    times : ndarray [shape=(steps,)]
        Increasing times in seconds from the start of the clip.
    values : ndarray [shape=(steps, dimensions)]
        Labels; nan where not annotated.
    dimensions : tuple of str
        Names of the columns of `values`.
    """

    times: np.ndarray
    values: np.ndarray
    dimensions: tuple[str, ...] = DIMENSIONS

    def select(self, dimensions: Sequence[str]) -> np.ndarray:
        """Return the labels of some dimensions: shape (steps, dimensions), nan for an absent dimension."""
        found = np.full((len(self.times), len(dimensions)), np.nan)
        for column, name in enumerate(dimensions):
            if name in self.dimensions:
                found[:, column] = self.values[:, self.dimensions.index(name)]
        return found

    def compensate_delay(self, delay: float) -> "Track":
        """Return the track shifted `delay` seconds earlier, because annotators react with a delay.

        Labels that fall before the start of the clip are dropped.
        """
        times = self.times - delay
        kept = times >= 0
        return Track(times[kept], self.values[kept], self.dimensions)

    def smoothed(self, seconds: float) -> "Track":
        """Return the moving average over a window of some seconds centred on each step; nan stays nan."""
        if seconds <= 0 or not len(self.times):
            return self
        start = np.searchsorted(self.times, self.times - seconds / 2, side="left")
        end = np.searchsorted(self.times, self.times + seconds / 2, side="right")
        known = np.isfinite(self.values)
        sums, counts = (
            np.concatenate([np.zeros((1, a.shape[1])), np.cumsum(a, axis=0)])
            for a in (np.where(known, self.values, 0.0), known.astype(float))
        )
        total, n = sums[end] - sums[start], counts[end] - counts[start]
        mean = np.divide(total, n, out=np.full_like(total, np.nan), where=n > 0)
        return Track(self.times, np.where(known, mean, np.nan), self.dimensions)

    def write(self, path: str | Path) -> None:
        """Write a CSV file; its folder is created."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["time", *self.dimensions])
            for time, row in zip(self.times, self.values, strict=True):
                writer.writerow(
                    [f"{time:.6g}" if time < 1000 else f"{time:.4f}", *("" if np.isnan(v) else f"{v:.6g}" for v in row)]
                )

    @classmethod
    def read(cls, path: str | Path, *, rate: float | None = None) -> "Track":
        """Read a CSV file of labels.

        Parameters
        ----------
        path : str or Path
            File to read.
        rate : float or None
            Values per second of a file without a column ``time``: value i has the time (i + 0.5) /
            rate, the centre of its step.

        Raises
        ------
        ManifestError
            The file does not exist, has no known dimension or a field that is not a number, its times
            do not increase, or it has neither times nor a rate.
        """
        header, values = _read_numbers(Path(path))
        known = [name for name in header if name in DIMENSIONS]
        if not known:
            raise ManifestError(
                f"{path}, line 1: found the columns {', '.join(header) or '(none)'}. Expected 'time' and some of "
                f"{', '.join(DIMENSIONS)}; {suggestion(header[0] if header else '', DIMENSIONS)}"
            )
        if "time" in header:
            times = values[:, header.index("time")]
            if not (np.isfinite(times).all() and (np.diff(times) > 0).all()):
                raise ManifestError(f"{path}, column 'time': expected seconds that increase from line to line.")
        elif rate is not None:
            times = (np.arange(len(values)) + 0.5) / rate
        else:
            raise ManifestError(f"{path} has no column 'time'. Add it (in seconds), or set windows.rate in the recipe.")
        return cls(times, values[:, [header.index(name) for name in known]], tuple(known))


def _read_numbers(path: Path) -> tuple[list[str], np.ndarray]:
    if not path.is_file():
        raise ManifestError(f"{path} does not exist. The manifest names it in the column labels; correct the path.")
    with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
        lines = csv.reader(file)
        header = [name.strip().lower() for name in next(lines, [])]
        rows = [row for row in lines if row]
    ragged = next((i for i, row in enumerate(rows, 2) if len(row) != len(header)), None)
    if ragged is not None:
        raise ManifestError(f"{path}, line {ragged}: expected {len(header)} fields, as in line 1.")
    values = np.full((len(rows), len(header)), np.nan)
    for i, row in enumerate(rows):
        for j, cell in enumerate(row):
            try:
                values[i, j] = float(cell) if cell.strip() else np.nan
            except ValueError:
                raise ManifestError(
                    f"{path}, line {i + 2}, column {header[j]!r}: {cell[:40]!r} is not a number. "
                    "Leave the field empty where it is not annotated."
                ) from None
    return header, values
