"""Reading of shards: HDF5 files whose first 512 bytes hold a digest and the position of an index.

affuse does not parse HDF5. It checks the digest, reads the index, verifies every bound and maps the
arrays. Nothing in a file from another person reaches an HDF5 parser, so external links, virtual data
sets and object types have no effect. Other tools read the same file with any HDF5 library.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..errors import StoreError

if TYPE_CHECKING:
    import torch

BLOCK = 512
"""Size of the first block, in bytes; HDF5 calls it the user block."""
MAGIC = b"affuse-shard 1"


@dataclass(frozen=True, slots=True)
class Row:
    """Outcome of the extraction of one clip.

    Attributes
    ----------
    id : str
        Id of the clip.
    fingerprint : str
        Digest of the clip's media and segment; empty for imported features.
    code : str
        ``ok``, or the stable identifier of the failure.
    reason : str
        One sentence on the failure; empty for ``ok``.
    n_frames : int
        Number of feature vectors stored.
    coverage : float or None
        Fraction of the clip that was decoded.
    decode_errors : int
        Number of packets or frames that could not be decoded.
    duration : float or None
        Duration of the clip in seconds.
    face_share : float or None
        Fraction of the frames with a face, where faces were detected.
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
    """Features of one clip from one encoder.

    Attributes
    ----------
    values : ndarray [shape=(time, dim) or (time, layers, dim)]
        Feature vectors; read-only where they are mapped from a store.
    times : ndarray [shape=(time,)]
        Centre of each step in seconds from the start of the clip; nan where unknown.
    """

    values: np.ndarray
    times: np.ndarray

    def to_torch(self) -> "tuple[torch.Tensor, torch.Tensor]":
        """Return values and times as float32 tensors that own their memory."""
        import torch

        values, times = (torch.from_numpy(np.array(array, np.float32)) for array in self)
        return values, times


class Table(NamedTuple):
    """Part of a shard that belongs to one key, with arrays mapped from the file.

    Attributes
    ----------
    specification : dict
        Description of the features: at least ``name``, ``modality`` and ``dim``.
    rows : list of Row
        Outcome per clip.
    values : ndarray [shape=(frames of all rows, dim) or (frames of all rows, layers, dim)]
        Feature vectors of all rows, one row after the other.
    times : ndarray [shape=(frames of all rows,)]
        Centre of each step in seconds from the start of its clip.
    offsets : ndarray [shape=(rows + 1,)]
        Row i holds the vectors ``offsets[i]`` to ``offsets[i + 1]``.
    """

    specification: dict[str, Any]
    rows: list[Row]
    values: np.ndarray
    times: np.ndarray
    offsets: np.ndarray

    def features(self, row: int) -> Features | None:
        """Return the features of a row, None where extraction failed."""
        if self.rows[row].code != "ok":
            return None
        part = slice(int(self.offsets[row]), int(self.offsets[row + 1]))
        return Features(self.values[part], self.times[part])


def index_line(index: bytes, start: int) -> bytes:
    """Return the line of the first block that gives position, length and digest of the index."""
    digest = hashlib.blake2b(index, digest_size=16).hexdigest().encode()
    return b"index %d %d %s\n" % (start, len(index), digest)


def first_block(digest: bytes, index_line: bytes) -> bytes:
    """Return the first block of a shard."""
    return (MAGIC + b"\nblake2b " + digest + b"\n" + index_line).ljust(BLOCK, b"\0")


class _Block(NamedTuple):
    digest: str
    index_line: bytes
    start: int
    length: int
    index_digest: str


