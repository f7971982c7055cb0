"""Reading of computational sequences, the HDF5 files in which CMU publishes features and labels.

A file holds one group, named after the sequence, with ``data/<segment>/features`` and
``data/<segment>/intervals``. The files come from other people, so only plain numbers of bounded size
inside the file itself are read: links, external or virtual storage, and unknown filters are refused.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from ..errors import ManifestError, listing

MAX_SIZE = 1 << 20
"""Largest number of values of one data set."""


class Segment(NamedTuple):
    """One entry of a sequence.

    Attributes
    ----------
    name : str
    features : ndarray [shape=(steps, dim)]
        Features or labels.
    intervals : ndarray [shape=(steps, 2)]
        Start and end of each step in seconds.
    """

    name: str
    features: np.ndarray
    intervals: np.ndarray


def segments(path: Path) -> Iterator[Segment]:
    """Yield the entries of a computational sequence, in the order of the file; anything but plain numbers raises."""
    try:
        file = h5py.File(path, "r")
    except OSError:
        raise ManifestError(f"{path} is not an HDF5 file. Expected a .csd file as it was distributed.") from None
    with file:
        roots = [name for name in file if isinstance(_member(path, file, name), h5py.Group)]
        if len(roots) != 1:
            raise ManifestError(f"{path} holds the groups {listing(roots) or '(none)'}; expected one sequence.")
        data = _member(path, file[roots[0]], "data")
        for name in data:
            entry = _member(path, data, name)
            yield Segment(name, *(_numbers(path, entry, n) for n in ("features", "intervals")))


def _member(path: Path, group: Any, name: str) -> Any:
    if name not in group:
        raise ManifestError(f"{path}: no {name!r} in {group.name}. Expected a sequence as it was distributed.")
    if not isinstance(group.get(name, getlink=True), h5py.HardLink):
        raise ManifestError(f"{path}: {group.name}/{name} is a link; expected data inside the file.")
    return group[name]


def _numbers(path: Path, group: Any, name: str) -> np.ndarray:
    found = _member(path, group, name)
    plain = (
        isinstance(found, h5py.Dataset)
        and found.dtype.kind in "fiu"
        and found.ndim == 2
        and found.size <= MAX_SIZE
        and not found.is_virtual
        and found.external is None
        and found.compression in (None, "gzip", "lzf")
    )
    if not plain:
        raise ManifestError(f"{path}: {group.name}/{name} is not a plain table of at most {MAX_SIZE:,} numbers.")
    return np.asarray(found[()], dtype=float)
