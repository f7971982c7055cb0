"""Labels over time: what annotators said at every moment of a long recording.

On disk a track is a CSV with a column a dimension and, unless it is sampled at a constant rate, a
column ``time`` in seconds from the clip's start. An empty field or ``nan`` is not annotated.
"""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .errors import ManifestError, suggestion

DIMENSIONS = ("valence", "arousal")


class Track(NamedTuple):
    """Dimensions over time.

    Attributes
    ----------
    times : ndarray [shape=(steps,)]
        Seconds from the clip's start, rising.
    values : ndarray [shape=(steps, dimensions)]
        Nan where not annotated.
    dimensions : tuple of str
        Names of the columns.
    """

    times: np.ndarray
    values: np.ndarray
    dimensions: tuple[str, ...] = DIMENSIONS

    def of(self, dimensions: Sequence[str]) -> np.ndarray:
        """Return the columns of those dimensions, nan for one that the track lacks."""
        found = np.full((len(self.times), len(dimensions)), np.nan)
        for column, name in enumerate(dimensions):
            if name in self.dimensions:
                found[:, column] = self.values[:, self.dimensions.index(name)]
        return found

    def earlier(self, delay: float) -> "Track":
        """Return the track moved `delay` seconds earlier: annotators answer late.

        What comes to lie before the clip's start is dropped.
        """
        times = self.times - delay
        kept = times >= 0
        return Track(times[kept], self.values[kept], self.dimensions)

    def smoothed(self, seconds: float) -> "Track":
        """Return the moving average over a window centred on each step; nan stays nan."""
        if seconds <= 0 or not len(self.times):
            return self
        from_ = np.searchsorted(self.times, self.times - seconds / 2, side="left")
        to = np.searchsorted(self.times, self.times + seconds / 2, side="right")
        known = np.isfinite(self.values)
        sums, counts = (
            np.concatenate([np.zeros((1, a.shape[1])), np.cumsum(a, axis=0)])
            for a in (np.where(known, self.values, 0.0), known.astype(float))
        )
        total, n = sums[to] - sums[from_], counts[to] - counts[from_]
        mean = np.divide(total, n, out=np.full_like(total, np.nan), where=n > 0)
        return Track(self.times, np.where(known, mean, np.nan), self.dimensions)

    def write(self, path: Path) -> None:
        """Write the CSV; its folder is made."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["time", *self.dimensions])
            for time, row in zip(self.times, self.values, strict=True):
                writer.writerow(
                    [f"{time:.6g}" if time < 1000 else f"{time:.4f}", *("" if np.isnan(v) else f"{v:.6g}" for v in row)]
                )

    @classmethod
    def read(cls, path: Path, *, rate: float | None = None) -> "Track":
        """Read a CSV of labels.

        Parameters
        ----------
        path : Path
        rate : float or None
            Values a second, for a file without a column ``time``: value i stands at (i + 0.5) /
            rate, the middle of its step.

        Raises
        ------
        ManifestError
            No such file, no known dimension, a field that is no number, times that do not rise, or
            neither times nor a rate.
        """
        header, values = _numbers(path)
        known = [name for name in header if name in DIMENSIONS]
        if not known:
            raise ManifestError(
                f"{path}, line 1: columns {', '.join(header) or '(none)'}; wanted 'time' and some "
                f"of {', '.join(DIMENSIONS)}; {suggestion(header[0] if header else '', DIMENSIONS)}"
            )
        if "time" in header:
            times = values[:, header.index("time")]
            if not (np.isfinite(times).all() and (np.diff(times) > 0).all()):
                raise ManifestError(f"{path}, column 'time': wanted seconds that rise line by line")
        elif rate is not None:
            times = (np.arange(len(values)) + 0.5) / rate
        else:
            raise ManifestError(f"{path} has no column 'time'; add one (seconds), or state windows.rate")
        return cls(times, values[:, [header.index(name) for name in known]], tuple(known))


def _numbers(path: Path) -> tuple[list[str], np.ndarray]:
    if not path.is_file():
        raise ManifestError(f"{path} is not a file; a manifest names it as a clip's labels")
    with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
        lines = csv.reader(file)
        header = [name.strip().lower() for name in next(lines, [])]
        rows = [row for row in lines if row]
    ragged = next((i for i, row in enumerate(rows, 2) if len(row) != len(header)), None)
    if ragged is not None:
        raise ManifestError(f"{path}, line {ragged}: wanted {len(header)} fields, as in line 1")
    values = np.full((len(rows), len(header)), np.nan)
    for i, row in enumerate(rows):
        for j, cell in enumerate(row):
            try:
                values[i, j] = float(cell) if cell.strip() else np.nan
            except ValueError:
                raise ManifestError(
                    f"{path}, line {i + 2}, column {header[j]!r}: {cell[:40]!r} is not a number; "
                    "leave it empty where not annotated"
                ) from None
    return header, values
