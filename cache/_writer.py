"""Writing of shards and merged files of any size in a few megabytes of memory.

HDF5 only lays a file out, in memory; the numbers go to disk by plain writes. On a full disk, HDF5
would be left with a file that it can neither write nor close, and would abort the process later.
Features of long clips wait for their shard in a `Spool`, a temporary file.
"""

import contextlib
import hashlib
import io
import json
import os
import tempfile
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from ..errors import StoreError
from ._commit import commit, temporary_path, writing
from ._reader import BLOCK, Features, Row, first_block, index_line

STEP = 4096
"""Number of feature vectors that are processed at a time."""

Rows = Sequence[tuple[Row, Features | Iterable[Features] | None]]
"""Outcome and features of each clip; features may come in pieces that are made when they are written."""


class KeyContent(NamedTuple):
    """Content of a file under one key."""

    specification: Mapping[str, Any]
    rows: Rows


class FileLayout:
    """Layout of a shard or merged file: `size` in bytes and the position of everything, before anything is written.

    `contents` is the content of the file by key. `Row.n_frames` is the number of feature vectors of a clip.
    """

    def __init__(self, contents: Mapping[str, KeyContent]) -> None:
        import h5py

        self.contents = contents
        self._skeleton = _RecordedWrites()
        index: dict[str, Any] = {}
        with h5py.File(self._skeleton, "w") as file:
            for key, content in contents.items():
                group = file.create_group(key)
                arrays = {n: _allocate(group, n, shape, dtype) for n, (shape, dtype) in _arrays(content).items()}
                index[key] = {
                    "specification": dict(content.specification),
                    "rows": [asdict(row) for row, _ in content.rows],
                    "arrays": arrays,
                }
            self._index = json.dumps(index, sort_keys=True, allow_nan=False).encode()
            self._index_offset = _allocate(file, "index", (len(self._index),), np.dtype(np.uint8))["offset"]
        self._arrays = {key: entry["arrays"] for key, entry in index.items()}
        self.size = BLOCK + self._skeleton.size

    def write(self, path: Path) -> str:
        """Write, sync and commit the file; return ``written`` or ``already`` as `FeatureStore.write` does."""
        temporary = temporary_path(path)
        try:
            with temporary.open("x+b") as file:
                self._fill(file)
                file.flush()
                os.fsync(file.fileno())
            return commit(temporary, path)
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink()

    def _fill(self, file: IO[bytes]) -> None:
        for offset, data in self._skeleton.written:
            _write_at(file, offset, data)
        file.truncate(self.size)
        for key, content in self.contents.items():
            arrays = self._arrays[key]
            lengths = [0 if features is None else row.n_frames for row, features in content.rows]
            _write_at(file, arrays["offsets"]["offset"], np.cumsum([0, *lengths], dtype=np.int64).tobytes())
            ends = {name: arrays[name]["offset"] for name in ("values", "times")}
            for piece in _checked(content, np.dtype(arrays["values"]["dtype"])):
                for name, array in piece._asdict().items():
                    _write_at(file, ends[name], array.data)
                    ends[name] += array.nbytes
        _write_at(file, self._index_offset, self._index)
        self._write_first_block(file)

    def _write_first_block(self, file: IO[bytes]) -> None:
        line = index_line(self._index, self._index_offset)
        digest = hashlib.blake2b(line, digest_size=32)
        file.seek(BLOCK)
        while data := file.read(1 << 20):
            digest.update(data)
        file.seek(0)
        file.write(first_block(digest.hexdigest().encode(), line))


class _RecordedWrites(io.RawIOBase):
    """A file without content that records what HDF5 writes, in order."""

    def __init__(self) -> None:
        self.written: list[tuple[int, bytes]] = []
        self.size = self._position = 0

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}[whence]
        return self._position

    def tell(self) -> int:
        return self._position

    def truncate(self, size: int | None = None) -> int:
        self.size = self._position if size is None else size
        return self.size

    def write(self, data: Any) -> int:
        self.written.append((self._position, bytes(data)))
        self._position += len(self.written[-1][1])
        self.size = max(self.size, self._position)
        return len(self.written[-1][1])


