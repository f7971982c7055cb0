"""Computational sequences: CMU's HDF5 files of features and labels, from strangers.

A file holds one group, named after the sequence; in it ``data/<segment>/features`` and
``data/<segment>/intervals``. Only plain numbers of bounded size that lie in the file itself are
read: links, external and virtual storage, and foreign filters are refused.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from ..errors import ManifestError, listing

MOST = 1 << 20
FILTERS = {None, "gzip", "lzf"}


class Segment(NamedTuple):
    """One entry of a sequence.

    Attributes
    ----------
    name : str
    features : ndarray [shape=(steps, dim)]
    intervals : ndarray [shape=(steps, 2)]
        Start and end, seconds.
    """

    name: str
    features: np.ndarray
    intervals: np.ndarray


def segments(path: Path) -> Iterator[Segment]:
    """Yield the entries of a computational sequence, in the file's order.

    Raises
    ------
    ManifestError
        Not such a file, or one that holds anything else than plain numbers.
    """
    try:
        file = h5py.File(path, "r")
    except OSError:
        raise ManifestError(f"{path} is not an HDF5 file; wanted a .csd file as released") from None
    with file:
        roots = [name for name in file if isinstance(_member(path, file, name), h5py.Group)]
        if len(roots) != 1:
            raise ManifestError(f"{path} holds the groups {listing(roots) or '(none)'}; wanted one sequence")
        data = _member(path, file[roots[0]], "data")
        for name in data:
            entry = _member(path, data, name)
            yield Segment(name, *(_numbers(path, entry, n) for n in ("features", "intervals")))


def _member(path: Path, group: Any, name: str) -> Any:
    if name not in group:
        raise ManifestError(f"{path}: no {name!r} in {group.name}; wanted a sequence as released")
    if not isinstance(group.get(name, getlink=True), h5py.HardLink):
        raise ManifestError(f"{path}: {group.name}/{name} is a link; wanted data in the file")
    return group[name]


def _numbers(path: Path, group: Any, name: str) -> np.ndarray:
    found = _member(path, group, name)
    plain = (
        isinstance(found, h5py.Dataset)
        and found.dtype.kind in "fiu"
        and found.ndim == 2
        and found.size <= MOST
        and not found.is_virtual
        and found.external is None
        and found.compression in FILTERS
    )
    if not plain:
        raise ManifestError(f"{path}: {group.name}/{name} is not a plain table of numbers of at most {MOST:,}")
    return np.asarray(found[()], dtype=float)
