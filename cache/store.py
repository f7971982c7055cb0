"""Features on disk: a folder of immutable HDF5 shards per encoder key.

A shard is a plain HDF5 file that any tool opens, behind a block of 512 bytes that says where its
index stands and what its digest is. affuse itself reads by that index: bounds are checked, arrays
are mapped, and no byte of a stranger's file reaches an HDF5 parser, so links out of the file,
virtual data sets and object types have nothing to act on.
"""

import contextlib
import hashlib
import json
import math
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..errors import EnvironmentFailure, MissingFeatures, StoreError, suggestion

BLOCK = 512
MAGIC = b"affuse-shard 1"
DTYPES = ("float16", "float32")


@dataclass(frozen=True, slots=True)
class Row:
    """How one clip went.

    Attributes
    ----------
    id : str
    fingerprint : str
        Of the media and the stretch of it; empty for features from elsewhere.
    code : str
        ``ok``, or the stable word for the failure.
    reason : str
        One sentence; empty when all went well.
    n_frames : int
        Feature vectors stored.
    coverage : float or None
        Share of the clip that was decoded.
    decode_errors : int
        Packets or frames that could not be decoded.
    duration : float or None
        Seconds.
    face_share : float or None
        Share of the frames with a face, where faces were looked for.
    """

    id: str
    fingerprint: str = ""
    code: str = "ok"
    reason: str = ""
    n_frames: int = 0
    coverage: float | None = None
    decode_errors: int = 0
    duration: float | None = None
    face_share: float | None = None


class Features(NamedTuple):
    """One clip's features from one encoder.

    Attributes
    ----------
    values : ndarray [shape=(time, dim) or (time, layers, dim)]
    times : ndarray [shape=(time,)]
        Centre of each step, seconds from the clip's start.
    """

    values: np.ndarray
    times: np.ndarray


class Table(NamedTuple):
    """One key's part of a shard, arrays mapped from the file.

    Attributes
    ----------
    specification : dict
        What the features are: at least ``name``, ``modality``, ``dim``.
    rows : list of Row
    values : ndarray [shape=(frames of all rows, dim) or (frames, layers, dim)]
    times : ndarray [shape=(frames of all rows,)]
    offsets : ndarray [shape=(rows + 1,)]
    """

    specification: dict[str, Any]
    rows: list[Row]
    values: np.ndarray
    times: np.ndarray
    offsets: np.ndarray


class FeatureStore:
    """A folder of sealed shards, or one merged file.

    Parameters
    ----------
    path : Path
        The folder; or a file that `merge` wrote.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._tables: dict[str, list[Table]] = {}
        self._places: dict[str, dict[str, tuple[int, int]]] = {}

    def __repr__(self) -> str:
        return f"<FeatureStore {self.path}: {len(self.keys())} keys>"

    def keys(self) -> list[str]:
        """Return the keys that the store holds, sorted."""
        if self.path.is_file():
            return sorted(_index(self.path))
        if not self.path.is_dir():
            return []
        return sorted(p.name for p in self.path.iterdir() if any(p.glob("*.h5")))

    def shards(self, key: str) -> list[Path]:
        """Return the files that hold a key, sorted."""
        return [self.path] if self.path.is_file() else sorted((self.path / key).glob("*.h5"))

    def tables(self, key: str) -> list[Table]:
        """Return a key's tables, one a shard; every digest is checked on first use.

        Raises
        ------
        MissingFeatures
            The store does not hold the key.
        StoreError
            A shard is damaged or foreign.
        """
        if key not in self._tables:
            if key not in self.keys():
                raise MissingFeatures(
                    f"{self.path} holds no features {key!r}; {suggestion(key, self.keys())}"
                )
            self._tables[key] = [read_shard(path)[key] for path in self.shards(key)]
        return self._tables[key]

    def specification(self, key: str) -> dict[str, Any]:
        """Return what the features of a key are."""
        return self.tables(key)[0].specification

    def rows(self, key: str) -> dict[str, Row]:
        """Return every clip's row by id, failures included."""
        return {i: self.tables(key)[t].rows[r] for i, (t, r) in self._where(key).items()}

    def read(self, key: str, clip: str) -> Features | None:
        """Return one clip's features, mapped; None where extraction failed for it.

        Raises
        ------
        MissingFeatures
            The clip was never extracted.
        """
        place = self._where(key).get(clip)
        if place is None:
            raise MissingFeatures(
                f"{self.path} holds no features of clip {clip!r} for {key}; run `affuse extract` "
                "on the manifest that lists it"
            )
        table, row = self.tables(key)[place[0]], place[1]
        if table.rows[row].code != "ok":
            return None
        part = slice(int(table.offsets[row]), int(table.offsets[row + 1]))
        return Features(table.values[part], table.times[part])

    def _where(self, key: str) -> dict[str, tuple[int, int]]:
        if key not in self._places:
            places: dict[str, tuple[int, int]] = {}
            for t, table in enumerate(self.tables(key)):
                for r, row in enumerate(table.rows):
                    held = places.get(row.id)
                    if held is None:
                        places[row.id] = (t, r)
                    elif self.tables(key)[held[0]].rows[held[1]].fingerprint != row.fingerprint:
                        raise StoreError(
                            f"{self.path / key} holds features of two different media for clip "
                            f"{row.id!r}; `affuse cache gc` keeps those of the media as they are"
                        )
            self._places[key] = places
        return self._places[key]

    def write(
        self,
        key: str,
        name: str,
        specification: Mapping[str, Any],
        rows: Sequence[tuple[Row, Features | None]],
    ) -> str:
        """Commit one shard: complete or not at all, never over another.

        Parameters
        ----------
        key, name : str
            The shard becomes ``key/name.h5``.
        specification : mapping
        rows : sequence of (Row, Features or None)
            None where the row's code is not ``ok``.

        Returns
        -------
        str
            ``written``, or ``already`` where the file was there.

        Raises
        ------
        StoreError
            The features do not fit the specification, or are not finite.
        EnvironmentFailure
            Disk full, no permission, no atomic commit on this file system.
        """
        folder = self.path / key
        place = folder / f"{name}.h5"
        if place.exists():
            return "already"
        image = _image(key, dict(specification), rows)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            return _commit(image, place)
        except OSError as error:
            raise EnvironmentFailure(
                f"cannot write {len(image):,} bytes to {folder}: {error.strerror}; free or grant "
                "the space and run the same command again, it goes on where it stopped"
            ) from error