def _allocate(group: Any, name: str, shape: tuple[int, ...], dtype: np.dtype) -> dict[str, Any]:
    """Reserve contiguous space for an array without writing it."""
    from h5py import h5d, h5p, h5s, h5t

    settings = h5p.create(h5p.DATASET_CREATE)
    settings.set_layout(h5d.CONTIGUOUS)
    settings.set_alloc_time(h5d.ALLOC_TIME_EARLY)
    settings.set_fill_time(h5d.FILL_TIME_NEVER)
    settings.set_obj_track_times(False)
    space, kind = h5s.create_simple(shape), h5t.py_create(dtype)
    dataset = h5d.create(group.id, name.encode(), kind, space, settings)
    return {"offset": dataset.get_offset() or 0, "shape": list(shape), "dtype": str(dtype)}


def _arrays(content: KeyContent) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
    n = sum(row.n_frames for row, features in content.rows if features is not None)
    dtype = np.dtype(content.specification.get("dtype", "float16"))
    return {
        "values": ((n, *_vector_shape(content)), dtype),
        "times": ((n,), np.dtype(np.float32)),
        "offsets": ((len(content.rows) + 1,), np.dtype(np.int64)),
    }


def _vector_shape(content: KeyContent) -> tuple[int, ...]:
    layers, dim = content.specification.get("n_layers"), int(content.specification["dim"])
    return (dim,) if layers is None else (int(layers), dim)


def _write_at(file: IO[bytes], offset: int, data: Any) -> None:
    file.seek(BLOCK + offset)
    file.write(data)


def _checked(content: KeyContent, dtype: np.dtype) -> Iterator[Features]:
    """Yield the features as they are stored, after checking shape, number and finiteness."""
    shape = _vector_shape(content)
    for row, features in content.rows:
        n = 0
        for values, times in () if features is None else pieces(features):
            if values.shape[1:] != shape or len(values) != len(times):
                raise StoreError(
                    f"Features of clip {row.id!r} have shape {values.shape} and {len(times)} times; "
                    f"expected (time, {', '.join(map(str, shape))}) and one time per vector."
                )
            with np.errstate(over="ignore"):
                values = np.ascontiguousarray(values, dtype)
            if not np.isfinite(values).all():
                raise StoreError(f"Features of clip {row.id!r} are not finite in {dtype}.")
            yield Features(values, np.ascontiguousarray(times, np.float32))
            n += len(values)
        if features is not None and n != row.n_frames:
            raise StoreError(f"Clip {row.id!r} has {n} feature vectors but its row says {row.n_frames}.")


def pieces(features: Features | Iterable[Features]) -> Iterator[Features]:
    """Yield the features of a clip, at most `STEP` vectors at a time."""
    for values, times in [features] if isinstance(features, Features) else features:
        for i in range(0, max(len(values), len(times)), STEP):
            yield Features(values[i : i + STEP], times[i : i + STEP])


MEMORY_LIMIT = 8 << 20
"""Bytes that are held in memory; a longer buffer moves to a temporary file without a name."""


class _Location(NamedTuple):
    start: int
    shape: tuple[int, ...]
    dtype: np.dtype


class Spool:
    """Buffered features of several clips, each of which arrives in pieces; leaving the context removes them.

    `folder` holds the temporary file, which is created when it is needed.
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
        """Append a piece to the features of a clip; a full disk raises `EnvironmentFailure`."""
        self._clips.setdefault(clip, Spooled(self)).append(piece)

    def take(self, clip: Hashable) -> "Spooled | None":
        """Return the features of a clip once, or None where there are none."""
        return self._clips.pop(clip, None)

    def write(self, array: np.ndarray) -> _Location:
        with writing(self.folder, array.nbytes):
            location = _Location(self._file.seek(0, 2), array.shape, array.dtype)
            self._file.write(np.ascontiguousarray(array).data)
            self._file.flush()  # so that a full disk is reported here
        return location

    def read(self, location: _Location) -> np.ndarray:
        array = np.empty(location.shape, location.dtype)
        self._file.seek(location.start)
        self._file.readinto(array.reshape(-1).view(np.uint8).data)
        return array


class Spooled:
    """Features of one clip; iterating yields them in the pieces in which they arrived."""

    def __init__(self, spool: Spool) -> None:
        self.n_frames, self.finite = 0, True
        self._spool = spool
        self._pieces: list[tuple[_Location, _Location]] = []

    def append(self, piece: Features) -> None:
        self.n_frames += len(piece.values)
        self.finite &= bool(np.isfinite(piece.values).all())
        self._pieces.append((self._spool.write(piece.values), self._spool.write(piece.times)))

    def __iter__(self) -> Iterator[Features]:
        for values, times in self._pieces:
            yield Features(self._spool.read(values), self._spool.read(times))
