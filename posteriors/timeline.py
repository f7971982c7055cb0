"""A recording's posteriors over time: what is exported, smoothed, and shown beside the video."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ..annotations import Track
from ..errors import PosteriorMismatch
from .labels import MISSING
from .over_time import frame_ids
from .posterior import Posterior

FORMATS = (".csv", ".json", ".TextGrid", ".eaf")


@dataclass(frozen=True)
class Timeline:
    """Windows of one recording, in order.

    Attributes
    ----------
    name : str
        Of the recording.
    start, end : ndarray [shape=(windows,)]
        Seconds that each answer stands for; one's end is the next one's start.
    emotions : tuple of str
    probabilities : ndarray [shape=(windows, emotions)]
        Nan where there is no answer.
    dimensions : dict of str to ndarray [shape=(windows,)]
    media : Path or None
        The recording.
    """

    name: str
    start: np.ndarray
    end: np.ndarray
    emotions: tuple[str, ...]
    probabilities: np.ndarray
    dimensions: Mapping[str, np.ndarray] = field(default_factory=dict)
    media: Path | None = None

    def __len__(self) -> int:
        return len(self.start)

    @property
    def middle(self) -> np.ndarray:
        """Seconds in the middle of each window."""
        return np.asarray((self.start + self.end) / 2)

    @property
    def posterior(self) -> Posterior:
        """The same as a posterior over time: a row a window, ids ``NAME@SECONDS``."""
        ids = tuple(frame_ids(self.name, self.middle))
        return Posterior(ids, self.emotions, self.probabilities, self.dimensions)

    def smoothed(self, seconds: float) -> "Timeline":
        """Return the moving average over so many seconds, centred; windows without answer stay so.

        Probabilities still sum to one.
        """
        columns = np.column_stack([self.probabilities, *self.dimensions.values()])
        even = Track(self.middle, columns).smoothed(seconds).values
        n = len(self.emotions)
        dimensions = {name: even[:, n + d] for d, name in enumerate(self.dimensions)}
        return replace(self, probabilities=even[:, :n], dimensions=dimensions)

    def segments(self) -> list[tuple[float, float, str]]:
        """Return stretches of one likeliest emotion: start, end, name; empty where no answer."""
        chosen = self.posterior.chosen() if self.emotions else np.full(len(self), MISSING)
        result: list[tuple[float, float, str]] = []
        for start, end, emotion in zip(self.start, self.end, chosen, strict=True):
            name = self.emotions[emotion] if emotion != MISSING else ""
            if result and result[-1][2] == name and math.isclose(result[-1][1], start):
                result[-1] = (result[-1][0], float(end), name)
            else:
                result.append((float(start), float(end), name))
        return result

    def as_json(self) -> dict[str, object]:
        """Return plain numbers, nan as None."""
        return {
            "name": self.name,
            "emotions": list(self.emotions),
            "start": _numbers(self.start),
            "end": _numbers(self.end),
            "probabilities": [_numbers(row) for row in self.probabilities],
            "dimensions": {name: _numbers(values) for name, values in self.dimensions.items()},
        }

    def write(self, path: str | Path) -> None:
        """Write CSV (a posterior over time), JSON, Praat's TextGrid or ELAN's eaf, by the ending.

        Raises
        ------
        PosteriorMismatch
            Another ending.
        """
        from .annotation_tools import elan, praat

        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".csv":
            self.posterior.write(path)
        elif path.suffix == ".json":
            path.write_text(json.dumps(self.as_json(), indent=1) + "\n", encoding="utf-8")
        elif path.suffix == ".TextGrid":
            path.write_text(praat(self), encoding="utf-8")
        elif path.suffix == ".eaf":
            path.write_text(elan(self), encoding="utf-8")
        else:
            raise PosteriorMismatch(
                f"a timeline is not written as {path.suffix or path.name!r}; wanted one of {', '.join(FORMATS)}"
            )


def windows(duration: float, *, every: float, window: float) -> list[tuple[float, float]]:
    """Return the stretches to decode: one in every `every` seconds, each `window` seconds long.

    A stretch is centred on the seconds it stands for; at the ends of a recording it is moved
    inside, and a recording shorter than `window` is one stretch wide.
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
