"""Buffer for features that wait for their shard; memory does not grow with the length of a clip."""

import tempfile
from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ._commit import writing
from ._reader import Features

MEMORY_LIMIT = 8 << 20
"""Bytes that are held in memory; a longer buffer moves to a temporary file without a name."""


class _Location(NamedTuple):
    start: int
    shape: tuple[int, ...]
    dtype: np.dtype


class Spool:
    """Buffered features of several clips, each of which arrives in pieces.

    Used as a context manager: leaving it removes the features.

    Parameters
    ----------
    folder : Path
        Folder of the temporary file, which is created when it is needed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._clips: dict[Hashable, Spooled] = {}
        self._file = tempfile.SpooledTemporaryFile(MEMORY_LIMIT, dir=str(folder))  # noqa: SIM115

    def __enter__(self) -> "Spool":
        return self

    def __exit__(self, *failure: object) -> None:
        self._file.close()

    def put(self, clip: Hashable, piece: Features) -> None:
        """Append a piece to the features of a clip.

        Raises
        ------
        EnvironmentFailure
            The disk is full, or permission is missing.
        """
        self._clips.setdefault(clip, Spooled(self)).append(piece)

    def take(self, clip: Hashable) -> "Spooled | None":
        """Return the features of a clip once, or None where there are none."""
        return self._clips.pop(clip, None)

    def write(self, array: np.ndarray) -> _Location:
        """Append an array to the buffer and return its location."""
        with writing(self.folder, array.nbytes):
            location = _Location(self._file.seek(0, 2), array.shape, array.dtype)
            self._file.write(np.ascontiguousarray(array).data)
            self._file.flush()  # so that a full disk is reported here
        return location

    def read(self, location: _Location) -> np.ndarray:
        """Return the array at a location."""
        array = np.empty(location.shape, location.dtype)
        self._file.seek(location.start)
        self._file.readinto(array.reshape(-1).view(np.uint8).data)
        return array


class Spooled:
    """Features of one clip; iterating yields them in the pieces in which they arrived.

    Attributes
    ----------
    n_frames : int
        Number of feature vectors so far.
    finite : bool
        Whether all values are finite.
    """

    def __init__(self, spool: Spool) -> None:
        self.n_frames, self.finite = 0, True
        self._spool = spool
        self._pieces: list[tuple[_Location, _Location]] = []

    def append(self, piece: Features) -> None:
        """Append one piece."""
        self.n_frames += len(piece.values)
        self.finite &= bool(np.isfinite(piece.values).all())
        self._pieces.append((self._spool.write(piece.values), self._spool.write(piece.times)))

    def __iter__(self) -> Iterator[Features]:
        for values, times in self._pieces:
            yield Features(self._spool.read(values), self._spool.read(times))