# -- writing --------------------------------------------------------------------------------


def _image(
    key: str, specification: dict[str, Any], rows: Sequence[tuple[Row, Features | None]]
) -> bytes:
    import h5py

    dtype = np.dtype(specification.get("dtype", "float16"))
    step = _step(specification, rows)
    arrays = [np.zeros((0, *step), dtype)]
    times = [np.zeros(0, np.float32)]
    for row, features in rows:
        if features is None:
            continue
        with np.errstate(over="ignore"):
            values = np.asarray(features.values).astype(dtype)
        if values.shape[1:] != step or len(values) != len(features.times):
            raise StoreError(
                f"features of clip {row.id!r} have shape {features.values.shape} and "
                f"{len(features.times)} times; wanted (time, {', '.join(map(str, step))})"
            )
        if not np.isfinite(values).all():
            raise StoreError(f"features of clip {row.id!r} are not finite in {dtype}")
        arrays.append(values)
        times.append(np.asarray(features.times, np.float32))
    offsets = np.cumsum([0, *(0 if f is None else len(f.values) for _, f in rows)])
    data = {
        "values": np.concatenate(arrays),
        "times": np.concatenate(times),
        "offsets": offsets.astype(np.int64),
    }
    with h5py.File.in_memory() as file:
        index = {key: {"specification": specification, "rows": [asdict(row) for row, _ in rows],
                       "arrays": add_arrays(file.create_group(key), data)}}  # fmt: skip
        start, length = add_index(file, index)
        file.flush()
        body = file.id.get_file_image()
    return seal(body, start, length)


def _step(
    specification: Mapping[str, Any], rows: Sequence[tuple[Row, Features | None]]
) -> tuple[int, ...]:
    layers = specification.get("n_layers")
    dim = int(specification["dim"])
    return (dim,) if layers is None else (int(layers), dim)