class Shard:
    """One shard file; its digest is checked before the first number is returned.

    The index is read at once, arrays are mapped when they are needed. A file that is damaged, was not written by
    affuse, or claims more data than it holds raises `StoreError`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.index = read_index(path)
        self._checked = False
        self._tables: dict[str, Table] = {}

    def table(self, key: str) -> Table:
        """Return the table of a key, after checking the digest of the file once."""
        self.check()
        if key not in self._tables:
            raw = np.memmap(self.path, np.uint8, "r")
            self._tables[key] = _table(self.path, raw, self.index[key])
        return self._tables[key]

    def check(self) -> None:
        """Compare the whole file with its digest, unless this was done before."""
        if not self._checked:
            raw = np.memmap(self.path, np.uint8, "r")
            block = _parse_block(self.path, bytes(raw[:BLOCK]))
            check = hashlib.blake2b(block.index_line, digest_size=32)
            check.update(raw[BLOCK:].data)
            if check.hexdigest() != block.digest:
                raise damaged(self.path, "its digest differs")
            self._checked = True


def damaged(path: Path, reason: str) -> StoreError:
    """Return the error for a shard that differs from what was written."""
    return StoreError(
        f"{path} is damaged ({reason}). Delete it and create it again with `affuse extract`, or with "
        "`affuse cache import` for imported features."
    )


def read_index(path: Path) -> dict[str, Any]:
    """Read only the index of a shard, which has a digest of its own."""
    with path.open("rb") as file:
        block = _parse_block(path, file.read(BLOCK))
        file.seek(BLOCK + block.start)
        text = file.read(block.length)
    if hashlib.blake2b(text, digest_size=16).hexdigest() != block.index_digest:
        raise damaged(path, "the digest of its index differs")
    try:
        index = json.loads(text)
    except (ValueError, RecursionError):
        raise damaged(path, "its index cannot be parsed") from None
    if not isinstance(index, dict):
        raise StoreError(f"{path} has no index of keys, so it is not a shard of affuse. Remove it from the store.")
    return index


def _parse_block(path: Path, first: bytes) -> _Block:
    lines = first.split(b"\n")
    if len(first) < BLOCK or lines[0] != MAGIC or len(lines) < 4:
        raise StoreError(
            f"{path} is not a shard of this version of affuse. Import features of other tools with "
            "`affuse cache import`."
        )
    try:
        digest = lines[1].removeprefix(b"blake2b ").decode("ascii")
        start, length, index_digest = lines[2].removeprefix(b"index ").split()
        block = _Block(digest, lines[2] + b"\n", int(start), int(length), index_digest.decode())
    except ValueError:
        raise damaged(path, "its first block cannot be parsed") from None
    if first != first_block(digest.encode(), block.index_line):
        raise damaged(path, "its first block has unexpected content")
    if block.start < 0 or not 0 <= block.length <= path.stat().st_size - BLOCK - block.start:
        raise damaged(path, "its index lies outside the file")
    return block


def _table(path: Path, raw: np.ndarray, entry: Any) -> Table:
    try:
        rows = [Row(**row) for row in entry["rows"]]
        arrays = {n: _map_array(path, raw, entry["arrays"][n]) for n in ("values", "times", "offsets")}
        table = Table(dict(entry["specification"]), rows, **arrays)
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(f"The index of {path} has an unknown form: {error}. Remove the file from the store.") from None
    offsets = table.offsets
    consistent = (
        offsets.shape == (len(rows) + 1,)
        and offsets[0] == 0
        and bool((np.diff(offsets) >= 0).all())
        and offsets[-1] == len(table.values) == len(table.times)
    )
    if not consistent:
        raise damaged(path, "its offsets do not fit the rows")
    return table


def _map_array(path: Path, raw: np.ndarray, entry: Mapping[str, Any]) -> np.ndarray:
    dtype = np.dtype(str(entry["dtype"]))
    shape = tuple(int(n) for n in entry["shape"])
    if dtype.kind not in "fi" or min(shape, default=-1) < 0:
        raise StoreError(f"{path} lists an array of {dtype} {shape}; expected plain numbers. Remove the file.")
    start, size = BLOCK + int(entry["offset"]), math.prod(shape) * dtype.itemsize
    if start < BLOCK or start + size > len(raw):
        raise damaged(path, "an array extends beyond the file")
    return raw[start : start + size].view(dtype).reshape(shape)
