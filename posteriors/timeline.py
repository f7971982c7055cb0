"""Timelines: the predictions for one recording over time, to export, smooth and show beside the video."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ..annotations import Track
from .labels import MISSING
from .over_time import frame_ids
from .posterior import Posterior


@dataclass(frozen=True)
class Timeline:
    """Predictions for consecutive windows of one recording.

    Attributes
    ----------
    name : str
        Name of the recording.
    start, end : ndarray [shape=(windows,)]
        Seconds that each prediction stands for; the end of one is the start of the next.
    emotions : tuple of str
    probabilities : ndarray [shape=(windows, emotions)]
        Nan where there is no prediction.
    dimensions : dict of str to ndarray [shape=(windows,)]
    media : Path or None
        Path of the recording.
    """

    name: str
    start: np.ndarray
    end: np.ndarray
    emotions: tuple[str, ...]
    probabilities: np.ndarray
    dimensions: Mapping[str, np.ndarray] = field(default_factory=dict)
    media: Path | None = None

    def __repr__(self) -> str:
        return f"<Timeline of {self.name}: {len(self)} predictions>"

    def __len__(self) -> int:
        return len(self.start)

    @property
    def middle(self) -> np.ndarray:
        """Seconds at the middle of each window."""
        return np.asarray((self.start + self.end) / 2)

    @property
    def posterior(self) -> Posterior:
        """The predictions as a posterior over time: one row per window, with ids ``NAME@SECONDS``."""
        ids = tuple(frame_ids(self.name, self.middle))
        return Posterior(ids, self.emotions, self.probabilities, self.dimensions)

    def smoothed(self, seconds: float) -> "Timeline":
        """Return the centred moving average over this many seconds.

        Windows without a prediction stay without one, and probabilities still sum to one.
        """
        columns = np.column_stack([self.probabilities, *self.dimensions.values()])
        averages = Track(self.middle, columns).smoothed(seconds).values
        n = len(self.emotions)
        dimensions = {name: averages[:, n + d] for d, name in enumerate(self.dimensions)}
        return replace(self, probabilities=averages[:, :n], dimensions=dimensions)

    def segments(self) -> list[tuple[float, float, str]]:
        """Return start, end and name of each span with one predicted emotion; no prediction has an empty name."""
        result: list[tuple[float, float, str]] = []
        for start, end, emotion in zip(self.start, self.end, self.posterior.predicted(), strict=True):
            name = self.emotions[emotion] if emotion != MISSING else ""
            if result and result[-1][2] == name and math.isclose(result[-1][1], start):
                result[-1] = (result[-1][0], float(end), name)
            else:
                result.append((float(start), float(end), name))
        return result

    def as_json(self) -> dict[str, object]:
        """Return the timeline as plain numbers, with None for nan."""
        return {
            "name": self.name,
            "emotions": list(self.emotions),
            "start": _numbers(self.start),
            "end": _numbers(self.end),
            "probabilities": [_numbers(row) for row in self.probabilities],
            "dimensions": {name: _numbers(values) for name, values in self.dimensions.items()},
        }


def windows(duration: float, *, every: float, window: float) -> list[tuple[float, float]]:
    """Return start and end of the windows to decode.

    There is one window per `every` seconds, centred on them and `window` seconds long. At the ends of a recording it
    is moved inside, and a recording shorter than `window` is one window as a whole.
    """
    n = max(1, math.ceil(duration / every - 1e-9))
    width = min(window, duration)
    result = []
    for i in range(n):
        middle = (i * every + min((i + 1) * every, duration)) / 2
        start = min(max(middle - width / 2, 0.0), duration - width)
        result.append((start, start + width))
    return result


def _numbers(values: np.ndarray) -> list[float | None]:
    return [None if math.isnan(x) else round(float(x), 5) for x in values]
