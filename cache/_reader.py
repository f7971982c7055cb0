"""The shard format: a plain HDF5 file behind a block of 512 bytes.

The block says what the file's digest is and where its index stands; affuse itself reads by that
index. Bounds are checked, arrays are mapped, and no byte of a stranger's file reaches an HDF5
parser, so links out of the file, virtual data sets and object types have nothing to act on.
"""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..errors import StoreError

BLOCK = 512
MAGIC = b"affuse-shard 1"


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


# -- writing --------------------------------------------------------------------------------


def index_line(index: bytes, start: int) -> bytes:
    """Return the block's line about the index, which can be checked by itself."""
    digest = hashlib.blake2b(index, digest_size=16).hexdigest().encode()
    return b"index %d %d %s\n" % (start, len(index), digest)


def block(digest: bytes, place: bytes) -> bytes:
    """Return the first block of a shard."""
    return (MAGIC + b"\nblake2b " + digest + b"\n" + place).ljust(BLOCK, b"\0")


# -- reading --------------------------------------------------------------------------------


class _Block(NamedTuple):
    digest: str
    place: bytes
    start: int
    length: int
    index_digest: str


class Shard:
    """A shard, mapped; its digest is checked before the first number is given out.

    Raises
    ------
    StoreError
        Damaged, foreign, or larger claims than the file holds.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.index = read_index(path)
        self._checked = False
        self._tables: dict[str, Table] = {}

    def table(self, key: str) -> Table:
        """Return a key's table, after checking the file's digest once."""
        self.check()
        if key not in self._tables:
            raw = np.memmap(self.path, np.uint8, "r")
            self._tables[key] = _table(self.path, raw, self.index[key])
        return self._tables[key]

    def check(self) -> None:
        """Compare the whole file with its digest."""
        if not self._checked:
            raw = np.memmap(self.path, np.uint8, "r")
            head = _block(self.path, bytes(raw[:BLOCK]))
            check = hashlib.blake2b(head.place, digest_size=32)
            check.update(raw[BLOCK:].data)
            if check.hexdigest() != head.digest:
                raise damaged(self.path, "its digest differs")
            self._checked = True


def damaged(path: Path, how: str) -> StoreError:
    """Return the error for a shard that is not what was written."""
    return StoreError(
        f"{path} is damaged ({how}); delete it and make it again with `affuse extract`, or "
        "`affuse cache import` where it was imported"
    )


def read_index(path: Path) -> dict[str, Any]:
    """Read a shard's index, which carries a digest of its own, and nothing else."""
    with path.open("rb") as file:
        head = _block(path, file.read(BLOCK))
        file.seek(BLOCK + head.start)
        text = file.read(head.length)
    if hashlib.blake2b(text, digest_size=16).hexdigest() != head.index_digest:
        raise damaged(path, "its index")
    try:
        index = json.loads(text)
    except (ValueError, RecursionError):
        raise damaged(path, "its index") from None
    if not isinstance(index, dict):
        raise StoreError(f"{path} has no index of keys; it is not a shard of affuse")
    return index


def _block(path: Path, first: bytes) -> _Block:
    lines = first.split(b"\n")
    if len(first) < BLOCK or lines[0] != MAGIC or len(lines) < 4:
        raise StoreError(
            f"{path} is not a shard of this version of affuse; import foreign features with `affuse cache import`"
        )
    try:
        digest = lines[1].removeprefix(b"blake2b ").decode("ascii")
        start, length, index_digest = lines[2].removeprefix(b"index ").split()
        head = _Block(digest, lines[2] + b"\n", int(start), int(length), index_digest.decode())
    except ValueError:
        raise damaged(path, "its first block") from None
    if first != block(digest.encode(), head.place):
        raise damaged(path, "its first block")
    if head.start < 0 or not 0 <= head.length <= path.stat().st_size - BLOCK - head.start:
        raise damaged(path, "its index lies outside")
    return head


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
        raise damaged(path, "offsets do not fit the rows")
    return table


def _mapped(path: Path, raw: np.ndarray, place: Mapping[str, Any]) -> np.ndarray:
    dtype = np.dtype(str(place["dtype"]))
    shape = tuple(int(n) for n in place["shape"])
    if dtype.kind not in "fi" or min(shape, default=-1) < 0:
        raise StoreError(f"{path}: an array of {dtype} {shape}; wanted plain numbers")
    start, size = BLOCK + int(place["offset"]), math.prod(shape) * dtype.itemsize
    if start < BLOCK or start + size > len(raw):
        raise damaged(path, "an array reaches beyond the file")
    return raw[start : start + size].view(dtype).reshape(shape)


def iter_features(table: Table) -> Iterator[tuple[Row, Features | None]]:
    """Walk a table: each row with its features, None where extraction failed."""
    for r, row in enumerate(table.rows):
        part = slice(int(table.offsets[r]), int(table.offsets[r + 1]))
        yield row, Features(table.values[part], table.times[part]) if row.code == "ok" else None
