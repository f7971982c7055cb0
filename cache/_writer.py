"""Writes shards and merged files, of any size in a few megabytes of memory.

HDF5 only lays a file out, in memory: on a full disk it would be left with a file that it can
neither write nor close, and end the process later. The numbers go to disk by plain writes.
"""

import contextlib
import hashlib
import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from ..errors import StoreError
from ._commit import commit, spare_name
from ._reader import BLOCK, Features, Row, block, index_line

STEP = 4096
"""Feature vectors that are handled at a time."""

Rows = Sequence[tuple[Row, Features | Iterable[Features] | None]]
"""A clip's features may come in pieces, made when they are written."""


class KeyContent(NamedTuple):
    """What a file holds of one key."""

    specification: Mapping[str, Any]
    rows: Rows


class FileLayout:
    """Where everything will stand in a file.

    Parameters
    ----------
    parts : mapping of str to KeyContent
        By key. `Row.n_frames` says how many feature vectors a clip will bring.

    Attributes
    ----------
    size : int
        Bytes of the file.
    """

    def __init__(self, parts: Mapping[str, KeyContent]) -> None:
        import h5py

        self.parts = parts
        self._skeleton = _Writes()
        index: dict[str, Any] = {}
        with h5py.File(self._skeleton, "w") as file:
            for key, part in parts.items():
                group = file.create_group(key)
                places = {name: _reserve(group, name, shape, dtype) for name, (shape, dtype) in _shapes(part).items()}
                index[key] = {
                    "specification": dict(part.specification),
                    "rows": [asdict(row) for row, _ in part.rows],
                    "arrays": places,
                }
            self._text = json.dumps(index, sort_keys=True, allow_nan=False).encode()
            self._index = _reserve(file, "index", (len(self._text),), np.dtype(np.uint8))["offset"]
        self._places = {key: entry["arrays"] for key, entry in index.items()}
        self.size = BLOCK + self._skeleton.size

    def write(self, place: Path) -> str:
        """Write, sync and commit the file, as `FeatureStore.write` says."""
        spare = spare_name(place)
        try:
            with spare.open("x+b") as file:
                self._fill(file)
                file.flush()
                os.fsync(file.fileno())
            return commit(spare, place)
        finally:
            with contextlib.suppress(OSError):
                spare.unlink()

    def _fill(self, file: IO[bytes]) -> None:
        for at, data in self._skeleton.written:
            _put(file, at, data)
        file.truncate(self.size)
        for key, part in self.parts.items():
            places = self._places[key]
            _put(file, places["offsets"]["offset"], _offsets(part).tobytes())
            dtype = np.dtype(places["values"]["dtype"])
            ends = {name: places[name]["offset"] for name in ("values", "times")}
            for piece in _checked(part, dtype):
                for name, array in piece._asdict().items():
                    _put(file, ends[name], array.data)
                    ends[name] += array.nbytes
        _put(file, self._index, self._text)
        self._seal(file)

    def _seal(self, file: IO[bytes]) -> None:
        place = index_line(self._text, self._index)
        digest = hashlib.blake2b(place, digest_size=32)
        file.seek(BLOCK)
        while data := file.read(1 << 20):
            digest.update(data)
        file.seek(0)
        file.write(block(digest.hexdigest().encode(), place))


class _Writes(io.RawIOBase):
    """A file without contents: keeps what was written, in order."""

    def __init__(self) -> None:
        self.written: list[tuple[int, bytes]] = []
        self.size = self._at = 0

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self.size}[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def truncate(self, size: int | None = None) -> int:
        self.size = self._at if size is None else size
        return self.size

    def write(self, data: Any) -> int:
        self.written.append((self._at, bytes(data)))
        self._at += len(self.written[-1][1])
        self.size = max(self.size, self._at)
        return len(self.written[-1][1])


def _reserve(group: Any, name: str, shape: tuple[int, ...], dtype: np.dtype) -> dict[str, Any]:
    """Make room for an array in one piece, without writing it."""
    from h5py import h5d, h5p, h5s, h5t

    settings = h5p.create(h5p.DATASET_CREATE)
    settings.set_layout(h5d.CONTIGUOUS)
    settings.set_alloc_time(h5d.ALLOC_TIME_EARLY)
    settings.set_fill_time(h5d.FILL_TIME_NEVER)
    settings.set_obj_track_times(False)
    space, kind = h5s.create_simple(shape), h5t.py_create(dtype)
    made = h5d.create(group.id, name.encode(), kind, space, settings)
    return {"offset": made.get_offset() or 0, "shape": list(shape), "dtype": str(dtype)}


def _shapes(part: KeyContent) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
    n = sum(row.n_frames for row, features in part.rows if features is not None)
    dtype = np.dtype(part.specification.get("dtype", "float16"))
    return {
        "values": ((n, *_step(part)), dtype),
        "times": ((n,), np.dtype(np.float32)),
        "offsets": ((len(part.rows) + 1,), np.dtype(np.int64)),
    }


def _step(part: KeyContent) -> tuple[int, ...]:
    layers, dim = part.specification.get("n_layers"), int(part.specification["dim"])
    return (dim,) if layers is None else (int(layers), dim)


def _offsets(part: KeyContent) -> np.ndarray:
    lengths = [0 if features is None else row.n_frames for row, features in part.rows]
    return np.cumsum([0, *lengths], dtype=np.int64)


def _put(file: IO[bytes], at: int, data: Any) -> None:
    file.seek(BLOCK + at)
    file.write(data)


def _checked(part: KeyContent, dtype: np.dtype) -> Iterator[Features]:
    """Walk the features as they are stored."""
    step = _step(part)
    for row, features in part.rows:
        n = 0
        for values, times in () if features is None else pieces(features):
            if values.shape[1:] != step or len(values) != len(times):
                raise StoreError(
                    f"features of clip {row.id!r} have shape {values.shape} and {len(times)} "
                    f"times; wanted (time, {', '.join(map(str, step))})"
                )
            with np.errstate(over="ignore"):
                values = np.ascontiguousarray(values, dtype)
            if not np.isfinite(values).all():
                raise StoreError(f"features of clip {row.id!r} are not finite in {dtype}")
            yield Features(values, np.ascontiguousarray(times, np.float32))
            n += len(values)
        if features is not None and n != row.n_frames:
            raise StoreError(f"clip {row.id!r} has {n} feature vectors and its row says {row.n_frames}")


def pieces(features: Features | Iterable[Features]) -> Iterator[Features]:
    """Walk a clip's features some thousand vectors at a time."""
    for values, times in [features] if isinstance(features, Features) else features:
        for i in range(0, max(len(values), len(times)), STEP):
            yield Features(values[i : i + STEP], times[i : i + STEP])
