"""Features that wait for their shard: memory does not grow with a clip's length."""

import tempfile
from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from ._commit import writing
from ._reader import Features

ROOM = 4 << 20
"""Bytes of a clip that wait in memory; what is beyond waits in a file without a name."""


class _Place(NamedTuple):
    start: int
    shape: tuple[int, ...]
    dtype: np.dtype


class Spool:
    """Holds the features of several clips, each of which comes in pieces.

    Parameters
    ----------
    folder : Path
        Where the file is made, once it is needed; it has no name there and ends with the spool.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._clips: dict[Hashable, Spooled] = {}
        self._file: IO[bytes] | None = None

    def __enter__(self) -> "Spool":
        return self

    def __exit__(self, *failure: object) -> None:
        if self._file is not None:
            self._file.close()

    def put(self, clip: Hashable, piece: Features) -> None:
        """Append to a clip's features.

        Raises
        ------
        EnvironmentFailure
            Disk full, no permission.
        """
        self._clips.setdefault(clip, Spooled(self)).append(piece)

    def take(self, clip: Hashable) -> "Spooled | None":
        """Return a clip's features; None where there are none."""
        return self._clips.pop(clip, None)

    def write(self, array: np.ndarray) -> _Place:
        """Append an array to the file; return where it is."""
        with writing(self.folder, array.nbytes):
            if self._file is None:
                self._file = tempfile.TemporaryFile(dir=self.folder, buffering=1 << 20)  # noqa: SIM115
            place = _Place(self._file.seek(0, 2), array.shape, array.dtype)
            self._file.write(np.ascontiguousarray(array).data)
            self._file.flush()
        return place

    def read(self, place: _Place) -> np.ndarray:
        """Return an array that is in the file."""
        assert self._file is not None
        array = np.empty(place.shape, place.dtype)
        self._file.seek(place.start)
        self._file.readinto(array.data.cast("B"))  # type: ignore[attr-defined]
        return array


class Spooled:
    """One clip's features; walking it yields them in the pieces in which they came.

    Attributes
    ----------
    n_frames : int
    finite : bool
    """

    def __init__(self, spool: Spool) -> None:
        self.n_frames, self.finite = 0, True
        self._spool = spool
        self._moved: list[tuple[_Place, _Place]] = []
        self._held: list[Features] = []

    def append(self, piece: Features) -> None:
        """Take one more piece."""
        self.n_frames += len(piece.values)
        self.finite &= bool(np.isfinite(piece.values).all())
        self._held.append(piece)
        if sum(values.nbytes for values, _ in self._held) > ROOM:
            write = self._spool.write
            self._moved += [(write(values), write(times)) for values, times in self._held]
            self._held = []

    def __iter__(self) -> Iterator[Features]:
        for places in self._moved:
            yield Features(*map(self._spool.read, places))
        yield from self._held