def add_arrays(group: Any, data: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Write arrays contiguously into an HDF5 group; return where each stands in the file."""
    places = {}
    for name, array in data.items():
        dataset = group.create_dataset(name, data=array)
        dataset.file.flush()
        places[name] = {
            "offset": dataset.id.get_offset() if array.size else 0,
            "shape": list(array.shape),
            "dtype": str(array.dtype),
        }
    return places


def add_index(file: Any, index: Mapping[str, Any]) -> tuple[int, int]:
    """Write the index as the last data set; return where it stands."""
    text = json.dumps(index, sort_keys=True, allow_nan=False).encode()
    dataset = file.create_dataset("index", data=np.frombuffer(text, np.uint8))
    file.flush()
    return dataset.id.get_offset(), len(text)


def seal(body: bytes, start: int, length: int) -> bytes:
    """Put the block in front: magic, digest, and where the index stands."""
    place = b"index %d %d\n" % (start, length)
    digest = hashlib.blake2b(place + body, digest_size=32).hexdigest().encode()
    return (MAGIC + b"\nblake2b " + digest + b"\n" + place).ljust(BLOCK, b"\0") + body


def _commit(image: bytes, place: Path) -> str:
    spare = place.parent / f".{place.name}.{secrets.token_hex(8)}.tmp"
    try:
        with spare.open("xb") as file:
            file.write(image)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(spare, place)
        except FileExistsError:
            return "already"
        folder = os.open(place.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        return "written"
    finally:
        with contextlib.suppress(OSError):
            spare.unlink()


# -- reading --------------------------------------------------------------------------------


def read_shard(path: Path) -> dict[str, Table]:
    """Map a shard after checking its digest.

    Raises
    ------
    StoreError
        Damaged, foreign, or larger claims than the file holds.
    """
    raw = np.memmap(path, np.uint8, "r") if path.stat().st_size else np.zeros(0, np.uint8)
    digest, place, start, length = _block(path, bytes(raw[:BLOCK]))
    check = hashlib.blake2b(place, digest_size=32)
    check.update(raw[BLOCK:].data)
    if check.hexdigest() != digest:
        raise StoreError(f"{path} is damaged (digest differs); delete it and extract again")
    index = _parsed(path, bytes(raw[BLOCK + start : BLOCK + start + length]))
    return {key: _table(path, raw, entry) for key, entry in index.items()}


def _index(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        _, _, start, length = _block(path, file.read(BLOCK))
        file.seek(BLOCK + start)
        return _parsed(path, file.read(length))


def _block(path: Path, block: bytes) -> tuple[str, bytes, int, int]:
    lines = block.split(b"\n")
    if len(block) < BLOCK or lines[0] != MAGIC:
        raise StoreError(
            f"{path} is not a shard of this version of affuse; import foreign features with "
            "`affuse cache import`"
        )
    try:
        digest = lines[1].removeprefix(b"blake2b ").decode()
        start, length = (int(n) for n in lines[2].removeprefix(b"index ").split())
    except (ValueError, IndexError):
        raise StoreError(
            f"{path} is damaged (its first block); delete it and extract again"
        ) from None
    if not (0 <= start and 0 <= length and BLOCK + start + length <= path.stat().st_size):
        raise StoreError(f"{path} is damaged (its index lies outside); delete it and extract again")
    return digest, lines[2] + b"\n", start, length


def _parsed(path: Path, text: bytes) -> dict[str, Any]:
    try:
        index = json.loads(text)
    except ValueError:
        raise StoreError(f"{path} is damaged (its index); delete it and extract again") from None
    if not isinstance(index, dict):
        raise StoreError(f"{path} has no index of keys; it is not a shard of affuse")
    return index


def _table(path: Path, raw: np.ndarray, entry: Any) -> Table:
    try:
        rows = [Row(**row) for row in entry["rows"]]
        arrays = {n: _mapped(path, raw, entry["arrays"][n]) for n in ("values", "times", "offsets")}
        table = Table(dict(entry["specification"]), rows, **arrays)
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(f"{path} has an index of another form: {error}") from None
    offsets = table.offsets
    good = (
        offsets.shape == (len(rows) + 1,)
        and offsets[0] == 0
        and bool((np.diff(offsets) >= 0).all())
        and offsets[-1] == len(table.values) == len(table.times)
    )
    if not good:
        raise StoreError(f"{path}: offsets do not fit the rows; delete it and extract again")
    return table


def _mapped(path: Path, raw: np.ndarray, place: Mapping[str, Any]) -> np.ndarray:
    dtype = np.dtype(str(place["dtype"]))
    shape = tuple(int(n) for n in place["shape"])
    if dtype.kind not in "fi" or min(shape, default=-1) < 0:
        raise StoreError(f"{path}: an array of {dtype} {shape}; wanted plain numbers")
    start, size = BLOCK + int(place["offset"]), math.prod(shape) * dtype.itemsize
    if start < BLOCK or start + size > len(raw):
        raise StoreError(f"{path}: an array reaches beyond the file; delete it and extract again")
    return raw[start : start + size].view(dtype).reshape(shape)


def iter_features(table: Table) -> Iterator[tuple[Row, Features | None]]:
    """Walk a table: each row with its features, None where extraction failed."""
    for r, row in enumerate(table.rows):
        part = slice(int(table.offsets[r]), int(table.offsets[r + 1]))
        yield row, Features(table.values[part], table.times[part]) if row.code == "ok" else None
